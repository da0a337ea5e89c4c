"""Each step of a search as it was, and the routing table for people."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsn.apps.dht import SILENT_S
from dsn.apps.trace import peers_of, trace, traces
from dsn.dht.contact import Contact
from dsn.dht.distance import bucket_of, shared_bits
from dsn.dht.record import Record
from dsn.errors import UsageError
from dsn.ids import ID_BYTES, format_base32, format_node_id
from tests.support.dht_world import World, opened
from tests.support.records import NOW_S, SEQUENCE, batch, commits, key, node_record, pointer, slot

CLOSED = "127.0.0.1:1"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with opened(tmp_path, monkeypatch) as world:
        yield world


async def test_every_step_is_told(world: World) -> None:
    nodes = await world.grow(5)
    client = await world.client(nodes[0].contact)
    target = nodes[3].node_id
    found = await trace(client, target, world.clock)
    assert json.loads(json.dumps(found)) == found
    assert found["key"] == format_base32(target)
    (record,) = found["found"]
    assert record["kind"] == "node"
    assert record["addresses"] == [nodes[3].contact.address]
    assert record["roles"] == ["provider"]
    assert record["sequence"] > SEQUENCE - 1 and record["expires"] > NOW_S
    hops = found["hops"]
    assert found["calls"] == len(hops) == client.calls["FindValue"]
    assert found["depth"] == max(hop["depth"] for hop in hops if hop["outcome"] == "answered")
    first = hops[0]
    assert (first["node_id"], first["depth"], first["path"]) == (
        format_node_id(nodes[0].node_id),
        1,
        0,
    )
    assert first["address"] == nodes[0].contact.address
    assert first["shared_bits"] == shared_bits(nodes[0].node_id, target)
    for hop in hops:
        assert 0 <= hop["asked_ms"] <= found["milliseconds"]
        assert hop["took_ms"] >= 0
    assert [hop["outcome"] for hop in hops if hop["records"]] == ["answered"]


async def test_silence_is_a_step_too(world: World) -> None:
    (running,) = await world.grow(1)
    client = await world.client(running.contact, Contact(key(1).public, CLOSED))
    found = await trace(client, bytes(32), world.clock)
    assert sorted(hop["outcome"] for hop in found["hops"]) == ["answered", "failed"]
    assert (found["found"], found["depth"], found["calls"]) == ([], 1, 2)
    nothing = await trace(await world.client(), bytes(32), world.clock)
    assert (nothing["found"], nothing["depth"], nothing["hops"]) == ([], 0, [])


async def test_paths_are_told_apart(world: World) -> None:
    nodes = await world.grow(6)
    client = await world.client(*(each.contact for each in nodes[:3]))
    found = await trace(client, bytes(32), world.clock, paths=3)
    assert {hop["path"] for hop in found["hops"]} == {0, 1, 2}
    asked = [hop["node_id"] for hop in found["hops"]]
    assert len(asked) == len(set(asked)), "no node is asked on two paths"


async def test_every_kind_of_record_is_described(world: World) -> None:
    (running,) = await world.grow(1)
    client = await world.client(running.contact)
    ours = {"network": world.network_id}
    records: list[Record] = [pointer(1, **ours), slot(2, **ours), node_record(3, **ours)]
    peer = await world.peer(running.contact)
    assert await peer.store([(bytes(each.key), each.encode()) for each in records]) == {}
    assert await peer.store([], [batch(4, range(2), **ours).encode()]) == {}
    keys = [bytes(each.key) for each in records] + commits([1])
    found = await traces(client, [format_base32(each) for each in keys], 1, world.clock)
    kinds = [each["found"][0]["kind"] for each in found]
    assert kinds == ["pointer", "slot", "node", "shard"]
    assert found[3]["found"][0]["holder"] == format_node_id(batch(4, **ours).holder)
    assert {each["found"][0]["sequence"] for each in found} == {SEQUENCE}


async def test_a_key_that_is_none_is_refused(world: World) -> None:
    with pytest.raises(UsageError):
        await traces(await world.client(), ["no key"], 1, world.clock)


async def test_the_routing_table_for_people(world: World) -> None:
    nodes = await world.grow(4)
    dht = nodes[0].dht
    dht.book.heard(nodes[1].contact, "lan", NOW_S)
    dht.table.seen(Contact(key(1).public, CLOSED))
    await dht.ping(nodes[2].contact)
    world.clock.ahead_s += 60
    rows = peers_of(dht, world.clock.now_s())
    assert json.loads(json.dumps(rows)) == rows
    assert [row["bucket"] for row in rows] == sorted(row["bucket"] for row in rows)
    by_address = {row["address"]: row for row in rows}
    assert by_address.keys() == {*(each.contact.address for each in nodes[1:]), CLOSED}
    asked = by_address[nodes[2].contact.address]
    assert asked["node_id"] == format_node_id(nodes[2].node_id)
    assert asked["bucket"] == bucket_of(nodes[0].node_id, nodes[2].node_id) < 8 * ID_BYTES
    assert asked["source"] == "peer"
    assert 60 <= asked["answered_s"] < 60 + SILENT_S
    assert asked["latency_ms"] > 0 and 0.5 < asked["score"] < 1
    assert by_address[nodes[1].contact.address]["source"] == "lan"
    unknown = by_address[CLOSED]
    assert (unknown["latency_ms"], unknown["answered_s"], unknown["score"]) == (None, None, 0.5)
