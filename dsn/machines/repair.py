"""Which shards of a file are lost, which nodes take them over, and who then holds what.

A sans-I/O machine: it is told what nodes showed and what they stored, and says which rows are to
be made again for whom. All who repair one file at a time come to the same choice as long as they
see the same nodes, so that two of them make the same shards in the same places.

Spec: docs/spec/data.md#repair.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from dsn.core.codec import U16_MAX
from dsn.core.hashing import sha256
from dsn.core.layout import Scheme
from dsn.core.placement import Placement, ShardPlace, merge_placements
from dsn.errors import NotEnoughShards
from dsn.ids import Commit, FileId, NodeId
from dsn.machines.placement import Candidate
from dsn.machines.upload import Row

MOST_RETURNED: Final = 512
"""Leaves of one shard that are returned: a disk that lost more gets no second chance."""
_DRAW_BITS: Final = 56


class Repair:
    """The shards of one file, as they are and as they will be.

    A shard is good while its node shows it; all others are lost. A lost shard goes to another
    node under a generation that was never tried before. The places of lost shards stay as they
    are until their successors are stored: a node that was silent may come back.
    """

    def __init__(
        self, file_id: FileId, placement: Placement, scheme: Scheme, lengths: Sequence[int]
    ) -> None:
        """Begin with all of ``placement`` taken for good.

        Args:
            file_id: Of the file; seeds the choice of nodes.
            placement: Where its shards are.
            scheme: Its erasure code.
            lengths: Of a shard of each segment, in bytes.
        """
        self.scheme, self.lengths = scheme, tuple(lengths)
        self._file_id, self._placement = file_id, placement
        self._gone: set[NodeId] = set()
        self._bad: set[tuple[NodeId, Commit]] = set()
        self._rows: defaultdict[int, dict[int, Row]] = defaultdict(dict)
        self._tried: dict[tuple[int, int], int] = {}
        self._ranked: list[Candidate] = []
        self._groups: dict[NodeId, str] = {}
        self._failed: set[NodeId] = set()
        self._heirs: dict[NodeId, NodeId] = {}

    @property
    def base(self) -> Placement:
        """The placement that good shards are read by; see ``merge``."""
        return self._placement

    @property
    def ranked(self) -> list[Candidate]:
        """Nodes on offer, in the order in which they take shards."""
        return list(self._ranked)

    @property
    def planned(self) -> list[Row]:
        """All rows that have a node, stored or not."""
        return list(self._all())

    # what is known

    def lose_node(self, node: NodeId) -> None:
        """``node`` is gone, or silent: nothing that it holds counts."""
        self._gone.add(node)

    def lose_shard(self, node: NodeId, commit: Commit) -> None:
        """``node`` does not have a shard, or has something else."""
        self._bad.add((node, commit))

    def holder(self, segment: int, index: int) -> NodeId | None:
        """Who holds a good shard as the placement has it; ``None`` if it is lost."""
        node = self._placement.holder(segment, index)
        place = self._placement.rows[segment][index]
        if node is None or node in self._gone or (node, place.commit) in self._bad:
            return None
        return node

    def good(self, segment: int) -> list[int]:
        """Indices of the shards to rebuild others from."""
        return [i for i in range(self.scheme.total) if self.holder(segment, i) is not None]

    def lost(self, segment: int) -> list[int]:
        """Indices of shards that are not good, and not stored anew either."""
        good = set(self.good(segment))
        return [
            index
            for index in range(self.scheme.total)
            if index not in good and not self._stored(segment, index)
        ]

    def held(self, segment: int) -> int:
        """How many shards a segment has, counting those stored anew."""
        return self.scheme.total - len(self.lost(segment))

    def broken(self) -> list[int]:
        """Segments with lost shards, those that are nearest to their end first."""
        segments = [each for each in range(len(self.lengths)) if self.lost(each)]
        return sorted(segments, key=lambda each: (self.held(each), each))

    def check(self) -> None:
        """Check that every segment can be rebuilt.

        Raises:
            NotEnoughShards: Naming the first one that cannot.
        """
        for segment in range(len(self.lengths)):
            if (found := len(self.good(segment))) < self.scheme.required:
                raise NotEnoughShards(
                    f"segment {segment}: {found} shards found, {self.scheme.required} needed",
                    hint="start the missing nodes and try again",
                )

    # where to

    def offer(self, candidates: Iterable[Candidate]) -> None:
        """Nodes that may take shards over."""
        self._ranked = sorted(candidates, key=self._rank)
        self._groups |= {each.node: each.group for each in self._ranked}

    def learn_groups(self, groups: Mapping[NodeId, str]) -> None:
        """The placement groups of nodes that hold shards; else each is a group of its own."""
        self._groups = dict(groups) | self._groups

    def _rank(self, candidate: Candidate) -> float:
        """A weighted draw (see ``placement.choose``) that the file's id fixes, not the observer.

        Room counts by powers of two: it looks alike to all who ask within a while.
        """
        digest = sha256(self._file_id + candidate.node)
        drawn = (int.from_bytes(digest[: _DRAW_BITS // 8], "big") + 0.5) / (1 << _DRAW_BITS)
        return -math.log(drawn) / float(1 << candidate.free_bytes.bit_length())

    def plan(self) -> list[Row]:
        """A row for every lost shard that a node can take, in the order of ``broken``.

        Rows whose node did not fail stay where they are.
        """
        room = {each.node: each.free_bytes for each in self._ranked}
        for row in self._all():
            room[row.node] = room.get(row.node, 0) - row.length
        return [row for segment in self.broken() for row in self._assign(segment, room)]

    def _assign(self, segment: int, room: dict[NodeId, int]) -> Iterator[Row]:
        taken = self._groups_of(segment)
        for index in self.lost(segment):
            row = self._rows[segment].get(index)
            if row is None:
                row = self._place(segment, index, taken, room)
            if row is not None:
                taken.add(self._group(row.node))
                yield row

    def _groups_of(self, segment: int) -> set[str]:
        """Groups that hold a good shard of the segment, or are to."""
        nodes = {self.holder(segment, index) for index in self.good(segment)}
        nodes |= {row.node for row in self._rows[segment].values()}
        return {self._group(node) for node in nodes if node is not None}

    def _group(self, node: NodeId) -> str:
        return self._groups.get(node, node.hex())

    def _place(
        self, segment: int, index: int, taken: set[str], room: dict[NodeId, int]
    ) -> Row | None:
        left, length = self._placement.holder(segment, index), self.lengths[segment]
        tried = self._tried.get((segment, index), 0)
        generation = max(tried, self._placement.rows[segment][index].generation) + 1
        if generation > U16_MAX:
            return None
        for node in self._choice(left):
            if room.get(node, 0) >= length and self._group(node) not in taken:
                break
        else:
            return None
        if left is not None:
            self._heirs.setdefault(left, node)
        room[node] -= length
        row = Row(segment, index, node, generation, None, length)
        self._tried[segment, index], self._rows[segment][index] = generation, row
        return row

    def _choice(self, left: NodeId | None) -> list[NodeId]:
        """Nodes for what ``left`` held: its heir first, those with losses of their own last."""
        suspects = {node for node, _ in self._bad}
        nodes = [each.node for each in self._ranked if each.node not in self._failed | self._gone]
        heir = None if left is None else self._heirs.get(left)
        return sorted(nodes, key=lambda node: (node in suspects, node != heir))

    # what came of it

    def restore(self, row: Row) -> bool:
        """Take up a row that an earlier, interrupted attempt stored, if it is of use."""
        lost = row.index in self.lost(row.segment) and row.index not in self._rows[row.segment]
        newer = row.generation > self._placement.rows[row.segment][row.index].generation
        free = self._group(row.node) not in self._groups_of(row.segment)
        if not (lost and newer and free) or row.node in self._gone:
            return False
        self._rows[row.segment][row.index] = row
        self._tried[row.segment, row.index] = row.generation
        return True

    def stored(self, row: Row, commit: Commit) -> bool:
        """Note a receipt for ``row``; one for a row that has moved on changes nothing."""
        if self._rows[row.segment].get(row.index) is not row:
            return False
        row.commit = commit
        return True

    def _stored(self, segment: int, index: int) -> bool:
        row = self._rows[segment].get(index)
        return row is not None and row.commit is not None

    def spoilt(self, row: Row) -> None:
        """What was sent for ``row`` is worthless: it is made again, under the next generation."""
        if self._rows[row.segment].get(row.index) is row:
            del self._rows[row.segment][row.index]

    def fail(self, node: NodeId) -> None:
        """``node`` takes nothing: what it was to hold goes elsewhere."""
        self._failed.add(node)
        self._heirs = {left: heir for left, heir in self._heirs.items() if heir != node}
        for row in [row for row in self.planned if row.node == node]:
            self.spoilt(row)

    def _all(self) -> Iterator[Row]:
        for rows in self._rows.values():
            yield from rows.values()

    def rows(self) -> list[Row]:
        """All that was stored anew, in order."""
        rows = (row for row in self._all() if row.commit is not None)
        return sorted(rows, key=lambda row: (row.segment, row.index))

    def placement(self) -> Placement:
        """Where the shards are now; nodes are only ever appended to the table."""
        before, changed = self._placement, defaultdict[int, dict[int, ShardPlace]](dict)
        numbers = {node: number for number, node in enumerate(before.nodes)}
        for row in self.rows():
            assert row.commit is not None
            number = numbers.setdefault(row.node, len(numbers))
            changed[row.segment][row.index] = ShardPlace(number, row.generation, row.commit)
        rows = list(before.rows)
        for segment, places in changed.items():
            kept = rows[segment]
            rows[segment] = tuple(places.get(i, place) for i, place in enumerate(kept))
        return replace(before, nodes=tuple(numbers), rows=tuple(rows))

    def merge(self, theirs: Placement) -> None:
        """Go on from what another repairer published, united with what is stored here.

        If both put shards of one segment into one group, the one with the lower index stays.
        """
        self._placement = merge_placements(self.placement(), theirs)
        self._rows.clear()
        for segment in range(len(self.lengths)):
            seen: set[str] = set()
            for index in self.good(segment):
                node = self.holder(segment, index)
                assert node is not None
                if self._group(node) in seen:
                    self.lose_shard(node, self._placement.rows[segment][index].commit)
                seen.add(self._group(node))


def same_places(ours: Placement, theirs: Placement) -> bool:
    """Whether two placements say the same of every shard, however they number nodes."""
    return list(_resolved(ours)) == list(_resolved(theirs))


def _resolved(placement: Placement) -> Iterator[tuple[NodeId | None, int, Commit]]:
    for segment, row in enumerate(placement.rows):
        for index, place in enumerate(row):
            yield placement.holder(segment, index), place.generation, place.commit
