"""What is stored under a deal is installed by the node's claims, proven, paid, and let go again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsn.apps.node.losses import proofs_of
from dsn.apps.node.standings import entry_of, tree_of
from dsn.ledger.bodies import Loss
from dsn.ledger.cells import AccountCell
from dsn.ledger.money import GIB_LEAVES
from dsn.ledger.settlement import SettlementKey
from dsn.units import KIB, MIB
from dsn.wire.convert import revision_from_wire
from tests.support.node_world import shards
from tests.support.paid_node import NODE_ROOT, PaidClient, PaidWorld, paid_node

KEY = SettlementKey.derive(NODE_ROOT)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PaidWorld]:
    async with paid_node(tmp_path) as world:
        yield world


@pytest.fixture
async def client(world: PaidWorld) -> PaidClient:
    client = await world.client()
    await client.open(disk_price=GIB_LEAVES)
    return client


async def provider(world: PaidWorld, client: PaidClient) -> AccountCell:
    return await world.account(client, KEY)


async def test_a_put_is_installed_at_once_where_nothing_was_asked(
    world: PaidWorld, client: PaidClient
) -> None:
    group = shards(MIB, 3 * KIB)
    revision = await client.hold(*group)
    await world.money.turn()
    cell, account = await world.cell(client), await provider(world, client)
    assert (cell.number, cell.leaves, cell.root) == (1, KIB + 3, revision.root)
    assert cell.voucher_paid > 0
    assert (account.live, account.live_leaves) == (
        tree_of({cell.deal: entry_of(cell)}).root,
        KIB + 3,
    )
    snapshot = await world.money.inventories.see()
    assert (await world.money.inventories.frozen(snapshot)).tree.total == 0
    await world.served.next_epoch()
    snapshot = await world.money.inventories.see()
    asked = await world.money.inventories.frozen(snapshot)
    assert (asked.tree.root, asked.tree.total) == (account.live, account.live_leaves)
    for _ in range(2):
        await world.money.turn()
        await world.served.next_epoch()
    await world.money.turn()
    cell = await world.cell(client)
    assert (cell.missed, cell.disk_paid, cell.leaf_epochs) == (0, *[3 * cell.leaves] * 2)


async def test_what_is_dropped_stays_until_nobody_can_ask_for_it(
    world: PaidWorld, client: PaidClient
) -> None:
    gone, kept = shards(MIB, MIB)
    revision = await client.hold(gone, kept)
    await world.money.turn()
    await world.served.next_epoch()
    await world.money.inventories.see()
    request = client.revision(revision, [kept], [])
    request.drop.append(gone.commit)
    smaller = await client.revise(request)
    assert await client.get(gone) == gone.data
    await world.money.claims.tick()
    cell = await world.cell(client)
    assert (cell.number, cell.root) == (smaller.number, smaller.root)
    inventories = world.money.inventories
    asked = await inventories.frozen(await inventories.see())
    assert asked.entries[client.deal].number == 1
    assert not (await provider(world, client)).proven(world.served.time().epoch)
    assert (await inventories.holdings(client.deal, 1)).root == revision.root
    assert await inventories.shard(gone.commit) is not None
    await world.money.turn()
    await inventories.see()
    assert await inventories.shard(gone.commit) is None
    assert await client.get(kept) == kept.data


async def test_after_a_loss_the_node_shows_the_ledgers_revision(
    world: PaidWorld, client: PaidClient
) -> None:
    gone, kept = shards(MIB, 2 * KIB)
    await client.hold(gone, kept)
    await world.money.turn()
    inventories, deal = world.money.inventories, client.deal
    ((_, proofs),) = proofs_of(await inventories.holdings(deal, 1), [gone.commit])
    number = await inventories.give_up(deal, [gone.commit])
    await world.served.enter(KEY, Loss(deal, number, proofs))
    await inventories.see()
    shown = revision_from_wire((await client.peer.get_revision(deal)).revision)
    cell = await world.cell(client)
    assert (shown.client_signature, shown.node_signature) == (b"", b"")
    assert shown.revision.pledge.number == number == cell.number
    assert (shown.revision.root, shown.revision.leaves) == (cell.root, 2)
    (more,) = shards(KIB)
    await client.put(more)
    after = await client.revise(client.revision(shown.revision, [kept, more], [more]))
    assert (after.number, after.leaves) == (number + 1, 3)
