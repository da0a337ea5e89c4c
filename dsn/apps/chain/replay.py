"""The ledger as it was at an anchor, out of any copy of its log, and proofs of its cells.

An anchor fixes the log and the state, and the chain has it for good. So it does not matter whose
copy it is: leaves that come to the anchor's root are the ones that count, and applying them comes
to its state, or the anchor is wrong.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dsn.apps.chain.ledger_now import Ledger, Shown
from dsn.apps.chain.under_way import Notice
from dsn.apps.chain.vault import Anchored
from dsn.apps.ledger.memory import Memory
from dsn.errors import DsnError, InvalidProof, NotFound, TransportError
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.bodies import Deposit
from dsn.ledger.cells import AccountCell, Cell, CellKind, DealCell, NetworkCell, cell_key
from dsn.ledger.disputes import SlashJudged
from dsn.ledger.entry import Entry
from dsn.ledger.log import Frontier, Hashes, LogLeaf, Subtree, TreeHead, leaf_hash
from dsn.ledger.onchain.tuples import place_tuple
from dsn.ledger.params import LedgerParams
from dsn.ledger.radix import StateTree
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


@dataclass(frozen=True, slots=True)
class Wrong:
    """An entry that is not as the rules have it; ``fault`` is the code, ``text`` for people."""

    index: int
    fault: str
    text: str


@dataclass(frozen=True, slots=True)
class Reached:
    """Where the first entries of a log lead, and the ``last`` leaf of them."""

    head: TreeHead
    last: LogLeaf
    network: NetworkCell
    tree: StateTree


@dataclass(frozen=True, slots=True)
class Traced:
    """A log from its beginning, whatever its leaves and the anchor say of the state.

    Attributes:
        copy: Whose it was.
        at: Where its entries lead, up to the first that the rules refuse.
        reached: The same at each of the sizes that were asked for.
        claims: What the operator entered as said by the chain, by the number of the entry.
        wrong: The first entry that is.
    """

    copy: LogCopy
    at: LedgerAt
    reached: Mapping[int, Reached]
    claims: Mapping[int, Deposit | SlashJudged]
    wrong: Wrong | None


async def trace(
    params: LedgerParams, root: LedgerRoot, copies: Iterable[LogCopy], sizes: Sequence[int] = ()
) -> Traced:
    """The log at ``root``, from the first of ``copies`` that has it; no signature is looked at.

    Args:
        params: The ledger's.
        root: As the chain has it.
        copies: Of the log; untrusted, asked in turn.
        sizes: Where to look at the state on the way.

    Raises:
        NotFound: ``no_log``: no copy comes to ``root``.

    Cost: about 0.15 ms an entry, and a kilobyte of memory a cell.
    """
    found = list[str]()
    for copy in copies:
        run = _Replay(params, sizes)
        try:
            async for leaves in copy.leaves(root.size):
                await asyncio.to_thread(run.take, leaves)
            _check_head(run.frontier, root)
        except DsnError as error:
            found.append(f"{copy.name}: {error.message}")
            continue
        at = LedgerAt(root, run.state, list(run.memory.cells()))
        return Traced(copy, at, run.reached, run.claims, run.wrong)
    raise _no_log(root, found)


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

    Cost: as ``trace``.
    """
    traced = await trace(params, root, copies)
    if traced.at.state.root != root.state_root:
        wrong = f"; {traced.wrong.text}" if traced.wrong else ""
        raise InvalidProof(
            f"the {root.size} anchored entries do not lead to the anchor's state{wrong}",
            code=WRONG_STATE,
            hint="the anchor is wrong: 'dsn dispute audit --convict' has it dropped",
        )
    return traced.at


async def read_log(root: LedgerRoot, copies: Iterable[LogCopy]) -> tuple[Sequence[LogLeaf], Hashes]:
    """All leaves of the log at ``root``, and its hashes: for proofs.

    Raises:
        NotFound: ``no_log``: no copy comes to ``root``.

    Cost: some 500 bytes of memory an entry, besides its own.
    """
    found = list[str]()
    for copy in copies:
        frontier, nodes, leaves = Frontier(), dict[Subtree, bytes](), list[LogLeaf]()
        try:
            async for some in copy.leaves(root.size):
                frontier, grown = await asyncio.to_thread(_extended, frontier, some)
                nodes |= grown
                leaves += some
            _check_head(frontier, root)
        except DsnError as error:
            found.append(f"{copy.name}: {error.message}")
            continue
        return leaves, nodes.__getitem__
    raise _no_log(root, found)


def state_before(params: LedgerParams, leaves: Sequence[LogLeaf]) -> State:
    """The state after ``leaves``, which the rules allow."""
    run = _Replay(params)
    run.take(leaves)
    return run.state


class _Replay:
    """Leaves applied as they come; which log they are of is known only after the last."""

    def __init__(self, params: LedgerParams, sizes: Sequence[int] = ()) -> None:
        self.memory, self.frontier = Memory(genesis(params).cells.values()), Frontier()
        self.state, self._sizes, self._refused = self.memory.state(params), sorted(sizes), False
        self.reached = dict[int, Reached]()
        self.claims = dict[int, Deposit | SlashJudged]()
        self.wrong: Wrong | None = None

    def take(self, leaves: Sequence[LogLeaf]) -> None:
        first, done = self.frontier.size, 0
        cuts = [size - first for size in self._sizes if first < size <= first + len(leaves)]
        for cut in (*cuts, len(leaves)):
            self._take(leaves[done:cut])
            if cut in cuts:
                self.reached[first + cut] = Reached(
                    self.frontier.head, leaves[cut - 1], self.state.network, self.state.tree
                )
            done = cut
        self.state = self.memory.absorb(self.state)

    def _take(self, leaves: Sequence[LogLeaf]) -> None:
        for index, leaf in enumerate(leaves, self.frontier.size):
            if not self._refused:
                self._apply(index, leaf)
        self.frontier, _ = _extended(self.frontier, leaves)

    def _apply(self, index: int, leaf: LogLeaf) -> None:
        try:
            entry = Entry.decode(leaf.entry)
            self.state, _ = apply(self.state, entry)
        except DsnError as error:
            self._refused = True
            self._blame(index, error.detail_code, error.message)
            return
        if isinstance(entry.body, Deposit | SlashJudged):
            self.claims[index] = entry.body
        if self.wrong is None and leaf.state_root != self.state.root:
            self._blame(index, "state_root_differs", "it leads to another state than the log says")

    def _blame(self, index: int, fault: str, text: str) -> None:
        self.wrong = self.wrong or Wrong(index, fault, f"entry {index:,}: {text}")


def _extended(
    frontier: Frontier, leaves: Sequence[LogLeaf]
) -> tuple[Frontier, Mapping[Subtree, bytes]]:
    return frontier.extend(leaf_hash(leaf.encode()) for leaf in leaves)


def _check_head(frontier: Frontier, root: LedgerRoot) -> None:
    if root.size and frontier.head != TreeHead(root.size, root.root):
        raise InvalidProof(f"{frontier.size} leaves of another log", code="other_log")


def _no_log(root: LedgerRoot, found: Iterable[str]) -> NotFound:
    return NotFound(
        f"no copy of the log comes to the anchored {root.size:,} entries"
        + "".join(f"; {each}" for each in found),
        code="no_log",
        hint="name a ledger's or a witness's directory with --log DIR",
    )


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
