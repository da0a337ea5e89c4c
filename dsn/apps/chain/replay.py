"""The ledger as it was at an anchor, out of any copy of its log, and proofs of its cells.

An anchor fixes the log and the state, and the chain has it for good. So it does not matter whose
copy it is: leaves that come to the anchor's root are the ones that count, and applying them comes
to its state, or the anchor is wrong.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dsn.apps.chain.ledger_now import Ledger, Shown
from dsn.apps.chain.under_way import Notice
from dsn.apps.chain.vault import Anchored
from dsn.apps.ledger.memory import Memory
from dsn.errors import DsnError, InvalidProof, NotFound, TransportError
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.cells import AccountCell, Cell, CellKind, DealCell, cell_key
from dsn.ledger.entry import Entry
from dsn.ledger.log import Frontier, LogLeaf, TreeHead, leaf_hash
from dsn.ledger.onchain.tuples import place_tuple
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.moves import apply
from dsn.ledger.settlement import Address
from dsn.ledger.state import FIRST_EPOCH, State, genesis
from dsn.ledger.tiles import TILE_WIDTH, Bundle, decode_bundle, format_path
from dsn.ports import LedgerStore
from dsn.runtime.kernel import Kernel
from dsn.store.ledger import open_ledger
from dsn.wire.ledger import Wanted

GetTile = Callable[[str], Awaitable[bytes]]
"""Gives the bytes under a path, which are untrusted."""
WRONG_STATE: Final = "state_root"
_EMPTY_LOG: Final = Frontier().head.root


class LogCopy(Protocol):
    """Somebody's copy of the log; nothing of it is believed before it came to a root."""

    @property
    def name(self) -> str:
        """Whose it is, for people."""
        ...

    def leaves(self, size: int) -> AsyncIterator[Sequence[LogLeaf]]:
        """The first ``size`` leaves, a bounded number at a time.

        Raises:
            DsnError: It has fewer, cannot be reached, or is no log.
        """
        ...


@dataclass(frozen=True, slots=True)
class StoredLog:
    """A ledger, or a replica of one, on this machine; nobody need stop using it."""

    place: str

    @property
    def name(self) -> str:
        """Where it is."""
        return self.place

    async def leaves(self, size: int) -> AsyncIterator[Sequence[LogLeaf]]:
        """As ``LogCopy``."""
        with Kernel() as thread:
            store = await thread.run(lambda: open_ledger(self.place, signer=False))
            try:
                for start in range(0, size, TILE_WIDTH):
                    end = min(size, start + TILE_WIDTH)
                    yield await thread.run(_leaves, store, start, end)
            finally:
                await thread.run(store.close)


@dataclass(frozen=True, slots=True)
class ServedLog:
    """The copy that a witness, or the ledger itself, serves."""

    name: str
    get_tile: GetTile

    async def leaves(self, size: int) -> AsyncIterator[Sequence[LogLeaf]]:
        """As ``LogCopy``."""
        for index in range(-(-size // TILE_WIDTH)):
            bundle = Bundle(index, min(TILE_WIDTH, size - index * TILE_WIDTH))
            raw = await self.get_tile(format_path(bundle))
            yield [LogLeaf.decode(each) for each in decode_bundle(raw, bundle.width)]


@dataclass(frozen=True, slots=True)
class LedgerAt:
    """All cells as they were after the entries that ``root`` speaks of."""

    root: LedgerRoot
    state: State
    cells: Sequence[Cell]

    def account(self, address: Address) -> AccountCell | None:
        """Whose cell, if there is one."""
        cell = self.state.cell(CellKind.ACCOUNT, address)
        return cell if isinstance(cell, AccountCell) else None

    def deals_of(self, address: Address) -> list[DealCell]:
        """The deals that ``address`` is a party of, or has a bond in, by id."""
        deals = (cell for cell in self.cells if isinstance(cell, DealCell))
        return sorted((each for each in deals if _concerns(each, address)), key=lambda d: d.deal)

    def place(self, kind: CellKind, name: bytes) -> tuple[Any, ...]:
        """``state.Place`` of a cell, or of where it would be."""
        return place_tuple(self.state.tree, cell_key(kind, name))


def before_any(params: LedgerParams) -> LedgerRoot:
    """What stands where there is no anchor: the ledger before its first entry."""
    return LedgerRoot(0, _EMPTY_LOG, genesis(params).root, FIRST_EPOCH)


def root_of(anchor: Anchored) -> LedgerRoot:
    """What operator and witnesses signed of an anchor."""
    return LedgerRoot(anchor.size, anchor.root, anchor.state_root, anchor.epoch)


async def replay(params: LedgerParams, root: LedgerRoot, copies: Iterable[LogCopy]) -> LedgerAt:
    """The ledger at ``root``, from the first of ``copies`` that leads there.

    Args:
        params: The ledger's.
        root: As the chain has it.
        copies: Of the log; untrusted, asked in turn.

    Raises:
        InvalidProof: ``state_root``: the log of ``root`` leads to another state, so the anchor is
            wrong, and whoever shows the step convicts the operator.
        NotFound: ``no_log``: no copy comes to ``root``.

    Cost: about 0.1 ms an entry, and a kilobyte of memory a cell.
    """
    found = list[str]()
    for copy in copies:
        try:
            return await _follow(params, root, copy)
        except DsnError as error:
            if error.detail_code == WRONG_STATE:
                raise
            found.append(f"{copy.name}: {error.message}")
    raise NotFound(
        f"no copy of the log comes to the anchored {root.size} entries"
        + "".join(f"; {each}" for each in found),
        code="no_log",
        hint="name a ledger's or a witness's directory with --log DIR",
    )


async def _follow(params: LedgerParams, root: LedgerRoot, copy: LogCopy) -> LedgerAt:
    replay = _Replay(params)
    async for leaves in copy.leaves(root.size):
        await asyncio.to_thread(replay.take, leaves)
    if root.size and replay.frontier.head != TreeHead(root.size, root.root):
        raise InvalidProof(f"{replay.frontier.size} leaves of another log", code="other_log")
    if replay.fault or replay.state.root != root.state_root:
        raise InvalidProof(
            f"the {root.size} anchored entries do not lead to the anchor's state" + replay.fault,
            code=WRONG_STATE,
            hint="the anchor is wrong: 'dsn dispute convict EVIDENCE' has it dropped",
        )
    return LedgerAt(root, replay.state, list(replay.memory.cells()))


class _Replay:
    """Leaves applied as they come; which log they are of is known only after the last."""

    def __init__(self, params: LedgerParams) -> None:
        self.memory, self.frontier = Memory(genesis(params).cells.values()), Frontier()
        self.state, self.fault = self.memory.state(params), ""

    def take(self, leaves: Sequence[LogLeaf]) -> None:
        for index, leaf in enumerate(leaves, self.frontier.size):
            if not self.fault:
                self._apply(index, leaf)
        self.frontier, _ = self.frontier.extend(leaf_hash(leaf.encode()) for leaf in leaves)
        self.state = self.memory.absorb(self.state)

    def _apply(self, index: int, leaf: LogLeaf) -> None:
        try:
            self.state, _ = apply(self.state, Entry.decode(leaf.entry))
        except DsnError as error:
            self.fault = f"; entry {index}: {error.message}"


async def read_cell(
    ledger: Ledger, wanted: Wanted, anchor: Anchored, copies: Iterable[LogCopy], notice: Notice
) -> Shown | None:
    """A cell as it was at ``anchor``, with its place; nothing if there was none.

    Args:
        ledger: Shows it while the anchor is its newest checkpoint.
        wanted: An account or a deal.
        anchor: As the chain has it.
        copies: Of the log, for any other time.
        notice: Told if that takes a replay.

    Raises:
        As ``replay``.
    """
    root = root_of(anchor)
    with suppress(TransportError):
        if (found := await ledger.shown(wanted, root)) is not None:
            return found
    notice(f"replaying the {root.size:,} entries that are anchored")
    at = await replay(ledger.params, root, copies)
    cell = at.state.cell(*wanted)
    return None if cell is None else (cell, at.place(*wanted))


def _leaves(store: LedgerStore, start: int, end: int) -> list[LogLeaf]:
    return list(store.leaves(start, end))


def _concerns(deal: DealCell, address: Address) -> bool:
    asker = None if deal.demand is None else deal.demand.asker
    return address in (deal.terms.client, deal.terms.provider, asker)
