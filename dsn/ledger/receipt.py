"""A node's word that it stored a shard and keeps it until a revision names it, or time is up.

Spec: docs/spec/economy.md#receipt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dsn.core import tags
from dsn.core.codec import Writer
from dsn.core.keys import node_id_of, verify_signature
from dsn.ids import ID_BYTES, Commit, DealId, NetworkId, NodeId


@dataclass(frozen=True, slots=True)
class Receipt:
    """``length`` bytes in ``leaf_count`` leaves are durable; ``keep_until_s`` in Unix seconds."""

    deal: DealId
    commit: Commit
    leaf_count: int
    length: int
    keep_until_s: int

    def preimage(self, network: NetworkId, node: NodeId) -> bytes:
        """What ``node`` signs; it serves on no other network and for no other node."""
        writer = Writer().raw(tags.RECEIPT, tags.TAG_BYTES)
        writer.raw(network, ID_BYTES).raw(node, ID_BYTES)
        writer.raw(self.deal, ID_BYTES).raw(self.commit, ID_BYTES)
        return writer.u64(self.leaf_count).u64(self.length).u64(self.keep_until_s).done()


def sign_receipt(
    receipt: Receipt, sign: Callable[[bytes], bytes], *, network: NetworkId, node: NodeId
) -> bytes:
    """The 64-byte signature of ``node``, whose identity key ``sign`` uses."""
    return sign(receipt.preimage(network, node))


def verify_receipt(
    receipt: Receipt, signature: bytes, *, network: NetworkId, public_key: bytes
) -> None:
    """Check that the node with the Ed25519 ``public_key`` gave this receipt (untrusted).

    Whether it is the receipt that was asked for (commit, length) is the caller's to compare.

    Raises:
        InvalidSignature: It did not.
    """
    verify_signature(public_key, receipt.preimage(network, node_id_of(public_key)), signature)
