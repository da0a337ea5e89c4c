"""The sequencer: signed entries in, an answer for each out, and the log on disk in between.

Entries are taken in batches. One that the rules refuse gets its code and leaves no trace; the
others of a batch are stored in one transaction, and only then is any of them acknowledged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final

from dsn.apps.ledger.batch import Batch, Outcome, Submission
from dsn.apps.ledger.memory import Memory, load_cell, store_cell
from dsn.apps.ledger.tail import LogTail
from dsn.errors import DataLost, MalformedMessage, NotFound
from dsn.ledger.bodies import Kind, OpenEpoch, ShutEpoch
from dsn.ledger.cells import Cell, Phase
from dsn.ledger.checkpoint import Checkpoint, log_origin
from dsn.ledger.entry import Entry
from dsn.ledger.log import Subtree, TreeHead, leaf_hash
from dsn.ledger.params import LedgerParams
from dsn.ledger.params_text import format_params, parse_params
from dsn.ledger.state import FIRST_EPOCH, State, genesis
from dsn.ledger.tiles import (
    TILE_WIDTH,
    Bundle,
    Resource,
    check_exists,
    encode_bundle,
    hashes_of_tiles,
)
from dsn.ports import LedgerStore, StoredCell
from dsn.store.ledger import open_ledger

BATCH: Final = 1_024
"""Entries a transaction at most."""


@dataclass(frozen=True, slots=True)
class Turning:
    """An epoch's open or shut, as entry ``index``."""

    index: int
    body: OpenEpoch | ShutEpoch


class Sequencer:
    """The one that orders a ledger's entries; blocks as its store does."""

    def __init__(self, store: LedgerStore) -> None:
        """Go on where ``store``, open to sign, ends.

        Raises:
            DataLost: ``ledger_damaged``: log, tiles and cells do not belong together.

        Cost: linear in the cells; of the log only the last leaf is read.
        """
        self._store = store
        self._elsewhere = ThreadPoolExecutor(max_workers=1, thread_name_prefix="signers")
        self._params = parse_params(store.genesis)
        self._tail = _load_tail(store)
        self._memory = _load_memory(store)
        self._state = self._memory.state(self._params)
        if self._state.root != _last_state_root(store, self._params):
            raise _damaged("the cells are not those after the last entry")
        self._shut_size = self._find_shut()

    @property
    def head(self) -> TreeHead:
        """Size and root of the log, all of it on disk."""
        return self._tail.head

    @property
    def state(self) -> State:
        """What holds after the last entry."""
        return self._state

    def cells(self) -> Iterable[Cell]:
        """All of them, as they are after the last entry."""
        return self._memory.cells()

    def submit(self, submissions: Iterable[Submission]) -> Iterator[Outcome]:
        """Put entries into the log, in their order; each refusal is an outcome, not an error.

        Args:
            submissions: Untrusted; taken ``BATCH`` at a time.

        Yields:
            One outcome for each, those of a batch once all of it is on disk.

        Raises:
            As ``LedgerStore.append``: nothing of that batch was acknowledged, and whether it is
            on disk shows when the ledger is opened again. Submitting what was stored then is
            refused as ``nonce_used``, so nothing is applied twice.
        """
        waiting = iter(submissions)
        while some := list(islice(waiting, BATCH)):
            batch = self._begin()
            outcomes = batch.take_all(some, self._elsewhere)
            if batch.leaves:
                self._keep(batch)
            yield from outcomes

    def _begin(self) -> Batch:
        return Batch(self._state, self._tail, self._store.tile, self._shut_size)

    def _keep(self, batch: Batch) -> None:
        tail, stored = batch.finish()
        self._store.append(stored)
        self._tail, self._state = tail, self._memory.absorb(batch.state)
        self._shut_size = batch.shut_size

    def checkpoint(self) -> Checkpoint:
        """What may be signed of the ledger as it stands; the store is fenced for it already.

        Raises:
            ConfigError: ``ledger_moved``: something else was signed, or will be.
        """
        self._store.fence(self.head)
        network = self._state.network
        return Checkpoint(log_origin(network.network), *self.head, self._state.root, network.epoch)

    def turnings(self, start: int) -> Iterator[Turning]:
        """The epochs that began and ended among the leaves from ``start`` on."""
        for index, leaf in enumerate(self._store.leaves(start, self.head.size), start):
            if leaf.entry[0] in (Kind.OPEN_EPOCH, Kind.SHUT_EPOCH):
                body = Entry.decode(leaf.entry).body
                assert isinstance(body, OpenEpoch | ShutEpoch)
                yield Turning(index, body)

    def resource(self, resource: Resource) -> bytes:
        """A tile or bundle (untrusted) of the log as it stands.

        Raises:
            NotFound: ``no_such_tile``.
        """
        check_exists(resource, self.head.size)
        if isinstance(resource, Bundle):
            start = resource.index * TILE_WIDTH
            leaves = self._store.leaves(start, start + resource.width)
            return encode_bundle([leaf.encode() for leaf in leaves])
        return self._store.tile(resource)

    def _find_shut(self) -> int:
        """The size of the log right after its last shut, if the next epoch is not open yet."""
        network = self._state.network
        if network.phase is not Phase.SHUT or network.epoch == FIRST_EPOCH:
            return 0
        found = (t for t in self.turnings(network.closed.size) if isinstance(t.body, ShutEpoch))
        return next(found).index + 1


@contextmanager
def open_sequencer(place: str) -> Iterator[Sequencer]:
    """Sign for the ledger at ``place`` meanwhile; raises as ``open_ledger`` and ``Sequencer``."""
    with closing(open_ledger(place, signer=True)) as store:
        yield Sequencer(store)


def genesis_of(params: LedgerParams) -> tuple[str, list[StoredCell]]:
    """What a store is created with: the parameters as text, and the cells before any entry."""
    return format_params(params), [store_cell(cell) for cell in genesis(params).cells.values()]


def _load_tail(store: LedgerStore) -> LogTail:
    head = store.head()
    try:
        tail = LogTail.load(store.tile, head.size)
    except NotFound as error:
        raise _damaged("a tile is missing") from error
    if tail.head != head:
        raise _damaged("the tiles are of another log")
    return tail


def _load_memory(store: LedgerStore) -> Memory:
    try:
        return Memory(map(load_cell, store.all_cells()))
    except MalformedMessage as error:
        raise _damaged(error.message) from error


def _last_state_root(store: LedgerStore, params: LedgerParams) -> bytes:
    """What the last leaf says, once its hash is known to be the one in the log."""
    size = store.head().size
    if not size:
        return genesis(params).root
    leaf = next(store.leaves(size - 1, size), None)
    hashes = hashes_of_tiles(store.tile, size)
    if leaf is None or leaf_hash(leaf.encode()) != hashes(Subtree(0, size - 1)):
        raise _damaged("the last leaf is not the one in the log")
    return leaf.state_root


def _damaged(reason: str) -> DataLost:
    return DataLost(
        f"the ledger is damaged: {reason}",
        code="ledger_damaged",
        hint="'dsn ledger check' says where; restore it from a copy",
    )
