"""Compaction gives space back and changes nothing else."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from dsn.errors import ShardCorrupt
from dsn.ids import Commit
from dsn.store.log import Log
from dsn.store.shards import DiskStore
from tests.support.shard_stores import (
    ALICE,
    BOB,
    DEAL,
    LATER,
    OTHER_DEAL,
    SOON,
    Shard,
    disk_store,
    entropy,
    put,
    read_all,
    shard,
)

SEGMENT = 16_384


def segments(volume: Path) -> list[str]:
    return sorted(path.name for path in (volume / "log").iterdir())


async def fill(store: DiskStore, count: int, seed: int = 0) -> list[Shard]:
    shards = [shard(1_000, seed + number) for number in range(count)]
    for each in shards:
        await put(store, each)
    return shards


async def check(volume: Path, kept: list[Shard], gone: list[Shard]) -> None:
    """What the store says, with its index and with one rebuilt from the log."""
    for rebuilt in (False, True):
        if rebuilt:
            for path in volume.glob("index.db*"):
                path.unlink()
        async with disk_store(volume, segment_bytes=SEGMENT) as store:
            assert (store.damage().records, store.damage().lost) == (0, 0)
            assert store.count == len(kept)
            for each in kept:
                assert await read_all(store, each) == each.data
            assert await store.stats([each.commit for each in gone]) == {}
            assert store.space().used == sum(len(each.data) for each in kept)


def commits(shards: list[Shard]) -> list[Commit]:
    return [each.commit for each in shards]


async def test_mostly_dead_segments_are_rewritten(tmp_path: Path) -> None:
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        shards = await fill(store, 100)
        kept, gone = shards[::5], [each for at, each in enumerate(shards) if at % 5]
        await store.revise(ALICE, DEAL, commits(kept), commits(gone), b"r")
        before, trash = segments(tmp_path), store.space().trash
        assert trash > 80_000
        freed = await store.compact()
        assert 60_000 < freed < trash
        assert not set(before[:-2]) & set(segments(tmp_path))
        assert store.space().trash < SEGMENT
        assert await store.compact() == 0
        for each in kept:
            assert await read_all(store, each) == each.data
        assert len(await store.holdings(ALICE, DEAL)) == 20
        assert await store.revision(ALICE, DEAL) == b"r"
    await check(tmp_path, kept, gone)


async def test_mostly_live_segments_stay(tmp_path: Path) -> None:
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        shards = await fill(store, 100)
        await store.revise(ALICE, DEAL, [], commits(shards[::5]), b"r")
        before = segments(tmp_path)
        assert await store.compact() == 0
        assert segments(tmp_path) == before


async def test_what_a_lost_index_must_know_outlives_its_segment(tmp_path: Path) -> None:
    """Claims and ends of shards whose own segments stay are said again."""
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        old = await fill(store, 15)  # stays: mostly live
        await store.revise(ALICE, DEAL, commits(old[:10]), commits(old[10:12]), b"1")
        await put(store, old[0], BOB, until=LATER)
        filler = await fill(store, 40, seed=100)
        await store.revise(ALICE, OTHER_DEAL, [], commits(filler), b"1")
        await store.revise(ALICE, DEAL, [], [], b"2")
        assert segments(tmp_path)[1] == "00000002.log"
        assert await store.compact() > 0
        assert segments(tmp_path)[0] == "00000001.log"
        assert "00000002.log" not in segments(tmp_path)
        assert await store.sweep(SOON) == 3
    kept = old[:10]
    await check(tmp_path, kept, old[10:] + filler)
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        assert len(await store.holdings(ALICE, DEAL)) == 10
        assert (await store.stat(old[0].commit, BOB)).keep_until_s == LATER
        assert await store.revision(ALICE, DEAL) == b"2"


async def test_records_and_revisions_move(tmp_path: Path) -> None:
    keys = [number.to_bytes(32, "big") for number in range(30)]
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        await store.revise(ALICE, DEAL, [], [], b"kept")
        for turn in range(4):
            await store.put_records([(key, key * 20 + bytes([turn])) for key in keys])
        assert await store.compact() > 0
        assert "00000001.log" not in segments(tmp_path)
        assert await store.revision(ALICE, DEAL) == b"kept"
        for key in keys:
            assert await store.get_record(key) == key * 20 + b"\3"
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        assert await store.revision(ALICE, DEAL) == b"kept"
        assert await store.get_record(keys[7]) == keys[7] * 20 + b"\3"


async def test_churn_does_not_grow_the_log(tmp_path: Path) -> None:
    """Tombstones and old claims go in the end, or a node fills up with its own past."""
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        sizes = []
        for turn in range(12):
            shards = await fill(store, 60, seed=1_000 * turn)
            await store.revise(ALICE, DEAL, commits(shards[:30]), [], b"a")
            await store.revise(ALICE, DEAL, [], commits(shards[:30]), b"b")
            await store.sweep(SOON)
            await store.compact()
            sizes.append(sum(path.stat().st_size for path in (tmp_path / "log").iterdir()))
        assert max(sizes) < 4 * SEGMENT
        assert store.count == 0


async def test_a_crash_before_the_old_segment_went_doubles_nothing(tmp_path: Path) -> None:
    volume, copy = tmp_path / "volume", tmp_path / "copy"
    async with disk_store(volume, segment_bytes=SEGMENT) as store:
        shards = await fill(store, 60)
        await store.revise(ALICE, DEAL, commits(shards[::5]), [], b"r")
        await store.sweep(SOON)
        shutil.copytree(volume / "log", copy)
        await store.compact()
    for path in copy.iterdir():  # as if the crash had come before any was deleted
        if not (volume / "log" / path.name).exists():
            shutil.copy(path, volume / "log" / path.name)
    gone = [each for at, each in enumerate(shards) if at % 5]
    await check(volume, shards[::5], gone)
    async with disk_store(volume, segment_bytes=SEGMENT) as store:
        await store.compact()
        assert len(await store.holdings(ALICE, DEAL)) == 12
    await check(volume, shards[::5], gone)


async def test_a_loss_of_power_brings_nothing_back(tmp_path: Path) -> None:
    """The index loses what SQLite had not synced, but never what only the old segment said."""
    volume, after = tmp_path / "volume", tmp_path / "after"
    async with disk_store(volume, segment_bytes=SEGMENT) as store:
        shards = await fill(store, 10)
    async with disk_store(volume, segment_bytes=SEGMENT) as store:
        await store.revise(ALICE, DEAL, [], commits(shards), b"r")
        filler = await fill(store, 40, seed=100)
        await store.revise(ALICE, OTHER_DEAL, [], commits(filler), b"r")
        assert await store.compact() > 0
        assert "00000001.log" not in segments(volume)
        shutil.copytree(volume, after, ignore=shutil.ignore_patterns("index.db-*"))
    await check(after, [], shards + filler)


async def test_a_damaged_segment_is_left_alone(tmp_path: Path) -> None:
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        shards = await fill(store, 40)
        await store.revise(ALICE, DEAL, commits(shards[:2]), commits(shards[2:]), b"r")
        log, path = Log(tmp_path / "log", entropy(32)), tmp_path / "log" / "00000001.log"
        raw = bytearray(path.read_bytes())
        raw[[found.place for found in log.scan(1)][4].offset] ^= 1
        path.write_bytes(raw)
        await store.compact()
        await store.compact()
        grown = sum(each.stat().st_size for each in (tmp_path / "log").iterdir())
        await store.compact()
        assert grown == sum(each.stat().st_size for each in (tmp_path / "log").iterdir())
    assert path.read_bytes() == raw


async def test_lost_shards_stay_known_as_lost(tmp_path: Path) -> None:
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        shards = await fill(store, 40)
        large = shard(100_000)
        await put(store, large)
        held = commits([shards[0], large])
        await store.revise(ALICE, DEAL, held, commits(shards[1:]), b"r")
        log = tmp_path / "log" / "00000001.log"
        log.write_bytes(log.read_bytes().replace(shards[0].data, bytes(1_000)))
        (tmp_path / "shards" / large.commit.hex()[:2] / large.commit.hex()).unlink()
        for commit in held:
            with pytest.raises(ShardCorrupt):
                await store.read(commit, 0, 1)
        assert store.damage().lost == 2
        assert await store.compact() > 0
        assert store.damage().lost == 2
    assert not log.exists()
    for path in tmp_path.glob("index.db*"):
        path.unlink()
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        assert (store.damage().lost, store.count) == (2, 0)
        assert len(await store.holdings(ALICE, DEAL)) == 2


async def test_readers_follow_what_compaction_moves(tmp_path: Path) -> None:
    async with disk_store(tmp_path, segment_bytes=SEGMENT) as store:
        shards = await fill(store, 100)
        kept = shards[::4]
        await store.revise(ALICE, DEAL, commits(kept), [], b"r")
        await store.sweep(SOON)
        await store.put_records([(b"k" * 32, b"v")])

        async def read(each: Shard) -> None:
            for _ in range(20):
                assert await read_all(store, each) == each.data

        async with asyncio.TaskGroup() as group:
            for each in kept:
                group.create_task(read(each))
            group.create_task(store.compact())
        assert len(segments(tmp_path)) < 5
