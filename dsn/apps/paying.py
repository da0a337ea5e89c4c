"""How a client's streams pay the nodes at their other end; where nobody pays, not at all."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from google.protobuf.message import DecodeError

from dsn.apps.deals import Deals
from dsn.errors import DsnError, LimitReached, MalformedMessage, PeerError
from dsn.ids import NO_DEAL, NodeId
from dsn.ledger.bandwidth import Traffic, bandwidth_due, window, worth_bytes
from dsn.ledger.deal import Deal
from dsn.rpc.deals import DealPeer
from dsn.rpc.line import Line
from dsn.v1 import node_pb2


class Payer:
    """What one stream to ``node`` says about money; all streams of a node share one purse."""

    __slots__ = ("_deals", "_mine", "deal", "node")

    def __init__(self, deals: Deals, node: NodeId) -> None:
        """Pay under the deal that is open with ``node``, if there is one."""
        self._deals, self._mine, self.node = deals, deals.get(node), node
        self.deal = NO_DEAL if self._mine is None else self._mine.deal

    @property
    def pays(self) -> bool:
        """Whether this stream is under a deal."""
        return self._mine is not None

    def begin(self, header: node_pb2.PutHeader, size: int) -> None:
        """Say in ``header`` under which deal a shard of ``size`` bytes follows.

        Raises:
            LimitReached: ``escrow_spent``: it cannot be paid to its end.
        """
        header.deal = self.deal
        if self._mine is not None:
            self._mine.purse.check_escrow(size)
            _attach(header, self._deals.voucher(self.node))

    def sent(self, size: int) -> node_pb2.Voucher | None:
        """``size`` bytes of a shard went out; the voucher that is due now, if one is.

        Raises:
            LimitReached: ``escrow_spent``.
        """
        if self._mine is None:
            return None
        self._mine.purse.sending(size)
        due = self._mine.purse.voucher_due()
        return None if due is None else self._deals.voucher(self.node)

    async def hand_over(self, voucher: node_pb2.Voucher) -> None:
        """Bring ``voucher`` to the node, beside the stream; raises as ``Deals.hand_over``."""
        await self._deals.hand_over(self.node, voucher)

    def announce(self, header: node_pb2.PutHeader, size: int) -> None:
        """Say in ``header`` under which deal ``size`` bytes come with it, and pay for them.

        Raises:
            LimitReached: ``escrow_spent``.
        """
        header.deal = self.deal
        if self._mine is not None:
            self._mine.purse.sending(size)
            _attach(header, self._deals.voucher(self.node))

    def unsent(self, size: int) -> None:
        """``size`` bytes that were sent, or announced, got no receipt."""
        if self._mine is not None:
            self._mine.purse.unsent(size)

    def ask(self, request: node_pb2.GetShardRequest) -> None:
        """Say in ``request`` who pays for what it asks for."""
        if self._mine is not None:
            self._mine.purse.asked(request.end - request.start)
            request.deal = self.deal
            with suppress(LimitReached):  # a spent escrow is the node's to refuse, in its place
                _attach(request, self._deals.voucher(self.node))

    def received(self, size: int) -> node_pb2.Voucher | None:
        """``size`` bytes came; the voucher that is due now, if one is and the escrow allows it."""
        if self._mine is None:
            return None
        self._mine.purse.received(size)
        try:
            due = self._mine.purse.voucher_due()
        except LimitReached:
            return None
        return None if due is None else self._deals.voucher(self.node)

    def forgone(self, size: int, *, refused: bool) -> None:
        """``size`` bytes that were asked for are not waited for.

        A window of them may have been sent, unless the node ``refused``: that comes after all else.
        """
        if self._mine is not None:
            terms, purse = self._mine.terms, self._mine.purse
            ahead = 0 if refused else window(terms, purse.credits)
            purse.forgone(size, worth_bytes(terms.egress_price, ahead, size))

    def only(self, voucher: node_pb2.Voucher) -> bytes:
        """A message of GetShard that brings ``voucher`` and asks for nothing."""
        return node_pb2.GetShardRequest(deal=self.deal, voucher=voucher).SerializeToString()

    def pay_all(self, request: node_pb2.ReviseRequest) -> None:
        """Pay in ``request`` for all that was moved until now.

        Raises:
            LimitReached: ``escrow_spent``.
        """
        if self._mine is not None:
            _attach(request, self._deals.voucher(self.node, all_of_it=True))

    async def even(self, line: Line) -> None:
        """If ``node`` waits for a voucher, agree on what it counted and pay for all of that.

        Whatever it still sends would be counted twice, so it is asked while it stands still, and
        paid after that.

        Raises:
            PeerError: ``overcharged``.
            DsnError: The node is away.
        """
        if self._mine is not None:
            counted = await DealPeer(line).pay(self.deal, None)
            if _stands_still(self._mine.terms, counted):
                await self._pay_for(counted)

    async def settle(self, line: Line) -> None:
        """Agree on what ``node`` counted and pay for all of that; nothing is being read from it.

        Raises:
            As ``even``.
        """
        if self._mine is not None:
            await self._pay_for(await DealPeer(line).pay(self.deal, None))

    async def _pay_for(self, counted: node_pb2.PayReply) -> None:
        await self._deals.agree(self.node, counted)
        voucher = self._deals.voucher(self.node, all_of_it=True)
        if voucher is not None:
            await self._deals.hand_over(self.node, voucher)


def _stands_still(terms: Deal, counted: node_pb2.PayReply) -> bool:
    """Whether a node that ``counted`` so much (untrusted) may not send more before it is paid."""
    credits = counted.voucher.credits
    due = bandwidth_due(terms, Traffic(counted.ingress_bytes, counted.egress_bytes))
    return due - credits >= window(terms, credits)


async def make_good(deals: Deals, node: NodeId, refusal: DsnError, ahead_bytes: int) -> None:
    """Do what a refusal over money asks for; when this returns, it is worth to ask again.

    Args:
        deals: Of this home.
        node: Who refused.
        refusal: How.
        ahead_bytes: What is still to be read from ``node``.

    Raises:
        DsnError: ``refusal`` itself, if it is not about money; or why it cannot be paid for.
    """
    match refusal.detail_code:
        case "payment_needed" | "escrow_spent":
            entering = asyncio.ensure_future(deals.reserve_reading(node, ahead_bytes))
            entering.add_done_callback(_retrieve)
            await asyncio.shield(entering)  # whoever gives up reading leaves no deal half made
        case "payment_due":
            await deals.agree(node, _counted(refusal))
        case _:
            raise refusal


def _counted(refusal: DsnError) -> node_pb2.PayReply:
    """What a node that wants to be paid (untrusted) counted."""
    evidence = refusal.evidence if isinstance(refusal, PeerError) else b""
    try:
        return node_pb2.PayReply.FromString(evidence)
    except DecodeError:
        raise MalformedMessage("a bill that does not decode", evidence=evidence) from refusal


def _retrieve(entering: asyncio.Future[None]) -> None:
    """Nobody may be left to hear how it ended."""
    if not entering.cancelled():
        entering.exception()


def _attach(
    message: node_pb2.PutHeader | node_pb2.GetShardRequest | node_pb2.ReviseRequest,
    voucher: node_pb2.Voucher | None,
) -> None:
    if voucher is not None:
        message.voucher.CopyFrom(voucher)
