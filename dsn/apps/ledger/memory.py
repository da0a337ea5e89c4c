"""All cells of a ledger in memory, for whoever applies entries to them.

About 1 KB a cell. What is read from a store is believed only after its root was compared with
the one in the log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from dsn.errors import MalformedMessage
from dsn.ids import DealId
from dsn.ledger.cells import Cell, CellKind, DealCell, DealState, cell_digest, decode_cell
from dsn.ledger.params import LedgerParams
from dsn.ledger.radix import StateLeaf, StateTree
from dsn.ledger.settlement import Address
from dsn.ledger.state import CellSource, State
from dsn.ports import StoredCell
from dsn.proofs.inventory import EMPTY, InventoryEntry, SumTree, inventory_leaf


class Memory:
    """A ``CellSource`` that has every cell."""

    def __init__(self, cells: Iterable[Cell] = ()) -> None:
        """Keep ``cells``, and make the inventories that follow from them."""
        self._cells = {cell.key: cell for cell in cells}
        held: dict[Address, list[tuple[DealId, bytes, int]]] = defaultdict(list)
        for cell in self._cells.values():
            if isinstance(cell, DealCell) and cell.state is DealState.OPEN and cell.leaves:
                entry = InventoryEntry(cell.deal, cell.number, cell.root, cell.leaves)
                held[cell.terms.provider].append((cell.deal, inventory_leaf(*entry), cell.leaves))
        self._inventories = {provider: SumTree.build(each) for provider, each in held.items()}

    def cell(self, key: bytes) -> Cell | None:
        """The cell under ``key``, or ``None``."""
        return self._cells.get(key)

    def cells(self) -> Iterable[Cell]:
        """All of them."""
        return self._cells.values()

    def inventory(self, provider: Address) -> SumTree:
        """The tree over the provider's open deals that hold something."""
        return self._inventories.get(provider, EMPTY)

    def absorb(self, state: State) -> State:
        """Take in what ``state`` changed; gives the same state, resting on this memory alone."""
        self._cells.update(state.cells)
        self._inventories.update(state.inventories)
        return state.rebased(self)

    def state(self, params: LedgerParams) -> State:
        """The state that the cells make."""
        leaves = (StateLeaf(key, cell_digest(cell)) for key, cell in self._cells.items())
        return State(params, StateTree.build(leaves), self)


class Overlay:
    """A ``CellSource`` of what was touched since ``source``, which stays as it is."""

    def __init__(self, source: CellSource) -> None:
        """Nothing is touched yet."""
        self._source = source
        self.cells: dict[bytes, Cell] = {}
        self.inventories: dict[Address, SumTree] = {}

    def cell(self, key: bytes) -> Cell | None:
        """The cell under ``key``, or ``None``."""
        return self.cells.get(key) or self._source.cell(key)

    def inventory(self, provider: Address) -> SumTree:
        """The tree over the provider's open deals that hold something."""
        return self.inventories.get(provider) or self._source.inventory(provider)

    def absorb(self, state: State) -> State:
        """Take in what ``state``, which rests on this, changed; gives it with nothing on top."""
        self.cells.update(state.cells)
        self.inventories.update(state.inventories)
        return state.rebased(self)

    def whole(self, state: State) -> State:
        """``state``, which rests on this, as it rests on ``source``, with all that was touched."""
        self.absorb(state)
        return State(state.params, state.tree, self._source, self.cells, self.inventories)


def store_cell(cell: Cell) -> StoredCell:
    """The cell as a store keeps it."""
    return StoredCell(cell.key, cell.kind, cell.encode())


def load_cell(stored: StoredCell) -> Cell:
    """The cell that was stored.

    Raises:
        MalformedMessage: It is none, or stands under another's key.
    """
    try:
        cell = decode_cell(CellKind(stored.kind), stored.raw)
    except ValueError as error:
        raise MalformedMessage(f"a cell of kind {stored.kind}") from error
    if cell.key != stored.key:
        raise MalformedMessage(f"a cell under the key {stored.key.hex()}, not its own")
    return cell
