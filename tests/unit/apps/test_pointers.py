"""Publishing what a session stores, and what a node takes of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.dht import Dht
from dsn.apps.node import pointers as keeping
from dsn.apps.nodes import Nodes
from dsn.apps.pointers import Pointers
from dsn.dht.contact import Contact
from dsn.errors import TooMany, Unreachable
from dsn.wire.status import RetryLater
from tests.support.dht_world import CLIENT, Running, World, opened
from tests.support.records import NOW_S, OTHER_NETWORK, SEQUENCE, key, slot

CLOSED = "127.0.0.1:1"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with opened(tmp_path, monkeypatch) as world:
        yield world


async def session(world: World, *seeds: Contact) -> tuple[Pointers, Nodes, Dht]:
    """What a client publishes through."""
    nodes = await world.client_nodes(*seeds)
    return Pointers(nodes), nodes, nodes.dht


# to the network


async def test_what_waits_is_published_once(world: World) -> None:
    running = await world.grow(3)
    pointers, _, dht = await session(world, running[0].contact)
    records = [slot(number, network=world.network_id) for number in range(3)]
    for record in records:
        pointers.add(record, [running[1].node_id])
    assert not dht.calls, "nothing before flush"
    await pointers.flush()
    for record in records:
        assert (await dht.find_records(bytes(record.key))).newest == record
        assert running[1].keeper.find(bytes(record.key), NOW_S) == [], "it has it already"
    calls = dict(dht.calls)
    await pointers.flush()
    assert dht.calls == calls


async def test_of_one_key_the_newest_is_published(world: World) -> None:
    (running,) = await world.grow(1)
    pointers, _, _ = await session(world, running.contact)
    old, new = (slot(1, network=world.network_id, sequence=SEQUENCE + n) for n in range(2))
    pointers.add(new, [])
    pointers.add(old, [running.node_id])
    await pointers.flush()
    assert running.keeper.find(bytes(new.key), NOW_S) == [new.encode()]


async def test_what_nobody_keeps_is_not_published(world: World) -> None:
    pointers, _, _ = await session(world, Contact(key(1).public, CLOSED))
    pointers.add(slot(1, network=world.network_id), [])
    with pytest.raises(Unreachable) as caught:
        await pointers.flush()
    assert caught.value.detail_code == "not_published"
    assert "1 of 1 records found no keeper (no node answers)" in caught.value.message
    assert caught.value.hint


async def test_why_nobody_keeps_it_is_told(world: World) -> None:
    (running,) = await world.grow(1)
    pointers, _, _ = await session(world, running.contact)
    pointers.add(slot(1, network=world.network_id), [])
    pointers.add(slot(2, network=world.network_id, expires_s=NOW_S - 1), [])
    with pytest.raises(Unreachable) as caught:
        await pointers.flush()
    assert "1 of 2 records found no keeper (expired)" in caught.value.message


# to those who hold what it points to


async def held(running: Running, record_key: bytes) -> bytes | None:
    return await running.store.get_record(record_key)


async def test_holders_get_the_record_and_publish_it_from_then_on(world: World) -> None:
    running = await world.grow(3)
    pointers, nodes, dht = await session(world, running[0].contact)
    await dht.find_nodes(bytes(32))
    record = slot(1, network=world.network_id)
    await pointers.hold(record, [each.node_id for each in running[:2]])
    await pointers.flush()
    sought = bytes(record.key)
    assert [await held(each, sought) for each in running] == [record.encode()] * 2 + [None]
    assert [each.keeper.find(sought, NOW_S) for each in running] == [[], [], [record.encode()]]
    assert not nodes.late


async def test_a_holder_that_is_gone_is_late_and_the_others_do(world: World) -> None:
    running = await world.grow(3)
    pointers, nodes, dht = await session(world, running[0].contact)
    await dht.find_nodes(bytes(32))
    await world.stop(running[2])
    record = slot(1, network=world.network_id)
    await pointers.hold(record, [running[1].node_id, running[2].node_id])
    assert nodes.late == {running[2].node_id}
    assert await held(running[1], bytes(record.key)) == record.encode()


async def test_a_record_that_no_holder_takes(world: World) -> None:
    running = await world.grow(2)
    pointers, nodes, dht = await session(world, running[0].contact)
    await dht.find_nodes(bytes(32))
    everybody = [each.node_id for each in running]
    for record in (
        slot(1, network=world.network_id, expires_s=NOW_S - 1),
        slot(1, network=OTHER_NETWORK),
        replace(slot(1, network=world.network_id), signature=bytes(64)),
    ):
        with pytest.raises(Unreachable) as caught:
            await pointers.hold(record, everybody)
        assert caught.value.message.startswith("no holder took the record: ")
    assert [await held(each, bytes(slot(1).key)) for each in running] == [None, None]
    assert nodes.late == set(everybody)
    await pointers.flush()
    assert not dht.calls["Store"], "what nobody took is not published"


async def test_a_holder_with_a_newer_record_needs_no_older_one(world: World) -> None:
    (running,) = await world.grow(1)
    pointers, nodes, dht = await session(world, running.contact)
    await dht.find_nodes(bytes(32))
    old, new = (slot(1, network=world.network_id, sequence=SEQUENCE + n) for n in range(2))
    await pointers.hold(new, [running.node_id])
    await pointers.hold(old, [running.node_id])
    assert await held(running, bytes(new.key)) == new.encode()
    assert not nodes.late


async def test_without_holders_the_network_alone_keeps_it(world: World) -> None:
    (running,) = await world.grow(1)
    pointers, _, dht = await session(world, running.contact)
    record = slot(1, network=world.network_id)
    await pointers.hold(record, [])
    await pointers.flush()
    assert (await dht.find_records(bytes(record.key))).newest == record


# what a node takes


async def test_new_records_without_shards_are_rationed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget of keys an hour for every caller; what is there already may always be renewed."""
    monkeypatch.setattr(keeping, "NEW_RECORDS_AN_HOUR", 3)
    running = await world.start(1)
    greedy = (await world.connections(CLIENT)).peer(running.contact)
    other = (await world.connections(key(501))).peer(running.contact)
    many = [slot(number, network=world.network_id).encode() for number in range(5)]
    assert await greedy.put_pointers(many) == {3: "too_many", 4: "too_many"}
    renewed = slot(1, network=world.network_id, sequence=SEQUENCE + 1)
    assert await greedy.put_pointers([renewed.encode(), many[0]]) == {}
    assert await greedy.get_pointer(bytes(renewed.key)) == renewed.encode()
    assert await greedy.get_pointer(bytes(slot(4).key)) is None
    assert await other.put_pointers(many[3:]) == {}
    world.clock.advance(1_200)
    fresh = [slot(number, network=world.network_id).encode() for number in (10, 11)]
    assert await greedy.put_pointers(fresh) == {1: "too_many"}


async def test_too_many_records_in_one_request(world: World) -> None:
    running = await world.start(1)
    peer = (await world.connections()).peer(running.contact)
    record = slot(1, network=world.network_id).encode()
    with pytest.raises(TooMany) as caught:
        await peer.put_pointers([record] * (keeping.MOST_RECORDS + 1))
    assert not isinstance(caught.value, RetryLater), "it will never fit"
    assert await peer.put_pointers([record] * keeping.MOST_RECORDS) == {}
