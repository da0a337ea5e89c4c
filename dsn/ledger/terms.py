"""What a node takes and what it asks for it: signed, so that a client can hold it to them.

Spec: docs/spec/economy.md#terms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import sha256
from dsn.core.keys import node_id_of, verify_signature
from dsn.errors import PeerError
from dsn.ids import ID_BYTES, NetworkId, NodeId
from dsn.ledger.settlement import ADDRESS_BYTES, NO_ADDRESS, Address
from dsn.units import MIB

_COUNTS: Final = (
    "max_shard_bytes", "max_challenge_leaves", "keep_pending_s", "free_quota_bytes",
    "disk_price", "ingress_price", "egress_price", "repair_price", "collateral_ppm",
    "free_leaves", "grace", "notice", "miss_limit", "dispute", "max_term",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """What a node takes; prices in base units, spans in epochs, all zero where nobody pays.

    Attributes:
        settlement: Whose account is paid, or ``NO_ADDRESS``.
        max_shard_bytes: The largest shard.
        max_challenge_leaves: The most leaves one challenge may ask for.
        keep_pending_s: How long a receipt binds without a revision.
        free_quota_bytes: What an identity without a deal may read a day.
        disk_price: A GiB-epoch.
        ingress_price: A GiB stored.
        egress_price: A GiB read.
        repair_price: A GiB: what the loss of a shard costs the node.
        collateral_ppm: Of a repair's cost, in millionths, what the node covers.
        free_leaves: Up to here it covers nothing.
        grace: How long after a deal's end data is kept, and paid for.
        notice: How long before its end a party that quits says so.
        miss_limit: Unproven epochs above which a deal is slashable.
        dispute: How long after its end openings can be demanded.
        max_term: How far ahead of the present epoch a deal may end.
    """

    settlement: Address = NO_ADDRESS
    max_shard_bytes: int = 64 * MIB
    max_challenge_leaves: int = 256
    keep_pending_s: int = 86_400
    free_quota_bytes: int = 64 * MIB
    disk_price: int = 0
    ingress_price: int = 0
    egress_price: int = 0
    repair_price: int = 0
    collateral_ppm: int = 0
    free_leaves: int = 0
    grace: int = 0
    notice: int = 0
    miss_limit: int = 0
    dispute: int = 0
    max_term: int = 0

    def encode(self) -> bytes:
        """The fixed encoding."""
        writer = Writer().raw(self.settlement, ADDRESS_BYTES)
        for name in _COUNTS:
            writer.u64(getattr(self, name))
        return writer.done()

    @classmethod
    def decode(cls, raw: bytes) -> Terms:
        """Read what ``encode`` wrote.

        Args:
            raw: Untrusted.

        Raises:
            MalformedMessage: Short or long.
        """
        reader = Reader(raw, "terms")
        settlement = Address(reader.raw(ADDRESS_BYTES))
        terms = cls(settlement, *(reader.u64() for _ in _COUNTS))
        reader.end()
        return terms

    def digest(self) -> bytes:
        """By which others see that they have changed."""
        return sha256(self.encode())


@dataclass(frozen=True, slots=True)
class SignedTerms:
    """Terms that a node stands by until ``expires_s``, in Unix seconds."""

    terms: Terms
    expires_s: int
    signature: bytes


def sign_terms(
    terms: Terms,
    expires_s: int,
    sign: Callable[[bytes], bytes],
    *,
    network: NetworkId,
    node: NodeId,
) -> SignedTerms:
    """Sign ``terms`` as ``node``, whose identity key ``sign`` uses."""
    return SignedTerms(terms, expires_s, sign(_preimage(terms, expires_s, network, node)))


def verify_terms(
    signed: SignedTerms, *, network: NetworkId, public_key: bytes, now_s: float
) -> None:
    """Check that the node with the Ed25519 ``public_key`` still stands by these (untrusted).

    Raises:
        InvalidSignature: It never said so.
        PeerError: ``terms_expired``.
    """
    preimage = _preimage(signed.terms, signed.expires_s, network, node_id_of(public_key))
    verify_signature(public_key, preimage, signed.signature)
    if signed.expires_s <= now_s:
        raise PeerError(
            f"terms: they expired {now_s - signed.expires_s:.0f} s ago",
            code="terms_expired",
            hint="ask for new ones; is this machine's clock right?",
        )


def _preimage(terms: Terms, expires_s: int, network: NetworkId, node: NodeId) -> bytes:
    writer = Writer().raw(tags.TERMS, tags.TAG_BYTES).raw(network, ID_BYTES).raw(node, ID_BYTES)
    return writer.u64(expires_s).var(terms.encode()).done()
