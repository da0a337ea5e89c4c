"""What each payer owes, while the node runs: a voucher is durable before it counts.

Spec: docs/spec/economy.md#bandwidth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from dsn.apps.node.terms import Ledger
from dsn.errors import (
    EntryRefused,
    InvalidSignature,
    LimitReached,
    PeerError,
    TransportError,
    Unreachable,
)
from dsn.ids import DealId, NodeId
from dsn.ledger.bandwidth import window
from dsn.ledger.bodies import SignedVoucher
from dsn.ledger.cells import DealCell
from dsn.ledger.refusal import refuse
from dsn.ledger.revision import DealParties
from dsn.ledger.rules.settling import check_cover
from dsn.ledger.rules.turn import check_open
from dsn.ledger.settlement import Address
from dsn.ledger.typed import verify_typed
from dsn.ledger.voucher import Voucher, check_voucher
from dsn.machines.settle import Tab
from dsn.ports import Clock
from dsn.rpc.limits import Budget
from dsn.store.deals import DealStore, StoredDeal, StoredTab
from dsn.units import MIB
from dsn.v1 import node_pb2

SAVE_BYTES: Final = 4 * MIB
"""Traffic that a crash may forget."""
PAY_S: Final = 10.0
"""How long a stream waits for the voucher that would let it go on."""
LOOKUPS_AN_HOUR: Final = 600
"""Times that one client may make the node ask the ledger."""
LOOK_S: Final = 3.0
"""How long a caller waits while the ledger is asked."""
AWAY_S: Final = 5.0
"""How long a ledger that did not answer is not asked for a caller."""
_OTHERS: Final = 8
"""Other deals that a voucher with a wrong signature is tried on."""
T = TypeVar("T")


class Backing:
    """What stands behind every deal of a node."""

    def __init__(self, ledger: Ledger, store: DealStore, clock: Clock) -> None:
        """Ask ``ledger`` within bounds, and write to ``store``."""
        self.store, self._ledger, self._clock = store, ledger, clock
        self.domain = ledger.params.domain
        """Where signatures hold."""
        self.epoch = 0
        """The ledger's, as it was seen last; whoever follows the ledger sets it."""
        self._lookups = Budget("ledger lookups", LOOKUPS_AN_HOUR, clock.monotonic_s)
        self._away_until_s = clock.monotonic_s()

    async def deal(self, deal: DealId, asker: NodeId) -> DealCell | None:
        """A deal as the ledger has it now, if it does; raises as ``bound``."""
        cell = (await self._ask(asker, lambda: self._ledger.deals([deal]))).get(deal)
        if cell is not None:
            await self.store.save_cells([cell])
        return cell

    async def bound(self, node: NodeId) -> Address | None:
        """Whose account an identity belongs to.

        Raises:
            Unreachable: ``ledger_unreachable``.
            RetryLater: ``node`` has made us ask too often.
        """
        return (await self._ask(node, lambda: self._ledger.bound([node]))).get(node)

    async def _ask(self, asker: NodeId, call: Callable[[], Awaitable[T]]) -> T:
        """Ask while a caller waits; a ledger that was away is left alone for a while."""
        now_s = self._clock.monotonic_s()
        if now_s < self._away_until_s:
            raise _away()
        self._lookups.charge(asker, 1)
        try:
            async with asyncio.timeout(LOOK_S):
                return await call()
        except (TimeoutError, Unreachable) as error:
            self._away_until_s = self._clock.monotonic_s() + AWAY_S
            raise _away() from error


class OpenDeal:
    """A deal that is served: the ledger's cell of it, and a tab for each who may pay."""

    def __init__(self, signed: StoredDeal, cell: DealCell, backing: Backing) -> None:
        """Go on where ``signed`` stands, with ``cell`` as the ledger has it."""
        self.deal, self.terms, self.owner = signed.deal, signed.terms, signed.owner
        self.cell, self.backing = cell, backing
        self.client = OpenTab(self, self.terms.client, signed.tabs.get(False, StoredTab()))
        self.delegate = OpenTab(
            self, self.terms.delegate, signed.tabs.get(True, StoredTab()), by_delegate=True
        )
        self.set_limits()

    @property
    def tabs(self) -> tuple[OpenTab, OpenTab]:
        """The client's and the delegate's."""
        return self.client, self.delegate

    def see(self, cell: DealCell) -> None:
        """Take over how the ledger has the deal now."""
        self.cell = cell
        self.set_limits()
        for tab in self.tabs:
            tab.wake()

    async def look(self) -> None:
        """Ask the ledger anew, on the owner's account.

        Raises:
            Unreachable: ``ledger_unreachable``.
            RetryLater: Asked too often.
        """
        if (cell := await self.backing.deal(self.deal, self.owner)) is not None:
            self.see(cell)

    def check_running(self) -> None:
        """Check that the deal is served: it is open, and not in its very last epoch.

        Whoever signs later than that may close the deal before the voucher is redeemed.

        Raises:
            EntryRefused: ``deal_not_open``.
        """
        check_open(self.cell)
        if self.backing.epoch >= self.cell.last:
            raise refuse("deal_not_open", f"the deal is over in epoch {self.cell.last}")

    async def check_not_over(self) -> None:
        """Check that the ledger still installs revisions: in the grace it takes none.

        Raises:
            EntryRefused: ``deal_over``, after a look for an extension.
        """
        if self.backing.epoch >= self.cell.end:
            with suppress(TransportError):
                await self.look()
        if self.backing.epoch >= self.cell.end:
            raise refuse("deal_over", f"revisions are taken before epoch {self.cell.end}")

    async def check_cover(self, leaves: int) -> None:
        """Check that the disk escrow pays ``leaves`` leaves to the end of the grace.

        Raises:
            EntryRefused: ``not_covered``, after a look for a top-up.
        """
        try:
            check_cover(self._holding(leaves))
        except EntryRefused:
            with suppress(TransportError):
                await self.look()
            check_cover(self._holding(leaves))

    def _holding(self, leaves: int) -> DealCell:
        """The deal as it will be once ``leaves`` are installed, if all until then is proven."""
        cell = self.cell
        settled = max(cell.settled, min(cell.last, self.backing.epoch - 1))
        proven = cell.leaf_epochs + cell.leaves * (settled - cell.settled)
        return replace(cell, settled=settled, leaf_epochs=proven, leaves=leaves)

    def set_limits(self) -> None:
        """Bound each payer's vouchers by the escrow that the other's do not need."""
        cell, client, delegate = self.cell, self.client.tab, self.delegate.tab
        by_client = max(0, client.credits - cell.voucher_paid)
        by_delegate = max(0, delegate.credits - cell.delegate_paid)
        client.limit = cell.voucher_paid + max(0, cell.bandwidth_escrow - by_delegate)
        left = cell.delegate_paid + max(0, cell.bandwidth_escrow - by_client)
        delegate.limit = min(self.terms.delegate_credits, left)


class OpenTab:
    """One payer's tab, shared by all its streams."""

    def __init__(
        self, deal: OpenDeal, payer: Address, stored: StoredTab, *, by_delegate: bool = False
    ) -> None:
        """Go on where ``stored`` stands; the deal sets the limit."""
        self.deal, self.payer, self.by_delegate = deal, payer, by_delegate
        self.tab = Tab(deal.terms, stored.traffic, stored.credits, stored.credits)
        self._stored = stored
        self._lock = asyncio.Lock()
        self._paid = asyncio.Event()

    @property
    def parties(self) -> DealParties:
        """Whose keys sign revisions."""
        return DealParties(self.deal.backing.domain, self.payer, self.deal.terms.provider)

    @property
    def voucher(self) -> SignedVoucher | None:
        """The highest one there is."""
        stored = self._stored
        if not stored.signature:
            return None
        voucher = Voucher(self.deal.deal, stored.credits)
        return SignedVoucher(voucher, self.by_delegate, stored.signature)

    def reply(self) -> node_pb2.PayReply:
        """What was counted here, and the highest voucher."""
        traffic, stored = self.tab.traffic, self._stored
        reply = node_pb2.PayReply(
            ingress_bytes=traffic.ingress_bytes, egress_bytes=traffic.egress_bytes
        )
        if stored.signature:
            reply.voucher.credits, reply.voucher.signature = stored.credits, stored.signature
            reply.voucher.by_delegate = self.by_delegate
        return reply

    async def take(self, message: node_pb2.Voucher, *, newer: bool = False) -> None:
        """Take a voucher (untrusted); it is durable once this returns.

        Args:
            message: What came.
            newer: Whether one that is no higher than the highest is refused, not passed over.

        Raises:
            PeerError: ``stale_voucher``, ``over_escrow``.
            InvalidSignature: ``invalid_signature``: by somebody else, for another network or
                another chain; ``malleated_signature``.
            DealMismatch: ``other_deal``.
            EntryRefused: ``deal_not_open``.
        """
        self.deal.check_running()
        async with self._lock:
            if message.credits <= self.tab.credits and not newer:
                return
            await self._check(Voucher(self.deal.deal, message.credits), message.signature)
            await self._save(credits=message.credits, signature=message.signature)
            self.tab.pay(message.credits)
            self.deal.set_limits()
        self.wake()

    async def _check(self, voucher: Voucher, signature: bytes) -> None:
        tab = self.tab
        try:
            verify_typed(voucher, self.deal.backing.domain, signature, self.payer)
        except InvalidSignature:
            await self._blame(voucher, signature)
            raise
        if voucher.credits > tab.limit:
            with suppress(TransportError):
                await self.deal.look()
        left = max(0, tab.limit - tab.credits)
        check_voucher(voucher, self.deal.deal, paid=tab.credits, escrow=left)

    def wake(self) -> None:
        """Let whoever waits for a voucher look again."""
        self._paid.set()
        self._paid = asyncio.Event()

    async def paid(self) -> None:
        """Wait until something may have changed.

        Raises:
            PeerError: ``payment_due``: nothing has, in time.
        """
        try:
            async with asyncio.timeout(PAY_S):
                await self._paid.wait()
        except TimeoutError:
            raise self.unpaid() from None

    async def begin(self, size: int) -> None:
        """Check that a shard of ``size`` bytes, which is paid as it comes, may begin.

        Raises:
            LimitReached: ``escrow_spent``.
            EntryRefused: ``deal_not_open``.
        """
        self.deal.check_running()
        await self._within_escrow(lambda: self.tab.check_escrow(size))

    async def expect(self, size: int, *, waits: bool = False) -> None:
        """Note that ``size`` bytes will be stored; ``stored`` or ``lost`` ends it.

        Args:
            size: How many.
            waits: Whether to wait for a voucher that lets them come.

        Raises:
            PeerError: ``payment_due``.
            LimitReached: ``escrow_spent``.
            EntryRefused: ``deal_not_open``.
        """
        self.deal.check_running()
        while not await self._within_escrow(lambda: self.tab.expect(size)):
            if not waits:
                raise self.unpaid()
            await self.paid()

    async def stored(self, size: int) -> None:
        """A group of ``size`` bytes that was expected is durable."""
        self.tab.stored(size)
        await self.keep()

    def lost(self, size: int) -> None:
        """A group of ``size`` bytes that was expected did not arrive."""
        self.tab.lost(size)

    async def reserve(self, most: int) -> int:
        """Take up to ``most`` bytes to send now, or 0 until a voucher comes.

        Raises:
            LimitReached: ``escrow_spent``.
            EntryRefused: ``deal_not_open``.
        """
        self.deal.check_running()
        room = await self._within_escrow(lambda: self.tab.room(most))
        self.tab.read(room)
        return room

    def unread(self, size: int) -> None:
        """``size`` bytes that were reserved are not sent."""
        self.tab.read(-size)

    async def keep(self, *, least: int = SAVE_BYTES) -> None:
        """Write the traffic down if ``least`` bytes of it are not."""
        now, then = self.tab.traffic, self._stored.traffic
        moved = now.ingress_bytes - then.ingress_bytes + now.egress_bytes - then.egress_bytes
        if moved >= least:
            await self._save()

    async def claimed(self, credits: int) -> None:
        """Note that the ledger was asked to redeem ``credits``."""
        await self._save(claimed=max(credits, self._stored.claimed))

    def unpaid(self) -> PeerError:
        """The refusal of whoever owes too much; what was counted is the evidence."""
        most = window(self.tab.terms, self.tab.credits)
        return PeerError(
            f"{self.tab.owed} base units are owed for bandwidth, at most {most} may be",
            code="payment_due",
            hint="sign a voucher",
            evidence=self.reply().SerializeToString(),
        )

    async def _within_escrow(self, act: Callable[[], T]) -> T:
        """What ``act`` gives, after a look for a top-up if the escrow does not suffice."""
        try:
            return act()
        except LimitReached:
            with suppress(TransportError):
                await self.deal.look()
            return act()

    async def _blame(self, voucher: Voucher, signature: bytes) -> None:
        """Tell a voucher of another deal between the same two from a wrong signature.

        Raises:
            DealMismatch: ``other_deal``.
        """
        backing, this = self.deal.backing, self.deal
        for other in (await backing.store.owned(this.owner))[:_OTHERS]:
            signed = replace(voucher, deal=other.deal)
            with suppress(InvalidSignature):
                verify_typed(signed, backing.domain, signature, self.payer)
                check_voucher(signed, this.deal, paid=0, escrow=signed.credits)

    async def _save(self, **changes: Any) -> None:
        """Write the tab down with ``changes``; of two at a time, the later has both."""
        self._stored = replace(self._stored, traffic=self.tab.traffic, **changes)
        await self.deal.backing.store.save_tab(self.deal.deal, self.by_delegate, self._stored)


def _away() -> Unreachable:
    return Unreachable(
        "the ledger does not answer this node",
        code="ledger_unreachable",
        hint="deals that it knows go on; try again later",
    )
