"""Reading one segment whole from every holder: commits, decoding, the segment's hash."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dsn.apps.deals import Deals
from dsn.apps.faults import Faults
from dsn.apps.feeds import GIVE_UP_S, Feed
from dsn.apps.manifests import Manifest
from dsn.apps.nodes import Nodes
from dsn.core.cipher import mask_stream
from dsn.core.erasure import Erasure
from dsn.core.keys import Kind
from dsn.core.merkle import ShardHasher
from dsn.core.segment import SegmentDecoder, SegmentKeys, bands
from dsn.errors import DsnError, NotFound, ShardCorrupt
from dsn.ids import Commit, NodeId
from dsn.kernels import isal
from dsn.runtime.kernel import Kernel
from dsn.units import FRAME_BYTES, leaf_count


@dataclass(slots=True)
class DeepFound:
    """What reading a segment whole showed."""

    bad: set[Commit] = field(default_factory=set)
    silent: dict[NodeId, str] = field(default_factory=dict)
    indices: set[int] = field(default_factory=set)
    leaves: int = 0
    bytes: int = 0


MOST_READS = 24
"""Times a segment is read, each decoding from other shards, before it counts as undecodable."""


class _SegmentReading:
    """All shards of one segment, band by band: each hashed, and the code's equations checked."""

    def __init__(self, manifest: Manifest, segment: int, nodes: Nodes, deals: Deals) -> None:
        self.manifest, self.segment = manifest, segment
        self.row = manifest.placement.rows[segment]
        self.length = manifest.core.layout.segment(segment).shard_bytes
        self.holders = [manifest.placement.holder(segment, index) for index in range(len(self.row))]
        self.feeds = {
            index: Feed(nodes, deals, node, self.row[index].commit, 0, self.length)
            for index, node in enumerate(self.holders)
            if node is not None
        }
        self.trees = {index: ShardHasher() for index in self.feeds}
        self.failed: dict[int, DsnError] = {}

    def name(self, index: int) -> str:
        """What a shard is, for people."""
        return f"shard {index} of segment {self.segment}"

    async def band(self, start: int, end: int) -> dict[int, bytes]:
        """The band of every shard that still comes."""

        async def one(index: int) -> tuple[int, bytes | None]:
            try:
                return index, await self.feeds[index].take(end - start, within_s=GIVE_UP_S)
            except DsnError as error:
                self.failed[index] = error
            self.feeds.pop(index).close()
            return index, None

        taken = await asyncio.gather(*(one(index) for index in list(self.feeds)))
        return {index: part for index, part in taken if part is not None}

    def close(self) -> None:
        for feed in self.feeds.values():
            feed.close()


async def deep_segment(
    manifest: Manifest,
    segment: int,
    nodes: Nodes,
    deals: Deals,
    faults: Faults,
    kernel: Kernel,
) -> DeepFound:
    """Read all shards of ``segment``; note those that are wrong, lost, or do not decode.

    Shards are compared with their commits. With a key that unmasks, the data is decoded and
    compared with the segment's hash, and every other shard with what follows from the data, so
    that garbage under a valid commit is found. If what was decoded contains a bad shard, the
    segment is read again and decoded from others.
    """
    found = DeepFound()
    decodes = manifest.keys.kind is not Kind.VERIFY
    held = [i for i, place in enumerate(manifest.placement.rows[segment]) if place.held]
    required = manifest.core.scheme.required
    for have in itertools.islice(_subsets(held, required, found), MOST_READS):
        reading = _SegmentReading(manifest, segment, nodes, deals)
        decoding = _Decoding(manifest, segment, have) if decodes and have else None
        await _read_all(reading, decoding, kernel)
        found.leaves = found.bytes = 0
        good = _judge(reading, faults, found)
        if decoding is None:
            break
        if decoding.holds():
            _judge_garbage(reading, decoding, good, faults, found)
            break
    return found


def _subsets(held: Sequence[int], required: int, found: DeepFound) -> Iterator[tuple[int, ...]]:
    """Shards to decode from: the first ones, then others without those found bad meanwhile."""
    yield tuple(held[:required]) if len(held) >= required else ()
    for have in itertools.combinations(held, required):
        if not found.indices & set(have):
            yield have


async def _read_all(reading: _SegmentReading, decoding: _Decoding | None, kernel: Kernel) -> None:
    try:
        for start, end in bands(0, reading.length):
            parts = await reading.band(start, end)

            def work(
                parts: Mapping[int, bytes] = parts, start: int = start, end: int = end
            ) -> None:
                for index, part in parts.items():
                    reading.trees[index].update(part)
                if decoding is not None:
                    decoding.band(start, end, parts)

            await kernel.run(work)
    finally:
        reading.close()


def _judge(reading: _SegmentReading, faults: Faults, found: DeepFound) -> set[int]:
    """Compare every shard with its commit; the indices of those that match."""
    good = set()
    for index, node in enumerate(reading.holders):
        if node is None:
            continue
        commit, error = reading.row[index].commit, reading.failed.get(index)
        if error is not None and not isinstance(error, NotFound | ShardCorrupt):
            found.silent[node] = error.message
            found.indices.add(index)
        elif error is not None or reading.trees[index].commit() != commit:
            kind = "wrong" if error is None else "lost"
            faults.note(node, commit, kind, reading.name(index))
            found.bad.add(commit)
            found.indices.add(index)
        else:
            good.add(index)
            found.leaves += leaf_count(reading.length)
            found.bytes += reading.length
            faults.clear(commit)
    return good


def _judge_garbage(
    reading: _SegmentReading,
    decoding: _Decoding,
    good: set[int],
    faults: Faults,
    found: DeepFound,
) -> None:
    for index in decoding.disagreeing & good:
        node, commit = reading.holders[index], reading.row[index].commit
        assert node is not None
        faults.note(node, commit, "wrong", f"{reading.name(index)} (it does not decode)")
        found.bad.add(commit)


class _Decoding:
    """The data as ``have`` gives it, and which other shards do not follow from it."""

    def __init__(self, manifest: Manifest, segment: int, have: tuple[int, ...]) -> None:
        core, keys = manifest.core, manifest.keys
        self._erasure = Erasure(core.scheme.required, core.scheme.total, isal.load())
        self._hash, salt = core.segments[segment].hash, core.segments[segment].salt
        self._have, self._whole = have, True
        self._generations = [place.generation for place in manifest.placement.rows[segment]]
        self._keys = SegmentKeys(b"", keys.mask_key, segment, salt, False)
        scratch = memoryview(bytearray(2 * core.scheme.required * FRAME_BYTES))
        layout = core.layout.segment(segment)
        self._decoder = SegmentDecoder(self._keys, layout, self._erasure, scratch)
        self.disagreeing: set[int] = set()

    def band(self, start: int, end: int, parts: Mapping[int, bytes]) -> None:
        """Take one band of all shards that came."""
        self._whole &= all(index in parts for index in self._have)
        if not self._whole:
            return
        frames = {index: parts[index] for index in self._have}
        wanted = range(self._erasure.required)
        self._decoder.gather(start, end, frames, self._generations, wanted)
        self._decoder.digest_band()
        others = tuple(index for index in parts if index not in self._have)
        made = [memoryview(bytearray(end - start)) for _ in others]
        sources = [self._unmasked(index, start, parts[index]) for index in self._have]
        self._erasure.decode_plan(self._have, others).run(sources, made)
        self.disagreeing |= {
            index
            for index, out in zip(others, made, strict=True)
            if out != self._unmasked(index, start, parts[index])
        }

    def _unmasked(self, index: int, start: int, part: bytes) -> memoryview:
        keys = self._keys
        mask = mask_stream(
            keys.mask_key, keys.salt, keys.number, index, self._generations[index], start
        )
        return memoryview(mask.update(part))

    def holds(self) -> bool:
        """Whether what was decoded is what was sealed."""
        if not self._whole:
            return False
        try:
            self._decoder.verify(self._hash)
        except ShardCorrupt:
            return False
        return True
