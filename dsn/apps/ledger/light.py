"""The light client: reads the ledger and enters what others signed, and takes nobody's word.

It remembers one checkpoint. What it reads is proven under that one or a later one, which the
operator signed, a quorum of witnesses cosigned, and which grew from the one before. A ledger that
contradicts itself is not believed again, and the contradiction is kept as evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final

from dsn.apps.ledger.asking import Asking, pauses
from dsn.apps.ledger.belief import Belief, behind, beside
from dsn.apps.ledger.promises import Promises
from dsn.apps.ledger.reading import read_range
from dsn.dht.network import Network
from dsn.errors import (
    ConfigError,
    DsnError,
    EntryRefused,
    MalformedMessage,
    TimedOut,
    TransportError,
)
from dsn.ids import DealId, NodeId
from dsn.ledger.cells import AccountCell, Cell, CellKind, DealCell, NetworkCell, NodeCell
from dsn.ledger.checkpoint import Checkpoint, SignedCheckpoint, parse_checkpoint
from dsn.ledger.entry import SignedEntry
from dsn.ledger.log import LogLeaf, leaf_hash, verify_inclusion_proof
from dsn.ledger.params import LedgerParams
from dsn.ledger.promise import Promise, accuse_promise, verify_promise
from dsn.ledger.settlement import SETTLEMENT_SIGNATURE_BYTES, Address
from dsn.ledger.trust import Trust
from dsn.ports import Clock
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import MOST_CELLS, MOST_ENTRIES, LedgerPeer
from dsn.units import MIB
from dsn.v1 import ledger_pb2
from dsn.wire.ledger import Wanted, cells_from_wire, outcomes_from_wire

PATIENCE_S: Final = 10.0
"""How long a ledger that does not answer is asked again."""
MOST_SUBMIT_BYTES: Final = MIB - 64 * 1024
"""In one call, framing left room for."""
_BEHIND_TRIES: Final = 3
_SNAPSHOT_TRIES: Final = 16
_CHECKS_AT_ONCE: Final = 8

_AskCells = Callable[[LedgerPeer], Awaitable[ledger_pb2.CellsReply]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A provider's account and deals, and the time, all after the same ``size`` entries.

    ``deals`` has those that exist; an account that was never touched is blank.
    """

    size: int
    network: NetworkCell
    account: AccountCell
    deals: Mapping[DealId, DealCell]


class LightClient:
    """One reader of one network's ledger; belongs to one event loop."""

    def __init__(
        self,
        network: Network,
        connections: Connections,
        file: Path,
        clock: Clock,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Go on from what is remembered.

        Args:
            network: Names the ledger and the keys that it is judged by.
            connections: To reach it.
            file: Keeps the newest checkpoint that was believed; promises and evidence lie beside.
            clock: This machine's.
            patience_s: How long a ledger that does not answer is asked again.

        Raises:
            ConfigError: ``no_ledger_here``: nobody pays on this network; ``bad_checkpoint_file``.
        """
        params = network.ledger_params
        if params is None:
            raise no_ledger_here(network)
        self.params: LedgerParams = params
        self.trust = Trust.of(params)
        self._clock = clock
        self.ask = Asking(network.ledger, connections, clock, patience_s)
        self._belief = Belief(file, self.trust, self.ask, clock)
        self._promises = Promises(beside(file, "promises"))
        self._adopting, self._checking = asyncio.Lock(), asyncio.Lock()

    @property
    def checkpoint(self) -> SignedCheckpoint | None:
        """The newest trusted checkpoint, if there is any."""
        return self._belief.signed

    @property
    def newest(self) -> Checkpoint:
        """What the newest trusted checkpoint says; something was read before."""
        assert self.checkpoint is not None
        return self.checkpoint.checkpoint

    async def refresh(self) -> Checkpoint:
        """The ledger's newest cosigned checkpoint, remembered once it is believed.

        Raises:
            PeerError: ``forked_ledger``: it contradicts itself, and the evidence is written;
                ``broken_promise``: an entry is not where it was promised.
            Unreachable: ``ledger_unreachable``.
            TransportError: ``ledger_behind``: it shows an older checkpoint than before.
            InvalidSignature: Not signed, or ``no_quorum``.
            InvalidProof: A proof fails.
        """
        async with self._adopting:
            size = self._belief.size
            reply = await self.ask(lambda peer: peer.get_checkpoint(size))
            with self._blaming():
                signed = parse_checkpoint(reply.checkpoint)
                await self._belief.adopt(signed, reply.consistency)
        await self._check_promises(signed)
        return signed.checkpoint

    async def epoch(self) -> int:
        """The network's epoch at the newest cosigned checkpoint; raises as ``refresh``."""
        return (await self.refresh()).epoch

    async def account(self, address: Address) -> AccountCell:
        """An account at the newest cosigned checkpoint, blank if it was never touched.

        Raises:
            As ``refresh``.
        """
        return (await self.accounts([address]))[address]

    async def accounts(self, addresses: Iterable[Address]) -> dict[Address, AccountCell]:
        """Several accounts; as ``account``."""
        wanted = list(addresses)
        found = await self._cells(CellKind.ACCOUNT, wanted)
        return {
            address: cell if isinstance(cell := found.get(address), AccountCell) else
            AccountCell(address) for address in wanted
        }  # fmt: skip

    async def bound(self, nodes: Iterable[NodeId]) -> dict[NodeId, Address]:
        """The settlement addresses of identities, those that are bound; raises as ``refresh``."""
        found = await self._cells(CellKind.NODE, nodes)
        return {cell.node: cell.account for cell in found.values() if isinstance(cell, NodeCell)}

    async def deals(self, ids: Iterable[DealId]) -> dict[DealId, DealCell]:
        """Deals by id, those that exist; raises as ``refresh``."""
        found = await self._cells(CellKind.DEAL, ids)
        return {cell.deal: cell for cell in found.values() if isinstance(cell, DealCell)}

    async def snapshot(self, address: Address, deals: Iterable[DealId] = ()) -> Snapshot:
        """An account, deals and the network's cell, all of one cosigned checkpoint.

        Raises:
            TransportError: ``ledger_behind``: checkpoints follow each other faster than replies.
            As ``refresh``.
        """
        ids = list(dict.fromkeys(deals))
        some = [ids[at : at + MOST_CELLS] for at in range(0, len(ids), MOST_CELLS)]
        for _ in range(_SNAPSHOT_TRIES):
            (checkpoint, network, account), parts = await asyncio.gather(
                self._standing(address),
                asyncio.gather(*(self._cells_at(CellKind.DEAL, each) for each in some)),
            )
            if all(at == checkpoint for at, _ in parts):
                found = [cell for _, each in parts for cell in each if isinstance(cell, DealCell)]
                cells = {cell.deal: cell for cell in found}
                return Snapshot(checkpoint.size, network, account, cells)
        raise TransportError(
            f"{len(some) + 1} replies of the ledger are of different checkpoints",
            code="ledger_behind",
            hint="try again later",
        )

    async def leaves(self, start: int, end: int) -> list[LogLeaf]:
        """Entries ``[start, end)`` of the log, which nobody vouches for: judge them.

        Raises:
            NotFound: ``no_such_tile``: the log has fewer.
            MalformedMessage: Something that is no leaf.
            Unreachable: ``ledger_unreachable``.
        """
        with self._blaming():
            return await read_range(self.ask, start, end)

    async def submit(self, entries: Sequence[SignedEntry]) -> list[int | EntryRefused]:
        """Enter ``entries``, in order: the index of each in the log, or why it was not taken.

        An entry whose reply was lost is submitted again and then refused as ``nonce_used``:
        see ``LedgerAccount``, which knows the difference.

        Raises:
            InvalidSignature: A promise that the operator did not sign.
            As ``refresh``.
        """
        results = list[int | EntryRefused]()
        for some in _parcels(entries):
            reply = await self.ask(partial(_submit, some))
            with self._blaming():
                outcomes = outcomes_from_wire(reply, some)
                promised = [each for each in outcomes if isinstance(each, Promise)]
                for each in promised:
                    verify_promise(each, self.params.domain.network, self.params.log_key)
            await asyncio.to_thread(self._promises.keep, promised)
            results += [each.index if isinstance(each, Promise) else each for each in outcomes]
        return results

    async def wait_included(self, index: int, timeout_s: float = 30.0) -> None:
        """Return once a cosigned checkpoint covers entry ``index``.

        Raises:
            TimedOut: ``not_included``: none did in ``timeout_s`` seconds.
            As ``refresh``.
        """
        deadline_s = self._clock.monotonic_s() + timeout_s
        for pause_s in pauses():
            if (await self.refresh()).size > index:
                return
            if self._clock.monotonic_s() + pause_s > deadline_s:
                raise TimedOut(
                    f"entry {index} was promised, and no cosigned checkpoint has it "
                    f"after {timeout_s:g} s",
                    code="not_included",
                    hint="too few witnesses answer the ledger; 'dsn wallet history' shows it later",
                )
            await asyncio.sleep(pause_s)

    async def _cells(self, kind: CellKind, names: Iterable[bytes]) -> dict[bytes, Cell]:
        """Those of the cells that exist, by name."""
        left, found = iter(dict.fromkeys(names)), dict[bytes, Cell]()
        while some := list(islice(left, MOST_CELLS)):
            _, cells = await self._cells_at(kind, some)
            found |= {
                name: cell for name, cell in zip(some, cells, strict=True) if cell is not None
            }
        return found

    async def _cells_at(
        self, kind: CellKind, names: Sequence[bytes]
    ) -> tuple[Checkpoint, list[Cell | None]]:
        """Cells, at most as many as fit a call, and the checkpoint that they are of."""
        wanted = [Wanted(kind, name) for name in names]
        return await self._proven(lambda peer: _get_cells(peer, kind, names), wanted)

    async def _standing(self, address: Address) -> tuple[Checkpoint, NetworkCell, AccountCell]:
        """A checkpoint, and the network's cell and an account as of it."""
        name = self.params.domain.network
        wanted = [Wanted(CellKind.ACCOUNT, address), Wanted(CellKind.NETWORK, name)]
        at, (account, network) = await self._proven(
            lambda peer: peer.get_accounts([address], network=True), wanted
        )
        if not isinstance(network, NetworkCell):
            raise MalformedMessage("a ledger without its network's cell", peer=self.ask.name)
        return at, network, account if isinstance(account, AccountCell) else AccountCell(address)

    async def _proven(
        self, call: _AskCells, wanted: Sequence[Wanted]
    ) -> tuple[Checkpoint, list[Cell | None]]:
        """What a ``call`` for ``wanted`` gives, and the checkpoint in it, which is believed.

        A reply from before the newest that is known is asked for again: it may have been on its
        way.
        """
        for _ in range(_BEHIND_TRIES):
            reply = await self.ask(call)
            with self._blaming():
                signed = parse_checkpoint(reply.checkpoint)
                async with self._adopting:
                    if signed.checkpoint.size < self._belief.size:
                        continue
                    newest = await self._belief.follow(signed)
                return newest, cells_from_wire(reply.cells, wanted, newest.state_root)
        raise behind(signed.checkpoint, self.newest)

    async def _check_promises(self, signed: SignedCheckpoint) -> None:
        """See that entries stand where the ledger promised them, a few at a time."""
        async with self._checking:
            due = self._promises.due(signed.checkpoint.size)
            for start in range(0, len(due), _CHECKS_AT_ONCE):
                some = due[start : start + _CHECKS_AT_ONCE]
                await asyncio.gather(*(self._check_promise(each, signed) for each in some))

    async def _check_promise(self, promise: Promise, signed: SignedCheckpoint) -> None:
        head, index = signed.checkpoint.head, promise.index
        reply = await self.ask(lambda peer: peer.get_inclusion(index, head.size))
        found = leaf_hash(reply.leaf)
        with self._blaming():
            verify_inclusion_proof(head, index, found, reply.path)
        if found != promise.leaf:
            broken = accuse_promise(promise, signed, found, reply.path, self.trust)
            reason = f"entry {index} is not the one that it promised"
            self._belief.convict(broken.encode(), reason, "broken_promise")
        self._promises.kept(promise)

    @contextmanager
    def _blaming(self) -> Iterator[None]:
        """Name the ledger in what goes wrong with its replies."""
        try:
            yield
        except DsnError as error:
            error.peer = error.peer or self.ask.name
            raise


def no_ledger_here(network: Network) -> ConfigError:
    """The error for a network on which nobody pays."""
    return ConfigError(
        f"{network.genesis.name} has no ledger: nobody pays on it",
        code="no_ledger_here",
        hint="join a network whose file has a genesis.ledger section",
    )


def _submit(
    entries: Sequence[SignedEntry], peer: LedgerPeer
) -> Awaitable[Sequence[ledger_pb2.EntryOutcome]]:
    return peer.submit((each.entry.encode(), each.signature) for each in entries)


def _get_cells(
    peer: LedgerPeer, kind: CellKind, names: Sequence[bytes]
) -> Awaitable[ledger_pb2.CellsReply]:
    if kind is CellKind.ACCOUNT:
        return peer.get_accounts(names)
    if kind is CellKind.NODE:
        return peer.get_accounts(nodes=names)
    return peer.get_deals(names)


def _parcels(entries: Sequence[SignedEntry]) -> Iterator[list[SignedEntry]]:
    """``entries`` in as few calls as take them."""
    some, size = list[SignedEntry](), 0
    for each in entries:
        more = len(each.entry.encode()) + SETTLEMENT_SIGNATURE_BYTES
        if some and (len(some) == MOST_ENTRIES or size + more > MOST_SUBMIT_BYTES):
            yield some
            some, size = [], 0
        some.append(each)
        size += more
    if some:
        yield some
