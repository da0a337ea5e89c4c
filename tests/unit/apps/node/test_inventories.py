"""What an epoch asks a node about, whatever happened between two looks at the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.errors import NotFound
from dsn.ids import DealId
from dsn.ledger.bodies import Claim, CloseDeal
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import AllLost, Demand, Serve
from dsn.ledger.log import LogLeaf
from dsn.store.deals import open_deals
from tests.support.holder_world import OWNERS, PROVIDER, Holder, tree_over
from tests.support.ledger_world import World, shard
from tests.support.shard_stores import disk_store

ALICE, BOB = "alice", "bob"


@pytest.fixture
async def holder(tmp_path: Path) -> AsyncIterator[Holder]:
    world = World()
    world.open_epoch()
    world.bind(PROVIDER, ALICE, BOB)
    async with disk_store(tmp_path / "volume") as store, open_deals(tmp_path / "deals") as deals:
        yield Holder(world, store, deals)


async def holding(holder: Holder, client: str, *numbers: int) -> DealId:
    """A new deal with one revision, over the shards ``numbers``, that is installed."""
    deal = await holder.open(client)
    await revised(holder, client, deal, add=numbers, held=numbers)
    await holder.claims.tick()
    return deal


async def revised(
    holder: Holder,
    client: str,
    deal: DealId,
    *,
    add: tuple[int, ...] = (),
    drop: tuple[int, ...] = (),
    held: tuple[int, ...],
) -> int:
    """Sign the next revision, over ``held``."""
    number = await holder.revise(client, deal, add, drop)
    holder.world.shards[deal, number] = tuple(sorted(held))
    return number


def install(holder: Holder, name: str, deal: DealId, number: int) -> None:
    """Have the ledger take a revision, from whoever enters it."""
    shards = holder.world.shards[deal, number]
    holder.world.do(name, Claim(deal, holder.world.pledge(deal, shards, number=number), None))


async def lose(holder: Holder, volume: Path, number: int) -> None:
    """Have the disk lose a shard, and the store find that out."""
    one = shard(number)
    (path,) = (path for path in (volume / "log").iterdir() if one.raw in path.read_bytes())
    path.write_bytes(path.read_bytes().replace(one.raw, bytes(len(one.raw))))
    assert await holder.store.rotten(one.commit)
    assert await holder.store.lost() == [one.commit]


async def check_frozen(holder: Holder, held: dict[DealId, tuple[int, tuple[int, ...]]]) -> None:
    """The epoch asks about the revisions in ``held``, and each can be opened."""
    snapshot = await holder.inventories.see()
    inventory = await holder.inventories.frozen(snapshot)
    assert inventory.tree.root == holder.world.frozen(PROVIDER)
    assert {deal: each.number for deal, each in inventory.entries.items()} == {
        deal: number for deal, (number, _) in held.items()
    }
    for deal, (number, shards) in held.items():
        tree = await holder.inventories.holdings(deal, number)
        assert tree.root == tree_over(shards).root
        assert all([await holder.has(each) for each in shards])


async def test_nothing_is_asked_before_anything_was_frozen(holder: Holder) -> None:
    deal = await holding(holder, ALICE, 1, 2)
    assert holder.world.deal(deal).number == 1
    await check_frozen(holder, {})
    holder.world.pass_epochs(1)
    await check_frozen(holder, {deal: (1, (1, 2))})


async def test_what_is_installed_later_does_not_change_what_is_asked(holder: Holder) -> None:
    deal, world = await holding(holder, ALICE, 1, 2), holder.world
    world.pass_epochs(1)
    await holder.inventories.see()
    await revised(holder, ALICE, deal, drop=(1,), held=(2,))
    await holder.claims.tick()
    assert world.deal(deal).number == 2
    await check_frozen(holder, {deal: (1, (1, 2))})
    holder.restart()
    await check_frozen(holder, {deal: (1, (1, 2))})
    assert holder.ledger.asked == [], "it saw what was frozen before"
    world.link(PROVIDER)
    await holder.inventories.see()
    assert not await holder.has(1), "nobody can ask for it any more"


async def test_growth_waits_for_the_link(holder: Holder) -> None:
    deal, world = await holding(holder, ALICE, 1), holder.world
    world.pass_epochs(1)
    await revised(holder, ALICE, deal, add=(2,), held=(1, 2))
    await holder.claims.tick()
    assert world.deal(deal).number == 1
    world.link(PROVIDER)
    await holder.claims.tick()
    assert world.deal(deal).number == 2


async def test_what_passed_between_two_looks_is_read_in_the_log(holder: Holder) -> None:
    world = holder.world
    alices, bobs = await holding(holder, ALICE, 1, 2), await holding(holder, BOB, 3, 4)
    second = await revised(holder, ALICE, alices, drop=(1,), held=(2,))
    third = await revised(holder, ALICE, alices, drop=(2,), held=())
    lost = await holder.inventories.give_up(bobs)
    install(holder, ALICE, alices, second)
    world.do(PROVIDER, world.loss(bobs, 3, number=lost))
    world.pass_epochs(1)
    install(holder, ALICE, alices, third)
    await check_frozen(holder, {alices: (second, (2,)), bobs: (lost, (4,))})
    assert holder.ledger.asked


async def test_a_deal_that_ends_is_still_asked_about(holder: Holder) -> None:
    world = holder.world
    deal = await holder.open(ALICE, end=3, grace=1)
    await revised(holder, ALICE, deal, add=(1,), held=(1,))
    await holder.claims.tick()
    world.pass_epochs(4)
    await holder.inventories.see()
    world.do(ALICE, CloseDeal(deal, None))
    assert world.deal(deal).state is DealState.ENDED
    await check_frozen(holder, {deal: (1, (1,))})
    world.pass_epochs(5)
    await holder.claims.tick()
    assert world.deal(deal).state is DealState.CLOSED
    assert await holder.store.commits() == []
    assert await holder.disk.running() == []


async def test_a_log_that_leads_elsewhere_makes_it_unknown(holder: Holder) -> None:
    deal, world = await holding(holder, ALICE, 1, 2), holder.world
    second = await revised(holder, ALICE, deal, drop=(1,), held=(2,))
    third = await revised(holder, ALICE, deal, add=(3,), drop=(2,), held=(3,))
    install(holder, ALICE, deal, second)
    world.pass_epochs(1, PROVIDER)
    world.link(PROVIDER)
    install(holder, ALICE, deal, third)
    honest = holder.ledger.leaves

    async def without_claims(start: int, end: int) -> list[LogLeaf]:
        return [leaf for leaf in await honest(start, end) if leaf.entry[0] != Claim.kind]

    async def no_entries(start: int, end: int) -> list[LogLeaf]:
        return [replace(leaf, entry=leaf.entry[:60]) for leaf in await honest(start, end)]

    last = await holder.disk.revisions.standings()
    for lies in (without_claims, no_entries):
        holder.ledger.leaves = lies  # type: ignore[method-assign]
        assert last[0] is not None
        await holder.disk.revisions.save_standings(*last)
        snapshot = await holder.inventories.see()
        with pytest.raises(NotFound) as error:
            await holder.inventories.frozen(snapshot)
        assert error.value.detail_code == "inventory_unknown"
    holder.ledger.leaves = honest  # type: ignore[method-assign]
    world.pass_epochs(1)
    await check_frozen(holder, {deal: (third, (3,))})


async def test_after_a_loss_the_newest_revision_is_the_ledgers(holder: Holder) -> None:
    deal, world = await holding(holder, ALICE, 1, 2), holder.world
    world.pass_epochs(1)
    newer = await revised(holder, ALICE, deal, add=(3,), held=(1, 2, 3))
    number = await holder.inventories.give_up(deal)
    assert number > newer
    world.do(PROVIDER, world.loss(deal, 1, number=number))
    between = await revised(holder, ALICE, deal, add=(4,), held=(1, 2, 3, 4))
    assert between < number
    await holder.inventories.see()
    account = await holder.accounts.open(OWNERS[ALICE], deal)
    assert account.unsigned
    assert account.newest[1:] == (b"", b"")
    cell = world.deal(deal)
    assert (account.base.number, account.base.root) == (cell.number, cell.root)
    assert account.base.root == tree_over([2]).root
    for _ in range(3):
        world.pass_epochs(1, PROVIDER)
        await holder.claims.tick()
        assert await holder.has(3) and await holder.has(4), "kept until the client signs again"
    again = await revised(holder, ALICE, deal, add=(3, 4), held=(2, 3, 4))
    assert again == number + 1
    for _ in range(2):
        world.pass_epochs(1, PROVIDER)
        if world.can_link(PROVIDER):
            world.link(PROVIDER)
        await holder.claims.tick()
    assert world.deal(deal).number == again
    await holder.inventories.see()
    assert [await holder.has(each) for each in (1, 2, 3, 4)] == [False, True, True, True]


async def test_what_was_dropped_and_is_put_again_stays(holder: Holder) -> None:
    deal, world = await holding(holder, ALICE, 1, 2), holder.world
    world.pass_epochs(1)
    await revised(holder, ALICE, deal, drop=(1,), held=(2,))
    await holder.put(ALICE, deal, 1)
    world.link(PROVIDER)
    await holder.claims.tick()
    assert world.deal(deal).number == 2, "nothing names the shard any more but its receipt"
    assert await holder.has(1)
    assert holder.store.pending_bytes(OWNERS[ALICE]) == len(shard(1).raw)
    await revised(holder, ALICE, deal, add=(1,), held=(1, 2))
    assert holder.store.pending_bytes(OWNERS[ALICE]) == 0


@pytest.mark.parametrize("dropped_first", [True, False])
async def test_a_void_revision_that_dropped_what_is_lost_leaves_the_ledgers_root(
    tmp_path: Path, holder: Holder, dropped_first: bool
) -> None:
    deal, world = await holding(holder, ALICE, 1, 2, 3), holder.world
    world.pass_epochs(1)
    if dropped_first:
        await revised(holder, ALICE, deal, drop=(2,), held=(1, 3))
    await lose(holder, tmp_path / "volume", 2)
    if not dropped_first:
        await revised(holder, ALICE, deal, drop=(2,), held=(1, 3))
    number = await holder.inventories.give_up(deal)
    world.do(PROVIDER, world.loss(deal, 1, number=number))
    await holder.inventories.see()
    for _ in range(2):
        account = await holder.accounts.open(OWNERS[ALICE], deal)
        async with account.lock:
            tree = await account.held(holder.store)
        assert (tree.root, tree.total) == (world.deal(deal).root, world.deal(deal).leaves)
        assert await holder.store.lost() == [shard(2).commit]
        holder.restart()
    number = await holder.inventories.give_up(deal)
    world.do(PROVIDER, world.loss(deal, 2, number=number))
    world.link(PROVIDER)
    world.pass_epochs(1, PROVIDER)
    await holder.inventories.see()
    await holder.inventories.see()
    account = await holder.accounts.open(OWNERS[ALICE], deal)
    assert account.base.root == tree_over([3]).root == world.deal(deal).root


async def test_all_of_a_deal_is_given_up(holder: Holder) -> None:
    deal, world = await holding(holder, ALICE, 1, 2), holder.world
    world.pass_epochs(1)
    world.link(PROVIDER)
    world.pass_epochs(1)
    drawn, _ = world.drawn(PROVIDER, world.epoch - 1, 0)
    world.do(ALICE, Demand(deal, world.params.min_bond, drawn))
    first = await holder.inventories.give_up(deal)
    number = await holder.inventories.give_up(deal, None)
    assert number > first
    world.shards[deal, number] = ()
    world.do(PROVIDER, Serve(deal, AllLost(number)))
    await holder.inventories.see()
    account = await holder.accounts.open(OWNERS[ALICE], deal)
    assert (account.base.number, account.base.leaves) == (number, 0)


async def test_revisions_nobody_may_ask_for_are_not_known(holder: Holder) -> None:
    deal, world = await holding(holder, ALICE, 1), holder.world
    for held in ((2,), (3,)):
        await revised(holder, ALICE, deal, add=held, held=held)
    with pytest.raises(NotFound) as error:
        await holder.inventories.holdings(deal, 4)
    assert error.value.detail_code == "unknown_revision"
    world.pass_epochs(1)
    world.link(PROVIDER)
    world.pass_epochs(1, PROVIDER)
    await holder.inventories.see()
    assert (await holder.inventories.holdings(deal, 0)).total == 0
    with pytest.raises(NotFound):
        await holder.inventories.holdings(DealId(bytes(32)), 1)


async def test_pay_is_claimed_when_it_is_worth_the_fee(holder: Holder) -> None:
    world = holder.world
    deal = await holder.open(ALICE, end=60, open_by=50, disk_escrow=20_000)
    await revised(holder, ALICE, deal, add=(1, 2, 3), held=(1, 2, 3))
    await holder.claims.tick()
    (installed,) = holder.account.entered
    assert isinstance(installed, Claim) and installed.revision is not None
    paid = []
    for _ in range(2 * world.params.claim_epochs):
        world.pass_epochs(1, PROVIDER)
        await holder.claims.tick()
        paid.append(world.deal(deal).disk_paid)
    claims = holder.account.entered[1:]
    assert claims == [Claim(deal, None, None)] * 2
    assert len(set(paid)) == 3 and paid[-1] > world.params.entry_fee
    for _ in range(24):
        world.pass_epochs(1, PROVIDER)
        await holder.claims.tick()
    cell = world.deal(deal)
    assert (cell.state, cell.missed) == (DealState.CLOSED, 0)
    assert cell.leaf_epochs == cell.leaves * (cell.last - 1)
