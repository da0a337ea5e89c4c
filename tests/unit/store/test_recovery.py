"""What a start makes of a volume that crashed, rotted or lost parts."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dsn.errors import ConfigError, DataLost, NotFound, ShardCorrupt
from dsn.ports import Damage, ShardState
from dsn.store.log import Log
from dsn.store.shards import DiskStore
from tests.support.shard_stores import (
    ALICE,
    DEAL,
    LATER,
    Shard,
    disk_store,
    entropy,
    put,
    read_all,
    shard,
)

CLEAN = Damage(0, 0, 0)
SMALL = [shard(200 + seed, seed) for seed in range(6)]
LARGE = [shard(70_000 + seed, seed) for seed in range(2)]


def log_of(volume: Path) -> Log:
    return Log(volume / "log", entropy(32))


def file_of(volume: Path, one: Shard) -> Path:
    return volume / "shards" / one.commit.hex()[:2] / one.commit.hex()


async def fill(volume: Path) -> None:
    """Six small shards and two large ones; all but the last of each kind held."""
    async with disk_store(volume) as store:
        for each in SMALL + LARGE:
            await put(store, each, until=LATER)
        held = [each.commit for each in SMALL[:5] + LARGE[:1]]
        await store.revise(ALICE, DEAL, held, [], b"revision")
        await store.put_records([(b"k" * 32, b"value")])


async def check_all(store: DiskStore) -> None:
    assert (store.damage(), store.count) == (CLEAN, 8)
    for each in SMALL + LARGE:
        assert await read_all(store, each) == each.data
    assert len(await store.holdings(ALICE, DEAL)) == 6
    assert await store.revision(ALICE, DEAL) == b"revision"
    assert await store.get_record(b"k" * 32) == b"value"
    assert store.pending_bytes(ALICE) == len(SMALL[5].data) + len(LARGE[1].data)


def lose_index(volume: Path) -> None:
    for path in volume.glob("index.db*"):
        path.unlink()


def garble_index(volume: Path) -> None:
    (volume / "index.db").write_bytes(b"not a database" * 1_000)


def empty_index(volume: Path) -> None:
    (volume / "index.db").write_bytes(b"")


def zero_a_page(volume: Path) -> None:
    raw = bytearray((volume / "index.db").read_bytes())
    raw[4_096:8_192] = bytes(4_096)
    (volume / "index.db").write_bytes(raw)


def lose_marker(volume: Path) -> None:
    (volume / "volume").unlink()


def garble_marker(volume: Path) -> None:
    (volume / "volume").write_bytes(b"\xff\nzz\n")


@pytest.mark.parametrize(
    "harm", [lose_index, garble_index, empty_index, zero_a_page, lose_marker, garble_marker]
)
async def test_what_is_derived_or_doubled_may_be_lost(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    await fill(tmp_path)
    harm(tmp_path)
    async with disk_store(tmp_path, create=False) as store:
        await check_all(store)
    async with disk_store(tmp_path, create=False) as store:
        await check_all(store)


async def test_the_index_of_another_volume_is_not_believed(tmp_path: Path) -> None:
    await fill(tmp_path / "one")
    other = tmp_path / "other"
    other.mkdir()
    (other / "volume").write_text("dsn volume 1\n" + bytes(32).hex() + "\n")
    async with disk_store(other) as store:
        await put(store, shard(10))
    lose_index(tmp_path / "one")
    shutil.copy(other / "index.db", tmp_path / "one" / "index.db")
    async with disk_store(tmp_path / "one") as store:
        await check_all(store)


@pytest.mark.parametrize("index", ["kept", "lost"])
async def test_a_log_cut_anywhere_gives_what_stands_before_the_cut(
    tmp_path: Path, index: str
) -> None:
    await fill(tmp_path / "whole")
    log = log_of(tmp_path / "whole")
    raw = (tmp_path / "whole" / "log" / "00000001.log").read_bytes()
    ends = [found.place.end for found in log.scan(1)]
    cuts = sorted({cut for end in [64, *ends] for cut in (end - 1, end, end + 1)} | {0, 30, 500})
    for cut in cuts:
        volume = tmp_path / f"cut{cut}"
        shutil.copytree(tmp_path / "whole", volume)
        (volume / "log" / "00000001.log").write_bytes(raw[:cut])
        if index == "lost":
            lose_index(volume)
        whole = sum(end <= cut for end in ends)
        async with disk_store(volume) as store:
            assert store.damage() == CLEAN
            for number, each in enumerate(SMALL + LARGE):
                stored = await store.stat(each.commit)
                assert (stored is not None) == (number < whole)
                if stored:
                    assert await read_all(store, each) == each.data
            assert (await store.revision(ALICE, DEAL) is not None) == (whole > 8)
            assert len(await store.holdings(ALICE, DEAL)) == (6 if whole > 8 else 0)
            assert (await store.get_record(b"k" * 32) is not None) == (whole > 9)
            await put(store, shard(999, 9))
            await put(store, LARGE[1])
        async with disk_store(volume) as store:
            assert store.damage() == CLEAN
            assert await read_all(store, shard(999, 9)) == shard(999, 9).data
            assert await read_all(store, LARGE[1]) == LARGE[1].data
        shutil.rmtree(volume)


async def test_every_byte_of_the_last_change_may_be_missing(tmp_path: Path) -> None:
    async with disk_store(tmp_path) as store:
        await put(store, SMALL[0])
        await put(store, SMALL[1])
    path = tmp_path / "log" / "00000001.log"
    raw, keep = path.read_bytes(), [found.place for found in log_of(tmp_path).scan(1)][1].offset
    for cut in range(keep, len(raw), 7):
        path.write_bytes(raw[:cut])
        async with disk_store(tmp_path) as store:
            assert (store.damage(), store.count) == (CLEAN, 1)
            assert await read_all(store, SMALL[0]) == SMALL[0].data
        assert path.stat().st_size == keep


async def test_a_rotten_change_is_skipped_and_counted(tmp_path: Path) -> None:
    await fill(tmp_path)
    path = tmp_path / "log" / "00000001.log"
    places = [found.place for found in log_of(tmp_path).scan(1)]
    raw = bytearray(path.read_bytes())
    raw[places[2].offset + 50] ^= 1  # in the head
    path.write_bytes(raw)
    lose_index(tmp_path)
    for _ in range(2):
        async with disk_store(tmp_path) as store:
            assert store.damage().lost == 0
            assert await store.stat(SMALL[2].commit) is None
            assert store.count == 7
            assert await read_all(store, SMALL[3]) == SMALL[3].data


async def test_a_rotten_small_shard_is_known_to_be_lost(tmp_path: Path) -> None:
    await fill(tmp_path)
    path = tmp_path / "log" / "00000001.log"
    places = [found.place for found in log_of(tmp_path).scan(1)]
    raw = bytearray(path.read_bytes())
    raw[places[2].end - 1] ^= 1
    path.write_bytes(raw)
    lose_index(tmp_path)
    async with disk_store(tmp_path) as store:
        assert store.damage() == Damage(0, 1, 0)
        assert (await store.stat(SMALL[2].commit)).state is ShardState.LOST
        with pytest.raises(ShardCorrupt) as caught:
            await store.read(SMALL[2].commit, 0, 1)
        assert caught.value.detail_code == "shard_lost"
        assert (await put(store, SMALL[2])).state is ShardState.HELD
        assert await read_all(store, SMALL[2]) == SMALL[2].data


async def test_rot_is_noticed_when_a_small_shard_is_read(tmp_path: Path) -> None:
    await fill(tmp_path)
    path = tmp_path / "log" / "00000001.log"
    async with disk_store(tmp_path) as store:
        raw = path.read_bytes()
        path.write_bytes(raw.replace(SMALL[1].data, bytes(len(SMALL[1].data))))
        assert (await store.stat(SMALL[1].commit)).state is ShardState.HELD
        for _ in range(2):
            with pytest.raises(ShardCorrupt):
                await store.read(SMALL[1].commit, 0, 1)
        assert (await store.stat(SMALL[1].commit)).state is ShardState.LOST
        assert (store.count, store.damage().lost) == (7, 1)
        with pytest.raises(NotFound):
            await store.revise(ALICE, DEAL, [SMALL[1].commit], [], b"2")
        await store.revise(ALICE, DEAL, [], [SMALL[1].commit], b"2")
        assert store.damage().lost == 0


@pytest.mark.parametrize("harm", ["rotten", "gone"])
async def test_a_lost_record_is_absent_and_a_lost_revision_an_error(
    tmp_path: Path, harm: str
) -> None:
    """A node that took a lost revision for none would let its client start over."""
    path = tmp_path / "log" / "00000001.log"
    async with disk_store(tmp_path, segment_bytes=1_000) as store:
        await store.put_records([(b"k" * 32, b"value" * 50)])
        await store.revise(ALICE, DEAL, [], [], b"revision" * 50)
        await put(store, shard(5_000))
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes().replace(b"value" * 50, b"?" * 250).replace(b"vis", b"?"))
    async with disk_store(tmp_path) as store:
        assert await store.get_record(b"k" * 32) is None
        with pytest.raises(DataLost) as caught:
            await store.revision(ALICE, DEAL)
        assert caught.value.detail_code == "record_lost"
        await store.put_records([(b"k" * 32, b"new")])
        assert await store.get_record(b"k" * 32) == b"new"


async def test_a_large_shard_without_its_file_is_lost_until_it_comes_back(tmp_path: Path) -> None:
    await fill(tmp_path)
    path = file_of(tmp_path, LARGE[0])
    path.rename(tmp_path / "aside")
    async with disk_store(tmp_path) as store:
        assert store.damage() == Damage(0, 1, 0)
        assert (await store.stat(LARGE[0].commit)).state is ShardState.LOST
        with pytest.raises(ShardCorrupt):
            await store.groups(LARGE[0].commit)
    (tmp_path / "aside").rename(path)
    async with disk_store(tmp_path) as store:
        await check_all(store)
        path.unlink()
        with pytest.raises(ShardCorrupt):
            await store.read(LARGE[0].commit, 0, 1)
        assert (await store.stat(LARGE[0].commit)).state is ShardState.LOST
        assert (await put(store, LARGE[0])).state is ShardState.HELD
        assert await read_all(store, LARGE[0]) == LARGE[0].data


async def test_a_short_file_is_corrupt_and_storing_again_heals_it(tmp_path: Path) -> None:
    await fill(tmp_path)
    path = file_of(tmp_path, LARGE[0])
    async with disk_store(tmp_path) as store:
        os.truncate(path, 100)
        with pytest.raises(ShardCorrupt):
            await store.read(LARGE[0].commit, 0, 1_000)
        await put(store, LARGE[0])
        assert await read_all(store, LARGE[0]) == LARGE[0].data


async def test_a_flipped_byte_of_a_large_shard_is_served_for_the_commit_to_catch(
    tmp_path: Path,
) -> None:
    await fill(tmp_path)
    path = file_of(tmp_path, LARGE[0])
    raw = bytearray(path.read_bytes())
    raw[5_000] ^= 1
    path.write_bytes(raw)
    async with disk_store(tmp_path) as store:
        assert await read_all(store, LARGE[0]) == bytes(raw[: len(LARGE[0].data)])
        assert await store.groups(LARGE[0].commit) == LARGE[0].groups
        await put(store, LARGE[0])
        assert await read_all(store, LARGE[0]) == LARGE[0].data


async def test_orphans_are_swept(tmp_path: Path) -> None:
    await fill(tmp_path)
    orphan, begun = file_of(tmp_path, shard(80_000, 5)), tmp_path / "tmp" / "3"
    orphan.write_bytes(b"x")
    begun.write_bytes(b"x")
    async with disk_store(tmp_path) as store:
        await check_all(store)
    assert not orphan.exists()
    assert not begun.exists()


async def test_orphans_stay_while_the_log_has_holes(tmp_path: Path) -> None:
    await fill(tmp_path)
    path = tmp_path / "log" / "00000001.log"
    places = [found.place for found in log_of(tmp_path).scan(1)]
    raw = bytearray(path.read_bytes())
    raw[places[6].offset] ^= 1  # where the first large shard is named
    path.write_bytes(raw)
    lose_index(tmp_path)
    for _ in range(2):
        async with disk_store(tmp_path) as store:
            assert store.damage() == Damage(1, 0, 1)
            assert await store.stat(LARGE[0].commit) is None
            await put(store, shard(10))
    assert file_of(tmp_path, LARGE[0]).exists()


async def test_a_hole_in_a_sealed_segment_is_counted(tmp_path: Path) -> None:
    shards = [shard(1_000, seed) for seed in range(40)]
    async with disk_store(tmp_path, segment_bytes=8_192) as store:
        for each in shards:
            await put(store, each)
    path = tmp_path / "log" / "00000002.log"
    os.truncate(path, path.stat().st_size - 10)
    lose_index(tmp_path)
    async with disk_store(tmp_path, segment_bytes=8_192) as store:
        assert (store.damage().records, store.count) == (1, 39)


async def test_a_missing_disk_does_not_look_like_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        async with disk_store(tmp_path / "volume", create=False):
            pass
    assert caught.value.detail_code == "no_volume"
    assert not (tmp_path / "volume").exists()


async def test_a_volume_whose_key_is_gone_says_so(tmp_path: Path) -> None:
    await fill(tmp_path)
    lose_marker(tmp_path)
    path = tmp_path / "log" / "00000001.log"
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with pytest.raises(ConfigError) as caught:
        async with disk_store(tmp_path):
            pass
    assert caught.value.detail_code == "bad_volume"
    assert path.exists()


async def test_a_directory_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError) as caught:
        async with disk_store(tmp_path / "file" / "volume"):
            pass
    assert caught.value.detail_code == "bad_volume"


async def test_a_volume_has_one_process(tmp_path: Path) -> None:
    async with disk_store(tmp_path) as store:
        await put(store, SMALL[0])
        with pytest.raises(ConfigError) as caught:
            async with disk_store(tmp_path):
                pass
        assert caught.value.detail_code == "home_in_use"
        assert str(os.getpid()) in caught.value.message
    async with disk_store(tmp_path) as store:
        assert store.count == 1


async def test_an_index_that_breaks_while_serving_is_rebuilt_by_the_next_start(
    tmp_path: Path,
) -> None:
    shards = [shard(300, seed) for seed in range(1_000)]
    async with disk_store(tmp_path) as store:
        await asyncio.gather(*(put(store, each) for each in shards))
    raw = (tmp_path / "index.db").read_bytes()
    (tmp_path / "index.db").write_bytes(raw[:8_192] + b"\x77" * (len(raw) - 8_192))
    failed = None
    try:
        async with disk_store(tmp_path) as store:
            for each in shards:
                await store.stat(each.commit)
    except Exception as error:  # whichever of them met the damage
        failed = error
    async with disk_store(tmp_path) as store:
        assert store.count == 1_000, failed
        for each in shards[::50]:
            assert await read_all(store, each) == each.data
