"""The shard store of one volume: see ``ShardStore`` for what it promises.

One log is the truth; the index beside it is derived. All changes go through one committer,
all blocking calls through at most eight disk threads.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from dsn.core.merkle import ShardHasher
from dsn.errors import DataLost, MalformedMessage
from dsn.ids import Commit, DealId, NodeId
from dsn.ports import Damage, Entropy, ShardWriter, Space, StoredShard
from dsn.store import rules
from dsn.store.changes import RecordPut, Revised
from dsn.store.committer import Committer, OnDisk
from dsn.store.compaction import compact_segment, worth_compacting
from dsn.store.database import discard_database
from dsn.store.direct import DirectWriter
from dsn.store.index import Index
from dsn.store.large import LargeWriter, mismatch
from dsn.store.log import SEGMENT_BYTES, Log
from dsn.store.mending import Mender
from dsn.store.reader import Reader
from dsn.store.recovery import recover
from dsn.store.state import Draft, kept_bytes
from dsn.store.volume import Volume, open_volume
from dsn.units import (
    GIB,
    GROUP_LEAVES,
    LEAF_BYTES,
    SMALL_SHARD_BYTES,
)

T = TypeVar("T")
_THREADS = 8
"""Disk operations at once; more make a disk slower, not faster."""
_EXPIRE_AT_ONCE = 4_096
_GROUP_BYTES = GROUP_LEAVES * LEAF_BYTES


@asynccontextmanager
async def open_store(
    root: Path,
    *,
    capacity_bytes: int,
    entropy: Entropy,
    create: bool = False,
    keep_free_bytes: int | None = None,
    segment_bytes: int = SEGMENT_BYTES,
) -> AsyncIterator[DiskStore]:
    """Serve the volume in ``root`` until the block ends.

    Args:
        root: The volume's directory.
        capacity_bytes: Most bytes the volume may take, overhead included.
        entropy: For the key of a new volume.
        create: Whether an empty or missing directory becomes a volume.
        keep_free_bytes: What the disk keeps for others; 5 % and at most 1 GiB by default.
        segment_bytes: Size at which a log segment is full.

    Raises:
        ConfigError: ``home_in_use``, ``no_volume`` or ``bad_volume``.
        DataLost: ``disk_failed`` or ``index_damaged``, also while serving: then the block is
            cancelled. A restart finds everything that was acknowledged.
    """
    volume = open_volume(root, entropy, create=create)
    disk = ThreadPoolExecutor(_THREADS, "dsn-disk")
    try:
        log = Log(volume.log, volume.key, segment_bytes=segment_bytes)
        index, orphans = await _recovered(volume, log, _on_disk(disk))
        if keep_free_bytes is None:
            keep_free_bytes = min(GIB, _disk_bytes(root)[0] // 20)
        store = DiskStore(volume, log, index, disk, orphans, capacity_bytes, keep_free_bytes)
        try:
            async with store.serving():
                yield store
        finally:
            await index.close()
            if index.broken:
                discard_database(volume.index)
    finally:
        disk.shutdown()
        volume.lock.release()


async def _recovered(volume: Volume, log: Log, on_disk: OnDisk) -> tuple[Index, int]:
    try:
        return await recover(volume, log, on_disk)
    except (OSError, sqlite3.Error) as error:
        raise DataLost(
            f"the volume {volume.root} cannot be read: {error}",
            hint="check that its disk works and is not full, then restart",
            code="disk_failed",
        ) from error


class DiskStore:
    """A ``ShardStore`` on one volume; made by ``open_store``."""

    def __init__(
        self,
        volume: Volume,
        log: Log,
        index: Index,
        disk: Executor,
        orphans: int,
        capacity_bytes: int,
        keep_free_bytes: int,
    ) -> None:
        """Put the parts together; nothing is served before ``serving``."""
        self._volume, self._log, self._index, self._disk = volume, log, index, disk
        self._orphans, self._capacity, self._keep_free = orphans, capacity_bytes, keep_free_bytes
        self._on_disk = _on_disk(disk)
        self._committer = Committer(
            log, index, self._on_disk, lambda: self.space().free, volume.file
        )
        self._reader = Reader(volume, log, index, self._committer, self._on_disk)
        self._mender = Mender(volume, index, self._reader, self._committer)
        self._receiving: Counter[NodeId] = Counter()
        self._reserved = 0
        self._names = itertools.count()
        self._compacting = asyncio.Lock()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run the tasks behind the store; what was proposed before the end is finished."""
        try:
            async with asyncio.TaskGroup() as tasks:
                committing = tasks.create_task(self._committer.run())
                tasks.create_task(self._index.run())
                try:
                    yield
                finally:
                    self._committer.close()
                    await asyncio.wait([committing])
                    self._index.stop()
        except BaseExceptionGroup as group:
            error = _only(group)
            raise error from error.__cause__

    @property
    def count(self) -> int:
        """See ``ShardStore``."""
        return self._index.totals.shards

    def space(self) -> Space:
        """See ``ShardStore``."""
        totals = self._index.totals
        used = totals.small + totals.large
        in_log = totals.log - totals.dead - totals.small
        overhead = in_log + totals.kept + self._index.size_bytes()
        left = self._capacity - used - self._reserved - totals.dead - overhead
        free = max(0, min(left, _disk_bytes(self._volume.root)[1] - self._keep_free))
        return Space(self._capacity, used, self._reserved, totals.dead, overhead, free, left - free)

    def damage(self) -> Damage:
        """See ``ShardStore``."""
        totals = self._index.totals
        return Damage(totals.damaged, totals.lost, self._orphans)

    def pending_bytes(self, client: NodeId) -> int:
        """See ``ShardStore``."""
        return self._index.pending[client] + self._receiving[client]

    async def begin(
        self, client: NodeId, deal: DealId, length: int, *, keep_until_s: int, pending_limit: int
    ) -> ShardWriter:
        """See ``ShardStore``."""
        if length <= SMALL_SHARD_BYTES:
            raise MalformedMessage(
                f"a shard of {length} bytes; up to {SMALL_SHARD_BYTES} travel in one message",
                code="bad_length",
            )
        rules.check_pending(self.pending_bytes(client) + length, pending_limit)
        size = length + kept_bytes(length)
        rules.check_room(self.space().free, size)
        self._reserve(client, length, size)
        path = self._volume.temporary / str(next(self._names))
        opening = self._disk.submit(DirectWriter, path, size, self._volume.direct)
        try:
            file = await asyncio.wrap_future(opening)
        except BaseException:
            self._reserve(client, -length, -size)
            opening.add_done_callback(_discard)
            raise
        return LargeWriter(
            client,
            deal,
            length,
            keep_until_s,
            file=file,
            disk=self._disk,
            settle=self._settle,
            release=lambda: self._reserve(client, -length, -size),
        )

    async def put_small(
        self,
        client: NodeId,
        deal: DealId,
        data: bytes,
        commit: Commit,
        *,
        keep_until_s: int,
        pending_limit: int,
    ) -> StoredShard:
        """See ``ShardStore``."""
        if not 0 < len(data) <= SMALL_SHARD_BYTES:
            raise MalformedMessage(
                f"a shard of {len(data)} bytes; 1 to {SMALL_SHARD_BYTES} travel in one message",
                code="bad_length",
            )
        hasher = ShardHasher.over(data)
        own = hasher.commit()
        if own != commit:
            raise mismatch(own, commit)
        arrival = rules.Arrival(own, hasher.root(), len(data), client, deal, keep_until_s, data)

        def admit(draft: Draft) -> None:
            pending = self.pending_bytes(client) + draft.pending[client]
            rules.check_pending(pending + len(data), pending_limit)
            rules.check_room(draft.room, len(data))

        store = rules.store(arrival, admit)
        return await self._committer.propose(store, commits=(own,), size=len(data))

    async def stat(self, commit: Commit, client: NodeId | None = None) -> StoredShard | None:
        """See ``ShardStore``."""
        row = (await self._index.rows((commit,)))[commit]
        return row.stored(client) if row else None

    async def stats(self, commits: Iterable[Commit]) -> dict[Commit, StoredShard]:
        """See ``ShardStore``."""
        rows = await self._index.rows(list(commits))
        stored = {commit: row.stored(None) for commit, row in rows.items() if row}
        return {commit: shard for commit, shard in stored.items() if shard}

    async def read(self, commit: Commit, start: int, end: int) -> bytes:
        """See ``ShardStore``."""
        return await self._reader.part(commit, start, end)

    async def groups(self, commit: Commit) -> bytes:
        """See ``ShardStore``."""
        return await self._reader.groups(commit)

    async def sample(self, commit: Commit, numbers: Sequence[int]) -> tuple[bytes, list[bytes]]:
        """See ``ShardStore``."""
        return await self._reader.sample(commit, numbers)

    async def rotten(self, commit: Commit) -> list[int]:
        """See ``ShardStore``."""
        return await self._mender.rotten(commit)

    async def mend(self, commit: Commit, leaves: Mapping[int, bytes]) -> None:
        """See ``ShardStore``."""
        await self._mender.mend(commit, leaves)

    async def revise(
        self,
        client: NodeId,
        deal: DealId,
        add: Sequence[Commit],
        drop: Sequence[Commit],
        revision: bytes,
    ) -> None:
        """See ``ShardStore``."""
        change = Revised(client, deal, tuple(add), tuple(drop), revision)
        await self._committer.propose(
            rules.revise(change), commits=change.add + change.drop, keys=(change.key,)
        )

    async def revision(self, client: NodeId, deal: DealId) -> bytes | None:
        """See ``ShardStore``."""
        change = await self._reader.record(client + deal)
        assert not isinstance(change, RecordPut)
        return change.revision if change else None

    async def holdings(
        self, client: NodeId, deal: DealId, after: bytes = b"", limit: int = 16_384
    ) -> list[tuple[Commit, int]]:
        """See ``ShardStore``."""
        return await self._index.held(client, deal, after, limit)

    async def put_records(self, records: Sequence[tuple[bytes, bytes]]) -> None:
        """See ``ShardStore``."""
        size = sum(len(value) for _, value in records)
        keys = [key for key, _ in records]
        await self._committer.propose(rules.put_records(records), keys=keys, size=size)

    async def get_record(self, key: bytes) -> bytes | None:
        """See ``ShardStore``."""
        try:
            change = await self._reader.record(key)
        except DataLost:
            return None
        assert not isinstance(change, Revised)
        return change.value if change else None

    async def record_keys(self, after: bytes = b"", limit: int = 1_024) -> list[bytes]:
        """See ``ShardStore``."""
        return await self._index.record_keys(after, limit)

    async def commits(self, after: bytes = b"", limit: int = 16_384) -> list[Commit]:
        """See ``ShardStore``."""
        return await self._index.commits(after, limit)

    async def lost(self, after: bytes = b"", limit: int = 16_384) -> list[Commit]:
        """See ``ShardStore``."""
        return await self._index.lost(after, limit)

    async def sweep(self, now_s: float) -> int:
        """See ``ShardStore``."""
        gone, expired = 0, await self._index.expired(now_s)
        for at in range(0, len(expired), _EXPIRE_AT_ONCE):
            some = expired[at : at + _EXPIRE_AT_ONCE]
            gone += await self._committer.propose(
                rules.expire(some, now_s), commits=[commit for _, commit in some]
            )
        return gone

    async def compact(self) -> int:
        """See ``ShardStore``."""
        before = self._index.totals.log
        async with self._compacting:
            for segment in worth_compacting(self._index.segments, self._log.active):
                await compact_segment(
                    segment, self._log, self._index, self._committer, self._on_disk
                )
        return max(0, before - self._index.totals.log)

    def _reserve(self, client: NodeId, length: int, size: int) -> None:
        self._reserved += size
        self._receiving[client] += length
        if not self._receiving[client]:
            del self._receiving[client]

    async def _settle(
        self, arrival: rules.Arrival, path: Path, effective: Callable[[], None]
    ) -> StoredShard:
        return await self._committer.propose(
            rules.store(arrival, lambda _: None),
            commits=(arrival.commit,),
            move=(path, self._volume.file(arrival.commit)),
            effective=effective,
        )


def _on_disk(disk: Executor) -> OnDisk:
    def run(call: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(disk, call, *arguments)

    return run


def _discard(opening: Future[DirectWriter]) -> None:
    """Delete a file that was opened for a caller who is gone."""
    if not opening.cancelled() and not opening.exception():
        opening.result().discard()


def _disk_bytes(path: Path) -> tuple[int, int]:
    """Size of the disk under ``path``, and what is free for us."""
    disk = os.statvfs(path)
    return disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one error of ``group``, as if there had been no group."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group
