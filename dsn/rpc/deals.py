"""A node as the other party of a deal: one method a call.

Replies come as they were sent, of the right type and nothing more: what they say is untrusted.
"""

from __future__ import annotations

from typing import Final

from dsn.ids import DealId
from dsn.ledger.deal import Deal, Extension
from dsn.rpc.line import Line
from dsn.v1 import node_pb2

_SERVICE: Final = "/dsn.v1.NodeService/"
TIMEOUT_S: Final = 10.0


class DealPeer:
    """The calls of ``NodeService`` that are about money."""

    def __init__(self, line: Line) -> None:
        """Speak over ``line``."""
        self._line = line

    async def open(self, deal: Deal, signature: bytes, terms_expires_s: int) -> bytes:
        """Have the node sign ``deal``, which follows from its terms and we have signed."""
        request = node_pb2.OpenDealRequest(
            deal=deal.encode(), client_signature=signature, terms_expires_s=terms_expires_s
        )
        path, reply = _SERVICE + "OpenDeal", node_pb2.OpenDealReply
        return (await self._line.unary(path, request, reply, TIMEOUT_S)).provider_signature

    async def extend(self, extension: Extension, signature: bytes) -> bytes:
        """Have the node sign ``extension``, which we have signed."""
        request = node_pb2.ExtendDealRequest(
            extension=extension.encode(), client_signature=signature
        )
        path, reply = _SERVICE + "ExtendDeal", node_pb2.ExtendDealReply
        return (await self._line.unary(path, request, reply, TIMEOUT_S)).provider_signature

    async def pay(self, deal: DealId, voucher: node_pb2.Voucher | None) -> node_pb2.PayReply:
        """Hand over a voucher, if there is one, and ask what the node counted."""
        request = node_pb2.PayRequest(deal=deal, voucher=voucher)
        return await self._line.unary(_SERVICE + "Pay", request, node_pb2.PayReply, TIMEOUT_S)

    async def listed(self, after: bytes) -> node_pb2.ListDealsReply:
        """Our own deals that are not closed, whose id is greater than ``after``."""
        request = node_pb2.ListDealsRequest(after=after)
        path, reply = _SERVICE + "ListDeals", node_pb2.ListDealsReply
        return await self._line.unary(path, request, reply, TIMEOUT_S)
