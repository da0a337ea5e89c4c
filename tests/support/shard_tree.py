"""The shard tree as RFC 6962 defines it, recursively: what the kernels are measured against."""

from __future__ import annotations

from hashlib import sha256


def leaf_hashes(data: bytes) -> list[bytes]:
    """One hash a 1,024-byte leaf, the last one zero-padded."""
    return [
        sha256(data[at : at + 1024].ljust(1024, b"\0")).digest() for at in range(0, len(data), 1024)
    ]


def root(hashes: list[bytes]) -> bytes:
    """The left subtree holds the largest power of two of leaves that is not all of them."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(root(hashes[:split]) + root(hashes[split:])).digest()


def groups(hashes: list[bytes]) -> bytes:
    """The roots over 64 leaves each, concatenated."""
    return b"".join(root(hashes[at : at + 64]) for at in range(0, len(hashes), 64))
