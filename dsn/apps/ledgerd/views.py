"""The ledger as of its published checkpoint: what readers may be told, each with its proof.

Entries go on while a checkpoint is being cosigned, so the newest state is not the one that
readers can check.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import NamedTuple

from dsn.errors import Unreachable
from dsn.ids import DealId
from dsn.ledger.cells import Cell, DealCell, DealState
from dsn.ledger.checkpoint import SignedCheckpoint
from dsn.ledger.radix import StateLeaf, StateStep, StateTree
from dsn.ledger.settlement import Address
from dsn.proofs.inventory import InventoryEntry


class Proven(NamedTuple):
    """A cell, or that there is none, and the way from the state root to where it stands.

    Without a cell ``leaf`` is the one that the key's bits lead to.
    """

    cell: Cell | None
    leaf: StateLeaf
    steps: Sequence[StateStep]


class Views:
    """Cells, inventories and proofs at the newest published checkpoint."""

    def __init__(self, cells: Iterable[Cell]) -> None:
        """Know ``cells``; nothing is told before ``publish``."""
        self._cells: dict[bytes, Cell] = {}
        self._held: dict[Address, dict[DealId, InventoryEntry]] = defaultdict(dict)
        self._tree: StateTree | None = None
        self.signed: SignedCheckpoint | None = None
        """The newest checkpoint that may be shown."""
        for cell in cells:
            self._put(cell)

    @property
    def size(self) -> int:
        """Entries up to which cells are told; 0 before any are."""
        return self.signed.checkpoint.size if self.signed and self._tree else 0

    def recall(self, signed: SignedCheckpoint) -> None:
        """Show again what an earlier process published; its cells are not known any more."""
        self.signed = signed

    def publish(self, signed: SignedCheckpoint, tree: StateTree, changed: Iterable[Cell]) -> None:
        """Go on to another checkpoint, or to one with more lines.

        Args:
            signed: With as many cosignatures as readers demand.
            tree: Its state.
            changed: Every cell that was touched since the last one, as it is now.
        """
        for cell in changed:
            self._put(cell)
        self.signed, self._tree = signed, tree

    def published(self) -> SignedCheckpoint:
        """The newest checkpoint that readers may be shown.

        Raises:
            Unreachable: ``ledger_unreachable``: none is published yet.
        """
        if self.signed is None:
            raise _too_early()
        return self.signed

    def readable(self) -> SignedCheckpoint:
        """The checkpoint that cells are told as of.

        Raises:
            Unreachable: ``ledger_unreachable``: this process has published none yet.
        """
        if self._tree is None:
            raise _too_early()
        return self.published()

    def prove(self, key: bytes) -> Proven:
        """What stands under ``key``; ask for ``readable`` first."""
        assert self._tree is not None
        leaf, steps = self._tree.build_proof(key)
        return Proven(self._cells.get(key), leaf, steps)

    def inventory(
        self, provider: Address, after: bytes, most: int
    ) -> tuple[list[InventoryEntry], bool]:
        """What is behind a provider's live root: deals greater than ``after``, by deal.

        Returns:
            At most ``most`` of them, and whether there are more.

        Cost: linear in the provider's deals.
        """
        held = self._held.get(provider, {})
        deals = nsmallest(most + 1, (deal for deal in held if deal > after))
        return [held[deal] for deal in deals[:most]], len(deals) > most

    def _put(self, cell: Cell) -> None:
        self._cells[cell.key] = cell
        if isinstance(cell, DealCell):
            held = self._held[cell.terms.provider]
            held.pop(cell.deal, None)
            if cell.state is DealState.OPEN and cell.leaves:
                held[cell.deal] = InventoryEntry(cell.deal, cell.number, cell.root, cell.leaves)


def _too_early() -> Unreachable:
    return Unreachable(
        "the ledger has no cosigned checkpoint yet",
        hint="try again once its witnesses have followed",
        code="ledger_unreachable",
    )
