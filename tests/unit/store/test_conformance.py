"""What every ``ShardStore`` promises, whatever it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsn.errors import (
    DsnError,
    InvalidProof,
    MalformedMessage,
    NoSpace,
    NotFound,
    TooMany,
    UsageError,
)
from dsn.ids import Commit
from dsn.ports import ShardState, ShardStore
from dsn.units import FRAME_BYTES, KIB, MIB, SMALL_SHARD_BYTES
from tests.support.shard_stores import (
    ALICE,
    BOB,
    DEAL,
    LATER,
    OTHER_DEAL,
    PLENTY,
    SOON,
    STORES,
    OpenStore,
    put,
    read_all,
    shard,
)

LENGTHS = [
    1,
    1_023,
    1_024,
    1_025,
    64 * KIB,
    64 * KIB + 1,
    MIB - 1,
    MIB,
    MIB + 1,
    2 * MIB + 4_095,
    2 * MIB + 4_097,
]


@pytest.fixture(params=STORES.values(), ids=STORES.keys())
def open_store(request: pytest.FixtureRequest) -> OpenStore:
    return request.param


@pytest.fixture
async def store(open_store: OpenStore, tmp_path: Path) -> AsyncIterator[ShardStore]:
    async with open_store(tmp_path / "volume") as store:
        yield store


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_shard_of_any_length_comes_back(store: ShardStore, length: int) -> None:
    one = shard(length)
    stored = await put(store, one)
    assert (stored.commit, stored.root, stored.length) == (one.commit, one.root, length)
    assert (stored.client, stored.state, stored.keep_until_s) == (ALICE, ShardState.PENDING, SOON)
    assert stored.leaf_count == -(-length // 1_024)
    assert await store.stat(one.commit) == stored
    assert await read_all(store, one) == one.data
    assert await store.groups(one.commit) == one.groups


@pytest.mark.parametrize("length", [64 * KIB, MIB + 5_000])
async def test_any_range_can_be_read(store: ShardStore, length: int) -> None:
    one = shard(length)
    await put(store, one)
    for start, end in [(0, 1), (length - 1, length), (4_095, 4_097), (5_000, 60_000), (1, 4_096)]:
        assert await store.read(one.commit, start, end) == one.data[start:end]
    edge = min(length, FRAME_BYTES + 1)
    assert (
        await store.read(one.commit, edge - min(edge, FRAME_BYTES), edge)
        == (one.data[edge - min(edge, FRAME_BYTES) : edge])
    )


@pytest.mark.parametrize("length", [100, 2 * MIB])
@pytest.mark.parametrize("ends", [(5, 5), (6, 5), (-1, 5), (0, 2 * MIB + 1), (99, 101 + 2 * MIB)])
async def test_a_bad_range_is_refused(
    store: ShardStore, length: int, ends: tuple[int, int]
) -> None:
    one = shard(length)
    await put(store, one)
    with pytest.raises(UsageError) as caught:
        await store.read(one.commit, *ends)
    assert caught.value.detail_code == "bad_range"


async def test_more_than_a_frame_a_read_is_refused(store: ShardStore) -> None:
    one = shard(2 * MIB)
    await put(store, one)
    with pytest.raises(UsageError):
        await store.read(one.commit, 0, FRAME_BYTES + 1)


@pytest.mark.parametrize("call", ["read", "groups"])
async def test_what_is_not_here_is_unknown(store: ShardStore, call: str) -> None:
    commit = shard(10).commit
    assert await store.stat(commit) is None
    with pytest.raises(NotFound) as caught:
        await (store.read(commit, 0, 1) if call == "read" else store.groups(commit))
    assert caught.value.detail_code == "unknown_shard"


@pytest.mark.parametrize("length", [1_000, 100_000])
async def test_a_wrong_commit_stores_nothing(store: ShardStore, length: int) -> None:
    one, other = shard(length), shard(length, 1)
    lie = type(one)(one.data, other.commit, one.root, one.groups)
    before = store.space()
    with pytest.raises(InvalidProof) as caught:
        await put(store, lie)
    assert caught.value.detail_code == "commit_mismatch"
    assert (store.count, store.pending_bytes(ALICE), store.space()) == (0, 0, before)
    assert await store.stat(other.commit) is None


async def test_a_small_shard_may_not_be_empty_or_long(store: ShardStore) -> None:
    for data in (b"", bytes(SMALL_SHARD_BYTES + 1)):
        with pytest.raises(MalformedMessage):
            await store.put_small(
                ALICE, DEAL, data, Commit(bytes(32)), keep_until_s=SOON, pending_limit=PLENTY
            )


async def test_a_large_shard_may_not_be_small(store: ShardStore) -> None:
    for length in (-1, 0, SMALL_SHARD_BYTES):
        with pytest.raises(MalformedMessage):
            await store.begin(ALICE, DEAL, length, keep_until_s=SOON, pending_limit=PLENTY)


@pytest.mark.parametrize(
    "frames",
    [
        [0],
        [FRAME_BYTES - 1],
        [FRAME_BYTES + 1],
        [FRAME_BYTES, 9],
        [FRAME_BYTES, 11],
        [FRAME_BYTES, 10, 1],
    ],
)
async def test_frames_of_other_sizes_end_the_shard(store: ShardStore, frames: list[int]) -> None:
    writer = await store.begin(
        ALICE, DEAL, FRAME_BYTES + 10, keep_until_s=SOON, pending_limit=PLENTY
    )
    for size in frames[:-1]:
        await writer.write(bytes(size))
    with pytest.raises(MalformedMessage):
        await writer.write(bytes(frames[-1]))
    assert (store.pending_bytes(ALICE), store.space().reserved) == (0, 0)
    with pytest.raises(MalformedMessage):
        await writer.finish(Commit(bytes(32)))


async def test_a_shard_that_ends_early_is_not_stored(store: ShardStore) -> None:
    one = shard(MIB + 10)
    writer = await store.begin(ALICE, DEAL, MIB + 10, keep_until_s=SOON, pending_limit=PLENTY)
    await writer.write(one.frames[0])
    with pytest.raises(MalformedMessage):
        await writer.finish(one.commit)
    assert (store.count, store.pending_bytes(ALICE), store.space().reserved) == (0, 0, 0)


async def test_an_aborted_shard_leaves_nothing(store: ShardStore) -> None:
    one, before = shard(MIB + 10), store.space()
    writer = await store.begin(ALICE, DEAL, MIB + 10, keep_until_s=SOON, pending_limit=PLENTY)
    await writer.write(one.frames[0])
    assert store.pending_bytes(ALICE) == MIB + 10
    assert store.space().reserved >= MIB + 10
    writer.abort()
    writer.abort()
    assert (store.pending_bytes(ALICE), store.space().reserved) == (0, 0)
    assert store.space().used == before.used
    assert await store.stat(one.commit) is None


@pytest.mark.parametrize("length", [1_000, 100_000])
async def test_storing_again_returns_the_same(store: ShardStore, length: int) -> None:
    one = shard(length)
    first = await put(store, one)
    assert await put(store, one, until=LATER) == first
    assert (store.count, store.pending_bytes(ALICE)) == (1, length)
    await store.revise(ALICE, DEAL, [one.commit], [], b"r")
    held = await put(store, one, until=LATER)
    assert (held.state, held.keep_until_s) == (ShardState.HELD, 0)
    assert store.pending_bytes(ALICE) == 0


@pytest.mark.parametrize("length", [1_000, 100_000])
async def test_what_is_held_under_another_deal_alone_is_claimed_anew(
    store: ShardStore, length: int
) -> None:
    one = shard(length)
    await put(store, one)
    await store.revise(ALICE, DEAL, [one.commit], [], b"r")
    anew = await put(store, one, until=SOON, deal=OTHER_DEAL)
    assert (anew.state, anew.keep_until_s) == (ShardState.PENDING, SOON)
    assert await put(store, one, until=LATER, deal=OTHER_DEAL) == anew, "the first claim counts"
    assert (store.count, store.pending_bytes(ALICE)) == (1, length)
    await store.revise(ALICE, DEAL, [], [one.commit], b"s")
    assert await store.stat(one.commit) == anew
    assert await read_all(store, one) == one.data
    await store.revise(ALICE, OTHER_DEAL, [], [one.commit], b"t")
    assert (store.count, store.pending_bytes(ALICE)) == (0, 0)


async def test_the_same_shard_many_times_at_once_is_stored_once(store: ShardStore) -> None:
    one, two = shard(1_000), shard(100_000)
    stored = await asyncio.gather(*(put(store, each) for each in [one, two] * 8))
    assert set(stored) == {await store.stat(one.commit), await store.stat(two.commit)}
    assert (store.count, store.pending_bytes(ALICE)) == (2, 101_000)


@pytest.mark.parametrize("length", [1_000, 100_000])
async def test_two_clients_claim_one_shard(store: ShardStore, length: int) -> None:
    one = shard(length)
    await put(store, one)
    theirs = await put(store, one, BOB, until=LATER)
    assert (theirs.client, theirs.keep_until_s) == (BOB, LATER)
    assert (store.count, store.space().used) == (1, length)
    await store.revise(ALICE, DEAL, [one.commit], [], b"1")
    assert (await store.stat(one.commit)).client == ALICE  # the firmest
    await store.revise(ALICE, DEAL, [], [one.commit], b"2")
    assert await read_all(store, one) == one.data
    assert await store.stat(one.commit, ALICE) is None
    assert await store.stat(one.commit, BOB) == theirs
    assert await store.sweep(LATER) == 1
    assert (store.count, store.space().used) == (0, 0)


async def test_stats_leaves_out_what_is_not_here(store: ShardStore) -> None:
    here, gone = shard(10), shard(11)
    stored = await put(store, here)
    assert await store.stats([here.commit, gone.commit, here.commit]) == {here.commit: stored}


@pytest.mark.parametrize("length", [1_000, 100_000])
async def test_pending_bytes_are_bounded(store: ShardStore, length: int) -> None:
    one, two = shard(length), shard(length, 1)
    await put(store, one, limit=2 * length - 1)
    with pytest.raises(TooMany) as caught:
        await put(store, two, limit=2 * length - 1)
    assert caught.value.detail_code == "pending_limit"
    await put(store, two, BOB, limit=length)
    await store.revise(ALICE, DEAL, [one.commit], [], b"r")
    await put(store, two, limit=2 * length - 1)


async def test_pending_bytes_are_bounded_for_those_who_hurry(store: ShardStore) -> None:
    puts = (put(store, shard(1_000, seed), limit=3_000) for seed in range(8))
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert sum(isinstance(each, TooMany) for each in outcomes) == 5
    begun = (
        store.begin(ALICE, DEAL, 100_000, keep_until_s=SOON, pending_limit=203_000)
        for _ in range(8)
    )
    outcomes = await asyncio.gather(*begun, return_exceptions=True)
    assert sum(isinstance(each, TooMany) for each in outcomes) == 6
    for writer in outcomes:
        if not isinstance(writer, BaseException):
            writer.abort()


async def test_what_does_not_fit_is_refused_before_it_is_written(
    open_store: OpenStore, tmp_path: Path
) -> None:
    async with open_store(tmp_path / "volume", capacity_bytes=MIB) as store:
        free = store.space().free
        with pytest.raises(NoSpace):
            await store.begin(ALICE, DEAL, free, keep_until_s=SOON, pending_limit=PLENTY)
        assert store.space().reserved == 0
        writer = await store.begin(
            ALICE, DEAL, free - 64 * KIB, keep_until_s=SOON, pending_limit=PLENTY
        )
        with pytest.raises(NoSpace):
            await put(store, shard(64 * KIB))
        with pytest.raises(NoSpace):
            await store.put_records([(bytes(32), bytes(64 * KIB))])
        writer.abort()
        await put(store, shard(64 * KIB))
        assert store.count == 1


async def test_space_always_adds_up(store: ShardStore) -> None:
    def adds_up() -> bool:
        space = store.space()
        parts = (space.used, space.reserved, space.trash, space.overhead, space.free)
        return sum(parts) + space.withheld == space.capacity and min(parts) >= 0

    assert adds_up()
    small, large = shard(1_000), shard(100_000)
    await put(store, small)
    writer = await store.begin(ALICE, DEAL, 100_000, keep_until_s=SOON, pending_limit=PLENTY)
    assert adds_up()
    assert store.space().reserved > 100_000
    await writer.write(large.data)
    await writer.finish(large.commit)
    assert adds_up()
    assert (store.space().used, store.space().reserved) == (101_000, 0)
    await store.revise(ALICE, DEAL, [], [small.commit, large.commit], b"r")
    assert adds_up()
    assert store.space().used == 0
    assert store.space().trash > 1_000


async def test_a_revision_moves_shards_between_pending_and_held(store: ShardStore) -> None:
    shards = sorted((shard(1_000 + 70_000 * (n % 2), n) for n in range(6)), key=_by_commit)
    for each in shards:
        await put(store, each)
    commits = [each.commit for each in shards]
    assert await store.revision(ALICE, DEAL) is None
    await store.revise(ALICE, DEAL, commits[:4], commits[4:5], b"first")
    assert await store.revision(ALICE, DEAL) == b"first"
    assert await store.revision(ALICE, OTHER_DEAL) is None
    assert await store.revision(BOB, DEAL) is None
    held = [(each.commit, -(-len(each.data) // 1_024)) for each in shards[:4]]
    assert await store.holdings(ALICE, DEAL) == held
    assert await store.holdings(ALICE, DEAL, held[0][0], 2) == held[1:3]
    assert await store.holdings(ALICE, OTHER_DEAL) == []
    assert await store.stat(commits[4]) is None
    assert (await store.stat(commits[5])).state is ShardState.PENDING
    await store.revise(ALICE, DEAL, [], commits[:1], b"second")
    assert await store.revision(ALICE, DEAL) == b"second"
    assert await store.holdings(ALICE, DEAL) == held[1:]
    for each in shards[1:4]:
        assert await read_all(store, each) == each.data


def _by_commit(one: object) -> bytes:
    return one.commit  # type: ignore[attr-defined]


async def test_one_shard_under_two_deals_stays_until_both_drop_it(store: ShardStore) -> None:
    one = shard(1_000)
    await put(store, one)
    await store.revise(ALICE, DEAL, [one.commit], [], b"1")
    await store.revise(ALICE, OTHER_DEAL, [one.commit], [], b"1")
    await store.revise(ALICE, DEAL, [], [one.commit], b"2")
    assert await store.holdings(ALICE, OTHER_DEAL) == [(one.commit, 1)]
    await store.revise(ALICE, OTHER_DEAL, [], [one.commit], b"2")
    assert await store.stat(one.commit) is None


@pytest.mark.parametrize("stranger", ["unknown", "another client's"])
@pytest.mark.parametrize("where", ["add", "drop"])
async def test_a_revision_of_what_is_not_the_clients_changes_nothing(
    store: ShardStore, stranger: str, where: str
) -> None:
    mine, other = shard(1_000), shard(1_001)
    await put(store, mine)
    if stranger != "unknown":
        await put(store, other, BOB)
    add = [mine.commit, other.commit] if where == "add" else [mine.commit]
    drop = [other.commit] if where == "drop" else []
    with pytest.raises(NotFound) as caught:
        await store.revise(ALICE, DEAL, add, drop, b"r")
    assert caught.value.detail_code == "unknown_shard"
    assert await store.revision(ALICE, DEAL) is None
    assert (await store.stat(mine.commit)).state is ShardState.PENDING
    assert await store.holdings(ALICE, DEAL) == []


async def test_another_deals_shard_cannot_be_dropped_through_this_one(store: ShardStore) -> None:
    one = shard(1_000)
    await put(store, one)
    await store.revise(ALICE, OTHER_DEAL, [one.commit], [], b"r")
    with pytest.raises(NotFound):
        await store.revise(ALICE, DEAL, [], [one.commit], b"r")
    assert await store.holdings(ALICE, OTHER_DEAL) == [(one.commit, 1)]


async def test_adding_what_is_held_changes_nothing(store: ShardStore) -> None:
    one = shard(1_000)
    await put(store, one)
    for revision in (b"1", b"2"):
        await store.revise(ALICE, DEAL, [one.commit], [], revision)
        assert await store.holdings(ALICE, DEAL) == [(one.commit, 1)]
    assert store.count == 1


async def test_sweeping_takes_what_nobody_revised_in_time(store: ShardStore) -> None:
    early, late, held = shard(1_000), shard(80_000), shard(1_001)
    await put(store, early, until=SOON)
    await put(store, late, until=LATER)
    await put(store, held, until=SOON)
    await store.revise(ALICE, DEAL, [held.commit], [], b"r")
    assert await store.sweep(SOON - 1) == 0
    assert await store.sweep(SOON) == 1
    assert await store.stat(early.commit) is None
    assert await store.sweep(LATER) == 1
    assert await store.stat(late.commit) is None
    assert (await store.stat(held.commit)).state is ShardState.HELD
    assert (store.count, store.pending_bytes(ALICE)) == (1, 0)


async def test_the_last_record_under_a_key_counts(store: ShardStore) -> None:
    key, other = b"k" * 32, b"l" * 32
    assert await store.get_record(key) is None
    await store.put_records([(key, b"1"), (other, b""), (key, b"2")])
    assert await store.get_record(key) == b"2"
    assert await store.get_record(other) == b""
    await store.put_records([(key, bytes(4_096))])
    assert await store.get_record(key) == bytes(4_096)


@pytest.mark.parametrize(("key", "value"), [(31, 1), (33, 1), (0, 1), (32, 64 * KIB + 1)])
async def test_an_odd_record_is_refused(store: ShardStore, key: int, value: int) -> None:
    with pytest.raises(MalformedMessage) as caught:
        await store.put_records([(bytes(32), b"x"), (bytes(key), bytes(value))])
    assert caught.value.detail_code == "bad_record"
    assert await store.get_record(bytes(32)) is None


@pytest.mark.parametrize("limit", [1, 3, 5, 1_024])
async def test_all_keys_of_records_are_told_in_order(store: ShardStore, limit: int) -> None:
    keys = [bytes([number]) * 32 for number in (9, 3, 255, 0, 128)]
    assert await store.record_keys(limit=limit) == []
    await put(store, shard(10))
    await store.put_records([(key, b"1") for key in keys[:3]])
    await store.put_records([(key, b"2") for key in keys])
    told: list[bytes] = []
    while page := await store.record_keys(after=told[-1] if told else b"", limit=limit):
        assert len(page) <= limit
        told += page
    assert told == sorted(keys)
    assert await store.record_keys(after=keys[0]) == sorted(keys)[3:]
    assert await store.record_keys(after=b"\x04" * 32) == sorted(keys)[2:], "no record stands there"


async def test_all_commits_are_told_in_order_whoever_claims_them(store: ShardStore) -> None:
    shards = [shard(100, seed) for seed in range(5)] + [shard(MIB)]
    for each in shards:
        await put(store, each)
    await put(store, shards[0], BOB)
    await store.put_records([(bytes(32), b"x")])
    await store.revise(ALICE, DEAL, [shards[1].commit], [shards[2].commit], b"r")
    wanted = sorted(each.commit for each in shards if each is not shards[2])
    assert await store.commits() == wanted
    assert await store.commits(after=wanted[1], limit=2) == wanted[2:4]
    assert await store.commits(after=wanted[-1]) == []


async def test_everything_is_there_after_a_restart(open_store: OpenStore, tmp_path: Path) -> None:
    shards = [shard(1_000, seed) for seed in range(50)] + [shard(MIB + seed) for seed in range(3)]
    commits = [each.commit for each in shards]
    async with open_store(tmp_path / "volume") as store:
        await asyncio.gather(*(put(store, each) for each in shards))
        await store.revise(ALICE, DEAL, commits[:40], commits[40:45], b"r")
        await store.put_records([(b"k" * 32, b"v")])
        before = [await store.stat(commit) for commit in commits]
        facts = store.count, store.pending_bytes(ALICE), store.space().used, store.space().trash
    async with open_store(tmp_path / "volume") as store:
        assert [await store.stat(commit) for commit in commits] == before
        assert facts == (
            store.count,
            store.pending_bytes(ALICE),
            store.space().used,
            store.space().trash,
        )
        assert len(await store.holdings(ALICE, DEAL)) == 40
        assert await store.revision(ALICE, DEAL) == b"r"
        assert await store.get_record(b"k" * 32) == b"v"
        assert await store.record_keys() == [b"k" * 32]
        for each in shards[:40] + shards[45:]:
            assert await read_all(store, each) == each.data
        damage = store.damage()
        assert (damage.records, damage.lost, damage.orphans) == (0, 0, 0)


async def test_a_caller_who_leaves_harms_nobody(store: ShardStore) -> None:
    one, two = shard(3 * MIB), shard(1_000)
    for leave_after in range(6):
        task = asyncio.create_task(put(store, one))
        for _ in range(leave_after * 5):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await put(store, two)
    await put(store, one)
    assert await read_all(store, one) == one.data
    assert (store.count, store.space().reserved) == (2, 0)
    assert store.pending_bytes(ALICE) == 3 * MIB + 1_000


async def test_a_closed_store_takes_nothing(open_store: OpenStore, tmp_path: Path) -> None:
    async with open_store(tmp_path / "volume") as store:
        pass
    with pytest.raises(DsnError):
        await put(store, shard(10))


def leaves_of(data: bytes, *indices: int) -> dict[int, bytes]:
    """Leaves of a shard by index."""
    return {index: data[index * 1_024 : (index + 1) * 1_024] for index in indices}


@pytest.mark.parametrize("length", LENGTHS)
async def test_a_whole_shard_has_no_rotten_leaf_and_takes_no_other(
    store: ShardStore, length: int
) -> None:
    one = shard(length)
    await put(store, one)
    last = -(-length // 1_024) - 1
    assert await store.rotten(one.commit) == []
    await store.mend(one.commit, {})
    await store.mend(one.commit, leaves_of(one.data, 0, last))
    for index in range(last + 1) if not one.is_large else (0, last):
        wrong = leaves_of(one.data, *range(last + 1) if not one.is_large else ())
        wrong[index] = bytes(len(leaves_of(one.data, index)[index]))
        with pytest.raises(InvalidProof) as caught:
            await store.mend(one.commit, wrong)
        assert caught.value.detail_code == "bad_leaf"
    assert await read_all(store, one) == one.data


@pytest.mark.parametrize("length", [1_500, 100_000])
@pytest.mark.parametrize(("index", "size"), [(-1, 1_024), (1 << 63, 1_024), (0, 1_023), (0, 1_025)])
async def test_a_leaf_of_another_place_or_size_is_refused(
    store: ShardStore, length: int, index: int, size: int
) -> None:
    one = shard(length)
    await put(store, one)
    with pytest.raises(InvalidProof) as caught:
        await store.mend(one.commit, {index: bytes(size)})
    assert caught.value.detail_code == "bad_leaf"


async def test_rot_of_what_is_not_here_is_unknown(store: ShardStore) -> None:
    commit = shard(10).commit
    for call in (store.rotten(commit), store.mend(commit, {})):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.detail_code == "unknown_shard"
    assert await store.lost() == []
