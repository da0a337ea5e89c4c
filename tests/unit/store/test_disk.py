"""What the store asks of the disk and in which order, and what it does when the disk refuses."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsn.errors import DataLost, NoSpace, TooMany
from dsn.ids import NodeId
from dsn.store.rules import MAX_CLAIMS
from dsn.store.shards import DiskStore
from dsn.units import MIB
from tests.support.shard_stores import (
    ALICE,
    DEAL,
    PLENTY,
    SOON,
    disk_store,
    put,
    read_all,
    shard,
)


def path_of(handle: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{handle}"))


class Disk:
    """Watches the system calls that make bytes durable, and can make writing fail."""

    def __init__(self, volume: Path, patch: pytest.MonkeyPatch) -> None:
        self.volume, self.seen = volume, list[str]()
        self.error = 0
        self.only = ""
        for name in ("fdatasync", "fsync", "pwrite"):
            patch.setattr(os, name, self._watched(name, getattr(os, name)))
        replace = Path.replace
        patch.setattr(Path, "replace", lambda old, new: self._moved(replace, old, new))

    def fail(self, error: int, only: str = "") -> None:
        """Let writing to paths that contain ``only`` fail from now on; 0 is no failure."""
        self.error, self.only = error, only

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(handle: int, *arguments: Any) -> Any:
            where = self._name(path_of(handle))
            if name == "pwrite" and self.error and self.only in where:
                with contextlib.suppress(OSError):  # direct writes come aligned or not at all
                    call(handle, bytes(arguments[0])[:512], *arguments[1:])
                raise OSError(self.error, os.strerror(self.error))
            self.seen.append(f"{name} {where}")
            return call(handle, *arguments)

        return watched

    def _moved(self, replace: Callable[..., Any], old: Path, new: Path) -> Path:
        if self.error and self.only in self._name(new):
            raise OSError(self.error, os.strerror(self.error))
        self.seen.append(f"rename {self._name(old)} {self._name(new)}")
        return replace(old, new)

    def _name(self, path: Path) -> str:
        inside = path.is_relative_to(self.volume)
        return str(path.relative_to(self.volume)) if inside else str(path)


def files(volume: Path) -> set[str]:
    """Names of shards' files, whole or being received."""
    places = [*(volume / "shards").rglob("*"), *(volume / "tmp").iterdir()]
    return {path.name for path in places if path.is_file()}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path / "volume", monkeypatch)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "volume"


async def test_a_large_shard_is_durable_before_its_name_and_its_name_before_the_log(
    volume: Path, disk: Disk
) -> None:
    one = shard(MIB + 10)
    fan = f"shards/{one.commit.hex()[:2]}"
    async with disk_store(volume) as store:
        await put(store, shard(10))
        disk.seen.clear()
        await put(store, one)
        seen = [each for each in disk.seen if not each.startswith("pwrite tmp")]
    assert seen[:5] == [
        "fdatasync tmp/0",
        f"rename tmp/0 {fan}/{one.commit.hex()}",
        f"fsync {fan}",
        "pwrite log/00000001.log",
        "fdatasync log/00000001.log",
    ]


async def test_nothing_is_acknowledged_before_it_is_durable(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, durable = threading.Event(), threading.Event()
    fdatasync = os.fdatasync

    def slow(handle: int) -> None:
        entered.set()
        durable.wait()
        fdatasync(handle)

    one = shard(100)
    async with disk_store(volume) as store:
        monkeypatch.setattr(os, "fdatasync", slow)
        work = [
            asyncio.create_task(put(store, one)),
            asyncio.create_task(store.put_records([(bytes(32), b"v")])),
        ]
        await asyncio.to_thread(entered.wait)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not any(task.done() for task in work)
        assert await store.stat(one.commit) is None
        durable.set()
        await asyncio.gather(*work)
        assert await store.stat(one.commit) is not None


async def test_a_file_stays_open_while_a_thread_still_writes_to_it(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed earlier, its number could by then be another file's."""
    entered, go_on = threading.Event(), threading.Event()
    pwrite = os.pwrite

    def slow(handle: int, *arguments: Any) -> int:
        entered.set()
        go_on.wait()
        assert path_of(handle) == volume / "tmp" / "0"
        return pwrite(handle, *arguments)

    async with disk_store(volume) as store:
        writer = await store.begin(ALICE, DEAL, 2 * MIB, keep_until_s=SOON, pending_limit=PLENTY)
        monkeypatch.setattr(os, "pwrite", slow)
        await writer.write(bytes(MIB))
        writing = asyncio.create_task(writer.write(bytes(MIB)))
        await asyncio.to_thread(entered.wait)
        writing.cancel()
        await asyncio.wait([writing])
        assert (store.pending_bytes(ALICE), store.space().reserved) == (0, 0)
        assert files(volume) == {"0"}
        go_on.set()
    assert files(volume) == set()


async def test_a_large_shard_is_pending_once_at_every_moment(volume: Path) -> None:
    """Not as being received and as stored at the same time, nor as neither."""
    whole = shard(MIB + 1)
    data, commit = whole.data, whole.commit
    async with disk_store(volume) as store:
        writer = await store.begin(
            ALICE, DEAL, len(data), keep_until_s=SOON, pending_limit=len(data)
        )
        await writer.write(data[:MIB])
        await writer.write(data[MIB:])
        finishing = asyncio.create_task(writer.finish(commit))
        while not finishing.done():
            assert store.pending_bytes(ALICE) == len(data)
            await asyncio.sleep(0)
        assert (await finishing).length == store.pending_bytes(ALICE) == len(data)
        assert store.space().reserved == 0


async def test_many_small_changes_share_a_sync(volume: Path, disk: Disk) -> None:
    async with disk_store(volume) as store:
        await put(store, shard(10))
        disk.seen.clear()
        await asyncio.gather(*(put(store, shard(100, seed)) for seed in range(500)))
        assert disk.seen.count("fdatasync log/00000001.log") <= 3


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
async def test_a_disk_that_fills_in_the_middle_refuses_and_goes_on(
    volume: Path, disk: Disk, error: int
) -> None:
    small, large, kept = shard(5_000), shard(2 * MIB), shard(300_000)
    async with disk_store(volume) as store:
        await put(store, kept)
        before = store.space()
        disk.fail(error, "tmp/")
        with pytest.raises(NoSpace):
            await put(store, large)
        disk.fail(error, "log/")
        outcomes = await asyncio.gather(
            put(store, small),
            put(store, large),
            put(store, kept),
            store.put_records([(bytes(32), b"v")]),
            store.revise(ALICE, DEAL, [kept.commit], [], b"r"),
            return_exceptions=True,
        )
        assert {type(outcome) for outcome in outcomes} <= {NoSpace, type(outcomes[2])}
        assert [type(outcomes[at]) for at in (0, 1, 3, 4)] == [NoSpace] * 4
        assert await store.stat(small.commit) is None
        assert await store.stat(large.commit) is None
        assert await store.revision(ALICE, DEAL) is None
        assert store.pending_bytes(ALICE) == len(kept.data)
        assert (store.space().used, store.space().reserved) == (before.used, 0)
        disk.fail(error, "shards/")
        with pytest.raises(NoSpace):
            await put(store, large)
        disk.fail(0)
        assert files(volume) == {kept.commit.hex()}
        await put(store, small)
        await put(store, large)
        await store.revise(ALICE, DEAL, [kept.commit], [], b"r")
        assert files(volume) == {large.commit.hex(), kept.commit.hex()}
    async with disk_store(volume) as store:
        assert (store.damage().records, store.count) == (0, 3)
        for each in (small, large, kept):
            assert await read_all(store, each) == each.data


async def test_a_shard_that_is_refused_at_the_end_leaves_no_file(volume: Path) -> None:
    """Too many clients claim it; small ones meet the same limit."""
    large, small = shard(65_537), shard(10)
    async with disk_store(volume) as store:
        for number in range(MAX_CLAIMS):
            client = NodeId(number.to_bytes(32, "big"))
            await asyncio.gather(put(store, large, client), put(store, small, client))
        for one in (large, small):
            with pytest.raises(TooMany):
                await put(store, one)
        assert await read_all(store, large) == large.data
        assert store.space().reserved == 0
    assert files(volume) == {large.commit.hex()}


async def test_a_failed_batch_across_segments_is_taken_back(volume: Path, disk: Disk) -> None:
    shards = [shard(3_000, seed) for seed in range(40)]
    async with disk_store(volume, segment_bytes=20_000) as store:
        await put(store, shards[0])
        disk.fail(errno.ENOSPC, "log/00000003.log")
        outcomes = await asyncio.gather(
            *(put(store, each) for each in shards), return_exceptions=True
        )
        assert sum(isinstance(outcome, NoSpace) for outcome in outcomes) > 30
        disk.fail(0)
        for each in shards:
            await put(store, each)
    async with disk_store(volume, segment_bytes=20_000) as store:
        assert (store.damage().records, store.count) == (0, 40)


async def test_a_disk_that_fails_ends_the_store_and_loses_nothing(volume: Path, disk: Disk) -> None:
    kept, lost = shard(1_000), shard(1_001)

    async def fail(store: DiskStore) -> None:
        await put(store, kept)
        disk.fail(errno.EIO, "log/")
        with pytest.raises(DataLost):
            await put(store, lost)
        await asyncio.Event().wait()

    with pytest.raises(DataLost) as caught:
        async with disk_store(volume) as store:
            await fail(store)
    assert caught.value.detail_code == "disk_failed"
    disk.fail(0)
    async with disk_store(volume) as store:
        assert await read_all(store, kept) == kept.data


async def test_the_disks_own_limit_counts_too(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statvfs = os.statvfs

    def nearly_full(path: Any) -> os.statvfs_result:
        real = statvfs(path)
        return os.statvfs_result((*real[:4], 300_000 // real.f_frsize, *real[5:]))

    monkeypatch.setattr(os, "statvfs", nearly_full)
    async with disk_store(volume) as store:
        space = store.space()
        assert space.free <= 300_000
        assert space.withheld > 0
        with pytest.raises(NoSpace):
            await store.begin(ALICE, DEAL, 300_000, keep_until_s=SOON, pending_limit=PLENTY)
        await put(store, shard(100_000))
