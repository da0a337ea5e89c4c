"""Reading one segment whole from every holder: commits, decoding, the segment's hash."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from dsn.apps.faults import Faults
from dsn.apps.feeds import GIVE_UP_S, Feed
from dsn.apps.manifests import Manifest
from dsn.apps.nodes import Nodes
from dsn.core.cipher import mask_stream
from dsn.core.erasure import Erasure
from dsn.core.keys import Kind
from dsn.core.merkle import ShardHasher
from dsn.core.segment import bands
from dsn.errors import DsnError, NotFound
from dsn.ids import Commit, NodeId
from dsn.kernels import isal
from dsn.runtime.kernel import Kernel
from dsn.units import leaf_count


@dataclass(slots=True)
class DeepFound:
    """What reading a segment whole showed."""

    bad: set[Commit] = field(default_factory=set)
    silent: dict[NodeId, str] = field(default_factory=dict)
    leaves: int = 0
    bytes: int = 0


class _SegmentReading:
    """All shards of one segment, band by band: each hashed, and the code's equations checked."""

    def __init__(self, manifest: Manifest, segment: int, nodes: Nodes) -> None:
        self.manifest, self.segment, self.nodes = manifest, segment, nodes
        self.row = manifest.placement.rows[segment]
        self.length = manifest.core.layout.segment(segment).shard_bytes
        self.holders = [manifest.placement.holder(segment, index) for index in range(len(self.row))]
        self.feeds = {
            index: Feed(nodes, node, self.row[index].commit, 0, self.length)
            for index, node in enumerate(self.holders)
            if node is not None
        }
        self.trees = {index: ShardHasher() for index in self.feeds}
        self.failed: dict[int, DsnError] = {}

    async def band(self, start: int, end: int) -> dict[int, bytes]:
        """The band of every shard that still comes."""

        async def one(index: int) -> tuple[int, bytes | None]:
            try:
                async with asyncio.timeout(GIVE_UP_S):
                    return index, await self.feeds[index].take(end - start)
            except DsnError as error:
                self.failed[index] = error
            except TimeoutError:
                self.failed[index] = DsnError("a shard stopped coming")
            self.feeds.pop(index).close()
            return index, None

        taken = await asyncio.gather(*(one(index) for index in list(self.feeds)))
        return {index: part for index, part in taken if part is not None}

    def close(self) -> None:
        for feed in self.feeds.values():
            feed.close()


async def deep_segment(
    manifest: Manifest, segment: int, nodes: Nodes, faults: Faults, kernel: Kernel
) -> DeepFound:
    """Read all shards of ``segment``; note those that are wrong, lost, or do not decode.

    Shards are compared with their commits. With a key that unmasks, the code's equations are
    checked as well, so that garbage under a valid commit is found.
    """
    reading = _SegmentReading(manifest, segment, nodes)
    decoding = None if manifest.keys.kind is Kind.VERIFY else _Decoding(manifest, segment)
    try:
        for start, end in bands(0, reading.length):
            parts = await reading.band(start, end)

            def work(parts: Mapping[int, bytes] = parts, start: int = start) -> None:
                for index, part in parts.items():
                    reading.trees[index].update(part)
                if decoding is not None:
                    decoding.band(start, parts)

            await kernel.run(work)
    finally:
        reading.close()
    return _judge(reading, decoding, faults)


def _judge(reading: _SegmentReading, decoding: _Decoding | None, faults: Faults) -> DeepFound:
    found = DeepFound()
    for index, node in enumerate(reading.holders):
        if node is None:
            continue
        commit, what = reading.row[index].commit, f"shard {index} of segment {reading.segment}"
        error = reading.failed.get(index)
        if isinstance(error, NotFound):
            faults.note(node, commit, "lost", what)
            found.bad.add(commit)
        elif error is not None:
            found.silent[node] = error.message
        elif reading.trees[index].commit() != commit:
            faults.note(node, commit, "wrong", what)
            found.bad.add(commit)
        else:
            found.leaves += leaf_count(reading.length)
            found.bytes += reading.length
            if decoding is None or index not in decoding.garbage:
                faults.clear(commit)
            else:
                faults.note(node, commit, "wrong", f"{what} (it does not decode)")
                found.bad.add(commit)
    return found


class _Decoding:
    """Do all shards of a segment, unmasked, lie on one code word?

    With bad shards among the first ``required`` everything would seem to disagree, so the
    data is rebuilt from different subsets until one agrees with most of the others.
    """

    def __init__(self, manifest: Manifest, segment: int) -> None:
        core = manifest.core
        self._erasure = Erasure(core.scheme.required, core.scheme.total, isal.load())
        self._salt, self._segment = core.segments[segment].salt, segment
        self._mask_key = manifest.keys.mask_key
        self._generations = [place.generation for place in manifest.placement.rows[segment]]
        self.garbage: set[int] = set()

    def band(self, start: int, parts: Mapping[int, bytes]) -> None:
        """Check one band of all shards that came."""
        rows = {
            index: memoryview(
                mask_stream(
                    self._mask_key,
                    self._salt,
                    self._segment,
                    index,
                    self._generations[index],
                    start,
                ).update(part)
            )
            for index, part in parts.items()
        }
        required = self._erasure.required
        trusted = [index for index in sorted(rows) if index not in self.garbage]
        if len(trusted) < required:
            return
        off = self._disagreeing(rows, tuple(trusted[:required]))
        for turn in range(1, len(trusted) - required + 1):
            if len(off) <= (len(rows) - required) // 2:
                break
            other = tuple(sorted((trusted[turn:] + trusted[:turn])[:required]))
            off = min(off, self._disagreeing(rows, other), key=len)
        self.garbage |= off

    def _disagreeing(self, rows: Mapping[int, memoryview], have: tuple[int, ...]) -> set[int]:
        others = tuple(index for index in rows if index not in have)
        width = len(next(iter(rows.values())))
        made = [memoryview(bytearray(width)) for _ in others]
        self._erasure.decode_plan(have, others).run([rows[i] for i in have], made)
        return {index for index, out in zip(others, made, strict=True) if out != rows[index]}
