"""What is declared, when, and in how many entries; the rules' own ledger takes it."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from dsn.apps.node.losses import (
    BRINK_EPOCHS,
    LOST_EPOCHS,
    ROTTEN_EPOCHS,
    missed,
    proofs_of,
)
from dsn.errors import NotFound
from dsn.ids import Commit
from dsn.ledger.bodies import Loss
from dsn.ledger.disputes import Demand
from dsn.ledger.log import MAX_ENTRY_BYTES
from dsn.ledger.money import repair_cost
from dsn.proofs.inventory import holdings
from tests.support import ledger_world
from tests.support.honest_node import HonestNode, stored

LIMIT = 60


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HonestNode:
    monkeypatch.setattr(ledger_world, "shard", stored)
    return HonestNode(tmp_path, Random(0))


def pass_time(node: HonestNode, epochs: int) -> None:
    """Epochs that the node proves nothing in."""
    node.field.world.pass_epochs(epochs)
    node.field.clock.at_s += epochs * node.field.world.params.epoch_s


async def scrubbed(node: HonestNode) -> None:
    """One whole round."""
    node.scrub._round.finished_s = 0
    while not node.scrub.status()["last_scrub_s"]:
        await node.scrub.turn()


@pytest.mark.parametrize(
    ("number", "gone", "epochs"), [(1, False, LOST_EPOCHS), (30, True, LOST_EPOCHS),
                                   (30, False, ROTTEN_EPOCHS)]
)  # fmt: skip
async def test_what_is_bad_is_declared_after_its_time(
    node: HonestNode, number: int, gone: bool, epochs: int
) -> None:
    deal = await node.hold(1, 2, 30, 31, miss_limit=LIMIT)
    node.harm(number, gone=gone)
    async with node.started():
        await scrubbed(node)
        pass_time(node, epochs - 1)
        assert await node.losses.turn() == []
        pass_time(node, 1)
        (plan,) = await node.losses.turn()
        assert dict(plan.shards) == {stored(number).commit: stored(number).leaves}
        assert node.field.world.deal(deal).shards == 3
        assert await node.losses.turn() == []


async def test_what_was_mended_is_not_declared(node: HonestNode) -> None:
    await node.hold(1, 2, 30, miss_limit=LIMIT)
    node.harm(30)
    node.harm(1)
    async with node.started():
        await scrubbed(node)
        assert len(node.scrub.bad) == 2
        for number in (1, 30):
            one = stored(number)
            await node.store.mend(one.commit, {at: one.leaf_data(at) for at in range(one.leaves)})
        pass_time(node, ROTTEN_EPOCHS)
        assert await node.losses.turn() == []
        assert node.scrub.bad == {}


async def test_half_of_the_limit_missed_leaves_no_time(node: HonestNode) -> None:
    deal = await node.hold(1, 30, miss_limit=10)
    pass_time(node, 1)
    node.harm(30)
    async with node.started():
        await scrubbed(node)
        node.scrub._round.bad = dict.fromkeys(node.scrub._round.bad, 10**12)  # just found
        while missed(node.field.world.deal(deal), node.field.snapshot(), 0) < 5:
            assert await node.losses.turn() == []
            pass_time(node, 1)
        (plan,) = await node.losses.turn()
        assert list(plan.shards) == [stored(30).commit]


async def test_at_the_brink_all_of_a_deal_is_declared(node: HonestNode) -> None:
    """Rot elsewhere keeps the node from proving anything, and this deal has no more to miss."""
    deal, other = await node.hold(1, 2, miss_limit=6), await node.hold(30, 31, miss_limit=LIMIT)
    node.harm(30)
    async with node.started():
        await scrubbed(node)
        node.scrub._round.bad = dict.fromkeys(node.scrub._round.bad, 10**12)
        pass_time(node, 1)
        while missed(node.field.world.deal(deal), node.field.snapshot(), 0) < 6 - BRINK_EPOCHS:
            pass_time(node, 1)
        plans = {plan.cell.deal: set(plan.shards) for plan in await node.losses.turn()}
    assert plans == {deal: {stored(1).commit, stored(2).commit}, other: {stored(30).commit}}
    assert node.field.world.deal(deal).shards == 0


async def test_a_deal_with_a_demand_waits_for_it(node: HonestNode) -> None:
    deal = await node.hold(1, 2, miss_limit=LIMIT)
    node.harm(1)
    async with node.started():
        await scrubbed(node)
        node.field.world.do("alice", Demand(deal, 100, 0))
        pass_time(node, LOST_EPOCHS)
        assert await node.losses.turn() == []
        (plan,) = await node.losses.plan()
        assert plan.blocked == "demand_pending"
        assert await node.losses.declare() == []


async def test_many_shards_go_in_several_entries_of_a_legal_size(node: HonestNode) -> None:
    numbers = [*range(100, 220)]
    deal = await node.hold(*numbers, miss_limit=LIMIT, disk_price=5)
    world = node.field.world
    before, gone = world.deal(deal), [stored(n) for n in numbers[::2]]
    async with node.started():
        (planned,) = await node.losses.plan([one.commit for one in gone])
        assert planned.leaves == sum(one.leaves for one in gone)
        assert planned.cost == min(
            before.collateral, repair_cost(before.terms.repair_price, planned.leaves)
        )
        await node.losses.declare([one.commit for one in gone])
    bodies = [body for body in node.field.paul.entered if isinstance(body, Loss)]
    assert max(len(body.encode()) for body in bodies) < MAX_ENTRY_BYTES - 1_024
    after = world.deal(deal)
    assert (after.shards, after.number) == (60, bodies[-1].number)
    left = holdings((stored(n).commit, stored(n).leaves) for n in numbers[1::2])
    assert (after.root, after.leaves) == (left.root, left.total)
    assert after.refund - before.refund == before.collateral - after.collateral


@pytest.mark.parametrize("count", [1, 60, 120, 400])
def test_proofs_fill_entries_in_order(count: int) -> None:
    pairs = [(Commit(Random(n).randbytes(32)), n % 7 + 1) for n in range(500)]
    tree, wanted = holdings(pairs), [commit for commit, _ in pairs[:count]]
    parcels = proofs_of(tree, wanted)
    assert [commit for commits, _ in parcels for commit in commits] == wanted
    assert all(len(commits) == len(proofs) > 0 for commits, proofs in parcels)
    assert len(parcels) == 1 or count > 60
    sizes = [sum(map(len, proofs)) for _, proofs in parcels]
    assert max(sizes) <= 30 * 1_024
    assert all(size > 29 * 1_024 for size in sizes[:-1])


def test_what_is_not_held_cannot_be_lost() -> None:
    with pytest.raises(NotFound):
        proofs_of(holdings([(Commit(bytes(32)), 1)]), [Commit(b"x" * 32)])
