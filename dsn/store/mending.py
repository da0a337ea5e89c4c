"""Rot: which leaves of a shard are not what they were, and putting right ones in their place.

A large shard keeps one hash for every 64 leaves, so inside a group that differs no leaf can be
told from another: all are named, unless the disk itself says which blocks it cannot read. What
is given back counts only if it makes a group's hash right; then the group is written where it
stands. Beside the rot that changes nothing there, so a crash in the middle harms nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dsn.core.hashing import HASH_BYTES
from dsn.core.merkle import ShardHasher, root_of_groups
from dsn.errors import InvalidProof, ShardCorrupt
from dsn.ids import Commit
from dsn.kernels import leafhash
from dsn.store import rules
from dsn.store.committer import Committer
from dsn.store.direct import overwrite, read_holes
from dsn.store.index import Index
from dsn.store.reader import Reader
from dsn.store.state import Row, kept_bytes
from dsn.store.volume import Volume
from dsn.units import FRAME_BYTES, GROUP_LEAVES, LEAF_BYTES, leaf_count

_GROUP_BYTES = GROUP_LEAVES * LEAF_BYTES


@dataclass(frozen=True, slots=True)
class _Found:
    """A large shard as the disk has it now.

    Attributes:
        kept: The hashes behind it; zeros where the disk cannot read them.
        made: The same, made from its bytes.
        unread: Leaves that the disk cannot read.
    """

    kept: bytes
    made: bytes
    unread: frozenset[int]

    def truth(self, row: Row, given: Mapping[int, bytes]) -> bytes | None:
        """The right hashes, if those behind the shard or those of its bytes are.

        Args:
            row: The shard.
            given: Hashes of groups with leaves that were given back.
        """
        made = b"".join(given.get(number, hash_) for number, hash_ in enumerate(_each(self.made)))
        for hashes in (self.kept, made):
            if root_of_groups(hashes, leaf_count(row.length)) == row.root:
                return hashes
        return None

    def rotten(self, truth: bytes, leaves: int) -> list[int]:
        """The leaves that may be wrong in groups that are not as ``truth`` says."""
        suspects: list[int] = []
        for number, (is_, should_be) in enumerate(zip(_each(self.made), _each(truth), strict=True)):
            if is_ != should_be:
                group = _leaves_of(number, leaves)
                suspects += [leaf for leaf in group if leaf in self.unread] or group
        return suspects


class Mender:
    """Finds rot in one volume's shards, and takes back what was rotten."""

    def __init__(self, volume: Volume, index: Index, reader: Reader, committer: Committer) -> None:
        """Mend in ``volume`` what ``reader`` reads."""
        self._volume, self._index = volume, index
        self._reader, self._committer = reader, committer

    async def rotten(self, commit: Commit) -> list[int]:
        """See ``ShardStore``."""
        row = await self._row(commit)
        if row.large:
            return await self._reader.reading(commit, self._look)
        try:
            await self._reader.groups(commit)
        except ShardCorrupt:
            return list(range(leaf_count(row.length)))
        return []

    async def mend(self, commit: Commit, leaves: Mapping[int, bytes]) -> None:
        """See ``ShardStore``."""
        row = await self._row(commit)
        for index, data in leaves.items():
            _check_leaf(row, index, data)
        if row.large:
            await self._reader.reading(commit, lambda row: self._mend(row, leaves))
        elif len(leaves) == leaf_count(row.length):
            data = b"".join(leaves[index] for index in range(len(leaves)))
            if ShardHasher.over(data).commit() != commit:
                raise _bad_leaf(f"{len(leaves)} leaves that are not the shard")
            await self._committer.propose(
                rules.restore(commit, data), commits=(commit,), size=len(data)
            )

    async def _row(self, commit: Commit) -> Row:
        row = (await self._index.rows((commit,)))[commit]
        if row is None:
            raise rules.unknown_shard(commit)
        return row

    def _look(self, row: Row) -> list[int]:
        """The leaves of a large shard that may be wrong; hashes that rotted are made anew."""
        found = self._find(row)
        truth, last = found.truth(row, {}), _groups(row) - 1
        if truth is None:
            if not found.unread:
                raise ShardCorrupt(f"shard {row.commit.hex()[:10]}: leaves and hashes have rotted")
            return sorted(found.unread)
        if found.kept != truth and _hash(found.made, last) == _hash(truth, last):
            self._write(row, last, self._group(row, last), truth)
        return found.rotten(truth, leaf_count(row.length))

    def _mend(self, row: Row, leaves: Mapping[int, bytes]) -> None:
        """Write every group that ``leaves`` make right, once none of them was found wrong."""
        before = {number: self._group(row, number) for number in _groups_of(leaves)}
        after = {number: _with(group, number, leaves) for number, group in before.items()}
        truth = self._truth(row, after)
        if truth is None:
            return
        right = {n: group for n, group in after.items() if _root(group) == _hash(truth, n)}
        for number in after.keys() - right.keys():
            given = sum(index // GROUP_LEAVES == number for index in leaves)
            whole = given == leaf_count(len(after[number]))
            if whole or _root(before[number]) == _hash(truth, number):
                raise _bad_leaf(f"wrong leaves from {number * GROUP_LEAVES} on")
        for number, group in right.items():
            self._write(row, number, group, truth)

    def _truth(self, row: Row, given: Mapping[int, bytes]) -> bytes | None:
        """The right hashes, from as little of the shard as tells them."""
        kept, unread = self._kept(row)
        if not unread and root_of_groups(kept, leaf_count(row.length)) == row.root:
            return kept
        hashes = {number: _root(group) for number, group in given.items()}
        return self._find(row).truth(row, hashes)

    def _find(self, row: Row) -> _Found:
        path, made, unread = self._volume.file(row.commit), list[bytes](), list[range]()
        for at in range(0, row.length, FRAME_BYTES):
            end = min(at + FRAME_BYTES, row.length)
            data, holes = read_holes(path, at, end, self._volume.direct)
            made.append(leafhash.subtree(data).groups)
            unread += holes
        kept, _ = self._kept(row)
        return _Found(kept, b"".join(made), frozenset(_leaves_in(unread)))

    def _kept(self, row: Row) -> tuple[bytes, list[range]]:
        """The hashes behind a large shard, and where the disk cannot read them."""
        end, path = row.length + kept_bytes(row.length), self._volume.file(row.commit)
        parts = [
            read_holes(path, at, min(at + FRAME_BYTES, end), self._volume.direct)
            for at in range(row.length, end, FRAME_BYTES)
        ]
        return b"".join(data for data, _ in parts), [hole for _, holes in parts for hole in holes]

    def _group(self, row: Row, number: int) -> bytes:
        start = number * _GROUP_BYTES
        end = min(start + _GROUP_BYTES, row.length)
        return read_holes(self._volume.file(row.commit), start, end, self._volume.direct)[0]

    def _write(self, row: Row, number: int, data: bytes, kept: bytes) -> None:
        """Write one group; the last one shares a block with the hashes, which are ``kept``."""
        tail = kept if number == _groups(row) - 1 else b""
        path, start = self._volume.file(row.commit), number * _GROUP_BYTES
        overwrite(path, start, data + tail, self._volume.direct)


def _each(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def _hash(hashes: bytes, number: int) -> bytes:
    return hashes[number * HASH_BYTES : (number + 1) * HASH_BYTES]


def _groups(row: Row) -> int:
    return kept_bytes(row.length) // HASH_BYTES


def _leaves_of(group: int, leaves: int) -> Sequence[int]:
    return range(group * GROUP_LEAVES, min((group + 1) * GROUP_LEAVES, leaves))


def _leaves_in(ranges: Iterable[range]) -> Iterable[int]:
    """The leaves that ``ranges`` of bytes touch."""
    for each in ranges:
        yield from range(each.start // LEAF_BYTES, -(-each.stop // LEAF_BYTES))


def _with(group: bytes, number: int, leaves: Mapping[int, bytes]) -> bytes:
    """Group ``number`` with those of ``leaves`` that are in it."""
    after = bytearray(group)
    for place in range(-(-len(group) // LEAF_BYTES)):
        data = leaves.get(number * GROUP_LEAVES + place)
        if data is not None:
            after[place * LEAF_BYTES : place * LEAF_BYTES + len(data)] = data
    return bytes(after)


def _groups_of(leaves: Iterable[int]) -> list[int]:
    return sorted({index // GROUP_LEAVES for index in leaves})


def _root(group: bytes) -> bytes:
    return leafhash.subtree(group).root


def _check_leaf(row: Row, index: int, data: bytes) -> None:
    leaves = leaf_count(row.length)
    if not 0 <= index < leaves:
        raise _bad_leaf(f"leaf {index} of a shard of {leaves} leaves")
    due = min(LEAF_BYTES, row.length - index * LEAF_BYTES)
    if len(data) != due:
        raise _bad_leaf(f"leaf {index} of {len(data)} bytes, {due} expected")


def _bad_leaf(reason: str) -> InvalidProof:
    return InvalidProof(reason, code="bad_leaf")
