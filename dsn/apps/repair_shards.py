"""Lost shards made again: bands in from many nodes, decoded, and out to those that take over.

While one band is decoded in the kernel thread the next one is on its way in and the one before
on its way out. A segment whose data is not what was sealed is read whole, which names the shards
that are wrong though they match their commits; then it is made again from the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from itertools import groupby

from dsn.apps.client_parts import Parts
from dsn.apps.feeds import SegmentFetch
from dsn.apps.fleet import Group
from dsn.apps.manifests import Manifest
from dsn.apps.repair_look import look_deep
from dsn.apps.repair_store import RepairStore
from dsn.apps.results import Progress, ProgressSink
from dsn.core.erasure import Erasure
from dsn.core.rebuild import SegmentRebuilder, rebuild_scratch_bytes
from dsn.core.segment import SegmentKeys, bands
from dsn.errors import DataLost, ShardCorrupt
from dsn.ids import NodeId
from dsn.kernels import isal
from dsn.machines.download import Download
from dsn.machines.upload import Row


@dataclass(frozen=True, slots=True)
class _Band:
    """A band that arrived: masked bytes by shard index, and the rows to be made of it."""

    rows: Sequence[Row]
    start: int
    end: int
    frames: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class _Work:
    """One segment under way."""

    rows: Sequence[Row]
    rebuilder: SegmentRebuilder
    groups: Sequence[Group]


class ShardRepair:
    """Rebuilds the lost shards of one file."""

    def __init__(
        self, manifest: Manifest, store: RepairStore, parts: Parts, progress: ProgressSink
    ) -> None:
        """Read as ``manifest`` says, and store in ``store`` what its repair asks for."""
        self._manifest, self._store, self._parts = manifest, store, parts
        self._repair, self._progress = store.repair, progress
        scheme = manifest.core.scheme
        self._erasure = Erasure(scheme.required, scheme.total, isal.load())
        self._scratch = memoryview(b"")
        self._done = self._ahead = 0

    async def rebuild(self, copies: Sequence[NodeId]) -> None:
        """Make all lost shards that somebody takes, and others for those that failed meanwhile.

        Args:
            copies: Who is to hold the manifest beside, for one reservation of all.

        Raises:
            NotEnoughShards: Of some segment.
            DataLost: A segment that does not decode, whichever shards it is read from.
            LimitReached: It is more than the account has, or than may be spent.
        """
        while rows := await self._store.reserve_rows(copies):
            self._ahead = sum(row.length for row in rows) // max(1, self._erasure.total)
            await self._pass(rows)
            await self._store.all_receipts()

    async def _pass(self, rows: Sequence[Row]) -> None:
        total, work = self._done + sum(row.length for row in rows), None
        self._ahead = sum({row.segment: row.length for row in rows}.values())
        stream = self._bands(rows)
        pending = asyncio.ensure_future(anext(stream, None))
        try:
            while (band := await pending) is not None:
                pending = asyncio.ensure_future(anext(stream, None))
                if band.start == 0:
                    work = await self._begin(band.rows)
                assert work is not None
                await self._send(work, band)
                self._done += (band.end - band.start) * len(band.rows)
                self._progress(Progress("repair", self._done, total))
                if band.end == work.rows[0].length:
                    await self._finish(work)
        finally:
            pending.cancel()
            await asyncio.gather(pending, return_exceptions=True)
            await stream.aclose()

    async def _bands(self, rows: Sequence[Row]) -> AsyncGenerator[_Band, None]:
        for segment, some in groupby(rows, key=lambda row: row.segment):
            mine = sorted(some, key=lambda row: row.index)
            fetch = self._fetch(segment, mine[0].length)
            try:
                for start, end in bands(0, mine[0].length):
                    yield _Band(mine, start, end, await fetch.band(start, end))
            finally:
                fetch.close()

    def _fetch(self, segment: int, length: int) -> SegmentFetch:
        placement, scheme = self._manifest.placement, self._manifest.core.scheme
        row, good = placement.rows[segment], set(self._repair.good(segment))
        holders = [placement.holder(segment, i) or NodeId(b"") for i in range(scheme.total)]
        late = [i for i in good if holders[i] in self._parts.nodes.late]
        gone = [i for i in range(scheme.total) if i not in good]
        plan = Download(scheme.required, scheme.total, range(scheme.required), late, gone)
        return SegmentFetch(
            self._parts.nodes,
            self._parts.deals,
            segment,
            row,
            holders,
            plan,
            length,
            ahead=self._ahead,
        )

    async def _begin(self, rows: Sequence[Row]) -> _Work:
        await self._store.limit_pending(rows)
        core, keys, segment = self._manifest.core, self._manifest.keys, rows[0].segment
        need = rebuild_scratch_bytes(self._erasure.required, len(rows))
        if len(self._scratch) < need:
            self._scratch = memoryview(bytearray(need))
        rebuilder = SegmentRebuilder(
            SegmentKeys(b"", keys.mask_key, segment, core.segments[segment].salt, False),
            core.layout.segment(segment),
            self._erasure,
            self._scratch,
            {row.index: row.generation for row in rows},
        )
        return _Work(rows, rebuilder, [self._store.group(row.node, row.length) for row in rows])

    async def _send(self, work: _Work, band: _Band) -> None:
        places = self._manifest.placement.rows[work.rows[0].segment]
        generations = [place.generation for place in places]
        frames = await self._parts.kernel.run(
            work.rebuilder.band, band.start, band.end, band.frames, generations
        )
        for group, frame in zip(work.groups, frames, strict=True):
            await group.send(frame)

    async def _finish(self, work: _Work) -> None:
        segment, good = work.rows[0].segment, True
        try:
            work.rebuilder.verify(self._manifest.core.segments[segment].hash)
        except ShardCorrupt:
            good = False
        commits = work.rebuilder.commits()
        for row, group in zip(work.rows, work.groups, strict=True):
            receipt, commit = await group.end(commits[row.index]), commits[row.index]
            self._store.expect(receipt, row, commit, good=good)
            if not good:
                self._repair.spoilt(row)
        if not good:
            await self._find_liars(segment)

    async def _find_liars(self, segment: int) -> None:
        bad = await look_deep(self._manifest, segment, self._parts)
        before = self._repair.good(segment)
        for shard in bad:
            self._repair.lose_shard(*shard)
        if self._repair.good(segment) == before:
            raise DataLost(
                f"segment {segment} does not decode, whichever shards it is read from",
                code="segment_hash",
                hint="whoever stored it sealed other bytes; nothing can be rebuilt",
            )
        self._repair.check()
