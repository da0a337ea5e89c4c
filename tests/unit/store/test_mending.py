"""Rot is found to the group or the block, and mended in place whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dsn.errors import InvalidProof, ShardCorrupt
from dsn.ports import ShardState
from dsn.store.shards import DiskStore
from dsn.units import KIB, MIB
from tests.support.shard_stores import ALICE, DEAL, Shard, disk_store, put, read_all, shard
from tests.unit.store.test_disk import path_of

GROUP = 64 * KIB
LENGTH = 3 * GROUP + 5_000
"""Three whole groups and five leaves, the last of them short."""


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    return tmp_path / "volume"


def file_of(volume: Path, one: Shard) -> Path:
    return volume / "shards" / one.commit.hex()[:2] / one.commit.hex()


def rot(path: Path, *offsets: int) -> None:
    """Flip a bit at each of ``offsets``."""
    raw = bytearray(path.read_bytes())
    for at in offsets:
        raw[at] ^= 1
    path.write_bytes(raw)


def rot_small(volume: Path, one: Shard) -> None:
    """Flip a bit of a small shard in the log."""
    path = volume / "log" / "00000001.log"
    rot(path, path.read_bytes().index(one.data) + len(one.data) // 2)


def leaves(one: Shard, indices: Iterable[int]) -> dict[int, bytes]:
    """Leaves as the owner has them."""
    return {index: one.data[index * KIB : (index + 1) * KIB] for index in indices}


async def held(store: DiskStore, *shards: Shard) -> None:
    for one in shards:
        await put(store, one)
    await store.revise(ALICE, DEAL, [one.commit for one in shards], [], b"r")


@pytest.mark.parametrize("at", [0, GROUP - 1, GROUP, 2 * GROUP + 77, 3 * GROUP, LENGTH - 1])
async def test_the_group_of_a_flipped_bit_is_named_and_one_right_leaf_mends_it(
    volume: Path, at: int
) -> None:
    one = shard(LENGTH)
    async with disk_store(volume) as store:
        await held(store, one)
        rot(file_of(volume, one), at)
        first = at // GROUP * 64
        assert await store.rotten(one.commit) == list(range(first, min(first + 64, 197)))
        await store.mend(one.commit, leaves(one, [at // KIB]))
        assert await store.rotten(one.commit) == []
        assert await read_all(store, one) == one.data
    async with disk_store(volume) as store:
        assert (await read_all(store, one), await store.groups(one.commit)) == (
            one.data,
            one.groups,
        )


async def test_a_group_stays_rotten_until_all_its_wrong_leaves_are_given(volume: Path) -> None:
    one = shard(LENGTH)
    async with disk_store(volume) as store:
        await held(store, one)
        rot(file_of(volume, one), 10, 5 * KIB, GROUP + 9)
        await store.mend(one.commit, leaves(one, [0, 64]))
        assert await store.rotten(one.commit) == list(range(64))
        await store.mend(one.commit, leaves(one, [0, 5]))
        assert await store.rotten(one.commit) == []


async def test_a_wrong_leaf_is_refused_and_nothing_is_written_with_it(volume: Path) -> None:
    one = shard(LENGTH)
    async with disk_store(volume) as store:
        await held(store, one)
        rot(file_of(volume, one), 10, GROUP + 9)
        before = file_of(volume, one).read_bytes()
        wrong = leaves(one, range(128)) | {70: bytes(KIB)}
        with pytest.raises(InvalidProof) as caught:
            await store.mend(one.commit, wrong)
        assert caught.value.detail_code == "bad_leaf"
        assert file_of(volume, one).read_bytes() == before


@pytest.mark.parametrize("length", [100_000, 2 * MIB, 9 * MIB + 1])
async def test_hashes_that_rotted_are_made_anew(volume: Path, length: int) -> None:
    one = shard(length)
    async with disk_store(volume) as store:
        await held(store, one)
        rot(file_of(volume, one), length + 3, length + 40)
        assert await store.groups(one.commit) != one.groups
        assert await store.rotten(one.commit) == []
        assert await store.groups(one.commit) == one.groups
        assert await read_all(store, one) == one.data


@pytest.mark.parametrize("harm", ["both", "short", "gone"])
async def test_what_nothing_tells_right_from_wrong_is_lost_and_can_be_stored_again(
    volume: Path, harm: str
) -> None:
    one, other = shard(LENGTH), shard(LENGTH, 1)
    async with disk_store(volume) as store:
        await held(store, one, other)
        path = file_of(volume, one)
        if harm == "both":
            rot(path, 5, LENGTH + 40)
        elif harm == "short":
            os.truncate(path, LENGTH - 1)
        else:
            path.unlink()
        with pytest.raises(ShardCorrupt) as caught:
            await store.rotten(one.commit)
        assert caught.value.detail_code == "shard_lost"
        assert await store.lost() == [one.commit]
        with pytest.raises(ShardCorrupt):
            await store.mend(one.commit, leaves(one, [0]))
        assert (await put(store, one)).state is ShardState.HELD
        assert (await store.rotten(one.commit), await store.lost()) == ([], [])


@pytest.mark.parametrize("length", [1, 1_500, GROUP])
async def test_a_small_shard_is_whole_or_given_back_whole(volume: Path, length: int) -> None:
    one = shard(length)
    every = list(range(-(-length // KIB)))
    async with disk_store(volume) as store:
        await held(store, one)
        rot_small(volume, one)
        assert await store.rotten(one.commit) == every
        assert await store.lost() == [one.commit]
        await store.mend(one.commit, leaves(one, every[:-1]))
        assert await store.rotten(one.commit) == every
        with pytest.raises(InvalidProof):
            await store.mend(one.commit, leaves(one, every) | {0: bytes(min(KIB, length))})
        await store.mend(one.commit, leaves(one, every))
        assert (await store.rotten(one.commit), await store.lost()) == ([], [])
    async with disk_store(volume) as store:
        assert (await store.stat(one.commit)).state is ShardState.HELD
        assert await read_all(store, one) == one.data
        assert await store.holdings(ALICE, DEAL) == [(one.commit, len(every))]


class BadBlocks:
    """A disk that cannot read some blocks of 4 KiB until they are written."""

    def __init__(self, path: Path, *offsets: int) -> None:
        self.path, self.bad = path, {at - at % 4_096 for at in offsets}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Stand between the store and the disk."""
        preadv, pwrite = os.preadv, os.pwrite

        def read(handle: int, buffers: Any, offset: int) -> int:
            span = range(offset, offset + len(buffers[0]))
            if path_of(handle) == self.path and any(at in span for at in self.bad):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return preadv(handle, buffers, offset)

        def write(handle: int, data: Any, offset: int) -> int:
            if path_of(handle) == self.path:
                self.bad -= set(range(offset, offset + len(data), 4_096))
            return pwrite(handle, data, offset)

        patch.setattr(os, "preadv", read)
        patch.setattr(os, "pwrite", write)


async def test_only_the_leaves_of_blocks_that_cannot_be_read_are_named(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shard(LENGTH)
    async with disk_store(volume) as store:
        await put(store, one)
        BadBlocks(file_of(volume, one), GROUP + 4_096).install(monkeypatch)
        assert await store.rotten(one.commit) == [68, 69, 70, 71]
        await store.mend(one.commit, leaves(one, [68, 69, 70, 71]))
        assert await store.rotten(one.commit) == []
        assert await read_all(store, one) == one.data


async def test_a_last_block_that_takes_leaf_and_hashes_with_it_is_mended(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shard(LENGTH)
    async with disk_store(volume) as store:
        await put(store, one)
        bad = BadBlocks(file_of(volume, one), LENGTH - 1)
        bad.install(monkeypatch)
        assert await store.rotten(one.commit) == [196]
        await store.mend(one.commit, {196: bytes(LENGTH - 196 * KIB)})
        assert await store.rotten(one.commit) == [196]
        await store.mend(one.commit, leaves(one, [196]))
        assert await store.rotten(one.commit) == []
        assert (await read_all(store, one), await store.groups(one.commit)) == (
            one.data,
            one.groups,
        )


async def test_rot_beside_an_unreadable_block_is_named_in_the_second_round(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shard(LENGTH)
    async with disk_store(volume) as store:
        await put(store, one)
        rot(file_of(volume, one), 17)
        BadBlocks(file_of(volume, one), 8_192).install(monkeypatch)
        assert await store.rotten(one.commit) == [8, 9, 10, 11]
        await store.mend(one.commit, leaves(one, [8, 9, 10, 11]))
        await store.mend(one.commit, leaves(one, range(64)))
        assert await store.rotten(one.commit) == []


async def test_an_unreadable_block_of_hashes_is_written_anew(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shard(16 * MIB)
    async with disk_store(volume) as store:
        await put(store, one)
        BadBlocks(file_of(volume, one), 16 * MIB).install(monkeypatch)
        assert await store.rotten(one.commit) == []
        assert await store.groups(one.commit) == one.groups


class Crash(BaseException):
    """The machine stops here."""


def crash_at(point: int, patch: pytest.MonkeyPatch, torn: Random) -> Callable[[], int]:
    """Stop at the ``point``-th call that changes the disk, a write half done; counts the calls."""
    seen = 0
    real = {name: getattr(os, name) for name in ("pwrite", "fdatasync", "ftruncate")}

    def stop(name: str, *arguments: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen < point:
            return real[name](*arguments)
        if seen == point and name == "pwrite":
            handle, data, offset = arguments
            whole = bytes(data)
            with open(path_of(handle), "r+b") as file:  # beside the cache, in any sectors
                size = os.fstat(file.fileno()).st_size
                for at in range(0, len(whole), 512):
                    if torn.random() < 0.5 and offset + at < size:
                        file.seek(offset + at)
                        file.write(whole[at : at + 512])
        raise Crash

    for name in real:
        patch.setattr(os, name, lambda *arguments, name=name: stop(name, *arguments))
    return lambda: seen


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("point", [1, 2, 3, 4, 5, 6])
async def test_a_crash_at_any_write_leaves_rot_at_most_where_it_was(
    volume: Path, point: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, random = shard(LENGTH), Random(f"mend/{point}/{seed}")
    async with disk_store(volume) as store:
        await held(store, one)
    wrong = sorted(random.sample(range(197), 3))
    rot(file_of(volume, one), *(index * KIB + random.randrange(5) for index in wrong))
    before = {index // 64 for index in wrong}
    with monkeypatch.context() as patch:
        try:
            async with disk_store(volume) as store:
                crash_at(point, patch, random)
                await store.mend(one.commit, leaves(one, wrong))
                patch.undo()
        except Crash:
            pass
    async with disk_store(volume) as store:
        after = {index // 64 for index in await store.rotten(one.commit)}
        assert after <= before, f"rot in {after}, was in {before} (seed {seed}, point {point})"
        await store.mend(one.commit, leaves(one, wrong))
        assert await store.rotten(one.commit) == []
        assert await read_all(store, one) == one.data


async def test_mending_reading_and_storing_again_at_once_do_no_harm(volume: Path) -> None:
    one = shard(LENGTH)
    async with disk_store(volume) as store:
        await held(store, one)
        for _ in range(5):
            rot(file_of(volume, one), 3, 2 * GROUP)
            await asyncio.gather(
                store.mend(one.commit, leaves(one, [0])),
                store.mend(one.commit, leaves(one, range(128, 192))),
                put(store, one),
                store.rotten(one.commit),
                store.mend(one.commit, leaves(one, [128])),
            )
            assert await store.rotten(one.commit) == []
            assert await read_all(store, one) == one.data
