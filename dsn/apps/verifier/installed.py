"""What each provider's deals had installed lately: what a frozen inventory is made of.

The ledger keeps only the root of what an epoch asks about. Whoever shows that an opening under it
is wrong has to show which deal it falls in, so a verifier remembers the entries behind the root.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from dsn.ids import DealId
from dsn.ledger.cells import Cell, DealCell, DealState
from dsn.ledger.settlement import Address
from dsn.proofs.inventory import InventoryEntry, SumTree, inventory_leaf

KEPT_EPOCHS: Final = 48
"""A verifier that looks later than that names the deal only if nothing changed since."""


class Installed:
    """Every open deal's entries, each with the epoch in which it was installed."""

    def __init__(self) -> None:
        """Begin with nothing; what stood in the state before belongs to epoch 0."""
        self._deals: dict[Address, set[DealId]] = defaultdict(set)
        self._entries: dict[DealId, list[tuple[int, InventoryEntry]]] = {}

    def see(self, epoch: int, cells: Iterable[Cell]) -> None:
        """Note cells as an entry of ``epoch`` left them; epochs never go back."""
        for cell in cells:
            if not isinstance(cell, DealCell):
                continue
            leaves = cell.leaves if cell.state is DealState.OPEN else 0
            entry = InventoryEntry(cell.deal, cell.number, cell.root, leaves)
            known = self._entries.setdefault(cell.deal, [])
            self._deals[cell.terms.provider].add(cell.deal)
            while known and known[-1][0] == epoch:
                known.pop()
            if not known or known[-1][1] != entry:
                known.append((epoch, entry))
            while len(known) > 1 and known[1][0] < epoch - KEPT_EPOCHS:
                del known[0]

    def frozen(self, provider: Address, epoch: int) -> Mapping[DealId, InventoryEntry]:
        """What was installed before ``epoch``, as far as is known; compare the root."""
        found = {}
        for deal in self._deals.get(provider, ()):
            before = [entry for at, entry in self._entries[deal] if at < epoch]
            if before and before[-1].leaves:
                found[deal] = before[-1]
        return found


def tree_of(entries: Mapping[DealId, InventoryEntry]) -> SumTree:
    """The inventory over ``entries``."""
    every = entries.values()
    return SumTree.build((each.deal, inventory_leaf(*each), each.leaves) for each in every)
