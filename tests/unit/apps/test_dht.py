"""The DHT as one process sees it, over real connections: who is found, and who is believed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from dsn.apps import dht as module
from dsn.apps.dht import SEEDS, SILENT_S, Dht, Search
from dsn.core.keys import node_id_of
from dsn.dht.contact import Contact
from dsn.dht.distance import bucket_of, nearest
from dsn.dht.record import Record
from dsn.dht.regions import Regions
from dsn.dht.routing import BUCKET_SIZE, FAILURES
from dsn.errors import ConfigError, TooMany, Unreachable
from dsn.ids import NodeId
from dsn.machines.lookup import Outcome
from dsn.machines.upkeep import join
from dsn.rpc.tls import Caller
from dsn.v1 import dht_pb2
from dsn.wire.convert import contact_to_wire
from tests.support.dht_world import CLIENT, Raw, Silent, World, opened, until
from tests.support.records import NOW_S, OTHER_NETWORK, SEQUENCE, key, node_record, pointer, slot

SEED = 20_260_101
CLOSED = "127.0.0.1:1"
"""Where nobody answers."""


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with opened(tmp_path, monkeypatch) as world:
        yield world


def dead(number: int) -> Contact:
    return Contact(key(number).public, CLOSED)


def ids(search: Search) -> list[NodeId]:
    return [each.node_id for each in search.lookup.closest()]


def outcomes(search: Search) -> dict[NodeId, Outcome]:
    return {hop.contact.node_id: hop.outcome for hop in search.lookup.hops}


# finding nodes


async def test_a_network_that_grew_from_one_seed(world: World) -> None:
    """Everybody finds everybody, and lookups find whom brute force finds."""
    nodes = await world.grow(BUCKET_SIZE + 4)
    client = await world.client(nodes[0].contact)
    rng = Random(SEED)
    for target in [rng.randbytes(32) for _ in range(6)]:
        truth = world.nearest(target)
        assert ids(await client.find_nodes(target)) == truth, f"seed {SEED}"
        seeker = rng.choice(nodes)
        others = [each for each in world.nearest(target, BUCKET_SIZE + 1) if each != seeker.node_id]
        found = ids(await seeker.dht.find_nodes(target))
        assert found == others[:BUCKET_SIZE], f"seed {SEED}"
    for seeker in nodes[::12]:
        for sought in nodes:
            assert await seeker.dht.locate(sought.node_id) == sought.contact
    for each in nodes:
        assert client.table.me not in {contact.node_id for contact in each.dht.table}
        assert len(each.dht.table) >= BUCKET_SIZE


async def test_a_node_that_moved_is_found_where_it_is(world: World) -> None:
    nodes = await world.grow(6)
    client = await world.client(nodes[0].contact)
    assert await client.locate(nodes[3].node_id) == nodes[3].contact
    await world.stop(nodes[3])
    moved = await world.start(3, nodes[0].contact)
    assert moved.contact.address != nodes[3].contact.address
    for seeker in (client, *(each.dht for each in world.nodes)):
        assert await seeker.locate(moved.node_id) == moved.contact
    for each in world.nodes[:-1]:
        await each.dht.find_nodes(moved.node_id)
        assert each.knows(moved.contact)


async def test_a_killed_node_leaves_the_tables(world: World) -> None:
    nodes = await world.grow(6)
    await world.stop(nodes[2])
    for each in world.nodes:
        for _ in range(FAILURES):
            await each.dht.find_nodes(nodes[2].node_id)
            world.clock.advance(SILENT_S)
        assert each.dht.table.get(nodes[2].node_id) is None
        assert len(each.dht.table) == 4
        assert nodes[2].node_id not in ids(await each.dht.find_nodes(nodes[2].node_id))


async def test_it_begins_with_the_address_book_and_the_network_file(world: World) -> None:
    listed, known = dead(1), [dead(number) for number in range(2, 2 * SEEDS)]
    client = await world.client(listed, Contact(CLIENT.public, CLOSED))
    assert client.seeds() == [listed], "never with itself"
    for each in known:
        client.book.good(each, 0.01, NOW_S)
    moved = replace(listed, address="127.0.0.1:2")
    client.book.good(moved, 0.001, NOW_S)
    client.book.good(moved, 0.001, NOW_S + 700)
    seeds = client.seeds()
    assert moved in seeds and listed not in seeds, "the book knows better where it is"
    assert len(seeds) == SEEDS


async def test_it_knows_where_whom_it_asked_was_and_else_what_was_said_last(world: World) -> None:
    there = await world.impostor(key(1), {})
    client = await world.client()
    false, other = replace(there, address=CLOSED), dead(2)
    client.book.heard(false, "file", NOW_S)
    assert client.contact(there.node_id) == false
    assert await client.ping(there)
    client.hear(false)
    client.hear(other)
    assert client.contact(there.node_id) == there
    assert client.contact(other.node_id) == other
    assert sorted(client.known(), key=repr) == sorted([there, other], key=repr)
    client.hear(replace(other, address="127.0.0.1:2"))
    assert client.contact(other.node_id) == replace(other, address="127.0.0.1:2")
    assert client.contact(node_id_of(key(3).public)) is None


async def test_it_remembers_only_so_many(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HEARD", 5)
    client = await world.client()
    for number in range(9):
        client.hear(dead(number))
        await client.ping(dead(number))
    assert client.known() == [dead(number) for number in range(4, 9)]
    assert list(client._silent) == client.known()


# silence


async def silent_world(
    world: World, count: int, target: bytes = bytes(32)
) -> tuple[Dht, list[Contact]]:
    """A client that knows a running network, and ``count`` frozen nodes nearest to ``target``."""
    nodes = await world.grow(5)
    silent = await world.silent()
    client = await world.client(nodes[0].contact)
    await client.run(join(client.table, client.seeds(), os.urandom))
    frozen = nearest(map(silent.contact, range(200)), target, count)
    for contact in frozen:
        client.table.seen(contact)
    return client, frozen


async def test_silence_costs_one_call_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, (frozen,) = await silent_world(world, 1)
    monkeypatch.setattr(module, "HARD_S", 1.0)
    for failures in range(1, FAILURES + 1):
        search = await client.find_nodes(bytes(32))
        assert outcomes(search)[frozen.node_id] is Outcome.FAILED
        assert (client.table.get(frozen.node_id) is None) == (failures == FAILURES)
        calls = client.calls["FindNode"]
        for _ in range(3):
            assert ids(await client.find_nodes(bytes(32))) == world.nearest(bytes(32))
        assert client.calls["FindNode"] == calls + 3 * len(world.nodes), "it was not asked again"
        world.clock.advance(SILENT_S)


async def test_a_lookup_goes_on_while_the_nearest_are_silent(world: World) -> None:
    """All questions that may be under way at once go to frozen nodes; none is waited for."""
    kept = slot(1, network=world.network_id)
    sought = bytes(kept.key)
    client, frozen = await silent_world(world, 3, sought)
    for each in world.nodes:
        assert await (await world.peer(each.contact)).store([(sought, kept.encode())]) == {}
    search = await client.find_records(sought, paths=1)
    assert search.newest == kept
    states = [outcomes(search).get(each.node_id) for each in frozen]
    assert set(states) <= {Outcome.ASKED, None}, "the hard timeout is far away"


async def test_who_calls_is_asked_again_at_once(world: World) -> None:
    """A node that is back says so by calling; the silence before it does not count."""
    running = await world.start(1)
    await world.stop(running)
    client = await world.client()
    assert not await client.ping(running.contact)
    back = await world.start(1, listen=running.contact.address)
    assert not await client.ping(back.contact)
    assert client.calls["Ping"] == 1
    assert await client.greet(back.contact)
    assert await client.ping(back.contact)
    assert list(client.table) == [back.contact]


async def test_all_may_be_forgiven(world: World) -> None:
    client = await world.client()
    await client.ping(dead(1))
    client.forgive()
    await client.ping(dead(1))
    assert client.calls["Ping"] == 2


async def test_whoever_would_be_replaced_is_pinged_first(world: World) -> None:
    """A full bucket: the oldest keeps its place if it answers, and loses it if it does not."""
    client = await world.client()
    there = [await world.impostor(key(number), {}) for number in range(40)]
    far = [each for each in there if bucket_of(client.table.me, each.node_id) == 255][:3]
    oldest, second, third = far
    filler = (dead(number) for number in range(100, 200))
    same = [each for each in filler if bucket_of(client.table.me, each.node_id) == 255]
    for contact in (oldest, *same[: BUCKET_SIZE - 1]):
        assert client.table.seen(contact) is None
    assert await client.ping(second)
    assert client.table.get(second.node_id) is None, "the oldest answered"
    assert client.table.get(oldest.node_id) == oldest
    assert client.calls["Ping"] == 2
    assert await client.ping(third)
    assert client.table.get(same[0].node_id) is None, "the next oldest did not"
    assert client.table.get(third.node_id) == third


async def test_nobody_says_that_all_are_on_another_network(world: World) -> None:
    running = await world.start(1)
    client = await world.client(dead(1), running.contact)
    assert isinstance(client.nobody(), Unreachable)
    client._connections = await world.connections(CLIENT, OTHER_NETWORK)
    assert ids(await client.find_nodes(bytes(32))) == []
    error = client.nobody()
    assert isinstance(error, ConfigError)
    assert error.detail_code == "other_network"


# liars


def naming(contacts: list[Contact]) -> Callable[..., dht_pb2.FindNodeReply]:
    """Names ``contacts``, whoever asks for what."""
    return lambda *_: dht_pb2.FindNodeReply(contacts=map(contact_to_wire, contacts))


def giving(raws: list[bytes], contacts: list[Contact]) -> Callable[..., dht_pb2.FindValueReply]:
    """Gives ``raws`` under any key, and names ``contacts``."""
    return lambda *_: dht_pb2.FindValueReply(records=raws, contacts=map(contact_to_wire, contacts))


def refusing(caller: Caller, request: dht_pb2.FindNodeRequest) -> dht_pb2.FindNodeReply:
    """Has no time, ever."""
    raise TooMany("come back tomorrow")


LIES = {
    "10,000 contacts": naming([Contact(n.to_bytes(32, "big"), CLOSED) for n in range(10_000)]),
    "one too many": naming([dead(number) for number in range(BUCKET_SIZE + 1)]),
    "no address": naming([dead(1), Contact(bytes(32), "nowhere")]),
    "no key": naming([dead(1), Contact(bytes(31), CLOSED)]),
    "more than a message": naming([Contact(bytes(32), "h" * 250 + ":1")] * 5_000),
    "no message": lambda *_: Raw(b"\xff\xff"),
    "a refusal": refusing,
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_reply_that_cannot_be_fails_only_who_gave_it(world: World, lie: str) -> None:
    nodes = await world.grow(3)
    liar = await world.impostor(key(7), {"FindNode": LIES[lie]})
    client = await world.client(liar, nodes[0].contact)
    search = await client.find_nodes(bytes(32))
    assert ids(search) == world.nearest(bytes(32))
    assert outcomes(search)[liar.node_id] is Outcome.FAILED
    assert len(search.lookup.hops) == 4, "nobody that it named was asked"
    assert {each.node_id for each in client.known()} == {each.node_id for each in nodes}


async def test_a_false_address_takes_nothing_from_a_node(world: World) -> None:
    """A liar names an honest node where nobody answers; it stays known where it is."""
    (honest,) = await world.grow(1)
    client = await world.client()
    assert await client.ping(honest.contact)
    false = [replace(honest.contact, address=f"127.0.0.1:{port}") for port in range(1, 9)]
    liar = await world.impostor(key(7), {"FindNode": naming(false[:1])})
    await client.find_nodes(honest.contact.node_id, [liar])
    for contact in false:
        assert not await client.ping(contact)
    assert client.calls["Ping"] == 1 + len(false)
    assert client.contact(honest.node_id) == honest.contact
    assert client.table.get(honest.node_id) == honest.contact
    entry = client.book.get(honest.node_id)
    assert entry is not None
    assert (entry.contact, entry.failing, entry.failures) == (honest.contact, False, 0)


async def test_a_node_that_lost_its_address_to_another_is_no_contact_there(world: World) -> None:
    """The port of a node that is gone now belongs to somebody else."""
    first = await world.start(1)
    client = await world.client()
    assert await client.ping(first.contact)
    await world.stop(first)
    other = await world.start(2, listen=first.contact.address)
    assert other.contact.address == first.contact.address
    assert not await client.ping(first.contact)
    assert await client.ping(other.contact)
    assert client.proven == {other.node_id: other.contact}


def invalid(world: World, sought: Record) -> list[bytes]:
    """Records that nobody may believe to be ``sought``."""
    ours = {"network": world.network_id}
    return [
        b"",
        b"\x00" * 4_097,
        slot(2, **ours).encode(),
        node_record(3, **ours).encode(),
        slot(1, network=OTHER_NETWORK, sequence=SEQUENCE + 9).encode(),
        slot(1, expires_s=NOW_S - 1, sequence=SEQUENCE + 9, **ours).encode(),
        slot(1, sequence=SEQUENCE + 10**12, **ours).encode(),
        replace(sought, sequence=SEQUENCE + 9).encode(),  # type: ignore[call-arg]
        sought.encode()[:-1],
    ]


async def test_what_may_not_be_believed_does_not_end_the_search(world: World) -> None:
    nodes = await world.grow(4)
    sought = slot(1, network=world.network_id)
    await (await world.peer(nodes[3].contact)).store([(bytes(sought.key), sought.encode())])
    lies = {"FindValue": giving(invalid(world, sought), [nodes[0].contact])}
    liars = [await world.impostor(key(number), lies) for number in range(7, 10)]
    client = await world.client(*liars)
    search = await client.find_records(bytes(sought.key), paths=1)
    assert search.records == [sought]
    hops = {hop.contact.node_id: hop for hop in search.lookup.hops}
    assert [hops[liar.node_id].values for liar in liars] == [0, 0, 0]
    assert [hops[liar.node_id].outcome for liar in liars] == [Outcome.ANSWERED] * 3
    nothing = await client.find_records(bytes(slot(5).key))
    assert (nothing.records, nothing.newest) == ([], None)


async def test_of_several_records_the_newest_counts(world: World) -> None:
    """Four paths; three lead to keepers of what was true before."""
    versions = [pointer(1, network=world.network_id, sequence=SEQUENCE + n) for n in (2, 9, 1, 5)]
    keepers = [
        await world.impostor(key(number), {"FindValue": giving([version.encode()], [])})
        for number, version in enumerate(versions)
    ]
    client = await world.client(*keepers)
    search = await client.find_records(bytes(versions[0].key))
    assert sorted(each.sequence for each in search.records) == [SEQUENCE + n for n in (1, 2, 5, 9)]
    assert search.newest == versions[1]


async def test_a_record_that_is_too_much_fails_only_who_gave_it(world: World) -> None:
    (honest,) = await world.grow(1)
    sought = slot(1, network=world.network_id)
    await (await world.peer(honest.contact)).store([(bytes(sought.key), sought.encode())])
    liar = await world.impostor(key(7), {"FindValue": giving([sought.encode()] * 21, [])})
    client = await world.client(liar, honest.contact)
    search = await client.find_records(bytes(sought.key))
    assert search.records == [sought]
    assert outcomes(search)[liar.node_id] is Outcome.FAILED


@pytest.mark.parametrize("addresses", [(), (CLOSED,)])
async def test_a_node_is_where_its_own_record_says(
    world: World, addresses: tuple[str, ...]
) -> None:
    said = node_record(3, network=world.network_id, addresses=addresses)
    teller = await world.impostor(key(7), {"FindValue": giving([said.encode()], [])})
    client = await world.client(teller)
    wanted = Contact(key(3).public, CLOSED) if addresses else None
    assert await client.locate(said.key) == wanted
    assert client.contact(said.key) == wanted


async def test_an_address_cannot_name_a_local_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """gRPC takes ``unix:12`` for the socket ``12`` here, if it is left to choose."""
    monkeypatch.chdir(tmp_path)
    local = Silent()
    server = await asyncio.get_running_loop().create_unix_server(lambda: local, "12")
    async with server, opened(tmp_path, monkeypatch, HARD_S=0.5) as world:
        client = await world.client()
        for address in ("unix:12", "ipv4:99", "xds:1"):
            assert not await client.ping(Contact(key(1).public, address))
        assert local.taken == 0


# regions


async def test_a_region_is_looked_up_once_a_minute(world: World) -> None:
    nodes = await world.grow(3)
    client = await world.client(nodes[0].contact)
    first = await client.region(bytes(32))
    calls = client.calls["FindNode"]
    assert {each.node_id for each in first.nodes} == {each.node_id for each in nodes}
    assert await client.region(b"\xff" * 32) is first, "fewer nodes than keep a record: all"
    assert client.calls["FindNode"] == calls
    world.clock.advance(Regions.TERM_S)
    again = await client.region(bytes(32))
    assert again == first and again is not first
    await world.stop(nodes[1])
    await client.ping(nodes[1].contact)
    assert len((await client.region(bytes(32))).nodes) == 2, "one of its nodes failed"


async def test_a_region_where_nobody_answers_is_not_remembered(world: World) -> None:
    client = await world.client(dead(1))
    assert (await client.region(bytes(32))).nodes == ()
    (late,) = await world.grow(1)
    client.book.good(late.contact, 0.01, NOW_S)
    assert (await client.region(bytes(32))).nodes == (late.contact,)


# what failing leaves behind


async def test_no_connection_stays_open_to_who_did_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path, monkeypatch, HARD_S=0.05) as world:
        client, silent = await world.client(), await world.silent()
        for number in range(10):
            assert not await client.ping(silent.contact(number))
        await until(lambda: not silent.open, "all connections are closed")
