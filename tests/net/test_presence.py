"""A node in its network: it gets in, stays findable, and keeps what it holds findable."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
import structlog.testing

from dsn.apps.node.presence import OwnRecord
from dsn.apps.node.terms import Self, Terms
from dsn.dht.contact import Contact
from dsn.dht.node_record import NODE_TERM_S, REPUBLISH_S, NodeRecord
from dsn.dht.record import Record, parse_record, verify
from dsn.dht.shards import ShardRecord
from dsn.ids import format_base32, format_node_id, parse_base32
from dsn.ports import Space
from dsn.rpc.tls import Caller
from dsn.v1 import dht_pb2
from tests.support.dht_world import HOUR_S, Clock, Running, World, eventually, opened, until
from tests.support.records import NETWORK, NOW_S, OTHER_NETWORK, key, node_record, pointer, slot
from tests.support.shard_stores import put, shard

SEED = 20_260_103
CLOSED = "127.0.0.1:1"
OFTEN_S = 0.02


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world whose nodes often look whether they have to announce anything."""
    async with opened(tmp_path, monkeypatch, LOOK_S=OFTEN_S, RETRY_S=(OFTEN_S, OFTEN_S)) as world:
        yield world


def kept(keeper: Running, sought: bytes) -> list[Record]:
    """What ``keeper`` was brought under a key."""
    return [parse_record(raw) for raw in keeper.keeper.find(sought, keeper.dht._clock.now_s())]


def kept_of(keeper: Running, owner: Running) -> NodeRecord | None:
    """What ``keeper`` was told of ``owner``."""
    (found,) = kept(keeper, owner.node_id) or (None,)
    assert found is None or isinstance(found, NodeRecord)
    return found


# getting in


async def test_a_node_is_announced_when_it_is_in(world: World) -> None:
    first, second = await world.grow(2)
    record = kept_of(first, second)
    assert record is not None
    assert record.addresses == (second.contact.address,)
    assert record.roles == ("provider",)
    assert second.presence.reachable
    assert second.presence.cost.calls == 1


async def test_the_first_of_a_network_is_announced_once_there_are_others(world: World) -> None:
    first = await world.start(0)
    assert first.presence.cost.calls == 0
    second = await world.start(1, first.contact)
    await until(lambda: kept_of(second, first), "the second keeps the record of the first")


async def test_a_node_waits_until_somebody_lets_it_in(world: World) -> None:
    seed = await world.start(0)
    await world.stop(seed)
    with structlog.testing.capture_logs() as logs:
        late = await world.begin(1, seed.contact)
        await until(lambda: logs, "it says why it is not in")
        assert not late.presence.joined
        await world.start(0, listen=seed.contact.address)
        await until(lambda: late.presence.joined, "it is in as soon as the seed is back")
    assert logs[0]["event"] == "not let in"
    assert "none of 1 known nodes answered" in logs[0]["reason"]
    assert late.knows(seed.contact)


async def test_a_node_that_nobody_can_call_is_a_client(world: World) -> None:
    first = await world.start(0)
    hidden = await world.start(1, first.contact, address=CLOSED)
    assert not hidden.presence.reachable
    assert hidden.knows(first.contact)
    assert len(first.dht.table) == 0
    third = await world.start(2, first.contact)
    assert third.presence.reachable
    assert [each.node_id for each in third.dht.table] == [first.node_id]
    status = await hidden.node.answer("status")
    assert (status["joined"], status["reachable"], status["reach"]) == (True, False, CLOSED)


# what a node says of itself


@dataclass
class Room:
    """A store of which only the room is of interest."""

    free: int

    def space(self) -> Space:
        return Space(self.free, 0, 0, 0, 0, self.free, 0)


@pytest.fixture
def own(tmp_path: Path) -> Callable[[], OwnRecord]:
    """The record of one node, with what it remembers of it."""
    clock, room = Clock(), Room(1 << 30)

    def load() -> OwnRecord:
        made = OwnRecord(Self(NETWORK, key(1), Terms()), room, tmp_path / "own", clock)  # type: ignore[arg-type]
        made.address = "127.0.0.1:7077"
        return made

    return load


def said(own: OwnRecord) -> NodeRecord:
    """The record as it stands; everybody believes it."""
    record = parse_record(own.encoded())
    assert isinstance(record, NodeRecord)
    verify(record, NETWORK, own._clock.now_s())
    return record


def test_a_record_stands_until_something_changes(own: Callable[[], OwnRecord]) -> None:
    mine = own()
    assert mine.due
    first = said(mine)
    assert not mine.due
    assert said(mine) == first == said(own())
    assert (first.free_class, first.addresses) == (30, ("127.0.0.1:7077",))
    assert first.expires_s - first.issued_s == NODE_TERM_S
    assert first.terms_digest == Terms().digest()


def test_a_record_is_renewed_when_it_says_what_is_not_so(own: Callable[[], OwnRecord]) -> None:
    mine = own()
    first = said(mine)
    mine._store.free = (1 << 31) - 1  # type: ignore[attr-defined]
    assert said(mine) == first, "a node's writes cannot be followed"
    mine._store.free = (1 << 30) - 1  # type: ignore[attr-defined]
    assert said(mine) == first, "a step over the border is not worth a new record"
    mine._store.free = (3 << 30) // 4  # type: ignore[attr-defined]
    second = said(mine)
    assert (second.free_class, second.sequence > first.sequence) == (29, True)
    mine._store.free = 0  # type: ignore[attr-defined]
    assert said(mine).free_class == 0
    mine.address = "127.0.0.1:7078"
    third = said(mine)
    assert third.addresses == ("127.0.0.1:7078",)
    assert third.sequence > second.sequence


def test_a_record_is_renewed_before_it_runs_out(own: Callable[[], OwnRecord]) -> None:
    mine = own()
    first = said(mine)
    mine._clock.ahead_s = REPUBLISH_S - 60  # type: ignore[attr-defined]
    assert said(mine) == first
    mine._clock.ahead_s = REPUBLISH_S + 60  # type: ignore[attr-defined]
    second = said(mine)
    assert second.issued_s >= first.issued_s + REPUBLISH_S
    assert second.sequence > first.sequence


def test_a_clock_that_was_set_back_silences_nobody(own: Callable[[], OwnRecord]) -> None:
    mine = own()
    sequences = [said(mine).sequence]
    for back_s in (60, 3_600, 10_000_000):
        mine._clock.ahead_s = -back_s  # type: ignore[attr-defined]
        mine = own()
        mine.renew()
        sequences.append(parse_record(mine.encoded()).sequence)
    assert sequences == [sequences[0] + number for number in range(4)]


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"",
        lambda raw: raw[:-1],
        lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]),
        lambda raw: b"x" * 10_000,
        lambda raw: slot(1).encode(),
        lambda raw: node_record(2).encode(),
        lambda raw: node_record(1, network=OTHER_NETWORK).encode(),
    ],
)
def test_a_record_that_is_not_its_own_is_forgotten(
    own: Callable[[], OwnRecord], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    first = said(own())
    (tmp_path / "own").write_bytes(damage(first.encode()))
    with structlog.testing.capture_logs() as logs:
        again = said(own())
    assert [line["event"] for line in logs] == ["own record forgotten"]
    assert again.addresses == first.addresses


# announcing


async def test_a_change_is_announced(world: World) -> None:
    first, second = await world.grow(2)
    before = kept_of(first, second)
    assert before is not None
    second.presence.own.address = "127.0.0.1:7"
    await until(lambda: kept_of(first, second) != before, "the change is known")
    after = kept_of(first, second)
    assert after is not None
    assert after.addresses == ("127.0.0.1:7",)
    assert after.sequence > before.sequence


async def test_a_change_that_was_told_already_is_announced_as_well(world: World) -> None:
    """Somebody asks for the record before the node looks: it is signed anew there and then."""
    first, second = await world.grow(2)
    second.presence.own.address = "127.0.0.1:7"
    told = parse_record(second.presence.own.encoded())
    assert not second.presence.own.due
    await until(lambda: kept_of(first, second) == told, "the change is known")


async def test_records_that_grow_old_are_announced_again(world: World) -> None:
    first, second = await world.grow(2)
    before = kept_of(first, second)
    assert before is not None
    world.clock.advance(REPUBLISH_S)
    await until(lambda: kept_of(first, second) != before, "a new record is known")
    after = kept_of(first, second)
    assert after is not None
    assert after.issued_s >= before.issued_s + REPUBLISH_S


async def test_when_the_network_grows_others_come_to_keep_its_records(world: World) -> None:
    first, _ = await world.grow(2)
    held = pointer(1, network=world.network_id)
    await first.store.put_records([(bytes(held.key), held.encode())])
    for number in range(2, 8):
        await world.start(number, first.contact)

    def keepers() -> int:
        return sum(kept(each, bytes(held.key)) == [held] for each in world.nodes[1:])

    await until(lambda: 2 * keepers() >= len(world.nodes), "half of the nodes keep the record")


async def test_what_a_node_holds_is_found_after_all_keepers_lost_it(world: World) -> None:
    """Its owner is gone, and so, in the end, is the holder that brought it back."""
    holder, *others = await world.grow(3)
    held = pointer(1, network=world.network_id, expires_s=NOW_S + 100 * HOUR_S)
    expired = pointer(2, network=world.network_id, expires_s=NOW_S + HOUR_S)
    sought = bytes(held.key)
    entries = [(bytes(each.key), each.encode()) for each in (held, expired)]
    await holder.store.put_records([*entries, (b"?" * 32, b"no record")])
    world.clock.advance(REPUBLISH_S)
    for each in others:
        await until(lambda each=each: kept(each, sought) == [held], "it is announced")
        await world.stop(each)
        (each.home.state / "records").unlink()
    again = [await world.start(number, holder.contact) for number in (1, 2)]
    assert [kept(each, sought) for each in again] == [[], []]
    world.clock.advance(REPUBLISH_S)
    for each in again:
        await until(lambda each=each: kept(each, sought) == [held], "it is announced again")
        assert kept(each, bytes(expired.key)) == []
    assert not holder.presence.cost.refused
    await world.stop(holder)
    client = await world.client(again[0].contact)
    assert (await client.find_records(sought)).newest == held


async def test_where_the_network_wants_it_shards_are_announced(world: World) -> None:
    world.genesis = replace(world.genesis, shard_records=True)
    holder, other = await world.grow(2)
    stored = shard(1_000)
    await put(holder.store, stored)
    world.clock.advance(REPUBLISH_S)
    await until(lambda: kept(other, stored.commit), "the shard's holder is known")
    client = await world.client(other.contact)
    (record,) = {
        each.signer: each for each in (await client.find_records(stored.commit)).records
    }.values()
    assert isinstance(record, ShardRecord)
    assert record.holder == holder.node_id


# merge hints


async def test_a_hint_joins_two_groups(world: World) -> None:
    left = await world.grow(3)
    right = await world.grow(3, first=10)
    client = await world.peer(left[0].contact)
    await client.ping(hint=right[0].contact)

    async def whole() -> bool:
        pairs = [(a, b) for a in left for b in right]
        return all([await located(a, b) and await located(b, a) for a, b in pairs])

    await eventually(whole, "everybody finds everybody")


class Stranger:
    """A node that counts how often it is asked for others."""

    def __init__(self) -> None:
        self.asked = 0

    def find_node(self, caller: Caller, request: dht_pb2.FindNodeRequest) -> dht_pb2.FindNodeReply:
        self.asked += 1
        return dht_pb2.FindNodeReply()

    async def open(self, world: World, number: int) -> Contact:
        """Serve as key pair ``number``."""
        return await world.impostor(key(number), {"FindNode": self.find_node})


async def test_hints_cost_one_round_a_refresh(world: World) -> None:
    running = await world.start(0)
    peer = await world.peer(running.contact)
    strangers = [Stranger() for _ in range(3)]
    first, second, third = [await each.open(world, n) for n, each in enumerate(strangers)]
    await peer.ping(hint=first)
    await until(lambda: running.knows(first), "the hint is heeded")
    await peer.ping(hint=second)
    world.clock.advance(HOUR_S)
    await peer.ping(hint=first)
    await peer.ping(hint=third)
    await until(lambda: running.knows(third), "a hint of a known node takes no turn")
    assert strangers[1].asked == 0, "there was one in that refresh"


async def test_a_false_hint_changes_nothing(world: World) -> None:
    first, second = await world.grow(2)
    peer = await world.peer(first.contact)
    for hint in (Contact(key(1).public, CLOSED), first.contact):
        await peer.ping(hint=hint)
        await until(first.presence._hint.empty, "the hint is taken")
        world.clock.advance(HOUR_S)
    assert list(first.dht.table) == [second.contact]
    assert (await peer.ping()).record


# from run to run


async def test_a_restarted_node_knows_its_contacts_and_what_it_kept(world: World) -> None:
    first, second = await world.grow(2)
    record = slot(1, network=world.network_id)
    peer = await world.peer(second.contact)
    await peer.store([(bytes(record.key), record.encode())])
    before = parse_record(second.presence.own.encoded())
    await until(lambda: kept_of(second, first), "both have announced themselves")
    await world.stop(second)
    again = await world.start(1)
    assert again.knows(first.contact), "from the address book: its network file lists nobody"
    assert kept(again, bytes(record.key)) == [record]
    assert kept_of(again, first) is not None
    assert parse_record(again.presence.own.encoded()).sequence > before.sequence


async def test_what_is_worth_remembering_is_saved_every_refresh(world: World) -> None:
    first = await world.start(0)
    second = await world.start(1, first.contact, refresh_s=OFTEN_S)
    file = second.home.book_file
    await until(file.exists, "the address book is saved while the node runs")
    named = {each["contact"]["address"] for each in json.loads(file.read_text())["nodes"]}
    assert named == {first.contact.address}


DAMAGES: dict[str, Callable[[bytes, Random], bytes]] = {
    "empty": lambda raw, rng: b"",
    "cut": lambda raw, rng: raw[: rng.randrange(1, len(raw))],
    "noise": lambda raw, rng: rng.randbytes(len(raw)),
    "a bit": lambda raw, rng: flipped(raw, rng.randrange(8 * len(raw))),
    "longer": lambda raw, rng: raw + b"\0",
}


def flipped(raw: bytes, bit: int) -> bytes:
    changed = bytearray(raw)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_files_are_forgotten(world: World, damage: str) -> None:
    rng = Random(SEED)
    first, second = await world.grow(2)
    await world.stop(second)
    for name in ("records", "peers.json", "node.record"):
        file = second.home.state / name
        file.write_bytes(DAMAGES[damage](file.read_bytes(), rng))
    with structlog.testing.capture_logs() as logs:
        again = await world.start(1, first.contact)
    forgotten = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert forgotten == ["own record forgotten", "records forgotten"], f"seed {SEED}"
    assert again.knows(first.contact)
    told = await again.dht.locate(first.node_id)
    assert told == first.contact
    await eventually(lambda: located(first, again), "the others believe what it says of itself now")


async def located(seeker: Running, sought: Running) -> bool:
    return await seeker.dht.locate(sought.node_id) == sought.contact


# what a node tells its home


async def test_a_node_tells_of_itself(world: World) -> None:
    first, second = await world.grow(2)
    await (await world.peer(first.contact)).store([(b"k" * 32, slot(1).encode())])
    status = await first.node.answer("status")
    assert (status["joined"], status["contacts"], status["records"]) == (True, 1, 1)
    assert status["refused_records"] == {"foreign_key": 1}
    (row,) = (await first.node.answer("peers"))["peers"]
    assert row["node_id"] == format_node_id(second.node_id)
    raw = parse_base32((await first.node.answer("record"))["record"])
    verify(parse_record(raw), world.network_id, world.clock.now_s())
    (found,) = (await first.node.answer(f"trace 1 {format_base32(second.node_id)}"))["traces"]
    assert found["found"][0]["addresses"] == [second.contact.address]
    assert await first.node.answer("sing") == {"error": "unknown command"}
