"""A declared loss from end to end: real node, real ledger, and a client that goes on from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.holdings import DECLARED_LOST, Holdings
from dsn.errors import InvalidSignature, ShardCorrupt
from dsn.ledger.bodies import Claim, SignedPledge
from dsn.ledger.money import repair_cost
from dsn.ledger.revision import Revision
from dsn.runtime.control import control_socket
from dsn.units import KIB, leaf_count
from dsn.v1 import types_pb2
from tests.net.test_provider import call
from tests.support.node_world import Shard
from tests.support.paid_node import PaidWorld, paid_node
from tests.unit.apps.test_holdings import Home, home_of, note

SIZES = (5 * KIB, 200 * KIB, 70 * KIB)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PaidWorld]:
    async with paid_node(tmp_path) as world:
        yield world


@pytest.fixture
async def home(world: PaidWorld, tmp_path: Path) -> Home:
    client = await world.client()
    await client.open()
    (tmp_path / "home").mkdir()
    return await home_of(world, client, tmp_path / "home")


async def hold(home: Home, world: PaidWorld, *sizes: int) -> list[Shard]:
    """Shards that are held, under a revision that the ledger has."""
    group, kept = await home.stored(*sizes), home.holdings()
    note(kept, home.node, *group)
    await kept.revise(home.node)
    await install(home, world)
    return group


async def install(home: Home, world: PaidWorld) -> None:
    """Have the ledger install the newest revision."""
    wire = (await home.signed()).revision
    revision = Revision(home.client.deal, wire.number, wire.shards, wire.leaves, wire.holdings_root)
    signed = SignedPledge(revision.pledge, False, wire.client_signature, wire.node_signature)
    if (await world.cell(home.client)).number < wire.number:
        await world.served.enter(home.client.key, Claim(home.client.deal, signed, None))
    await world.money.inventories.see()


def lose(world: PaidWorld, one: Shard) -> None:
    """Take a large shard's file away."""
    name = one.commit.hex()
    (world.home.path / "volume" / "shards" / name[:2] / name).unlink()


async def found_lost(world: PaidWorld, one: Shard) -> None:
    assert world.node is not None
    with pytest.raises(ShardCorrupt):
        await world.node.scrub.look(one.commit)


async def test_a_loss_is_declared_and_both_sides_go_on(home: Home, world: PaidWorld) -> None:
    small, gone, kept_one = await hold(home, world, *SIZES)
    lose(world, gone)
    await found_lost(world, gone)
    before = await world.cell(home.client)
    assert (before.shards, before.number) == (3, 1)

    (plan,) = await world.money.losses.plan()
    assert dict(plan.shards) == {gone.commit: 200}
    price = before.terms.repair_price
    assert plan.cost == min(before.collateral, repair_cost(price, 200))
    (taken,) = await world.money.losses.declare()
    after = await world.cell(home.client)
    assert dict(taken.shards) == {gone.commit: 200}
    assert (after.shards, after.leaves) == (2, before.leaves - 200)
    assert after.number > before.number
    assert after.refund - before.refund == before.collateral - after.collateral == plan.cost
    newest = (await home.signed()).revision
    assert (newest.number, newest.client_signature) == (after.number, b"")

    (fresh,) = await home.stored(3 * KIB)
    faults = home.faults
    holdings = Holdings(
        home.folder, home.nodes, home.client.identity, deals=home.deals, faults=faults
    )
    note(holdings, home.node, fresh)
    await holdings.revise(home.node)
    signed = (await home.signed()).revision
    assert (signed.number, signed.shards) == (after.number + 1, 3)
    assert len(signed.client_signature) == 65
    assert {
        commit: fault.kind
        for commit in (small.commit, gone.commit, kept_one.commit)
        if (fault := faults.get(commit)) is not None
    } == {gone.commit: DECLARED_LOST}
    assert await world.money.losses.plan([gone.commit]) == []


async def test_what_the_ledger_did_not_have_yet_is_signed_for_again(
    home: Home, world: PaidWorld
) -> None:
    _, gone, _ = await hold(home, world, *SIZES)
    kept = home.holdings()
    later = await home.stored(2 * KIB, 90 * KIB)
    note(kept, home.node, *later)
    await kept.revise(home.node)  # countersigned, not installed
    lose(world, gone)
    await found_lost(world, gone)
    await world.money.losses.declare()
    again = home.holdings()
    (fresh,) = await home.stored(3 * KIB)
    note(again, home.node, fresh)
    await again.revise(home.node)
    assert (await home.signed()).revision.shards == 2 + 2 + 1
    for one in later:
        assert await home.client.get(one) == one.data


async def test_a_loss_that_the_ledger_does_not_know_is_not_believed(
    home: Home, world: PaidWorld
) -> None:
    await hold(home, world, *SIZES)
    held, node = home.holdings(), home.node
    wire = types_pb2.Revision(
        deal=home.client.deal, number=99, shards=0, leaves=0, holdings_root=bytes(32)
    )
    with pytest.raises(InvalidSignature):
        await held._checked(node, wire)
    cell = await world.cell(home.client)
    wire = types_pb2.Revision(
        deal=home.client.deal, number=cell.number, shards=cell.shards,
        leaves=cell.leaves, holdings_root=cell.root,
    )  # fmt: skip
    assert (await held._checked(node, wire)).number == cell.number
    wire.leaves += 1
    with pytest.raises(InvalidSignature):
        await held._checked(node, wire)


async def test_the_command_shows_the_price_and_then_declares(home: Home, world: PaidWorld) -> None:
    _, gone, other = await hold(home, world, *SIZES)
    lose(world, gone)
    await found_lost(world, gone)
    assert world.node is not None
    before = (await world.cell(home.client)).shards

    async def command(*words: str) -> dict[str, Any]:
        run = await asyncio.to_thread(
            call, world.home, "--json", "provider", "declare-loss", *words
        )
        return json.loads(run.stdout)

    async with control_socket(world.home.control_socket, world.node.answer):
        planned = await command("--all-lost", "--dry-run")
        assert [each["shards"] for each in planned["losses"]] == [[gone.commit.hex()]]
        for words in (("--dry-run", "00" * 32), (gone.commit.hex(), "00" * 32)):
            assert (await command(*words))["error"]["code"] == "unknown_shard"
        assert (await world.cell(home.client)).shards == before, "a plan changes nothing"
        done = await command(gone.commit.hex(), other.commit.hex())
        for words in ((), ("--all-lost", gone.commit.hex()), ("abc",)):
            assert (await command(*words))["error"]["code"] in ("usage", "bad_id")
    (loss,) = done["losses"]
    assert sorted(loss["shards"]) == sorted([gone.commit.hex(), other.commit.hex()])
    assert loss["leaves"] == leaf_count(len(gone.data)) + leaf_count(len(other.data))
    assert (done["dry_run"], done["cost"]) == (False, loss["cost"])
    assert (await world.cell(home.client)).shards == before - 2


async def test_a_loss_that_nobody_mends_is_declared_in_time(home: Home, world: PaidWorld) -> None:
    _, gone, _ = await hold(home, world, *SIZES)
    lose(world, gone)
    await found_lost(world, gone)
    assert await world.money.losses.turn() == [], "it may still be stored again"
    assert world.node is not None
    world.node.scrub._round.bad[gone.commit.hex()] -= 2 * world.served.params.epoch_s
    (taken,) = await world.money.losses.turn()
    assert list(taken.shards) == [gone.commit]
    assert (await world.cell(home.client)).shards == 2


async def test_a_shard_that_was_stored_again_in_time_is_not_declared(
    home: Home, world: PaidWorld
) -> None:
    _, gone, _ = await hold(home, world, *SIZES)
    lose(world, gone)
    await found_lost(world, gone)
    await home.client.put(gone)
    assert world.node is not None
    world.node.scrub._round.bad[gone.commit.hex()] -= 100 * world.served.params.epoch_s
    assert await world.money.losses.turn() == []
    assert world.node.scrub.bad == {}
    assert (await world.cell(home.client)).shards == 3
