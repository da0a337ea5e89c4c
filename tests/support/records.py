"""Signed records of every kind, from small numbers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.node_record import NODE_TERM_S, NodeRecord, sign_node_record
from dsn.dht.record import PointerRecord, SlotRecord, sign_pointer, sign_slot
from dsn.dht.shards import ShardBatch, sign_batch
from dsn.ids import Commit, NetworkId, NodeId

NETWORK, OTHER_NETWORK = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
NOW_S = 1_700_000_000
DAY_S = 86_400
SEQUENCE = NOW_S * 1_000_000


@cache
def key(number: int) -> SigningKey:
    """Key pair ``number``."""
    return SigningKey(sha256(number.to_bytes(8, "big")))


def node(number: int) -> NodeId:
    """The node id of key pair ``number``."""
    return node_id_of(key(number).public)


def commits(numbers: Iterable[int]) -> list[Commit]:
    """Commits of shards, one a number."""
    return [Commit(sha256(b"shard" + number.to_bytes(8, "big"))) for number in numbers]


def pointer(number: int = 3, **changes: Any) -> PointerRecord:
    """A file's pointer, signed by key pair ``number``."""
    fields = {
        "network": NETWORK,
        "placement_public": key(number).public,
        "core_hash": b"\x05" * 32,
        "sequence": SEQUENCE,
        "expires_s": NOW_S + DAY_S,
        "body": b"sealed",
    }
    return sign_pointer(key(number).sign, **(fields | changes))


def slot(number: int = 3, **changes: Any) -> SlotRecord:
    """A catalogue's slot, signed by key pair ``number``."""
    fields = {
        "network": NETWORK,
        "slot_public": key(number).public,
        "sequence": SEQUENCE,
        "expires_s": NOW_S + DAY_S,
        "body": b"sealed",
    }
    return sign_slot(key(number).sign, **(fields | changes))


def node_record(number: int = 3, **changes: Any) -> NodeRecord:
    """What the node with key pair ``number`` says of itself."""
    fields = {
        "network": NETWORK,
        "public_key": key(number).public,
        "sequence": SEQUENCE,
        "issued_s": NOW_S,
        "expires_s": NOW_S + NODE_TERM_S,
        "addresses": ("127.0.0.1:4001", "[2001:db8::1]:4001"),
        "relays": (node(101), node(102)),
        "roles": ("provider", "verifier"),
        "terms_digest": b"\x06" * 32,
        "free_class": 40,
        "region": "Zürich, CH",
        "operator": "the test",
    }
    return sign_node_record(key(number).sign, **(fields | changes))


def batch(number: int = 3, shards: Iterable[int] = range(5), **changes: Any) -> ShardBatch:
    """Shards that the node with key pair ``number`` announces."""
    fields = {
        "network": NETWORK,
        "public_key": key(number).public,
        "sequence": SEQUENCE,
        "expires_s": NOW_S + DAY_S,
        "commits": commits(shards),
    }
    return sign_batch(key(number).sign, **(fields | changes))
