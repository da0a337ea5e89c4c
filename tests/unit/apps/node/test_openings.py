"""The opener over a real store: what it opens holds, what it cannot open it names."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest

from dsn.apps.node.openings import GROUPS_AT_ONCE, READS_AT_ONCE, Asked, Opener
from dsn.ids import Commit, DealId, NodeId
from dsn.ports import ShardState, StoredShard
from dsn.proofs.inventory import InventoryEntry, SumTree, holdings, inventory_leaf
from dsn.proofs.opening import DealPart, read_opening, verify_opening
from dsn.units import GROUP_LEAVES, LEAF_BYTES, MIB, leaf_count
from tests.support.proof_world import Shard as Known
from tests.support.prover_world import SHARDS, Disk
from tests.support.shard_stores import ALICE, PLENTY, Shard, disk_store, put, shard

GROUP_BYTES = GROUP_LEAVES * LEAF_BYTES
LENGTHS = (1, 1_024, 5_000, GROUP_BYTES, GROUP_BYTES + 1, 3 * MIB + 77)


def tree(shards: Sequence[Shard]) -> SumTree:
    return holdings((each.commit, leaf_count(len(each.data))) for each in shards)


async def test_leaves_of_holdings(tmp_path: Path) -> None:
    shards, random = [shard(length) for length in LENGTHS], Random(3)
    held = tree(shards)
    async with disk_store(tmp_path) as store:
        known = {each.commit: await put(store, each, limit=PLENTY) for each in shards}
        drawn = [random.randrange(held.total) for _ in range(200)] + [0, held.total - 1]
        asked = [Asked(held.locate(index)) for index in drawn]
        openings, lost = await Opener(store).open_all(asked, known)
    assert lost == []
    whole = {each.commit: each.data for each in shards}
    for index, opening in zip(drawn, openings, strict=True):
        found = read_opening(
            opening, root=held.root, total=held.total, index=index, inventory=False
        )
        start = found.leaf * LEAF_BYTES
        assert found.data == whole[found.commit][start : start + LEAF_BYTES], "seed 3"


async def test_leaves_of_an_inventory_of_two_deals(tmp_path: Path) -> None:
    groups = [shard(5_000, 1), shard(70_000, 1)], [shard(300_000, 2)]
    trees = {DealId(bytes([n]) * 32): tree(group) for n, group in enumerate(groups)}
    entries = {deal: InventoryEntry(deal, 4, held.root, held.total) for deal, held in trees.items()}
    top = SumTree.build((e.deal, inventory_leaf(*e), e.leaves) for e in entries.values())
    asked = []
    for index in range(top.total):
        at = top.locate(index)
        deal = DealId(at.key)
        asked.append(Asked(trees[deal].locate(at.offset), DealPart(entries[deal], at.steps)))
    async with disk_store(tmp_path) as store:
        known = {each.commit: await put(store, each) for group in groups for each in group}
        openings, lost = await Opener(store).open_all(asked, known)
    assert lost == []
    for index, opening in enumerate(openings):
        verify_opening(opening, root=top.root, total=top.total, index=index, inventory=True)


@pytest.mark.parametrize("at", [0, 2 * MIB, 3 * MIB + 76])
async def test_rot_is_found_where_it_is_asked_for_and_nowhere_else(tmp_path: Path, at: int) -> None:
    large, small = shard(3 * MIB + 77), shard(9_000)
    held = tree([large, small])
    async with disk_store(tmp_path) as store:
        known = {each.commit: await put(store, each) for each in (large, small)}
        file = next(f for f in tmp_path.rglob("*") if f.is_file() and f.stat().st_size >= 3 * MIB)
        with file.open("r+b") as handle:
            handle.seek(at)
            byte = handle.read(1)[0]
            handle.seek(at)
            handle.write(bytes([byte ^ 1]))
        opener, lost_at = Opener(store), set()
        for where in map(held.locate, range(held.total)):
            if where.offset % (GROUP_LEAVES // 4):
                continue
            openings, lost = await opener.open_all([Asked(where)], known)
            assert bool(openings) is not bool(lost)
            if lost:
                assert lost == [large.commit]
                lost_at.add(where.offset)
    rotten = at // LEAF_BYTES
    assert {leaf // GROUP_LEAVES for leaf in lost_at} == {rotten // GROUP_LEAVES}


async def test_nothing_is_shown_if_one_shard_is_gone(tmp_path: Path) -> None:
    shards = [shard(length) for length in LENGTHS]
    held = tree(shards)
    asked = [Asked(held.locate(index)) for index in range(held.total)]
    async with disk_store(tmp_path) as store:
        known = {each.commit: await put(store, each) for each in shards}
        await store.revise(ALICE, DealId(bytes(32)), (), [shards[2].commit, shards[5].commit], b"r")
        openings, lost = await Opener(store).open_all(asked, known)
    assert openings == []
    assert set(lost) == {shards[2].commit, shards[5].commit}


class Slow(Disk):
    """A disk that answers when the loop comes round, and counts who waits for it."""

    at_once = most = largest = 0

    async def sample(self, commit: Commit, numbers: Sequence[int]) -> tuple[bytes, list[bytes]]:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.largest = max(self.largest, len(numbers))
        await asyncio.sleep(0)
        self.at_once -= 1
        return await super().sample(commit, numbers)


async def test_so_many_reads_at_once_whoever_asks() -> None:
    disk = Slow(dict(SHARDS))
    held = holdings((each.commit, each.leaves) for each in SHARDS.values())
    known = {commit: await stored(disk, commit) for commit in SHARDS}
    asked = [Asked(held.locate(index)) for index in range(held.total)]
    opener = Opener(disk)
    results = await asyncio.gather(*(opener.open_all(asked, known) for _ in range(20)))
    assert all(openings == results[0][0] and not lost for openings, lost in results)
    assert disk.most == READS_AT_ONCE
    assert len(disk.reads) == 20 * len(SHARDS), "a shard is read once for all its leaves"


async def stored(disk: Disk, commit: Commit) -> StoredShard:
    found = disk.shards[commit]
    owner = NodeId(bytes(32))
    return StoredShard(commit, found.root, len(found.raw), owner, ShardState.HELD, 0)


async def test_so_much_of_a_shard_at_once() -> None:
    large = Known(Random(1).randbytes((2 * GROUPS_AT_ONCE + 3) * GROUP_BYTES))
    disk = Slow({large.commit: large})
    held = holdings([(large.commit, large.leaves)])
    drawn = range(0, held.total, GROUP_LEAVES)
    asked = [Asked(held.locate(index)) for index in drawn]
    known = {large.commit: await stored(disk, large.commit)}
    openings, lost = await Opener(disk).open_all(asked, known)
    assert (lost, disk.largest, len(disk.reads)) == ([], GROUPS_AT_ONCE, 3)
    for index, opening in zip(drawn, openings, strict=True):
        verify_opening(opening, root=held.root, total=held.total, index=index, inventory=False)
