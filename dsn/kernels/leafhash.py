"""All leaf and node hashes of a buffer in one call, by the quickest kernel that works here.

Half and more of the client's arithmetic is this tree. The C extension hashes many messages
side by side and lets other threads run; without it hashlib gives the same bytes.

Spec: docs/spec/data.md#shard-tree.
"""

from __future__ import annotations

import functools
import hashlib
from typing import NamedTuple, Protocol, TypeAlias

from dsn.units import GROUP_LEAVES, LEAF_BYTES

try:
    from dsn.kernels import _leafhash
except ImportError:
    _NATIVE: tuple[str, ...] = ()
else:
    _NATIVE = _leafhash.KERNELS

HASH_BYTES = 32
Data: TypeAlias = bytes | bytearray | memoryview


class Subtree(NamedTuple):
    """The tree over one buffer: its ``root``, and the ``groups`` that a node keeps."""

    root: bytes
    groups: bytes
    """The hashes over 64-leaf groups, concatenated; at least one."""


class LeafHash(Protocol):
    """One way to hash a shard's tree; all of them give identical bytes."""

    @property
    def name(self) -> str:
        """What ``doctor`` prints."""

    def leaves(self, data: Data) -> bytes:
        """Hash every leaf.

        Args:
            data: At least 1 byte, contiguous; a last leaf under 1,024 bytes is zero-padded.

        Returns:
            32 bytes a leaf, concatenated.

        Raises:
            ValueError: ``data`` is empty.
        """

    def subtree(self, data: Data) -> Subtree:
        """Hash every leaf and reduce to the root, in RFC 6962's shape.

        Args:
            data: At least 1 byte, contiguous; a last leaf under 1,024 bytes is zero-padded.

        Raises:
            ValueError: ``data`` is empty.
        """


class Portable:
    """hashlib, a leaf at a time: about 0.7 GB/s a core, and it keeps the interpreter's lock."""

    name = "portable"

    def leaves(self, data: Data) -> bytes:
        """Hash every leaf."""
        return b"".join(_leaf_hashes(data))

    def subtree(self, data: Data) -> Subtree:
        """Hash every leaf and reduce to the root."""
        hashes = _leaf_hashes(data)
        starts = range(0, len(hashes), GROUP_LEAVES)
        groups = [_reduce(hashes[at : at + GROUP_LEAVES]) for at in starts]
        return Subtree(_reduce(groups), b"".join(groups))


class Native:
    """One kernel of the C extension; lets other threads run from 16 KiB on."""

    def __init__(self, index: int, name: str) -> None:
        """Bind kernel ``index`` of the extension."""
        self.name = name
        self.leaves = functools.partial(_leafhash.leaves, index)
        self._subtree = functools.partial(_leafhash.subtree, index)

    def subtree(self, data: Data) -> Subtree:
        """Hash every leaf and reduce to the root."""
        return Subtree._make(self._subtree(data))


def _leaf_hashes(data: Data) -> list[bytes]:
    view, sha256 = memoryview(data).cast("B"), hashlib.sha256
    if not view:
        raise ValueError("0 bytes have no leaf, at least 1 byte needed")
    whole = len(view) - len(view) % LEAF_BYTES
    hashes = [sha256(view[at : at + LEAF_BYTES]).digest() for at in range(0, whole, LEAF_BYTES)]
    if rest := bytes(view[whole:]):
        hashes.append(sha256(rest.ljust(LEAF_BYTES, b"\0")).digest())
    return hashes


def _reduce(level: list[bytes]) -> bytes:
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        above = [hashlib.sha256(left + right).digest() for left, right in pairs]
        level = [*above, level[-1]] if len(level) % 2 else above
    return level[0]


def agrees(kernel: LeafHash, reference: LeafHash) -> bool:
    """Whether ``kernel`` hashes buffers of telling lengths as ``reference`` does."""
    sample = hashlib.shake_128(b"leafhash").digest(75 * LEAF_BYTES + 513)
    parts = (sample[:1], sample[: 9 * LEAF_BYTES], sample)
    return all(
        kernel.leaves(part) == reference.leaves(part)
        and kernel.subtree(part) == reference.subtree(part)
        for part in parts
    )


@functools.cache
def implementations() -> dict[str, LeafHash]:
    """Every kernel that runs here and agrees with hashlib, by name, the quickest first."""
    portable: LeafHash = Portable()
    native = (Native(index, name) for index, name in enumerate(_NATIVE))
    usable = [kernel for kernel in native if agrees(kernel, portable)]
    return {kernel.name: kernel for kernel in (*usable, portable)}


_BEST = next(iter(implementations().values()))

NAME = _BEST.name
"""The kernel in use."""
leaves = _BEST.leaves
"""See ``LeafHash.leaves``."""
subtree = _BEST.subtree
"""See ``LeafHash.subtree``."""
