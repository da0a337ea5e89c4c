"""The tree over a shard's leaves, in RFC 6962's shape, and the commit that names a shard.

A leaf preimage is always 1,024 bytes and a node's always 64, so neither can pose as the
other and no tag is needed inside the tree.

Spec: docs/spec/data.md#shard-tree.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from dsn.core import tags
from dsn.core.hashing import HASH_BYTES, sha256, tagged
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ids import Commit
from dsn.kernels import leafhash
from dsn.units import FRAME_BYTES, GROUP_LEAVES, LEAF_BYTES, leaf_count

_TREE_VERSION = b"\x01"


def leaf_hash(data: bytes | bytearray | memoryview) -> bytes:
    """Hash one leaf of 1 to 1,024 bytes, zero-padded."""
    size = len(data)
    assert 0 < size <= LEAF_BYTES
    return sha256(data if size == LEAF_BYTES else bytes(data).ljust(LEAF_BYTES, b"\0"))


def shard_commit(root: bytes, leaves: int, length: int) -> Commit:
    """The name of a shard: its tree's ``root``, its ``leaves`` and its ``length`` in bytes."""
    counts = leaves.to_bytes(8, "big") + length.to_bytes(8, "big")
    return Commit(tagged(tags.SHARD, _TREE_VERSION, root, counts))


def _parents(level: Sequence[bytes]) -> list[bytes]:
    """The level above; an odd last hash is carried up as it is."""
    pairs = [sha256(level[at] + level[at + 1]) for at in range(0, len(level) - 1, 2)]
    return [*pairs, level[-1]] if len(level) % 2 else pairs


def _reduce(level: Sequence[bytes]) -> bytes:
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


class ShardHasher:
    """Hash a shard frame by frame, keeping 32 bytes for every 64 leaves.

    A frame is 1,024 leaves and thus a whole subtree, so one kernel call does it and only
    the frame roots are left to combine.
    """

    __slots__ = ("_groups", "_length", "_roots")

    def __init__(self) -> None:
        """Start before the first frame."""
        self._roots: list[bytes] = []
        self._groups: list[bytes] = []
        self._length = 0

    @classmethod
    def over(cls, shard: bytes | bytearray | memoryview) -> ShardHasher:
        """Hash a whole shard that is already in memory."""
        hasher, view = cls(), memoryview(shard)
        for at in range(0, len(view), FRAME_BYTES):
            hasher.update(view[at : at + FRAME_BYTES])
        return hasher

    def update(self, frame: bytes | bytearray | memoryview) -> None:
        """Take the next frame: exactly 1 MiB, or less if it is the last (untrusted size).

        Raises:
            MalformedMessage: An empty or too long frame, or one after a short frame.
        """
        if self._length % FRAME_BYTES or not 0 < len(frame) <= FRAME_BYTES:
            raise MalformedMessage(
                f"a frame of {len(frame)} bytes after {self._length}; every frame is "
                f"{FRAME_BYTES} bytes but the last",
                code="bad_frame",
            )
        root, groups = leafhash.subtree(frame)
        self._roots.append(root)
        self._groups.append(groups)
        self._length += len(frame)

    @property
    def length(self) -> int:
        """Bytes taken so far."""
        return self._length

    def root(self) -> bytes:
        """The root over all frames.

        Raises:
            MalformedMessage: No frame came; an empty shard does not exist.
        """
        if not self._roots:
            raise MalformedMessage("a shard of 0 bytes; at least 1 needed", code="bad_frame")
        return _reduce(self._roots)

    def groups(self) -> bytes:
        """The concatenated hashes over 64-leaf groups, what a node keeps of the tree."""
        return b"".join(self._groups)

    def commit(self) -> Commit:
        """The shard's name.

        Raises:
            MalformedMessage: No frame came.
        """
        return shard_commit(self.root(), leaf_count(self._length), self._length)


def root_of_groups(groups: bytes, leaves: int) -> bytes:
    """The root of a shard of ``leaves`` leaves from its kept ``groups``."""
    assert len(groups) == HASH_BYTES * -(-leaves // GROUP_LEAVES) > 0
    return _reduce(_split(groups))


def path_length(index: int, leaves: int) -> int:
    """How many siblings leaf ``index`` has in a tree over ``leaves`` leaves."""
    return len(_sides(index, leaves))


def _sides(index: int, leaves: int) -> list[bool]:
    """From the bottom, for every level where there is a sibling: whether it is on the left."""
    sides = []
    while leaves > 1:
        if index ^ 1 < leaves:
            sides.append(index % 2 == 1)
        index, leaves = index // 2, (leaves + 1) // 2
    return sides


def _levels(level: Sequence[bytes]) -> list[Sequence[bytes]]:
    """``level`` and all levels above it but the root."""
    levels = []
    while len(level) > 1:
        levels.append(level)
        level = _parents(level)
    return levels


@functools.lru_cache(maxsize=16)
def _levels_of_group(leaves: bytes) -> list[Sequence[bytes]]:
    """The levels over one group's leaf hashes; whoever asks for many leaves asks group by group."""
    return _levels(_split(leaves))


def _siblings(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    path = []
    for level in levels:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index //= 2
    return path


class KeptTree:
    """What a holder keeps of a shard's tree, ready to give paths."""

    __slots__ = ("_levels", "_leaves")

    def __init__(self, groups: bytes, leaves: int) -> None:
        """Rebuild the upper tree.

        Args:
            groups: The shard's kept hashes, one for every 64 leaves.
            leaves: The shard's leaf count.
        """
        assert len(groups) == HASH_BYTES * -(-leaves // GROUP_LEAVES) > 0
        self._levels, self._leaves = _levels(_split(groups)), leaves

    def path(self, index: int, group_leaves: bytes) -> list[bytes]:
        """The siblings of leaf ``index``, bottom up.

        Args:
            index: The leaf, in ``[0, leaves)``.
            group_leaves: The leaf hashes of the one group that ``index`` falls in, freshly
                made from 64 KiB of the shard.
        """
        assert 0 <= index < self._leaves
        group = index // GROUP_LEAVES
        assert len(group_leaves) == HASH_BYTES * min(
            GROUP_LEAVES, self._leaves - group * GROUP_LEAVES
        )
        below = _siblings(_levels_of_group(group_leaves), index % GROUP_LEAVES)
        return below + _siblings(self._levels, group)


def build_path(groups: bytes, leaves: int, index: int, group_leaves: bytes) -> list[bytes]:
    """The siblings of one leaf; see ``KeptTree``, which gives many."""
    return KeptTree(groups, leaves).path(index, group_leaves)


def verify_path(root: bytes, index: int, leaves: int, leaf: bytes, path: Sequence[bytes]) -> None:
    """Check that the leaf with hash ``leaf`` is number ``index`` of ``leaves`` under ``root``.

    The path's shape follows from ``index`` and ``leaves`` alone, so a path cannot choose
    its own length or sides.

    Args:
        root: 32 bytes, trusted (bound by a commit).
        index: The leaf's number.
        leaves: The shard's leaf count, at least 1, trusted as ``root`` is.
        leaf: The leaf's hash, from ``leaf_hash``.
        path: 32-byte siblings, bottom up, untrusted.

    Raises:
        InvalidProof: ``index``, ``short``, ``trailing`` or ``shard``, the first that holds.
    """
    if not 0 <= index < leaves:
        raise InvalidProof(f"leaf {index} of a shard of {leaves} leaves", code="index")
    sides = _sides(index, leaves)
    if len(path) != len(sides):
        code = "short" if len(path) < len(sides) else "trailing"
        raise InvalidProof(f"a path of {len(path)} hashes, {len(sides)} needed", code=code)
    digest = leaf
    for sibling, left in zip(path, sides, strict=True):
        digest = sha256(sibling + digest if left else digest + sibling)
    if digest != root:
        raise InvalidProof(f"leaf {index} is not under the shard's root", code="shard")
