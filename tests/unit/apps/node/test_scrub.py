"""The scrub reads everything once in its time, finds all rot, and goes on where it stood."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from dsn.apps.node.scrub import DAY_S, LONGEST_PAUSE_S, Scrub
from dsn.errors import NotFound, ShardCorrupt
from dsn.store.shards import DiskStore
from tests.support.shard_stores import ALICE, DEAL, Shard, disk_store, put, shard

DAYS = 30.0
SHARDS = [shard(length, seed) for seed, length in enumerate([1, 900, 64_000, 70_000, 300_000] * 3)]


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at_s = 1_000_000.0

    def now_s(self) -> float:
        return self.at_s

    def monotonic_s(self) -> float:
        return self.at_s


@dataclass
class World:
    """A store with shards, and its scrub."""

    root: Path
    store: DiskStore
    clock: Clock
    scrub: Scrub

    async def round(self) -> tuple[int, float]:
        """Turns and seconds until a round has ended."""
        turns, begun_s, ended = 0, self.clock.at_s, self.scrub.status()["last_scrub_s"]
        while self.scrub.status()["last_scrub_s"] == ended:
            self.clock.at_s += await self.scrub.turn()
            turns += 1
            assert turns < 1_000
        return turns, self.clock.at_s - begun_s

    def rot(self, one: Shard, at: int) -> None:
        """Flip a bit of a large shard."""
        raw = bytearray(self.file(one).read_bytes())
        raw[at] ^= 1
        self.file(one).write_bytes(raw)

    def file(self, one: Shard) -> Path:
        return self.root / "volume" / "shards" / one.commit.hex()[:2] / one.commit.hex()


@asynccontextmanager
async def scrubbed(root: Path, clock: Clock) -> AsyncIterator[World]:
    async with disk_store(root / "volume") as store:
        for each in SHARDS:
            await put(store, each)
        await store.revise(ALICE, DEAL, [each.commit for each in SHARDS], [], b"r")
        yield World(root, store, clock, Scrub(store, root / "scrub", DAYS, clock))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with scrubbed(tmp_path, Clock()) as world:
        yield world


async def test_a_round_reads_every_shard_in_its_time(world: World) -> None:
    turns, took_s = await world.round()
    assert turns == len(SHARDS) + 1
    paused_s = sum(
        min(LONGEST_PAUSE_S, DAYS * DAY_S * len(each.data) / world.store.space().used)
        for each in SHARDS
    )
    assert took_s == pytest.approx(paused_s)
    assert world.scrub.status()["failed_reads"] == 0
    assert world.scrub.bad == {}


async def test_the_pace_follows_from_the_bytes(world: World) -> None:
    world.scrub = Scrub(world.store, world.root / "other", 0.01, world.clock)
    _, took_s = await world.round()
    assert took_s == pytest.approx(0.01 * DAY_S)


@pytest.mark.parametrize("seed", range(3))
async def test_all_rot_is_found_and_what_was_mended_is_forgotten(world: World, seed: int) -> None:
    random = Random(f"scrub/{seed}")
    large = [each for each in SHARDS if each.is_large]
    rotten = random.sample(large, 3)
    for each in rotten:
        world.rot(each, random.randrange(len(each.data)))
    gone = next(each for each in large if each not in rotten)
    world.file(gone).unlink()
    await world.round()
    named = {each.commit for each in [*rotten, gone]}
    assert set(world.scrub.bad) == named, f"seed {seed}"
    assert world.scrub.status()["failed_reads"] == 4
    for each in [*rotten, gone]:
        await put(world.store, each)
    await world.round()
    assert world.scrub.bad == {}


async def test_a_suspect_is_looked_at_before_all_others(world: World) -> None:
    one = max((each for each in SHARDS if each.is_large), key=lambda each: each.commit)
    world.rot(one, 3)
    world.scrub.suspect(one.commit)
    world.scrub.suspect(one.commit)
    assert await world.scrub.turn() == 0
    assert set(world.scrub.bad) == {one.commit}
    before = world.scrub.status()["scrubbed"]
    await world.scrub.turn()
    assert world.scrub.status()["scrubbed"] > before, "it goes on in order after that"


async def test_a_suspect_that_is_gone_is_nobodys_fault(world: World) -> None:
    world.scrub.suspect(shard(5, 99).commit)
    assert await world.scrub.turn() == 0
    assert world.scrub.bad == {}
    with pytest.raises(NotFound):
        await world.scrub.look(shard(5, 99).commit)


async def test_a_bad_shard_that_was_let_go_is_forgotten(world: World) -> None:
    one = next(each for each in SHARDS if each.is_large)
    world.file(one).unlink()
    with pytest.raises(ShardCorrupt):
        await world.scrub.look(one.commit)
    assert set(world.scrub.bad) == {one.commit}
    await world.store.revise(ALICE, DEAL, [], [one.commit], b"2")
    with pytest.raises(NotFound):
        await world.scrub.look(one.commit)
    assert world.scrub.bad == {}


async def test_a_restart_goes_on_where_it_stood(world: World) -> None:
    first, *_ = sorted((each for each in SHARDS if each.is_large), key=lambda each: each.commit)
    world.rot(first, 3)
    order = sorted(SHARDS, key=lambda each: each.commit)
    for _ in order[:8]:
        await world.scrub.turn()
    world.scrub.suspect(first.commit)
    await world.scrub.turn()
    world.scrub.save()
    before = world.scrub.status(), dict(world.scrub.bad)
    world.scrub = Scrub(world.store, world.root / "scrub", DAYS, world.clock)
    assert (world.scrub.status(), dict(world.scrub.bad)) == before
    turns, _ = await world.round()
    assert turns == len(order) - 8 + 1


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"x": 1}', b"\xff"])
async def test_a_damaged_file_begins_a_new_round(world: World, raw: bytes) -> None:
    (world.root / "scrub").write_bytes(raw)
    world.scrub = Scrub(world.store, world.root / "scrub", DAYS, world.clock)
    assert (await world.round())[0] == len(SHARDS) + 1


async def test_an_empty_store_is_not_read_in_circles(tmp_path: Path) -> None:
    async with disk_store(tmp_path / "volume") as store:
        scrub = Scrub(store, tmp_path / "scrub", DAYS, Clock())
        assert await scrub.turn() == LONGEST_PAUSE_S
