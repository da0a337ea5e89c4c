"""The two hashes: SHA-256 under a tag for everything that is proved, BLAKE3 for bulk."""

from __future__ import annotations

import hashlib

HASH_BYTES = 32


def tagged(tag: bytes, *parts: bytes) -> bytes:
    """H(tag, parts): SHA-256 over the 16-byte ``tag`` and ``parts`` as they are.

    The parts are not length-prefixed; callers hash fixed-size fields, or one
    variable field at the end.
    """
    digest = hashlib.sha256(tag)
    for part in parts:
        digest.update(part)
    return digest.digest()


def sha256(data: bytes | bytearray | memoryview) -> bytes:
    """Plain SHA-256: leaves and nodes of a shard tree carry no tag (their sizes differ)."""
    return hashlib.sha256(data).digest()
