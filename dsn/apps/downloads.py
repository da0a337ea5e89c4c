"""Reading a file back: bands from many nodes, opened into a sink, liars named.

While one band is decoded in the kernel thread the next one is on its way. A segment whose
bytes do not open is read again, each shard whole and against its commit: that names who
sent wrong bytes, and goes on with the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from itertools import pairwise

from dsn.apps.deals import Deals
from dsn.apps.faults import Faults
from dsn.apps.feeds import SegmentFetch, read_whole
from dsn.apps.manifests import Manifest
from dsn.apps.nodes import Nodes
from dsn.apps.results import Progress, ProgressSink
from dsn.core.erasure import Erasure
from dsn.core.layout import SegmentLayout
from dsn.core.segment import SegmentDecoder, SegmentKeys, bands
from dsn.errors import DataLost, DsnError, NotEnoughShards, NotFound, ShardCorrupt
from dsn.ids import NodeId
from dsn.kernels import isal
from dsn.machines.download import Download
from dsn.runtime.kernel import Kernel
from dsn.store.transfer import Sink
from dsn.units import FRAME_BYTES, SYMBOL_BYTES, SYMBOL_PLAIN_BYTES


@dataclass(frozen=True, slots=True)
class Region:
    """What to read of one segment: symbols ``[first, end)`` and the shard bytes they lie in."""

    segment: int
    first: int
    end: int
    start_byte: int
    end_byte: int
    wanted: tuple[int, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Band:
    """A band that arrived: the masked bytes by shard index."""

    region: Region
    start: int
    end: int
    frames: dict[int, bytes]


def regions(layout: SegmentLayout, segment: int, start: int, end: int) -> list[Region]:
    """Cut the segment's plaintext range ``[start, end)`` so that no symbol is read in vain.

    The first and last stripe may need a few data shards only; what lies between needs all.
    """
    symbols = layout.symbols_for(start, end)
    first, stop = symbols.start, symbols.stop
    if (first, stop) == (0, layout.symbols):
        return [_region(layout, segment, first, stop, whole=True)]
    last_row = min(stop, layout.row_symbols)
    cuts = {first, stop, last_row, last_row - last_row % layout.required}
    cuts.add(first + -first % layout.required)
    edges = sorted(cut for cut in cuts if first <= cut <= stop)
    return [_region(layout, segment, a, b, whole=False) for a, b in pairwise(edges)]


def _region(layout: SegmentLayout, segment: int, first: int, end: int, *, whole: bool) -> Region:
    span = layout.stripes_for(range(first, end))
    one_row = span.end - span.start <= SYMBOL_BYTES and end <= layout.row_symbols
    wanted = {s % layout.required for s in range(first, end)} if one_row else range(layout.required)
    return Region(segment, first, end, span.start, span.end, tuple(sorted(wanted)), whole)


class Reader:
    """Reads plaintext ranges of one file into a sink."""

    def __init__(
        self,
        manifest: Manifest,
        nodes: Nodes,
        deals: Deals,
        faults: Faults,
        kernel: Kernel,
        progress: ProgressSink,
    ) -> None:
        """Read the file of ``manifest``, paid by ``deals``; its keys must open content."""
        self._manifest, self._nodes, self._deals, self._faults = manifest, nodes, deals, faults
        self._kernel, self._progress = kernel, progress
        scheme = manifest.core.scheme
        self._erasure = Erasure(scheme.required, scheme.total, isal.load())
        self._scratch = memoryview(bytearray(2 * scheme.required * FRAME_BYTES))
        self._decoder: SegmentDecoder | None = None
        self._ahead = 0
        self._first_frame = SYMBOL_BYTES  # the first byte comes early, then frames grow

    async def read(self, start: int, end: int, sink: Sink) -> None:
        """Write plaintext ``[start, end)`` to ``sink``; the caller finishes it.

        Raises:
            NotEnoughShards: Of some segment.
            LimitReached: Nodes want more than can be paid.
        """
        self._ahead = (end - start) // self._erasure.required
        layout = self._manifest.core.layout
        report = _Report(self._progress, end - start)
        for segment in layout.segments_for(start, end):
            plain = layout.plain(segment)
            inner = layout.segment(segment)
            a, b = max(start, plain.start) - plain.start, min(end, plain.end) - plain.start
            for region in regions(inner, segment, a, b):
                skip = max(0, a - region.first * SYMBOL_PLAIN_BYTES)
                stop = min(b, region.end * SYMBOL_PLAIN_BYTES)
                stop -= region.first * SYMBOL_PLAIN_BYTES
                window = _Window(sink, skip, stop, report)
                await self._read_region(region, inner, window)
                self._first_frame = FRAME_BYTES

    async def _read_region(self, region: Region, layout: SegmentLayout, window: _Window) -> None:
        self._decoder = self._new_decoder(region.segment, layout)
        stream = self._bands(region)
        try:
            pending = asyncio.ensure_future(anext(stream, None))
            while (band := await pending) is not None:
                pending = asyncio.ensure_future(anext(stream, None))
                try:
                    await self._kernel.run(self._open, band, window)
                except ShardCorrupt:
                    pending.cancel()
                    await asyncio.gather(pending, return_exceptions=True)
                    await self._read_checked(region, layout, window, band)
                    return
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
            await stream.aclose()
        if region.whole:
            try:
                self._decoder.verify(self._manifest.core.segments[region.segment].hash)
            except ShardCorrupt as error:
                raise DataLost(f"{error.message}: whoever stored it sealed other bytes") from error

    def _new_decoder(self, segment: int, layout: SegmentLayout) -> SegmentDecoder:
        core, keys = self._manifest.core, self._manifest.keys
        final = segment == core.layout.segments - 1
        seal = core.segments[segment]
        return SegmentDecoder(
            SegmentKeys(keys.content_key, keys.mask_key, segment, seal.salt, final),
            layout,
            self._erasure,
            self._scratch,
        )

    async def _bands(self, region: Region) -> AsyncGenerator[Band, None]:
        fetch = self._fetch(region)
        try:
            for start, end in bands(region.start_byte, region.end_byte, self._first_frame):
                yield Band(region, start, end, await fetch.band(start, end))
        finally:
            fetch.close()

    def _fetch(self, region: Region) -> SegmentFetch:
        row = self._manifest.placement.rows[region.segment]
        scheme = self._manifest.core.scheme
        gone = [i for i, place in enumerate(row) if not place.held]
        late = self._doubtful(region.segment)
        plan = Download(scheme.required, scheme.total, region.wanted, late, gone)
        holders = self._holders(region.segment)
        return SegmentFetch(
            self._nodes,
            self._deals,
            region.segment,
            row,
            holders,
            plan,
            region.end_byte,
            first=self._first_frame,
            ahead=self._ahead,
        )

    def _holders(self, segment: int) -> list[NodeId]:
        placement = self._manifest.placement
        total = self._manifest.core.scheme.total
        return [placement.holder(segment, i) or NodeId(b"") for i in range(total)]

    def _doubtful(self, segment: int) -> Collection[int]:
        """Shards of late nodes, and shards once seen bad: read last."""
        row, holders = self._manifest.placement.rows[segment], self._holders(segment)
        return {
            index
            for index, place in enumerate(row)
            if holders[index] in self._nodes.late or self._faults.get(place.commit) is not None
        }

    def _open(self, band: Band, window: _Window) -> None:
        """Decode a band and write what it gives; runs in the kernel thread."""
        decoder, region = self._decoder, band.region
        assert decoder is not None
        generations = [p.generation for p in self._manifest.placement.rows[region.segment]]
        decoder.gather(band.start, band.end, band.frames, generations, region.wanted)
        first, end = decoder.symbols()
        if region.whole:
            decoder.digest_band()
        window.take(decoder, max(first, region.first), min(end, region.end))

    async def _read_checked(
        self, region: Region, layout: SegmentLayout, window: _Window, failed: Band
    ) -> None:
        """Read the segment's shards whole, each against its commit, and go on after ``failed``.

        Those of the band that did not open come first: one of them is wrong, and gets named.
        """
        length = layout.shard_bytes
        shards = await self._checked_shards(region.segment, length, failed.frames)
        self._decoder = self._new_decoder(region.segment, layout)
        for a, b in bands(region.start_byte, region.end_byte, SYMBOL_BYTES):
            frames = {index: shard[a:b] for index, shard in shards.items()}
            band = Band(region, a, b, frames)
            sealed = window if b > failed.start else None
            try:
                await self._kernel.run(self._reopen, band, sealed)
            except ShardCorrupt as error:
                raise DataLost(
                    f"segment {region.segment}: {error.message}, though its shards match their "
                    "commits: whoever stored it sealed other bytes"
                ) from error

    def _reopen(self, band: Band, window: _Window | None) -> None:
        decoder, region = self._decoder, band.region
        assert decoder is not None
        generations = [p.generation for p in self._manifest.placement.rows[region.segment]]
        required = range(self._erasure.required)
        decoder.gather(band.start, band.end, band.frames, generations, required)
        if window is not None:
            first, end = decoder.symbols()
            window.take(decoder, max(first, region.first), min(end, region.end))

    async def _checked_shards(
        self, segment: int, length: int, suspects: Collection[int]
    ) -> dict[int, bytes]:
        """``required`` shards of a segment that match their commits."""
        row, holders = self._manifest.placement.rows[segment], self._holders(segment)
        doubtful = self._doubtful(segment)
        ranked = [i for i, place in enumerate(row) if place.held]
        ranked.sort(key=lambda i: (i not in suspects, i in doubtful, i))
        good: dict[int, bytes] = {}
        while ranked and len(good) < self._erasure.required:
            batch = [
                ranked.pop(0) for _ in range(min(len(ranked), self._erasure.required - len(good)))
            ]
            results = await asyncio.gather(
                *(
                    read_whole(self._nodes, self._deals, holders[i], row[i].commit, length)
                    for i in batch
                ),
                return_exceptions=True,
            )
            for index, result in zip(batch, results, strict=True):
                if isinstance(result, bytes):
                    good[index] = result
                elif isinstance(result, DsnError):
                    self._note(result, holders[index], segment, index)
                else:
                    raise result
        if len(good) < self._erasure.required:
            raise NotEnoughShards(
                f"segment {segment}: {len(good)} shards found, {self._erasure.required} needed",
                hint="start the missing nodes and try again",
            )
        return good

    def _note(self, error: DsnError, node: NodeId, segment: int, index: int) -> None:
        commit = self._manifest.placement.rows[segment][index].commit
        what = f"shard {index} of segment {segment}"
        if isinstance(error, ShardCorrupt):
            self._faults.note(node, commit, "wrong", what)
        elif isinstance(error, NotFound):
            self._faults.note(node, commit, "lost", what)
        else:
            self._nodes.late.add(node)


class _Report:
    """Counts plaintext bytes as they reach the sink."""

    def __init__(self, progress: ProgressSink, total: int) -> None:
        """Report to ``progress``."""
        self._progress, self._total, self._done = progress, total, 0

    def add(self, size: int) -> None:
        """``size`` more bytes are there."""
        self._done += size
        self._progress(Progress("get", self._done, self._total))


class _Window:
    """The part of a region's plaintext that was asked for, on its way to the sink."""

    def __init__(self, sink: Sink, skip: int, stop: int, report: _Report) -> None:
        """Pass on plaintext bytes ``[skip, stop)``, counted from the region's first symbol."""
        self._sink, self._skip, self._stop, self._at = sink, skip, stop, 0
        self._report = report

    def take(self, decoder: SegmentDecoder, first: int, end: int) -> None:
        """Open symbols ``[first, end)``, the next ones, and pass on what was asked for."""
        if first >= end:
            return
        size = decoder.plain_bytes(first, end)
        left, right = self._at, self._at + size
        if self._skip <= left and right <= self._stop:
            self._sink.commit(decoder.open(first, end, self._sink.room(size)))
            self._report.add(size)
        else:
            plain = memoryview(bytearray(size))
            decoder.open(first, end, plain)
            part = plain[max(0, self._skip - left) : max(0, min(size, self._stop - left))]
            self._sink.room(len(part))[:] = part
            self._sink.commit(len(part))
            self._report.add(len(part))
        self._at = right
