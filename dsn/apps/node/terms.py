"""Who a node is and what it takes from whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import MalformedMessage
from dsn.ids import NetworkId, NodeId
from dsn.ledger.terms import Terms
from dsn.units import GIB, LEAF_BYTES, MIB

FIRST_PENDING_BYTES: Final = 64 * MIB
"""What a stranger may leave here before it signs a revision."""
MOST_PENDING_BYTES: Final = GIB
TERMS_S: Final = 3_600
"""How long a node stands by what it says it takes."""


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


def check_length(terms: Terms, length: int) -> None:
    """Refuse a shard that no room need be made for.

    Raises:
        MalformedMessage: ``bad_length``.
    """
    if not 1 <= length <= terms.max_shard_bytes:
        raise MalformedMessage(
            f"a shard of {length} bytes, 1 to {terms.max_shard_bytes} allowed", code="bad_length"
        )


def pending_limit(held_leaves: int) -> int:
    """Bytes a client may have pending: as much as it holds here, within the fixed bounds.

    So the limit doubles with every put that fills it.
    """
    return min(MOST_PENDING_BYTES, max(FIRST_PENDING_BYTES, held_leaves * LEAF_BYTES))
