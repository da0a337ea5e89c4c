"""Which deals a node serves, and to whom: signed here, open on the ledger, between these two."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from dsn.apps.node.accounts import Accounts
from dsn.apps.node.tabs import Backing, OpenDeal, OpenTab
from dsn.apps.node.terms import Payee
from dsn.errors import EntryRefused, NotFound, TransportError
from dsn.ids import NO_DEAL, DealId, NodeId
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.turn import check_open
from dsn.ledger.settlement import NO_ADDRESS
from dsn.ports import Clock
from dsn.rpc.tls import Caller
from dsn.store.deals import DealStore, StoredDeal
from dsn.wire.convert import deal_from_wire


class Deals:
    """The deals in use, each with one object while the node runs."""

    def __init__(self, payee: Payee, store: DealStore, accounts: Accounts, clock: Clock) -> None:
        """Serve what ``store`` has, as ``payee``; ``accounts`` know what is held."""
        self.payee, self.store, self.accounts = payee, store, accounts
        self.backing = Backing(payee.ledger, store, clock)
        self._open: dict[DealId, OpenDeal] = {}
        self._delegates: set[tuple[DealId, NodeId]] = set()

    async def serve(self, caller: Caller, deal: DealId) -> OpenTab:
        """The tab of ``caller`` under ``deal`` (untrusted).

        Raises:
            NotFound: ``unknown_deal``: this node did not sign it.
            EntryRefused: ``not_a_party``; ``deal_not_open``: not yet, not any more, or about to
                end.
            Unreachable: ``ledger_unreachable``, if the deal was never seen there.
        """
        served = self._open.get(deal) or await self._load(caller, deal)
        try:
            served.check_running()
        except EntryRefused:
            with suppress(TransportError):
                await served.look()
            served.check_running()
        if caller.node_id == served.owner:
            return served.client
        await self._check_delegate(served, caller.node_id)
        return served.delegate

    def __getitem__(self, deal: DealId) -> OpenDeal:
        """One that is in use."""
        return self._open[deal]

    def in_use(self) -> Sequence[OpenDeal]:
        """Those that were served since the node started."""
        return list(self._open.values())

    async def see(self, cells: Iterable[DealCell]) -> None:
        """Take over how the ledger has deals now."""
        known = list(cells)
        await self.store.save_cells(known)
        for cell in known:
            if (served := self._open.get(cell.deal)) is not None:
                served.see(cell)
            if cell.state is DealState.CLOSED:
                self._open.pop(cell.deal, None)

    def open(self, signed: StoredDeal, cell: DealCell) -> OpenDeal:
        """The one object of a deal, on the ledger as ``cell`` says, not closed."""
        served = self._open.get(signed.deal)
        if served is None:
            served = self._open[signed.deal] = OpenDeal(signed, cell, self.backing)
        return served

    async def keep(self) -> None:
        """Write down all traffic that is not."""
        for served in self.in_use():
            for tab in served.tabs:
                await tab.keep(least=1)

    async def _load(self, caller: Caller, deal: DealId) -> OpenDeal:
        signed = await self.store.get(deal)
        if signed is None:
            raise NotFound(f"deal {deal.hex()} is not signed here", code="unknown_deal")
        cell = await self._look(signed, caller.node_id)
        if cell is None:
            raise refuse("deal_not_open", f"deal {deal.hex()} is not open on the ledger")
        check_open(cell)
        return self.open(signed, cell)

    async def _look(self, signed: StoredDeal, caller: NodeId) -> DealCell | None:
        """The deal as the ledger has it, or had it last if nobody answers there."""
        try:
            return await self.backing.deal(signed.deal, caller)
        except TransportError:
            if signed.cell is None:
                raise
            return signed.cell

    async def _check_delegate(self, served: OpenDeal, caller: NodeId) -> None:
        """Raises ``not_a_party`` unless ``caller`` is the deal's delegate."""
        if (served.deal, caller) in self._delegates:
            return
        delegate = served.terms.delegate
        if delegate == NO_ADDRESS or await self.backing.bound(caller) != delegate:
            raise refuse("not_a_party", "the deal is between others")
        self._delegates.add((served.deal, caller))


async def tab_of(deals: Deals | None, caller: Caller, raw: bytes) -> OpenTab | None:
    """The tab that a call is on; ``None`` without a deal.

    Args:
        deals: What this node serves, or ``None`` where nobody pays.
        caller: Who calls.
        raw: The deal id that it names (untrusted).

    Raises:
        As ``Deals.serve``.
    """
    deal = deal_from_wire(raw)
    if deal == NO_DEAL:
        return None
    if deals is None:
        raise NotFound(f"deal {deal.hex()} is not open here", code="unknown_deal")
    return await deals.serve(caller, deal)
