"""The few cells that one step reads, and just as much of the state tree as shows them.

Whoever knows the root of the whole state can run the step over them, and gets the root after it
or finds that something is missing. A leaf of the tree comes as its whole cell, also where it only
shows that another cell is absent: a digest alone says nothing of whose it is.

Spec: docs/spec/evidence.md#partial-state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.ids import ID_BYTES, DealId
from dsn.ledger.cells import (
    AccountCell,
    Cell,
    CellKind,
    DealCell,
    cell_digest,
    cell_key,
    decode_cell,
)
from dsn.ledger.params import LedgerParams
from dsn.ledger.radix import LeftOut, StateLeaf, StatePart, StateTree
from dsn.ledger.settlement import ADDRESS_BYTES, Address
from dsn.ledger.state import State
from dsn.proofs.inventory import InventoryEntry, SumTree, inventory_leaf

_LEFT_OUT: Final = 0
_BRANCH: Final = 255
"""The kinds of parts, beside those of cells."""
_CELL_KINDS: Final = frozenset(map(int, CellKind))
_MAX_CELL_BYTES: Final = 4_096

Part = int | Cell | bytes
"""As ``StatePart``, with a leaf's cell in its place."""


class Holding(NamedTuple):
    """All that a provider's ``live`` root is over, by deal."""

    provider: Address
    entries: tuple[InventoryEntry, ...]

    def tree(self) -> SumTree:
        """Its root is ``live``.

        Raises:
            MalformedMessage: An entry of no leaves.
            LimitReached: 2^63 leaves or more.
        """
        return SumTree.build(
            (each.deal, inventory_leaf(*each), each.leaves) for each in self.entries
        )


@dataclass(frozen=True, slots=True)
class PartialState:
    """What a step reads: parts of the state tree, and what stands behind live roots."""

    parts: tuple[Part, ...]
    holdings: tuple[Holding, ...] = ()

    @classmethod
    def of(cls, state: State, keys: Iterable[bytes], providers: Iterable[Address]) -> PartialState:
        """The part of ``state`` that has these cells (or shows that they are absent).

        Args:
            state: With all its cells at hand.
            keys: See ``cell_key``.
            providers: Whose inventories are read.
        """
        owners = sorted(providers)
        accounts = (cell_key(CellKind.ACCOUNT, each) for each in owners)
        tree = state.tree.pruned({*keys, *accounts})
        parts = (
            _cell(state, part.key) if isinstance(part, StateLeaf) else part for part in tree.parts()
        )
        return cls(tuple(parts), tuple(_holding(state, each) for each in owners))

    def write(self, writer: Writer) -> None:
        """The fixed encoding."""
        for part in self.parts:
            match part:
                case int(bit):
                    writer.u8(_BRANCH).u8(bit)
                case bytes(digest):
                    writer.u8(_LEFT_OUT).raw(digest, HASH_BYTES)
                case cell:
                    writer.u8(cell.kind).var(cell.encode())
        writer.u8(len(self.holdings))
        for provider, entries in self.holdings:
            writer.raw(provider, ADDRESS_BYTES).u32(len(entries))
            for entry in entries:
                _write_entry(writer, entry)

    @classmethod
    def read(cls, reader: Reader) -> PartialState:
        """Take one out of ``reader`` (untrusted).

        Raises:
            MalformedMessage: No tree, cell or inventory, or not in order.
        """
        parts = tuple(_read_tree(reader))
        holdings = tuple(_read_holding(reader) for _ in range(reader.u8()))
        if list(holdings) != sorted(holdings, key=lambda each: each.provider):
            raise reader.refuse("providers come in order")
        return cls(parts, holdings)

    def state(self, params: LedgerParams) -> State:
        """The state as far as it is known: asked for more, it raises ``LeftOut``.

        Whoever uses it compares its root with one that is believed first.

        Raises:
            MalformedMessage: A tree or an inventory that cannot be.
            LimitReached: An inventory of 2^63 leaves or more.
        """
        cells = PartialCells(self, cell_key(CellKind.NETWORK, params.domain.network))
        return State(params, cells.tree, cells)


class PartialCells:
    """The ``CellSource`` of a partial state."""

    def __init__(self, partial: PartialState, network: bytes) -> None:
        """Open ``partial``; ``network`` is the key of the one cell that every state has."""
        leaves = (_state_part(part) for part in partial.parts)
        self.tree = StateTree.of_parts(leaves)
        self._cells = {
            part.key: part for part in partial.parts if not isinstance(part, int | bytes)
        }
        self._inventories = {each.provider: each.tree() for each in partial.holdings}
        self._network = network

    def cell(self, key: bytes) -> Cell | None:
        """The cell under ``key``, or ``None`` if the state has none.

        Raises:
            LeftOut: Nobody can say, or it is the network's that is not there.
        """
        if self.tree.find(key) is not None:
            return self._cells[key]
        if key == self._network:
            raise LeftOut("a state without the network's cell")
        return None

    def inventory(self, provider: Address) -> SumTree:
        """What the provider's ``live`` root is over.

        Raises:
            LeftOut: It is not there, or something else is.
        """
        account = self.cell(cell_key(CellKind.ACCOUNT, provider)) or AccountCell(provider)
        tree = self._inventories.get(provider)
        assert isinstance(account, AccountCell)
        if tree is None or (tree.root, tree.total) != (account.live, account.live_leaves):
            raise LeftOut(f"nothing is known of what {provider.hex()} holds")
        return tree


class WatchedCells:
    """A ``CellSource`` that passes on another state's cells, and remembers which."""

    def __init__(self, state: State) -> None:
        """Watch ``state``."""
        self.keys = set[bytes]()
        self.providers = set[Address]()
        self._state = state

    @property
    def state(self) -> State:
        """The same state, watched."""
        return State(self._state.params, self._state.tree, self)

    def cell(self, key: bytes) -> Cell | None:
        """The cell under ``key``, if there is one."""
        self.keys.add(key)
        return self._state.cells.get(key) or self._state.source.cell(key)

    def inventory(self, provider: Address) -> SumTree:
        """What the provider's ``live`` root is over."""
        self.providers.add(provider)
        return self._state.inventory(provider)


def _state_part(part: Part) -> StatePart:
    return part if isinstance(part, int | bytes) else StateLeaf(part.key, cell_digest(part))


def _cell(state: State, key: bytes) -> Cell:
    cell = state.cells.get(key) or state.source.cell(key)
    assert cell is not None
    return cell


def _holding(state: State, provider: Address) -> Holding:
    deals = (state.cell(CellKind.DEAL, deal) for deal, _ in state.inventory(provider))
    return Holding(
        provider,
        tuple(
            InventoryEntry(deal.deal, deal.number, deal.root, deal.leaves)
            for deal in deals
            if isinstance(deal, DealCell)
        ),
    )


def _write_entry(writer: Writer, entry: InventoryEntry) -> None:
    writer.raw(entry.deal, ID_BYTES).u64(entry.number)
    writer.raw(entry.holdings_root, HASH_BYTES).u64(entry.leaves)


def _read_entry(reader: Reader) -> InventoryEntry:
    deal, number = DealId(reader.raw(ID_BYTES)), reader.u64()
    return InventoryEntry(deal, number, reader.raw(HASH_BYTES), reader.u64())


def _read_holding(reader: Reader) -> Holding:
    provider, count = Address(reader.raw(ADDRESS_BYTES)), reader.u32()
    return Holding(provider, tuple(_read_entry(reader) for _ in range(count)))


def _read_tree(reader: Reader) -> Iterator[Part]:
    """Parts until the tree is whole: a branch wants one more than it gives."""
    wanted = 1
    while wanted:
        kind = reader.u8()
        if kind == _BRANCH:
            wanted += 1
            yield reader.u8()
            continue
        wanted -= 1
        yield reader.raw(HASH_BYTES) if kind == _LEFT_OUT else _read_cell(reader, kind)


def _read_cell(reader: Reader, kind: int) -> Cell:
    if kind not in _CELL_KINDS:
        raise reader.refuse(f"a cell of kind {kind}")
    return decode_cell(CellKind(kind), reader.var(_MAX_CELL_BYTES))
