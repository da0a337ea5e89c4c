"""Epochs proven by real nodes: over a real ledger, after kills, from stale homes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from dsn.core.codec import Reader
from dsn.ledger.bodies import SubmitLink
from dsn.ledger.cells import AccountCell
from dsn.ledger.disputes import Demand
from dsn.ledger.entry import Entry
from dsn.ledger.money import burned_of, disk_due
from dsn.ledger.rules.settling import roll
from dsn.ledger.settlement import SettlementKey
from dsn.proofs.opening import verify_opening
from dsn.proofs.post import Link, drawn_indices, verify_answer_path
from dsn.store.home import Home
from dsn.store.ledger import open_ledger
from dsn.units import MIB
from tests.net.local import described, dsn
from tests.support.node_world import shards
from tests.support.paid_devnet import paid_devnet
from tests.support.paid_node import (
    NODE_ROOT,
    PRICES,
    PaidClient,
    PaidWorld,
    node_home,
    paid_ledger,
    paid_node,
    process_of,
)

NODE = SettlementKey.derive(NODE_ROOT)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[PaidWorld]:
    prices = PRICES.model_copy(update={"disk_price": 10**12})
    async with paid_node(tmp_path, prices=prices, demand_epochs=4, min_bond=10) as world:
        yield world


async def holding(world: PaidWorld, *sizes: int) -> PaidClient:
    """A client under whose deal shards of these sizes are held, and installed."""
    client = await world.client()
    await client.open()
    await client.hold(*shards(*sizes))
    await world.money.turn()
    assert (await world.cell(client)).number == 1
    return client


def links(world: PaidWorld) -> dict[int, Link]:
    """Every link in the log, by epoch."""
    found = {}
    with closing(open_ledger(world.served.place.store, signer=False)) as store:
        for leaf in store.leaves(0, store.head().size):
            body = Entry.decode(leaf.entry).body
            if isinstance(body, SubmitLink):
                assert body.link.epoch not in found
                found[body.link.epoch] = body.link
    return found


async def test_every_epoch_is_proven_and_paid(world: PaidWorld) -> None:
    client = await holding(world, 5 * MIB, 40_000, 1)
    first = world.served.time().epoch + 1
    for _ in range(4):
        await world.served.next_epoch()
        await world.money.turn()
    account = roll(await world.account(client, NODE), world.served.time().epoch)
    assert all(account.proven(epoch) for epoch in range(first, first + 4))
    assert sorted(links(world)) == list(range(first, first + 4))
    cell = await world.cell(client)
    paid = disk_due(cell.terms.disk_price, cell.leaves * 4)
    assert (cell.missed, cell.disk_paid) == (0, paid)
    status = await world.money.status()
    assert (status["epochs_proven"], status["epochs_missed"]) == (4, 0)
    assert status["last_link"] == status["epoch"] == first + 3
    fields = (await world.money.earnings()).fields()
    assert (fields["epochs_proven"], fields["epochs_missed"]) == (4, 0)
    burned = burned_of(paid, world.served.params.burn_ppm)
    assert fields["disk"] == str(paid - burned)


async def test_anybody_sees_what_was_answered(world: PaidWorld) -> None:
    client = await holding(world, 3 * MIB, 70_000)
    epoch = await world.served.next_epoch()
    await world.money.turn()
    stranger = await world.stranger(9)
    reply = await stranger.peer.get_answer(epoch, range(20))
    link = Link.read(Reader(reply.link, "link"))
    assert link == links(world)[epoch]
    beacon = await beacon_of(world, epoch)
    network, node = world.served.network.network_id, world.contact.node_id
    drawn = drawn_indices(link, beacon, network=network, node=node)
    for place, shown in enumerate(reply.openings):
        verify_answer_path(link, place, shown.opening, list(shown.path))
        verify_opening(
            shown.opening, root=link.root, total=link.total, index=drawn[place], inventory=True
        )
    assert len(reply.openings) == 20
    assert (await world.cell(client)).missed == 0


async def beacon_of(world: PaidWorld, epoch: int) -> bytes:
    with closing(open_ledger(world.served.place.store, signer=False)) as store:
        bodies = (Entry.decode(leaf.entry).body for leaf in store.leaves(0, store.head().size))
        values = [body.value for body in bodies if getattr(body, "evidence", b"") and
                  getattr(body, "epoch", 0) == epoch]  # fmt: skip
    return bytes(values[0])


async def test_a_demanded_leaf_is_shown_on_the_ledger(world: PaidWorld) -> None:
    client = await holding(world, 2 * MIB)
    await world.served.enter(client.key, Demand(client.deal, 10, 1_234))
    assert (await world.cell(client)).demand is not None
    before = (await world.account(client, NODE)).available
    await world.money.turn()
    cell = await world.cell(client)
    assert (cell.demand, cell.bond) == (None, 0)
    assert (await world.account(client, NODE)).available == before + 10


async def reached(
    world: PaidWorld, client: PaidClient, holds: Callable[[AccountCell], bool]
) -> None:
    """Return once the node's account is as it should be."""
    served = world.served
    async with asyncio.timeout(60):
        while not holds(roll(await world.account(client, NODE), served.time().epoch)):
            await served.ledger.publisher.covers(served.ledger.desk.size + 1)


async def test_a_copy_of_a_home_stops_and_takes_over(tmp_path: Path) -> None:
    async with paid_ledger(tmp_path, epoch_s=2) as served:
        home, old = node_home(tmp_path, served), Home(tmp_path / "old")
        async with process_of(home, served) as (world, running):
            await served.published(2)
            client = await world.client()
            await client.open()
            await client.hold(*shards(MIB))
            await reached(world, client, lambda account: account.live_leaves > 0)
            await running.end(signal.SIGTERM)
        shutil.copytree(home.path, old.path)
        async with process_of(home, served) as (_, running):
            proven = await served.next_epoch()
            await reached(world, client, lambda account: account.proven(proven))
            await running.end(signal.SIGKILL)
        refused = await asyncio.to_thread(dsn, "provider", "run", home=old.path)
        refused.check(2)
        assert "dsn provider takeover" in refused.err[-1]
        (await asyncio.to_thread(dsn, "provider", "takeover", home=old.path)).check()
        async with process_of(old, served) as (_, running):
            while served.time().epoch < proven + 4:
                status = await asyncio.to_thread(dsn, "provider", "status", "--json", home=old.path)
                if status.check().fields["epoch"] == served.time().epoch:
                    await served.next_epoch()
            await reached(world, client, lambda account: account.proven(account.rolled))
        ours = sorted(links(world).keys() - {proven})
        assert ours[0] >= proven + 2, "a whole epoch has to pass"
        assert ours[-1] == served.time().epoch
        refused = await asyncio.to_thread(dsn, "provider", "run", home=home.path)
        assert "another home" in refused.check(2).err[-2]


def test_a_node_that_is_killed_and_started_within_an_epoch_misses_none(tmp_path: Path) -> None:
    """Four nodes as processes, epochs by the ledger's own clock, in which one is killed."""
    folder, file = tmp_path / "net", tmp_path / "file"
    file.write_bytes(os.urandom(20 * MIB))
    with paid_devnet(folder, nodes=4, epoch_s=12) as net:
        client = Path(described(folder)["client_home"])
        dsn("put", file, "--scheme", "2/4", "--days", "1", home=client).check()
        dsn("devnet", "wait", "--dir", folder, "--epochs", "2").check()
        victim = next(each for each in net.processes if each.role == "node")
        pid = next(e["pid"] for e in described(folder)["processes"] if e["name"] == victim.name)
        os.kill(pid, signal.SIGKILL)
        dsn("devnet", "start", victim.name, "--dir", folder).check()
        dsn("devnet", "wait", "--dir", folder, "--epochs", "1").check()
        for each in described(folder)["processes"]:
            if each["role"] == "node":
                fields = dsn("provider", "status", "--json", home=Path(each["home"])).check().fields
                assert fields["epochs_missed"] == 0, each["name"]
                assert fields["epochs_proven"] >= 2, each["name"]
                assert fields["answers_bytes"] > 0
