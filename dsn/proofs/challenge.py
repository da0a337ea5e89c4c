"""Which leaves are asked for: drawn from a seed that nobody chose alone."""

from __future__ import annotations

import struct
from typing import Final

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.ids import NetworkId, NodeId

_WORDS: Final = struct.Struct(">4Q")
_WORD_RANGE: Final = 1 << 64


def indices(seed: bytes, total: int, count: int) -> list[int]:
    """Draw ``min(count, total)`` different numbers from ``[0, total)``, in draw order.

    Words beyond the last whole multiple of ``total`` are thrown away, so that every leaf is
    equally likely.

    Args:
        seed: 32 bytes.
        total: Leaves to draw from, below 2^63.
        count: Leaves wanted; the caller bounds it.

    Spec: docs/spec/proofs.md#drawing-leaves
    """
    if total == 0:
        return []
    wanted, counter = min(count, total), 0
    fair = _WORD_RANGE - _WORD_RANGE % total
    drawn: dict[int, None] = {}
    while len(drawn) < wanted:
        words = _WORDS.unpack(tagged(tags.INDEX, seed, counter.to_bytes(4, "big")))
        drawn |= dict.fromkeys(word % total for word in words if word < fair)
        counter += 1
    return list(drawn)[:wanted]


def por_seed(network: NetworkId, node: NodeId, nonce: bytes, root: bytes) -> bytes:
    """The seed of a retrievability proof.

    Network, node, nonce and holdings root stand in it, so no answer can be replayed elsewhere.

    Args:
        network: The network's id.
        node: Whom the challenge is for.
        nonce: 32 fresh bytes.
        root: Root of the holdings tree over the challenged shards.
    """
    return tagged(tags.POR_SEED, network, node, nonce, root)
