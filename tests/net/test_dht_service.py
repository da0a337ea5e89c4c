"""What a node answers to others, whatever they bring: refused with a code, counted, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from dsn.apps.node.dht import GREETERS
from dsn.core.hashing import sha256
from dsn.dht.contact import Contact
from dsn.dht.distance import nearest
from dsn.dht.keeping import MOST_A_PUBLISHER, MOST_BYTES
from dsn.dht.record import Record, parse_record, verify
from dsn.dht.shards import MAX_BATCH_BYTES, ShardBatch
from dsn.dht.signed import MAX_AHEAD_S
from dsn.errors import ConfigError, DsnError, MalformedMessage, TooMany
from dsn.rpc import tls
from dsn.rpc.dht import MOST_BATCHES, MOST_ENTRIES, MOST_VALUES, SERVICE, DhtPeer
from dsn.units import MIB
from dsn.v1 import dht_pb2
from dsn.wire.status import from_rpc_error
from tests.support.dht_world import LONG_S, Raw, Running, World, eventually, opened, until
from tests.support.records import (
    DAY_S,
    NOW_S,
    OTHER_NETWORK,
    SEQUENCE,
    batch,
    commits,
    key,
    node_record,
    pointer,
    slot,
)

GOOD, BAD = key(501), key(502)
CLOSED = "127.0.0.1:1"
"""Where nobody answers."""


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with opened(tmp_path, monkeypatch) as world:
        yield world


@pytest.fixture
async def served(world: World) -> Running:
    """One node, whom the others bring things."""
    return await world.start(1)


async def refusal(call: Awaitable[object]) -> DsnError:
    """Why ``call`` failed."""
    with pytest.raises(DsnError) as caught:
        await call
    return caught.value


async def still_serves(world: World, served: Running) -> None:
    """Whatever came before, a stranger's record is kept and found."""
    peer = await world.peer(served.contact, who=GOOD)
    good = slot(77, network=world.network_id)
    assert await peer.store([entry(good)]) == {}
    assert (await peer.find_value(bytes(good.key))).records == (good.encode(),)


def entry(record: Record) -> tuple[bytes, bytes]:
    return bytes(record.key), record.encode()


# records


async def test_hostile_records_are_refused_each_for_its_reason(
    world: World, served: Running
) -> None:
    ours = {"network": world.network_id}
    peer = await world.peer(served.contact, who=BAD)
    assert await peer.store([entry(slot(1, sequence=SEQUENCE + 1, **ours))]) == {}
    forged = replace(slot(2, **ours), signature=bytes(64))
    shard = batch(4, **ours).record(commits([0])[0])
    brought = [
        ("", entry(slot(3, **ours))),
        ("invalid_signature", entry(forged)),
        ("stale_record", entry(slot(1, **ours))),
        ("other_network", entry(slot(4, network=OTHER_NETWORK))),
        ("expired", entry(slot(5, expires_s=NOW_S - 1, **ours))),
        ("from_future", entry(slot(5, sequence=SEQUENCE + 2 * MAX_AHEAD_S * 10**6, **ours))),
        ("bad_expiry", entry(node_record(5, expires_s=NOW_S + DAY_S + 1, **ours))),
        ("too_large", entry(slot(6, body=bytes(4_096), **ours))),
        ("foreign_key", (bytes(slot(6).key), slot(7, **ours).encode())),
        ("foreign_key", (b"no key", slot(7, **ours).encode())),
        ("malformed_message", (b"k" * 32, b"")),
        ("malformed_message", entry(shard)),
        ("", entry(node_record(8, **ours))),
    ]
    codes = {at: code for at, (code, _) in enumerate(brought) if code}
    assert await peer.store([each for _, each in brought]) == codes
    assert dict(served.keeper.refused) == {
        code: list(codes.values()).count(code) for code in codes.values()
    }
    assert len(served.keeper) == 3
    await still_serves(world, served)


async def test_hostile_batches_are_refused_each_for_its_reason(
    world: World, served: Running
) -> None:
    ours = {"network": world.network_id}
    peer = await world.peer(served.contact, who=BAD)
    good, twisted = batch(1, range(5), **ours), batch(2, range(9), **ours)
    twisted = replace(twisted, commits=(*commits([100]), *twisted.commits[1:]))
    brought = [
        ("", good.encode()),
        ("", good.encode()),
        ("other_network", batch(2, network=OTHER_NETWORK).encode()),
        ("expired", batch(2, expires_s=NOW_S - 1, **ours).encode()),
        ("invalid_signature", replace(batch(2, **ours), signature=bytes(64)).encode()),
        ("stale_record", batch(1, range(3), sequence=SEQUENCE - 1, **ours).encode()),
        ("too_large", bytes(MAX_BATCH_BYTES + 1)),
        ("malformed_message", b"no batch"),
    ]
    codes = {at: code for at, (code, _) in enumerate(brought) if code}
    assert await peer.store([], [raw for _, raw in brought]) == codes
    assert (await peer.store([], [_sorted(twisted)]))[0] == "invalid_proof"
    found = await peer.find_value(commits([3])[0])
    assert [parse_record(raw).encode() for raw in found.records] == list(found.records)
    verify(parse_record(found.records[0]), world.network_id, world.clock.now_s())
    assert (len(found.records), len(served.keeper)) == (1, 1)
    await still_serves(world, served)


def _sorted(made: ShardBatch) -> bytes:
    """Commits that were not signed, in the order that a batch has them."""
    return replace(made, commits=tuple(sorted(made.commits))).encode()


async def test_one_publisher_gets_no_more_than_its_share(world: World, served: Running) -> None:
    """10,000 records are brought; the quota holds, and others still find room."""
    many = [
        entry(pointer(9, network=world.network_id, core_hash=sha256(b"%d" % number)))
        for number in range(10_000)
    ]
    peer = await world.peer(served.contact, who=BAD)
    refused: list[str] = []
    for at in range(0, len(many), MOST_ENTRIES):
        refused += (await peer.store(many[at : at + MOST_ENTRIES])).values()
    assert set(refused) == {"publisher_quota"}
    assert served.keeper.refused["publisher_quota"] == len(refused) == 10_000 - MOST_A_PUBLISHER
    assert len(served.keeper) == MOST_A_PUBLISHER
    assert served.keeper.size_bytes < MOST_BYTES / 8
    await still_serves(world, served)


async def test_the_same_record_again_costs_no_quota_and_is_no_offence(
    world: World, served: Running
) -> None:
    peer = await world.peer(served.contact, who=BAD)
    again = [entry(slot(1, network=world.network_id))] * MOST_ENTRIES
    assert await peer.store(again) == {}
    assert (len(served.keeper), dict(served.keeper.refused)) == (1, {})


# messages


METHODS = ("Ping", "FindNode", "FindValue", "Store")


async def test_what_is_no_message_is_refused(world: World, served: Running) -> None:
    line = (await world.connections(BAD)).line(served.contact)
    request: Any = Raw(b"\xff\xff")
    for method in METHODS:
        path = f"/{SERVICE}/{method}"
        error = await refusal(line.unary(path, request, dht_pb2.PingReply, LONG_S))
        assert isinstance(error, MalformedMessage)
        assert error.detail_code == "malformed_message"
    await still_serves(world, served)


async def test_keys_have_32_bytes(world: World, served: Running) -> None:
    peer = await world.peer(served.contact, who=BAD)
    for size in (0, 31, 33):
        for call in (peer.find_node(bytes(size)), peer.find_value(bytes(size))):
            assert (await refusal(call)).detail_code == "malformed_message"


async def test_a_message_holds_only_so_much(world: World, served: Running) -> None:
    peer = await world.peer(served.contact, who=BAD)
    record = entry(slot(1, network=world.network_id))
    announced = batch(1, network=world.network_id).encode()
    for call in (
        peer.store([record] * (MOST_ENTRIES + 1)),
        peer.store([], [announced] * (MOST_BATCHES + 1)),
    ):
        assert isinstance(await refusal(call), TooMany)
    assert len(served.keeper) == 0
    assert await peer.store([record] * MOST_ENTRIES) == {}
    assert await peer.store([], [announced] * MOST_BATCHES) == {}


async def test_a_message_over_a_mebibyte_is_not_even_read(world: World, served: Running) -> None:
    channel = grpc.aio.secure_channel(
        served.contact.address,
        tls.channel_credentials(tls.client_leaf(BAD), served.contact.public_key),
        options=(("grpc.ssl_target_name_override", tls.target_name(served.node_id)),),
    )
    async with channel:
        call: Any = channel.unary_unary(f"/{SERVICE}/Store")
        request = dht_pb2.StoreRequest(batches=[bytes(2 * MIB)]).SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, metadata=(("dsn-network", world.network_id.hex()),))
    assert isinstance(from_rpc_error(caught.value), TooMany)
    await still_serves(world, served)


async def test_a_caller_that_serves_nowhere_is_refused(world: World, served: Running) -> None:
    for address in ("nowhere", "127.0.0.1:0", "127.0.0.1:70000", "127.1:80", "h" * 300 + ":80"):
        peer = await world.peer(served.contact, who=BAD, address=address)
        calls = [peer.ping(), peer.ping(call_back=True), peer.find_node(bytes(32))]
        for call in (*calls, peer.find_value(bytes(32)), peer.store([])):
            assert (await refusal(call)).detail_code == "bad_contact"


async def test_a_hint_that_is_no_contact_is_refused(world: World, served: Running) -> None:
    peer = await world.peer(served.contact, who=BAD)
    for hint in (Contact(b"short", CLOSED), Contact(bytes(32), "nowhere")):
        assert (await refusal(peer.ping(hint=hint))).detail_code == "bad_contact"


async def test_whoever_is_of_another_network_is_told_so(world: World, served: Running) -> None:
    peer = await world.peer(served.contact, who=GOOD, network=OTHER_NETWORK)
    calls: list[Callable[[], Awaitable[object]]] = [
        peer.ping,
        lambda: peer.find_node(bytes(32)),
        lambda: peer.find_value(bytes(32)),
        lambda: peer.store([entry(slot(1, network=OTHER_NETWORK))]),
    ]
    for call in calls:
        error = await refusal(call())
        assert isinstance(error, ConfigError)
        assert error.detail_code == "other_network"
    assert (len(served.keeper), dict(served.keeper.refused)) == (0, {})


# answers


async def test_a_node_gives_its_own_record_that_of_what_it_holds_and_those_it_keeps(
    world: World, served: Running
) -> None:
    peer = await world.peer(served.contact)
    own = (await peer.ping()).record
    verify(parse_record(own), world.network_id, world.clock.now_s())
    assert (await peer.find_value(served.node_id)).records == (own,)
    held, kept = (pointer(1, network=world.network_id, sequence=SEQUENCE + n) for n in range(2))
    await served.store.put_records([entry(held)])
    await peer.store([entry(kept)])
    found = (await peer.find_value(bytes(kept.key))).records
    assert found == (held.encode(), kept.encode())
    assert (await peer.find_value(b"?" * 32)).records == ()


async def test_a_node_names_the_nearest_it_knows_but_never_the_caller(world: World) -> None:
    first, *others = await world.grow(5)
    for target in (bytes(32), b"\xff" * 32, first.node_id):
        peer = await world.peer(first.contact)
        wanted = nearest([each.contact for each in others], target, 20)
        assert await peer.find_node(target) == wanted
        assert (await peer.find_value(target)).contacts == wanted
    for other in others:
        peer = await world.peer(first.contact, who=other.key, address=other.contact.address)
        assert other.contact not in await peer.find_node(bytes(32))


async def test_no_more_values_than_an_answer_takes(world: World, served: Running) -> None:
    peer = await world.peer(served.contact)
    made = [batch(number, [7], network=world.network_id).encode() for number in range(30)]
    refused = await peer.store([], made)
    assert set(refused.values()) <= {"holders_full"}
    assert len((await peer.find_value(commits([7])[0])).records) == MOST_VALUES


# calling back


async def test_a_caller_gets_a_place_once_it_was_called_back(world: World) -> None:
    first, second = await world.grow(2)
    assert first.knows(second.contact)
    client = await world.client(first.contact)
    await client.find_nodes(bytes(32))
    await until(lambda: second.knows(first.contact), "both know each other")
    assert [each.node_id for each in first.dht.table] == [second.node_id]
    assert [each.node_id for each in second.dht.table] == [first.node_id]


async def test_who_has_a_place_is_not_called_back_again(world: World, served: Running) -> None:
    there = await world.impostor(GOOD, {})
    peer = await world.peer(served.contact, who=GOOD, address=there.address)
    await peer.ping()
    await until(lambda: served.knows(there), "the caller has a place")
    calls = served.dht.calls["Ping"]
    for _ in range(5):
        await peer.ping()
        await peer.find_node(bytes(32))
    assert served.dht.calls["Ping"] == calls


async def called_back(running: Running, contact: Contact) -> None:
    """Wait until ``contact`` was called and did not answer as itself."""
    await until(lambda: contact in running.dht._silent, f"{contact.address} was called back")


@pytest.mark.parametrize("lie", ["nobody is there", "somebody else is there"])
async def test_who_cannot_be_called_back_gets_no_place(
    world: World, served: Running, lie: str
) -> None:
    other = await world.impostor(GOOD, {})
    address = CLOSED if lie == "nobody is there" else other.address
    peer = await world.peer(served.contact, who=BAD, address=address)
    await peer.find_node(bytes(32))
    await called_back(served, Contact(BAD.public, address))
    assert len(served.dht.table) == 0
    assert served.dht.contact(Contact(BAD.public, address).node_id) is None


async def test_whoever_asks_learns_whether_it_can_be_called(world: World, served: Running) -> None:
    there = await world.impostor(GOOD, {})
    honest = await world.peer(served.contact, who=GOOD, address=there.address)
    assert (await honest.ping(call_back=True)).reachable
    assert served.knows(there)
    for who, address in ((BAD, there.address), (BAD, CLOSED), (BAD, "")):
        peer = await world.peer(served.contact, who=who, address=address)
        assert not (await peer.ping(call_back=True)).reachable
    assert list(served.dht.table) == [there]


async def test_one_caller_is_called_back_once_at_a_time(world: World, served: Running) -> None:
    silent = await world.silent()
    peer = await world.peer(served.contact, who=BAD, address=silent.address)
    for _ in range(50):
        await peer.ping()
    await until(lambda: silent.taken, "the caller was called back")
    for _ in range(50):
        await peer.ping()
    assert silent.taken == 1
    await still_serves(world, served)


@pytest.mark.parametrize("ask", [DhtPeer.ping, lambda peer: peer.ping(call_back=True)])
async def test_a_crowd_that_names_one_address_is_called_back_a_few_at_a_time(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[DhtPeer], Awaitable[object]],
) -> None:
    crowd = 40
    async with opened(tmp_path, monkeypatch, HARD_S=0.2) as world:
        served, silent = await world.start(1), await world.silent()
        async with asyncio.TaskGroup() as calls:
            for number in range(crowd):
                peer = await world.peer(served.contact, who=key(number), address=silent.address)
                calls.create_task(ask(peer))
        everybody = [silent.contact(number) for number in range(crowd)]
        await until(lambda: served.dht._silent.keys() >= set(everybody), "all were called back")
        assert silent.most_open <= 2 * GREETERS, "with those that are just being closed"
        assert len(served.dht.table) == 0
        there = await world.impostor(GOOD, {})
        honest = await world.peer(served.contact, who=GOOD, address=there.address)

        async def let_in() -> bool:
            await honest.ping()
            return served.knows(there)

        await eventually(let_in, "an honest caller is called back after them")


async def test_a_node_that_stops_keeps_no_caller_waiting(world: World, served: Running) -> None:
    silent = await world.silent()
    async with asyncio.TaskGroup() as calls:
        waiting = []
        for number in range(GREETERS + 2):
            peer = await world.peer(served.contact, who=key(number), address=silent.address)
            waiting.append(calls.create_task(peer.ping(call_back=True)))
        await until(lambda: silent.taken == GREETERS, "some are called, the others wait")
        await world.stop(served)
    assert [each.result().reachable for each in waiting] == [False] * len(waiting)
