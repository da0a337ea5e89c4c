"""Where shards are: rows of places in pages of 256 segments, and how two repairers merge.

Spec: docs/spec/data.md#manifest.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dsn.core import tags
from dsn.core.codec import U16_MAX, Reader
from dsn.core.hashing import tagged
from dsn.ids import ID_BYTES, Commit, NodeId
from dsn.units import PAGE_SEGMENTS

MAX_NODES = U16_MAX
"""Nodes in one file's table: one number is kept for "nowhere"."""
NOWHERE = U16_MAX
"""The node number of a shard that nobody holds."""
_NO_COMMIT = bytes(ID_BYTES)
_PLACE = struct.Struct(">HH32s")


class ShardPlace(NamedTuple):
    """Where one shard is.

    A shard that no node took has ``node`` = ``NOWHERE``, a commit of zeros, and the last
    generation that was tried, so that a repair goes beyond it.
    """

    node: int
    generation: int
    commit: Commit

    @property
    def held(self) -> bool:
        """Whether a node was given the shard."""
        return self.node != NOWHERE


Row = tuple[ShardPlace, ...]
"""The places of one segment's shards, by index."""


def missing(generation: int) -> ShardPlace:
    """The place of a shard that nobody took, tried up to ``generation``."""
    return ShardPlace(NOWHERE, generation, Commit(_NO_COMMIT))


def encode_page(rows: Sequence[Row]) -> bytes:
    """The fixed encoding of up to 256 segments' rows: 36 bytes a shard."""
    assert 0 < len(rows) <= PAGE_SEGMENTS
    return b"".join(_PLACE.pack(*place) for row in rows for place in row)


def decode_page(data: bytes, *, segments: int, total: int, nodes: int) -> tuple[Row, ...]:
    """Read what ``encode_page`` wrote.

    Args:
        data: Untrusted.
        segments: Segments on this page.
        total: Shards a segment.
        nodes: Size of the head's node table.

    Raises:
        MalformedMessage: Anything else.
    """
    reader = Reader(data, "placement page")
    if len(data) != segments * total * _PLACE.size:
        raise reader.refuse(f"{len(data)} bytes, {segments * total * _PLACE.size} expected")
    places = [
        ShardPlace(node, generation, Commit(commit))
        for node, generation, commit in _PLACE.iter_unpack(data)
    ]
    for place in places:
        if place.held and place.node >= nodes:
            raise reader.refuse(f"node number {place.node} in a table of {nodes}")
        if not place.held and place.commit != _NO_COMMIT:
            raise reader.refuse("a commit of a shard that nobody holds")
    return tuple(tuple(places[at : at + total]) for at in range(0, len(places), total))


def page_hash(page: bytes) -> bytes:
    """The hash by which a head names an encoded page."""
    return tagged(tags.PAGE, page)


def page_count(segments: int) -> int:
    """Pages of a file of ``segments`` segments."""
    return -(-segments // PAGE_SEGMENTS)


def page_segments(page: int, segments: int) -> int:
    """Segments on ``page`` of a file of ``segments`` segments."""
    return min(PAGE_SEGMENTS, segments - page * PAGE_SEGMENTS)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where every shard of some segments is: node numbers point into ``nodes``."""

    nodes: tuple[NodeId, ...]
    rows: tuple[Row, ...]

    def holder(self, segment: int, index: int) -> NodeId | None:
        """The node that holds a shard, if one does."""
        place = self.rows[segment][index]
        return self.nodes[place.node] if place.held else None

    def pages(self) -> tuple[bytes, ...]:
        """All rows as encoded pages."""
        starts = range(0, len(self.rows), PAGE_SEGMENTS)
        return tuple(encode_page(self.rows[at : at + PAGE_SEGMENTS]) for at in starts)


def merge_placements(ours: Placement, theirs: Placement) -> Placement:
    """Unite two placements of the same segments, shard by shard, as two repairers would.

    The higher generation wins, then the shard that somebody holds, the lower commit, the
    lower node id: so both sides come to the same result. Our node numbers stay and nodes
    only they know are appended, so that pages without a change keep their bytes.
    """
    assert len(ours.rows) == len(theirs.rows)
    numbers = {node: number for number, node in enumerate(ours.nodes)}
    renumber = [numbers.setdefault(node, len(numbers)) for node in theirs.nodes]
    nodes = tuple(numbers)

    def newer(place: ShardPlace, other: ShardPlace) -> ShardPlace:
        if other.held:
            other = other._replace(node=renumber[other.node])
        return min(place, other, key=lambda each: _rank(each, nodes))

    rows = (
        tuple(newer(*places) for places in zip(*pair, strict=True))
        for pair in zip(ours.rows, theirs.rows, strict=True)
    )
    return Placement(nodes, tuple(rows))


def _rank(place: ShardPlace, nodes: Sequence[NodeId]) -> tuple[int, bool, Commit, bytes]:
    """Lower is newer. Two repairers who rebuild one shard make the same bytes and commit."""
    node = nodes[place.node] if place.held else b""
    return -place.generation, not place.held, place.commit, node


class Copy(NamedTuple):
    """One stored copy of a page: sealed on its own, hence its own commit."""

    node: int
    commit: Commit


@dataclass(frozen=True, slots=True)
class PageRef:
    """How a head names a page: by the hash of its plaintext, and where its copies are."""

    hash: bytes
    copies: tuple[Copy, ...]
