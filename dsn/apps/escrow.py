"""Making sure that deals are open and covered: what nodes sign, and what the ledger is told.

Spec: docs/spec/economy.md#deal.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from dsn.apps.deal_book import DealBook, Sender
from dsn.apps.deal_file import ClientDeal, Stage
from dsn.apps.deal_plan import (
    LEAST_LEAVES,
    Step,
    Want,
    affordable,
    check_offer,
    draft,
    end_after,
    missing,
    price,
    term_epochs,
)
from dsn.apps.deal_signing import Signing
from dsn.apps.nodes import Nodes, ask
from dsn.errors import DsnError, EntryRefused, PeerError, TransportError
from dsn.ids import ID_BYTES, NodeId
from dsn.ledger.bodies import CloseDeal, Open, Quit, TopUp
from dsn.ledger.cells import NO_NODE
from dsn.ledger.entry import Body
from dsn.ledger.params import MAX_TERM
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.ledger.terms import Terms
from dsn.ports import Entropy
from dsn.rpc.deals import TIMEOUT_S, DealPeer

Refusals = dict[NodeId, DsnError]
"""Nodes that have no deal for what was wanted, and why."""
_ENDING_ENTRIES: Final = 3
"""A quit, and two closes."""


class Escrow:
    """Opens, tops up and extends deals, within a budget."""

    def __init__(
        self,
        book: DealBook,
        nodes: Nodes,
        signing: Signing,
        sender: Sender,
        me: Address,
        *,
        entropy: Entropy,
        budget: int,
    ) -> None:
        """Enter through ``sender`` what concerns the account ``me``.

        Args:
            book: Of its deals.
            nodes: The other parties.
            signing: Signs, and has nodes sign.
            sender: Enters into the ledger.
            me: Whose credits are locked.
            entropy: Salts deals.
            budget: The most base units to lock or spend; 0: no bound.
        """
        self.budget, self.spent = budget, 0
        self._book, self._nodes, self._signing, self._sender = book, nodes, signing, sender
        self._me, self._entropy = me, entropy
        self._fee = book.params.entry_fee

    async def cover(self, wants: Mapping[NodeId, Want], days: float) -> Refusals:
        """See to it that a deal of each node covers what is wanted of it, for ``days``.

        Returns:
            Nodes that do not agree, or are away.

        Raises:
            LimitReached: ``over_budget``, ``not_enough_credit``, ``term_too_long``.
            EntryRefused: The ledger takes none of it, or does not know this home.
            Unreachable: ``ledger_unreachable``, while something has to be entered for all of them.
        """
        refused: Refusals = {}
        if lacking := self._lacking(wants, days):
            try:
                await self._book.look()
                if lacking := self._lacking(lacking, days):
                    refused = await self._enter(lacking, days)
            except TransportError as away:
                if len(lacking) == len(wants):
                    raise
                refused = dict.fromkeys(lacking, away)
        for node, want in wants.items():
            deal = self._book.open(node)
            if deal is not None and node not in refused:
                deal.coming += want.leaves
        return refused

    async def open_reserves(
        self, delegate: Address, wants: Mapping[NodeId, Want], days: float
    ) -> tuple[list[ClientDeal], Refusals]:
        """Open a deal of its own with each node, in which ``delegate`` may do what is wanted.

        Returns:
            The deals that are open now, and why other nodes have none.

        Raises:
            As ``cover``.
        """
        await self._book.look()
        self._end(days)
        drafts, refused = await self._drafts(wants, days)
        for node, deal in drafts.items():
            leaves = wants[node].leaves + LEAST_LEAVES
            deal.cell = replace(
                deal.cell, terms=replace(deal.terms, delegate=delegate, delegate_leaves=leaves)
            )
        left = self.budget - self.spent if self.budget else None
        available = await self._available()
        steps = affordable(drafts, wants, self._fee, available=available, left=left, roomy=False)
        calls = {node: self._bodies(drafts[node], step) for node, step in steps.items()}
        bodies = await ask(calls, enough=len(calls), most_s=TIMEOUT_S)
        entries = [body for each in bodies.values() for body in each if isinstance(body, Open)]
        refusal = await self._send(list(entries))
        signed = {entry.agreed.client_signature for entry in entries}
        ours = [deal for deal in self._book.deals if deal.agreed.client_signature in signed]
        opened = [deal for deal in ours if deal.stage is Stage.OPEN]
        if refusal is not None and not opened:
            raise refusal
        self.spent += sum(price(drafts[deal.node], steps[deal.node], self._fee) for deal in opened)
        return opened, refused | bodies.failed

    async def close_over(self) -> None:
        """Get back what deals that are over have left, as far as the ledger lets us now."""
        if over := self._book.over():
            with suppress(DsnError):
                await self._sender.send([CloseDeal(deal.deal, None) for deal in over], wait=False)

    async def quit_unused(self, busy: Collection[NodeId]) -> None:
        """End deals that hold nothing any more, but for those with ``busy`` nodes.

        What a node does not know yet of a drop, or the ledger cannot be told now, waits for the
        next time.
        """
        if not any(self._is_unused(deal, busy) for deal in self._book.deals):
            return
        with suppress(DsnError):
            await self._book.look()
            unused = [deal for deal in self._book.deals if self._is_unused(deal, busy)]
            if unused:
                await self._sender.send([Quit(deal.deal) for deal in unused], wait=False)

    def _is_unused(self, deal: ClientDeal, busy: Collection[NodeId]) -> bool:
        """Whether a deal held something, holds nothing, and locks more than it costs to end it."""
        cell, purse = deal.cell, deal.purse
        empty = not (deal.leaves or deal.coming or cell.leaves or purse.owed)
        back = cell.disk_escrow + cell.bandwidth_escrow + cell.voucher_paid - purse.credits
        return (
            empty
            and purse.traffic.ingress_bytes > 0
            and deal.node not in busy
            and self._book.open(deal.node) is deal
            and self._book.epoch + cell.terms.notice < cell.last
            and back > _ENDING_ENTRIES * self._fee
        )

    def _lacking(self, wants: Mapping[NodeId, Want], days: float) -> dict[NodeId, Want]:
        return {node: want for node, want in wants.items() if not self._covers(node, want, days)}

    def _covers(self, node: NodeId, want: Want, days: float) -> bool:
        deal = self._book.open(node)
        return deal is not None and missing(deal, self._aim(deal, want, days)).empty

    def _aim(self, deal: ClientDeal, want: Want, days: float) -> Want:
        """``want`` with the end that ``deal`` has to get, if it is over too soon.

        A deal need not outlive what is read under it.
        """
        lasting = deal.end >= self._book.epoch + term_epochs(days, self._book.params.epoch_s)
        reads_only = want.read_bytes and deal.stage is not Stage.DRAFT
        return want if lasting or reads_only else replace(want, end=self._end(days))

    def _end(self, days: float, most: int = MAX_TERM) -> int:
        """When deals for ``days`` end, made now; ``most`` epochs are as long as a node agrees to.

        Raises:
            LimitReached: ``term_too_long``.
        """
        params = self._book.params
        span, most = term_epochs(days, params.epoch_s), min(most, params.max_term)
        return end_after(self._book.epoch, span, most)

    async def _enter(self, wants: Mapping[NodeId, Want], days: float) -> Refusals:
        """Have deals signed, extended and topped up, and enter all that into the ledger."""
        self._end(days)  # what no node can agree to is nobody's refusal
        deals, refused = await self._parties(wants, days)
        steps = affordable(
            deals,
            {node: self._aim(deal, wants[node], days) for node, deal in deals.items()},
            self._fee,
            available=await self._available(),
            left=self.budget - self.spent if self.budget else None,
        )
        prices = {node: price(deals[node], step, self._fee) for node, step in steps.items()}
        calls = {node: self._bodies(deals[node], step) for node, step in steps.items()}
        bodies = await ask(calls, enough=len(calls), most_s=TIMEOUT_S)
        refused |= bodies.failed
        topped = [deals[node] for node in bodies if deals[node].stage is Stage.OPEN]
        first = sorted(bodies, key=lambda node: deals[node].stage is not Stage.OPEN)
        refusal = await self._send([body for node in first for body in bodies[node]])
        left_out = self._lacking({node: wants[node] for node in bodies}, days)
        if refusal is not None and len(left_out) == len(bodies):
            raise refusal
        for node in left_out:
            refused[node] = refusal or EntryRefused("the ledger does not show the deal")
        await self._tell(topped)
        self.spent += sum(prices[node] for node in bodies if node not in left_out)
        return refused

    async def _parties(
        self, wants: Mapping[NodeId, Want], days: float
    ) -> tuple[dict[NodeId, ClientDeal], Refusals]:
        """The deal of each node, or one drafted by its terms."""
        deals = {node: deal for node in wants if (deal := self._book.current(node)) is not None}
        drafts, refused = await self._drafts([node for node in wants if node not in deals], days)
        return deals | drafts, refused

    async def _drafts(
        self, nodes: Iterable[NodeId], days: float
    ) -> tuple[dict[NodeId, ClientDeal], Refusals]:
        """A deal with each of ``nodes``, drafted by its terms."""
        calls = {node: self._nodes.offer(node) for node in nodes}
        offers = await ask(calls, enough=len(calls))
        deals: dict[NodeId, ClientDeal] = {}
        refused: Refusals = dict(offers.failed)
        payees = {offer.terms.settlement for offer in offers.values()}
        accounts = await self._book.ledger.accounts(payees)
        for node, offer in offers.items():
            try:
                if accounts[offer.terms.settlement].node != node:
                    raise PeerError("the account it names is not bound to it", code="not_bound")
                deals[node] = self._draft(node, offer.terms, days)
            except DsnError as error:
                refused[node] = error
        return deals, refused

    def _draft(self, node: NodeId, terms: Terms, days: float) -> ClientDeal:
        params, epoch = self._book.params, self._book.epoch
        check_offer(terms, params, self._me)
        end, salt = self._end(days, terms.max_term), self._entropy(ID_BYTES)
        return draft(node, terms, self._me, epoch=epoch, end=end, epoch_s=params.epoch_s, salt=salt)

    async def _available(self) -> int:
        account = (await self._book.ledger.accounts([self._me]))[self._me]
        if account.node == NO_NODE:
            raise EntryRefused(
                "this home has no account on the ledger yet",
                code="not_bound",
                hint="dsn wallet request opens one",
            )
        return account.available

    async def _bodies(self, deal: ClientDeal, step: Step) -> list[Body]:
        """What to enter for one deal, signed by its node and written down."""
        if deal.stage is Stage.DRAFT:
            terms = replace(deal.terms, disk_escrow=step.disk, bandwidth_escrow=step.bandwidth)
            if terms.delegate != NO_ADDRESS:
                terms = replace(terms, delegate_credits=step.bandwidth)
            deal = await self._signing.open(deal.node, terms, self._book.epoch)
            self._book.add(deal)
            return [Open(deal.agreed)]
        bodies: list[Body] = [] if deal.stage is Stage.OPEN else [Open(deal.agreed)]
        if not step.empty:
            later = await self._signing.extend(deal, step.end) if step.end else None
            bodies.append(TopUp(deal.deal, step.disk, step.bandwidth, later))
        return bodies

    async def _tell(self, topped: Sequence[ClientDeal]) -> None:
        """Have nodes see on the ledger what was added to their deals, while it can be reached."""
        calls = {
            deal.node: DealPeer(self._nodes.line(deal.node)).pay(deal.deal, None) for deal in topped
        }
        await ask(calls, enough=len(calls), most_s=TIMEOUT_S)

    async def _send(self, bodies: list[Body]) -> EntryRefused | None:
        """Enter ``bodies`` and see what came of them; gives why one was refused, if one was."""
        refusal = None
        try:
            if bodies:
                await self._sender.send(bodies)
        except EntryRefused as error:
            refusal = error
        await self._book.look()
        return refusal
