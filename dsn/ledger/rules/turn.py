"""One entry at work: the cells it reads, as it has changed them so far."""

from __future__ import annotations

from dataclasses import replace

from dsn.ids import DealId, NodeId
from dsn.ledger.cells import (
    AccountCell,
    Cell,
    CellKind,
    DealCell,
    DealState,
    NetworkCell,
    NodeCell,
    cell_key,
)
from dsn.ledger.params import LedgerParams
from dsn.ledger.refusal import refuse
from dsn.ledger.settlement import Address, format_address
from dsn.ledger.state import Changes, State
from dsn.proofs.inventory import SumTree

MAX_CELLS = 5
"""Cells an entry may touch beside the network's."""


class Turn:
    """A working view of a state for one entry of ``signer``.

    Rules read and put cells in any order and may refuse at any point: the state itself is never
    changed, and a turn that raised is thrown away.
    """

    __slots__ = ("_cells", "_inventories", "_state", "network", "params", "signer")

    def __init__(self, state: State, signer: Address) -> None:
        """Start with nothing changed."""
        self._state = state
        self._cells: dict[bytes, Cell] = {}
        self._inventories: dict[Address, SumTree] = {}
        self.params: LedgerParams = state.params
        self.network: NetworkCell = state.network
        self.signer = signer

    @property
    def epoch(self) -> int:
        """The network's epoch."""
        return self.network.epoch

    def _cell(self, kind: CellKind, name: bytes) -> Cell | None:
        return self._cells.get(cell_key(kind, name)) or self._state.cell(kind, name)

    def account(self, address: Address) -> AccountCell:
        """Whose account, or a new one."""
        cell = self._cell(CellKind.ACCOUNT, address)
        return cell if isinstance(cell, AccountCell) else AccountCell(address)

    def node(self, node: NodeId) -> NodeCell | None:
        """Whom an identity belongs to, if to anyone."""
        cell = self._cell(CellKind.NODE, node)
        return cell if isinstance(cell, NodeCell) else None

    def deal(self, deal: DealId) -> DealCell:
        """The deal.

        Raises:
            EntryRefused: ``unknown_deal``.
        """
        cell = self._cell(CellKind.DEAL, deal)
        if not isinstance(cell, DealCell):
            raise refuse("unknown_deal", f"there is no deal {deal.hex()}")
        return cell

    def has_deal(self, deal: DealId) -> bool:
        """Whether there is or was such a deal."""
        return self._cell(CellKind.DEAL, deal) is not None

    def inventory(self, provider: Address) -> SumTree:
        """The tree behind the provider's live root."""
        return self._inventories.get(provider) or self._state.inventory(provider)

    def put(self, *cells: Cell) -> None:
        """Change ``cells``."""
        for cell in cells:
            self._cells[cell.key] = cell

    def put_inventory(self, provider: Address, tree: SumTree) -> None:
        """Change the tree behind the provider's live root; its account is put apart."""
        self._inventories[provider] = tree

    def credit(self, address: Address, amount: int) -> None:
        """Give ``amount`` base units to an account."""
        account = self.account(address)
        self.put(replace(account, available=account.available + amount))

    def debit(self, address: Address, amount: int) -> None:
        """Take ``amount`` base units from an account.

        Raises:
            EntryRefused: ``not_enough_credit``.
        """
        account = self.account(address)
        if amount > account.available:
            raise refuse(
                "not_enough_credit",
                f"{format_address(address)} has {account.available} base units, {amount} needed",
                hint="deposit or earn more",
            )
        self.put(replace(account, available=account.available - amount))

    def changes(self) -> Changes:
        """What the entry did.

        Raises:
            EntryRefused: ``amount_overflow``: a field would not fit its cell.
        """
        assert sum(cell is not self.network for cell in self._cells.values()) <= MAX_CELLS
        try:
            return Changes.of(self._cells.values(), self._inventories)
        except OverflowError as error:
            raise refuse("amount_overflow", "an amount or count would not fit its cell") from error


def check_operator(turn: Turn) -> None:
    """Raises ``not_the_operator`` unless the signer is."""
    if turn.signer != turn.params.operator:
        raise refuse("not_the_operator", "only the ledger's operator can do this")


def check_party(turn: Turn, deal: DealCell) -> None:
    """Raises ``not_a_party`` unless the signer is the deal's client or provider."""
    if turn.signer not in (deal.terms.client, deal.terms.provider):
        raise refuse("not_a_party", f"only client or provider of {deal.deal.hex()} can do this")


def check_provider(turn: Turn, deal: DealCell) -> None:
    """Raises ``not_the_provider`` unless the signer is the deal's provider."""
    if turn.signer != deal.terms.provider:
        raise refuse("not_the_provider", f"only the provider of {deal.deal.hex()} can do this")


def check_open(deal: DealCell) -> None:
    """Raises ``deal_not_open`` unless the deal is open."""
    if deal.state is not DealState.OPEN:
        raise refuse("deal_not_open", f"the deal is {deal.state.name.lower()}")


def check_no_demand(deal: DealCell) -> None:
    """Raises ``demand_pending`` if one is."""
    if deal.demand is not None:
        raise refuse(
            "demand_pending", "a demand is pending on the deal", hint="serve it, or let it run out"
        )


def check_number(deal: DealCell, number: int) -> None:
    """Raises ``stale_revision`` unless ``number`` is above the installed revision's."""
    if number <= deal.number:
        raise refuse("stale_revision", f"revision {number}, {deal.number} is installed")
