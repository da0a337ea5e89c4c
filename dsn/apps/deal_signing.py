"""What this home signs under its deals, and what it has nodes sign."""

from __future__ import annotations

from dsn.apps.deal_file import ClientDeal, Stage, new_deal
from dsn.apps.nodes import Nodes
from dsn.core.codec import Reader
from dsn.ids import NodeId
from dsn.ledger.bandwidth import Traffic
from dsn.ledger.bodies import Agreed, SignedVoucher, read_agreed
from dsn.ledger.deal import Deal, Extension, check_deal
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.typed import Domain, sign_typed, verify_typed
from dsn.ledger.voucher import Voucher
from dsn.rpc.deals import DealPeer
from dsn.v1 import node_pb2


class Signing:
    """The signatures of one client, and of its nodes beside them."""

    def __init__(self, nodes: Nodes, key: SettlementKey, domain: Domain) -> None:
        """Sign as ``key`` where ``domain`` holds."""
        self._nodes, self._key, self._domain = nodes, key, domain

    async def open(self, node: NodeId, terms: Deal, epoch: int) -> ClientDeal:
        """A deal with ``node`` that both have signed.

        Raises:
            DsnError: The node does not agree, or cannot be reached.
        """
        ours = sign_typed(terms, self._domain, self._key)
        offer = await self._nodes.offer(node)
        theirs = await self.peer(node).open(terms, ours, offer.expires_s)
        verify_typed(terms, self._domain, theirs, terms.provider)
        agreed = Agreed(terms, ours, theirs)
        return new_deal(node, terms.deal_id(self._domain), agreed, epoch, Stage.SIGNED)

    async def extend(self, deal: ClientDeal, end: int) -> Agreed[Extension]:
        """A later end of ``deal``, as both have signed it.

        Raises:
            DsnError: The node does not agree, or cannot be reached.
        """
        extension = Extension(deal.deal, deal.cell.serial + 1, end)
        ours = sign_typed(extension, self._domain, self._key)
        theirs = await self.peer(deal.node).extend(extension, ours)
        verify_typed(extension, self._domain, theirs, deal.terms.provider)
        return Agreed(extension, ours, theirs)

    def promise(self, deal: ClientDeal, credits: int) -> None:
        """Sign a voucher over ``credits`` base units, all told."""
        voucher = Voucher(deal.deal, credits)
        signature = sign_typed(voucher, self._domain, self._key)
        deal.newest = SignedVoucher(voucher, deal.by_delegate, signature)
        deal.purse.promised(credits)

    def adopt(self, deal: ClientDeal, shown: node_pb2.Voucher) -> None:
        """Go on from a voucher (untrusted) that this home signed and no longer remembers.

        Raises:
            InvalidSignature: It never did.
        """
        voucher = Voucher(deal.deal, shown.credits)
        verify_typed(voucher, self._domain, shown.signature, self._key.address)
        deal.newest = SignedVoucher(voucher, deal.by_delegate, shown.signature)
        deal.purse.promised(shown.credits)

    def agree(self, deal: ClientDeal, reply: node_pb2.PayReply) -> None:
        """Take over what the node of ``deal`` counted (untrusted), and vouchers of ours in it.

        Raises:
            InvalidSignature: It shows a voucher that we never signed.
            PeerError: ``overcharged``.
        """
        if reply.HasField("voucher") and reply.voucher.credits > deal.purse.credits:
            self.adopt(deal, reply.voucher)
        deal.purse.agree(Traffic(reply.ingress_bytes, reply.egress_bytes))

    def peer(self, node: NodeId) -> DealPeer:
        """The calls of ``node`` that are about money."""
        return DealPeer(self._nodes.line(node))


def read_signed_deal(raw: bytes, domain: Domain) -> Agreed[Deal]:
    """A deal (untrusted) that both of its parties signed.

    Args:
        raw: Its fixed encoding, and theirs of both signatures.
        domain: Where signatures hold.

    Raises:
        MalformedMessage: It is none.
        PeerError: As ``check_deal``.
        InvalidSignature: One of them did not sign it.
    """
    reader = Reader(raw, "deal")
    agreed = read_agreed(reader, Deal)
    reader.end()
    deal = agreed.statement
    check_deal(deal)
    verify_typed(deal, domain, agreed.client_signature, deal.client)
    verify_typed(deal, domain, agreed.provider_signature, deal.provider)
    return agreed


def voucher_to_wire(signed: SignedVoucher) -> node_pb2.Voucher:
    """The message for ``signed``."""
    return node_pb2.Voucher(
        credits=signed.voucher.credits,
        signature=signed.signature,
        by_delegate=signed.by_delegate,
    )
