"""Having records kept: few calls, none too large, and a true account of who keeps what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dsn.apps.announce import STORE_BYTES, Announced, announce, announce_shards
from dsn.core.hashing import sha256
from dsn.dht.contact import Contact
from dsn.dht.record import Record, parse_record
from dsn.dht.regions import Regions
from dsn.dht.routing import BUCKET_SIZE
from dsn.dht.shards import MAX_COMMITS, ShardBatch, ShardRecord, parse_batch
from dsn.errors import TooMany
from dsn.ids import Commit, NodeId
from dsn.rpc.dht import MOST_BATCHES, MOST_ENTRIES
from dsn.rpc.options import MAX_MESSAGE_BYTES
from dsn.rpc.tls import Caller
from dsn.v1 import dht_pb2
from tests.support.dht_world import Running, World, opened
from tests.support.records import NOW_S, SEQUENCE, batch, commits, key, pointer, slot

SEED = 20_260_102
CLOSED = "127.0.0.1:1"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with opened(tmp_path, monkeypatch) as world:
        yield world


def by_key(*records: Record) -> dict[bytes, bytes]:
    return {bytes(each.key): each.encode() for each in records}


def pointers(world: World, count: int, **fields: Any) -> list[Record]:
    """Files of one person."""
    return [
        pointer(1, network=world.network_id, core_hash=sha256(b"%d" % number), **fields)
        for number in range(count)
    ]


def kept(running: Running, keys: Iterable[bytes]) -> list[bytes]:
    """Those of ``keys`` that a node keeps a record under."""
    return [each for each in keys if running.keeper.find(each, NOW_S)]


@dataclass
class Shelf:
    """A node that takes whatever it is brought, until it has enough."""

    most: int = 1_000
    stored: list[dht_pb2.StoreRequest] = field(default_factory=list)

    def store(self, caller: Caller, request: dht_pb2.StoreRequest) -> dht_pb2.StoreReply:
        self.stored.append(request)
        if len(self.stored) > self.most:
            raise TooMany("enough")
        return dht_pb2.StoreReply()

    async def open(self, world: World, number: int) -> Contact:
        """Serve as key pair ``number``."""
        return await world.impostor(key(number), {"Store": self.store})


# what is sent


async def test_many_records_travel_in_few_messages(world: World) -> None:
    shelf = Shelf()
    client = await world.client(await shelf.open(world, 7))
    records = {sha256(b"%d" % number): b"x" * 100 for number in range(600)}
    done = await announce(client, records)
    assert [len(each.entries) for each in shelf.stored] == [MOST_ENTRIES, MOST_ENTRIES, 88]
    assert {each.key: each.record for one in shelf.stored for each in one.entries} == records
    assert (done.regions, done.calls, done.sent_bytes) == (1, 3, 600 * 132)
    assert done.keepers == dict.fromkeys(records, 1)
    assert not done.refused


async def test_no_message_is_too_large_for_the_wire(world: World) -> None:
    rng, shelf = Random(SEED), Shelf()
    client = await world.client(await shelf.open(world, 7))
    records = {rng.randbytes(32): rng.randbytes(rng.choice((4_096, 4_000))) for _ in range(600)}
    done = await announce(client, records)
    sizes = [sum(len(each.record) for each in one.entries) for one in shelf.stored]
    assert max(sizes) <= STORE_BYTES, f"seed {SEED}"
    assert min(sizes[:-1]) > STORE_BYTES - 4_096, f"seed {SEED}: no message is half empty"
    assert max(one.ByteSize() for one in shelf.stored) < MAX_MESSAGE_BYTES
    assert sum(done.keepers.values()) == len(records)


async def test_nothing_costs_nothing(world: World) -> None:
    client = await world.client(Contact(key(1).public, CLOSED))
    assert await announce(client, {}) == Announced()
    assert not client.calls


# who keeps what


async def test_every_node_of_a_small_network_keeps_every_record(world: World) -> None:
    nodes = await world.grow(4)
    client = await world.client(nodes[0].contact)
    records = by_key(*pointers(world, 5))
    done = await announce(client, records)
    assert done.keepers == dict.fromkeys(records, 4)
    assert (done.regions, done.calls) == (1, 4)
    for each in nodes:
        assert kept(each, records) == list(records)


async def test_records_go_to_the_nodes_nearest_to_their_keys(world: World) -> None:
    """In a network that is larger than a bucket: a lookup a region, and nobody is left out."""
    nodes = await world.grow(BUCKET_SIZE + 4)
    client = await world.client(nodes[0].contact)
    records = by_key(*pointers(world, 60))
    done = await announce(client, records)
    assert done.calls == done.regions * BUCKET_SIZE < len(records) * BUCKET_SIZE / 2
    for sought in records:
        keepers = {each.node_id for each in nodes if each.keeper.find(sought, NOW_S)}
        assert len(keepers) == done.keepers[sought] == BUCKET_SIZE
        assert len(keepers & set(world.nearest(sought))) >= BUCKET_SIZE // 2
    for sought in list(records)[::20]:
        assert (await client.find_records(sought)).newest is not None


async def test_who_has_it_already_is_not_told(world: World) -> None:
    nodes = await world.grow(3)
    client = await world.client(nodes[0].contact)
    records = by_key(*pointers(world, 2))
    first, second = records
    everybody = [each.node_id for each in nodes]
    told = {first: [*everybody[:2], NodeId(b"far away")], second: everybody}
    done = await announce(client, records, told)
    assert done.keepers == {first: 3, second: 3}, "those near are counted, told or not"
    assert [kept(each, records) for each in nodes] == [[], [], [first]]
    assert (done.calls, client.calls["Store"]) == (1, 1)


async def test_refusals_are_counted_and_a_newer_record_serves_as_well(world: World) -> None:
    nodes = await world.grow(3)
    client = await world.client(nodes[0].contact)
    older, newer = (slot(1, network=world.network_id, sequence=SEQUENCE + n) for n in range(2))
    expired = slot(2, network=world.network_id, expires_s=NOW_S - 1)
    await announce(client, by_key(newer))
    records = by_key(older, expired) | {b"k" * 32: slot(3, network=world.network_id).encode()}
    done = await announce(client, records)
    assert done.keepers[bytes(older.key)] == 3
    assert done.keepers[bytes(expired.key)] == done.keepers[b"k" * 32] == 0
    assert done.refused == {"stale_record": 3, "expired": 3, "foreign_key": 3}
    assert nodes[0].keeper.find(bytes(older.key), NOW_S) == [newer.encode()]


async def test_when_nobody_is_there_nobody_keeps_it(world: World) -> None:
    client = await world.client(Contact(key(1).public, CLOSED))
    records = by_key(*pointers(world, 3))
    done = await announce(client, records)
    assert (done.regions, done.calls, sum(done.keepers.values())) == (1, 0, 0)


async def test_who_fails_is_sent_no_more(world: World) -> None:
    good, bad = Shelf(), Shelf(most=1)
    client = await world.client(await good.open(world, 7), await bad.open(world, 8))
    records = {sha256(b"%d" % number): b"x" for number in range(3 * MOST_ENTRIES)}
    done = await announce(client, records)
    assert (len(good.stored), len(bad.stored)) == (3, 2)
    counts = sorted(done.keepers.values())
    assert counts == [1] * 2 * MOST_ENTRIES + [2] * MOST_ENTRIES
    assert done.calls == 5


async def test_a_session_that_writes_often_need_not_look_again(world: World) -> None:
    nodes = await world.grow(3)
    client = await world.client(nodes[0].contact)
    await announce(client, by_key(*pointers(world, 3)))
    looked = client.calls["FindNode"]
    done = await announce(client, by_key(slot(1, network=world.network_id)))
    assert (client.calls["FindNode"], done.regions) == (looked, 1)
    world.clock.advance(Regions.TERM_S)
    await announce(client, by_key(slot(2, network=world.network_id)))
    assert client.calls["FindNode"] > looked


async def test_costs_add_up() -> None:
    total = Announced()
    for _ in range(2):
        one = Announced(1, 2, 3)
        one.refused["expired"] = 4
        one.keepers[b"k"] = 5
        total.add(one)
    assert (total.regions, total.calls, total.sent_bytes) == (2, 4, 6)
    assert (total.refused, total.keepers) == ({"expired": 8}, {})


# shards


async def test_shards_are_announced_a_thousand_with_a_signature(world: World) -> None:
    shelf = Shelf()
    client = await world.client(await shelf.open(world, 7))
    signed: list[ShardBatch] = []

    def sign(part: Any) -> ShardBatch:
        signed.append(batch(3, commits=part, network=world.network_id))
        return signed[-1]

    many = sorted(commits(range(MOST_BATCHES * MAX_COMMITS + 1)))
    done = await announce_shards(client, many, sign)
    assert [len(each.batches) for each in shelf.stored] == [MOST_BATCHES, 1]
    brought = [parse_batch(raw) for each in shelf.stored for raw in each.batches]
    assert brought == signed
    assert [commit for each in brought for commit in each.commits] == many
    assert (done.regions, done.calls) == (1, 2)
    assert done.sent_bytes == sum(len(each.encode()) for each in signed)


async def test_who_holds_a_shard_is_found_by_its_commit(world: World) -> None:
    nodes = await world.grow(3)
    client = await world.client(nodes[0].contact)
    held = sorted(commits(range(10)))
    for number in (3, 4):
        await announce_shards(
            client, held, lambda part, n=number: batch(n, commits=part, network=world.network_id)
        )
    for each in nodes:
        found = [parse_record(raw) for raw in each.keeper.find(held[5], NOW_S)]
        assert all(isinstance(record, ShardRecord) for record in found)
        assert {record.signer for record in found} == {key(3).public, key(4).public}
    records = (await client.find_records(Commit(held[5]))).records
    assert {each.signer for each in records} == {key(3).public, key(4).public}
    assert (await announce_shards(client, [], batch)) == Announced()
