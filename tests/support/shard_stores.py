"""Shards to store, and every implementation of the store's port to store them in."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from dsn.core.merkle import ShardHasher
from dsn.ids import Commit, DealId, NodeId
from dsn.ports import ShardStore, StoredShard
from dsn.store.shards import DiskStore, open_store
from dsn.units import FRAME_BYTES, GIB, SMALL_SHARD_BYTES

T = TypeVar("T")
ALICE, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)
DEAL, OTHER_DEAL = DealId(bytes(32)), DealId(b"d" * 32)
SOON, LATER = 1_000, 2_000
PLENTY = GIB


@dataclass(frozen=True)
class Shard:
    """Bytes and what they hash to."""

    data: bytes = field(repr=False)
    commit: Commit
    root: bytes = field(repr=False)
    groups: bytes = field(repr=False)

    @property
    def frames(self) -> list[bytes]:
        return [self.data[at : at + FRAME_BYTES] for at in range(0, len(self.data), FRAME_BYTES)]

    @property
    def is_large(self) -> bool:
        return len(self.data) > SMALL_SHARD_BYTES


def shard(length: int, seed: int = 0) -> Shard:
    """A shard of ``length`` bytes, the same for the same seed."""
    data = Random(f"{length}/{seed}").randbytes(length)
    hasher = ShardHasher.over(data)
    return Shard(data, hasher.commit(), hasher.root(), hasher.groups())


async def put(
    store: ShardStore,
    shard: Shard,
    client: NodeId = ALICE,
    *,
    until: int = SOON,
    limit: int = PLENTY,
    deal: DealId = DEAL,
) -> StoredShard:
    """Store ``shard`` the way its length asks for."""
    if not shard.is_large:
        return await store.put_small(
            client, deal, shard.data, shard.commit, keep_until_s=until, pending_limit=limit
        )
    writer = await store.begin(
        client, deal, len(shard.data), keep_until_s=until, pending_limit=limit
    )
    for frame in shard.frames:
        await writer.write(frame)
    return await writer.finish(shard.commit)


async def read_all(store: ShardStore, shard: Shard) -> bytes:
    """All of a shard, a frame at a time."""
    starts = range(0, len(shard.data), FRAME_BYTES)
    ends = [min(start + FRAME_BYTES, len(shard.data)) for start in starts]
    parts = [await store.read(shard.commit, *at) for at in zip(starts, ends, strict=True)]
    return b"".join(parts)


def entropy(size: int) -> bytes:
    """Always the same bytes, so that logs can be compared."""
    return hashlib.shake_256(b"entropy").digest(size)


@asynccontextmanager
async def disk_store(
    root: Path,
    *,
    capacity_bytes: int = GIB,
    create: bool = True,
    segment_bytes: int = 1 << 26,
) -> AsyncIterator[DiskStore]:
    """A ``DiskStore`` that leaves the disk's reserve out of the test."""
    async with open_store(
        root,
        capacity_bytes=capacity_bytes,
        entropy=entropy,
        create=create,
        keep_free_bytes=0,
        segment_bytes=segment_bytes,
    ) as store:
        yield store


OpenStore = Callable[..., AbstractAsyncContextManager[ShardStore]]
STORES: dict[str, OpenStore] = {"disk": disk_store}
"""What the conformance tests run on: ``open(root, capacity_bytes=...)``."""


class Served:
    """A store that lives in a task of its own, for tests that cannot hold a context open."""

    def __init__(self, opened: AbstractAsyncContextManager[Any]) -> None:
        self._opened = opened
        self._stop = asyncio.Event()

    async def start(self) -> Any:
        """The store."""
        ready: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._serve(ready))
        await asyncio.wait([ready, self._task], return_when=asyncio.FIRST_COMPLETED)
        return ready.result() if ready.done() else await self._task

    async def stop(self) -> None:
        """Close it."""
        self._stop.set()
        await self._task

    async def _serve(self, ready: asyncio.Future[Any]) -> None:
        async with self._opened as store:
            ready.set_result(store)
            await self._stop.wait()
