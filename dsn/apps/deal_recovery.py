"""A home's deals after only its keys were left: nodes show what both signed, the ledger the rest.

A node is asked for deals with itself only. It can hide one, which the ledger counts, but make none
up: each bears this home's own signature. How much was moved and promised follows from the node's
count and the highest voucher, within the bounds of ``Purse.agree``.

Spec: docs/spec/economy.md#deal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from dsn.apps.deal_book import DealBook
from dsn.apps.deal_file import ClientDeal, Stage, new_deal
from dsn.apps.deal_signing import Signing, read_signed_deal
from dsn.apps.nodes import Nodes, ask
from dsn.errors import PeerError
from dsn.ids import DealId, NodeId, format_node_id, short
from dsn.ledger.bodies import Agreed
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.deal import Deal
from dsn.ledger.revision import DealParties, verify_client_signature
from dsn.ledger.settlement import Address
from dsn.rpc.deals import TIMEOUT_S
from dsn.wire.convert import revision_from_wire

MOST_NODES: Final = 10_000
"""Asked for deals, from all over the keyspace."""
AT_ONCE: Final = 64
MOST_DEALS: Final = 4_096
"""Of one node that are looked at."""


class Recovered(NamedTuple):
    """How many deals a home has again, and how many more are open that no node showed.

    Those may also be deals in which the home's own node is the provider.
    """

    deals: int
    missing: int


async def recover_deals(book: DealBook, nodes: Nodes, signing: Signing, me: Address) -> Recovered:
    """Put into ``book`` all deals of the account ``me`` that it lacks and any node shows.

    A node that breaks off, or shows what cannot be so, gives none: the next call asks it again.

    Raises:
        Unreachable: Nobody lets this home in; ``ledger_unreachable``.
    """
    await book.look()
    recovery, found = _Recovery(book, nodes, signing, me), list[ClientDeal]()
    contacts = await nodes.discover(MOST_NODES)
    for start in range(0, len(contacts), AT_ONCE):
        some = [contact.node_id for contact in contacts[start : start + AT_ONCE]]
        calls = {node: recovery.deals_with(node) for node in some}
        answers = await ask(calls, enough=len(some), most_s=TIMEOUT_S)
        found += [deal for deals in answers.values() for deal in deals]
    for deal in found:
        book.add(deal)
    account = (await book.ledger.accounts([me]))[me]
    known = sum(deal.stage is Stage.OPEN and not deal.by_delegate for deal in book.deals)
    return Recovered(len(found), max(0, account.deals - known))


class _Recovery:
    """Asks nodes, and checks what they show."""

    def __init__(self, book: DealBook, nodes: Nodes, signing: Signing, me: Address) -> None:
        self._book, self._nodes, self._signing, self._me = book, nodes, signing, me
        self._known = {deal.deal for deal in book.deals}

    async def deals_with(self, node: NodeId) -> list[ClientDeal]:
        """The deals with ``node`` that the ledger has, is not done with, and the book lacks.

        Raises:
            DsnError: ``node`` is away, or shows what cannot be so.
        """
        shown = await self._shown(node)
        lacking = {deal: agreed for deal, agreed in shown.items() if deal not in self._known}
        if not lacking:
            return []
        await self._check_payees(node, lacking.values())
        cells = await self._book.ledger.deals(lacking)
        running = [cell for cell in cells.values() if cell.state is not DealState.CLOSED]
        return [await self._gone_on(node, lacking[cell.deal], cell) for cell in running]

    async def _shown(self, node: NodeId) -> dict[DealId, Agreed[Deal]]:
        """All that ``node`` lists, both signatures checked."""
        peer, shown, after, more = self._signing.peer(node), dict[DealId, Agreed[Deal]](), b"", True
        domain = self._book.params.domain
        while more and len(shown) < MOST_DEALS:
            reply = await peer.listed(after)
            for raw in reply.deals:
                agreed = read_signed_deal(raw, domain)
                deal = agreed.statement.deal_id(domain)
                if deal <= after or agreed.statement.client != self._me:
                    raise _wrong(node, "lists deals in circles, or of somebody else")
                shown[deal], after = agreed, deal
            more = reply.more and bool(reply.deals)
        return shown

    async def _check_payees(self, node: NodeId, deals: Iterable[Agreed[Deal]]) -> None:
        """Check that all ``deals`` are with ``node`` itself."""
        payees = {agreed.statement.provider for agreed in deals}
        accounts = await self._book.ledger.accounts(payees)
        if any(account.node != node for account in accounts.values()):
            raise _wrong(node, "lists deals with somebody else")

    async def _gone_on(self, node: NodeId, agreed: Agreed[Deal], cell: DealCell) -> ClientDeal:
        """The deal as things stand: by the ledger, and by ``node`` while it still serves it."""
        deal = new_deal(node, cell.deal, agreed, 0, Stage.OPEN)
        deal.take(cell)
        deal.leaves = cell.leaves
        deal.purse.promised(cell.voucher_paid)
        if cell.state is DealState.OPEN and self._book.epoch < cell.last:
            self._signing.agree(deal, await self._signing.peer(node).pay(cell.deal, None))
            if not deal.reserved:
                deal.leaves = await self._leaves(deal)
        return deal

    async def _leaves(self, deal: ClientDeal) -> int:
        """What is held: by the newest revision that we signed, or the ledger after a loss."""
        reply = await self._nodes.peer(deal.node).get_revision(deal.deal)
        newest = revision_from_wire(reply.revision)
        if not newest.client_signature:
            return deal.cell.leaves
        parties = DealParties(self._book.params.domain, self._me, deal.terms.provider)
        revision = replace(newest.revision, deal=deal.deal)
        verify_client_signature(revision, parties, newest.client_signature)
        return revision.leaves


def _wrong(node: NodeId, what: str) -> PeerError:
    return PeerError(f"{short(node)} {what}", peer=format_node_id(node))
