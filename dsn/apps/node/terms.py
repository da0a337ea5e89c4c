"""Who a node is and what it takes from whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dsn.core.codec import Writer
from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import MalformedMessage
from dsn.ids import NetworkId, NodeId
from dsn.units import GIB, LEAF_BYTES, MIB

FIRST_PENDING_BYTES: Final = 64 * MIB
"""What a stranger may leave here before it signs a revision."""
MOST_PENDING_BYTES: Final = GIB


@dataclass(frozen=True, slots=True)
class Terms:
    """Bounds of one node, told to everybody who asks."""

    max_shard_bytes: int = 64 * MIB
    max_challenge_leaves: int = 256
    keep_pending_s: int = 86_400

    def digest(self) -> bytes:
        """Hash of what the node promises, by which others see that it has changed."""
        bounds = Writer().u64(self.max_shard_bytes).u64(self.max_challenge_leaves)
        return sha256(bounds.u64(self.keep_pending_s).done())

    def check_length(self, length: int) -> None:
        """Refuse a shard that no room need be made for.

        Raises:
            MalformedMessage: ``bad_length``.
        """
        if not 1 <= length <= self.max_shard_bytes:
            raise MalformedMessage(
                f"a shard of {length} bytes, 1 to {self.max_shard_bytes} allowed",
                code="bad_length",
            )


@dataclass(frozen=True, slots=True)
class Self:
    """The node as a party: the network it is on and the key it signs with."""

    network: NetworkId
    key: SigningKey
    terms: Terms

    @property
    def node_id(self) -> NodeId:
        """The node's id."""
        return node_id_of(self.key.public)


def pending_limit(held_leaves: int) -> int:
    """Bytes a client may have pending: as much as it holds here, within the fixed bounds.

    So the limit doubles with every put that fills it.
    """
    return min(MOST_PENDING_BYTES, max(FIRST_PENDING_BYTES, held_leaves * LEAF_BYTES))
