"""How far two keys are apart: XOR, read as a 256-bit integer (Maymounkov and Mazieres, 2002)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dsn.dht.contact import Contact
from dsn.ids import ID_BYTES

ID_BITS = 8 * ID_BYTES


def distance(a: bytes, b: bytes) -> int:
    """The distance of two 32-byte keys, in [0, 2^256)."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def bucket_of(me: bytes, other: bytes) -> int:
    """Which bucket of ``me`` a different key falls in: the bit length of their distance, less 1."""
    return distance(me, other).bit_length() - 1


def nearest(contacts: Iterable[Contact], target: bytes, count: int) -> list[Contact]:
    """The ``count`` contacts nearest to ``target``, nearest first."""
    goal = int.from_bytes(target, "big")
    return sorted(contacts, key=lambda each: int.from_bytes(each.node_id, "big") ^ goal)[:count]


def random_key(me: bytes, bucket: int, entropy: Callable[[int], bytes]) -> bytes:
    """A key that falls in ``bucket`` of ``me`` and is random otherwise."""
    low = int.from_bytes(entropy(ID_BYTES), "big") & ((1 << bucket) - 1)
    key = ((int.from_bytes(me, "big") >> bucket) ^ 1) << bucket | low
    return key.to_bytes(ID_BYTES, "big")


def shared_bits(a: bytes, b: bytes) -> int:
    """How many leading bits two keys have in common."""
    return ID_BITS - distance(a, b).bit_length()
