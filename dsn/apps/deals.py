"""The deals of this home, as the rest of the client sees them.

There is one open deal a node, which later puts use again. A deal is written down before it is
entered into the ledger; whatever a crash left open, the ledger tells the next run.

Spec: docs/spec/economy.md#deal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from dsn.apps.deal_book import DealBook, Ledger, Sender
from dsn.apps.deal_file import ClientDeal
from dsn.apps.deal_plan import Want, stored_cost
from dsn.apps.deal_recovery import Recovered, recover_deals
from dsn.apps.deal_signing import Signing, voucher_to_wire
from dsn.apps.delegation import Allowance, parse_reserves
from dsn.apps.demanding import ASKED, Demanding
from dsn.apps.escrow import Escrow, Refusals
from dsn.apps.nodes import Nodes, ask
from dsn.apps.quotes import Moment
from dsn.dht.network import Network
from dsn.errors import ConfigError, DsnError, EntryRefused, NotFound, PeerError, UsageError
from dsn.ids import NO_DEAL, DealId, NodeId, short
from dsn.ledger.cells import NO_NODE
from dsn.ledger.settlement import Address, SettlementKey, format_address
from dsn.ports import Clock, Entropy
from dsn.rpc.deals import TIMEOUT_S
from dsn.units import leaf_count
from dsn.v1 import node_pb2

READING_DAYS: Final = 1
"""The term of a deal that only pays for reading."""
PAY_ROUNDS: Final = 2
"""What a node counted beyond our own count, within the tolerance, is paid in the second."""


class Deals:
    """What this home has agreed on with nodes, and what it owes them.

    Where nobody pays there are none: everything here then does nothing.
    """

    def __init__(
        self,
        network: Network,
        nodes: Nodes,
        light: Ledger | None,
        account: Sender | None,
        key: SettlementKey,
        folder: Path,
        *,
        clock: Clock,
        entropy: Entropy,
        budget: int,
        days: float,
        demands: bool = False,
        notice: Callable[[str], None],
    ) -> None:
        """Go on with the deals in ``folder``.

        Args:
            network: Where they are.
            nodes: The other parties.
            light: How the ledger is read, and
            account: how it is written; both ``None`` where nobody pays.
            key: Signs deals, revisions and vouchers.
            folder: Where deals are kept; made when there is one.
            clock: Dates deals while the ledger is away.
            entropy: Salts them.
            budget: The most base units that this command may lock or spend; 0: no bound.
            days: How long what is stored is paid for, unless a call says otherwise.
            demands: Whether nodes are now and then asked for a leaf, on the ledger.
            notice: Told what could not be paid.

        Raises:
            MalformedMessage: A deal's file is damaged.
        """
        self.key, self.days = key, days
        self.params = network.ledger_params
        self.paid = light is not None and account is not None
        self._notice, self._clock, self._nodes = notice, clock, nodes
        self._lock = asyncio.Lock()
        self._reading: dict[NodeId, Want] = {}
        self._unread: Refusals = {}
        self._demanding: Demanding | None = None
        if light is not None and account is not None:
            self._book = DealBook(light, folder, clock, key.address)
            self._signing = Signing(nodes, key, light.params.domain)
            self._escrow: Escrow | Allowance = Escrow(
                self._book,
                nodes,
                self._signing,
                account,
                key.address,
                entropy=entropy,
                budget=budget,
            )
            if demands:
                self._demanding = Demanding(self._book, account, folder / ASKED, entropy)

    @property
    def spent(self) -> int:
        """Base units that were locked, or burned as fees, by this object."""
        return self._escrow.spent if self.paid else 0

    def set_budget(self, budget: int) -> None:
        """Lock or spend at most ``budget`` base units in all; 0: no bound."""
        if self.paid:
            self._escrow.budget = budget

    async def recover(self) -> Recovered:
        """Find deals of this home again that it does not know any more; see ``recover_deals``.

        Raises:
            Unreachable: Nobody lets this home in; ``ledger_unreachable``.
        """
        if not self.paid:
            return Recovered(0, 0)
        return await recover_deals(self._book, self._nodes, self._signing, self.key.address)

    # for others, and by them

    async def open_reserves(
        self, delegate: Address, wants: Mapping[NodeId, Want]
    ) -> tuple[list[ClientDeal], Refusals]:
        """Open deals in which ``delegate`` may do what is wanted; see ``Escrow.open_reserves``.

        Raises:
            ConfigError: ``no_ledger_here``: where nobody pays, nobody needs them.
            UsageError: ``same_account``.
            EntryRefused: ``not_bound``: the delegate has no identity that nodes would know.
        """
        if not self.paid or not isinstance(self._escrow, Escrow):
            raise ConfigError("this network has no ledger", code="no_ledger_here")
        if delegate == self.key.address:
            raise UsageError(
                "that is this home's own address",
                code="same_account",
                hint="whoever stored a file repairs it without a delegate",
            )
        account = (await self._book.ledger.accounts([delegate]))[delegate]
        if account.node == NO_NODE:
            raise EntryRefused(
                f"no identity is bound to {format_address(delegate)}",
                code="not_bound",
                hint="the repairer runs 'dsn join', or 'dsn wallet bind', first",
            )
        return await self._escrow.open_reserves(delegate, wants, self.days)

    async def act_for_owner(self, text: str) -> None:
        """From now on use deals of somebody else, of whom this home is the delegate, and no other.

        Args:
            text: What the owner gave (untrusted); see ``parse_reserves``.

        Raises:
            ConfigError: ``no_ledger_here``.
            UsageError: ``bad_deals_file``.
            NotFound: ``no_deal``: the ledger has none of them, or not any more.
            Unreachable: ``ledger_unreachable``.
        """
        if not self.paid:
            raise ConfigError("this network has no ledger", code="no_ledger_here")
        for each in parse_reserves(text, self._book.params.domain, self.key.address):
            if each.deal not in {known.deal for known in self._book.deals}:
                self._book.add(each.draft())
        await self._book.look()
        self._book.as_delegate, self._escrow = True, Allowance(self._book)
        if not any(self._book.open(deal.node) is deal for deal in self._book.deals):
            raise NotFound(
                "none of these deals is open on the ledger",
                code="no_deal",
                hint="they are over: ask the owner for new ones",
            )

    def has_deal(self, node: NodeId) -> bool:
        """Whether there is a deal with ``node`` to use."""
        return self.get(node) is not None

    @property
    def only_dealt(self) -> bool:
        """Whether no other node can be used."""
        return self.paid and self._book.as_delegate

    # under a deal

    def get(self, node: NodeId) -> ClientDeal | None:
        """The deal to sign under now: the ledger has it, and its grace is not over."""
        return self._book.open(node) if self.paid else None

    def deal_id(self, node: NodeId) -> DealId:
        """The id of that deal; ``NO_DEAL`` if there is none."""
        deal = self.get(node)
        return NO_DEAL if deal is None else deal.deal

    def voucher(self, node: NodeId, *, all_of_it: bool = False) -> node_pb2.Voucher | None:
        """The newest voucher for ``node``, made anew if one is due.

        Args:
            node: To whom it goes.
            all_of_it: Whether to pay what is owed now, however little.

        Raises:
            LimitReached: ``escrow_spent``: reserve more first.
        """
        deal = self.get(node)
        if deal is None:
            return None
        due = deal.purse.voucher_due(all_of_it=all_of_it)
        if due is not None:
            self._signing.promise(deal, due)
        return None if deal.newest is None else voucher_to_wire(deal.newest)

    async def hand_over(self, node: NodeId, voucher: node_pb2.Voucher) -> None:
        """Bring ``voucher`` to ``node`` while a stream goes on; an older one is no news there.

        Raises:
            DsnError: The node is away or does not take it.
        """
        deal = self.get(node)
        if deal is None:
            return
        try:
            await self._signing.peer(node).pay(deal.deal, voucher)
        except PeerError as refusal:
            if refusal.detail_code != "stale_voucher":
                raise

    async def agree(self, node: NodeId, reply: node_pb2.PayReply) -> None:
        """Take over what ``node`` counted (untrusted), and vouchers of ours that it shows.

        Raises:
            InvalidSignature: It shows a voucher that we never signed.
            PeerError: ``overcharged``.
        """
        deal = self.get(node)
        if deal is not None:
            self._signing.agree(deal, reply)

    def revised(self, node: NodeId, leaves: int) -> None:
        """Note that both signed a revision of ``leaves`` leaves: what was reserved for is held."""
        deal = self.get(node)
        if deal is not None:
            deal.coming = max(0, deal.coming - max(0, leaves - deal.leaves))
            deal.leaves = leaves

    async def settle(self) -> None:
        """Pay all that is owed, what only nodes counted too, have what is over closed, and save.

        What a node, or the ledger, does not take now is paid the next time.
        """
        if not self.paid:
            return
        owing = [
            deal
            for deal in self._book.deals
            if (deal.purse.owed or deal.purse.in_doubt) and deal is self.get(deal.node)
        ]
        paid = await ask(
            {deal.node: self._pay(deal) for deal in owing}, enough=len(owing), most_s=TIMEOUT_S
        )
        for node, error in paid.failed.items():
            self._notice(f"node {short(node)} was not paid in full: {error.message}")
        if self._book.looked:
            await self._escrow.close_over()
            if self._demanding is not None:
                budget = self._escrow.budget
                left = max(0, budget - self._escrow.spent) if budget else None
                await self._demanding.turn(left)
        self.save()

    async def quit_unused(self, busy: Collection[NodeId]) -> None:
        """End deals that hold nothing any more, but for those with ``busy`` nodes."""
        if self.paid:
            await self._escrow.quit_unused(busy)

    async def _pay(self, deal: ClientDeal) -> None:
        for _ in range(PAY_ROUNDS):
            owed = deal.purse.owed
            voucher = self.voucher(deal.node, all_of_it=True) if owed else None
            reply = await self._signing.peer(deal.node).pay(deal.deal, voucher)
            await self.agree(deal.node, reply)
            if not deal.purse.owed:
                return

    def save(self) -> None:
        """Write down what has changed."""
        if self.paid:
            self._book.save()

    # what it costs and how long it lasts

    async def moment(self) -> Moment | None:
        """Where the ledger stands now; ``None`` where nobody pays.

        Raises:
            Unreachable: ``ledger_unreachable``.
        """
        if not self.paid:
            return None
        await self._book.look()
        return Moment(self._book.params, self._book.epoch, int(self._clock.now_s()))

    def expires_s(self, nodes: Iterable[NodeId]) -> int | None:
        """Until when, in Unix seconds, all of ``nodes`` are paid; ``None`` if nobody is.

        The grace comes on top of that.
        """
        ends = [deal.end for node in nodes if (deal := self.get(node)) is not None]
        if not ends:
            return None
        left = max(0, min(ends) - self._book.epoch)
        return int(self._clock.now_s()) + left * self._book.params.epoch_s

    def cost(self, stored: Mapping[NodeId, Collection[int]], *, moved: bool = True) -> int:
        """What shards cost until the deals of their nodes end, if every epoch is proven.

        Args:
            stored: Lengths of shards in bytes, by node.
            moved: Whether they have to be sent there, too.
        """
        total = 0
        for node, lengths in stored.items():
            deal = self.get(node)
            if deal is not None:
                epochs = deal.end - self._book.epoch
                total += stored_cost(deal.terms, lengths, epochs, moved=moved)
        return total

    # escrow

    async def reserve(
        self, bytes_by_node: Mapping[NodeId, int], *, days: float | None = None
    ) -> Refusals:
        """Have open deals that cover what nodes hold and these bytes beside it.

        Disk escrow lasts to the end of the grace, bandwidth escrow for storing these bytes and for
        reading all that is held once. What is lacking is entered for all nodes at once.

        Args:
            bytes_by_node: To be stored, by node; with 0 a deal is only made to last.
            days: How long; this client's own days if it is left out.

        Returns:
            Nodes that do not agree, or are away; the others are covered.

        Raises:
            LimitReached: ``over_budget``, ``not_enough_credit``, ``term_too_long``.
            EntryRefused: The ledger takes none of it.
            Unreachable: ``ledger_unreachable``, while something has to be entered.
        """
        if not self.paid:
            return {}
        wants = {node: Want(leaf_count(size)) for node, size in bytes_by_node.items()}
        async with self._lock:
            return await self._escrow.cover(wants, self.days if days is None else days)

    async def reserve_reading(self, node: NodeId, bytes_: int) -> None:
        """Have an open deal that pays for reading ``bytes_`` more from ``node``.

        Calls that wait for one another are served by one entry each for their nodes, together.

        Raises:
            LimitReached: As ``reserve``.
            DsnError: The node does not agree, or the ledger is away.
        """
        if not self.paid:
            return
        before = self._reading.get(node, Want())
        self._reading[node] = Want(read_bytes=before.read_bytes + bytes_)
        async with self._lock:
            if node in self._reading:
                wants, self._reading = self._reading, {}
                await self._cover_reading(wants)
        error = self._unread.pop(node, None)
        if error is not None:
            raise error

    async def _cover_reading(self, wants: Mapping[NodeId, Want]) -> None:
        """Note for whoever waits what came of the nodes in ``wants``."""
        for node in wants:
            self._unread.pop(node, None)
        try:
            self._unread |= await self._escrow.cover(wants, READING_DAYS)
        except DsnError as error:
            self._unread |= dict.fromkeys(wants, error)
