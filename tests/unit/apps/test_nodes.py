"""The nodes that a client meets: asked side by side, found again when they moved."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsn.apps.announce import announce
from dsn.apps.dht import Dht
from dsn.apps.nodes import ANSWER_S, PARTS, Answers, Nodes, ask
from dsn.dht.contact import Contact
from dsn.dht.network import PlacementGroup
from dsn.errors import NotFound, TimedOut, Unreachable
from dsn.ids import format_node_id
from tests.support.dht_world import World, opened
from tests.support.records import NOW_S, key, node, slot

CLOSED = "127.0.0.1:1"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with opened(tmp_path, monkeypatch) as world:
        yield world


# asking side by side


async def says(word: str) -> str:
    return word


async def fails() -> str:
    raise NotFound("it is not there")


class Never:
    """A call that is not answered; knows whether it was given up."""

    def __init__(self) -> None:
        self.given_up = False

    async def __call__(self) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.given_up = True
            raise
        return "never"


async def test_all_answers_and_all_errors_are_told_apart() -> None:
    calls: dict[int, Awaitable[str]] = {1: says("a"), 2: fails(), 3: says("c")}
    answers = await ask(calls, enough=3)
    assert dict(answers) == {1: "a", 3: "c"}
    assert {key: type(error) for key, error in answers.failed.items()} == {2: NotFound}


async def test_with_enough_answers_the_slow_are_given_up_without_blame() -> None:
    never = Never()
    answers = await ask({1: says("a"), 2: never()}, enough=1, grace_s=0.01)
    assert (dict(answers), answers.failed, never.given_up) == ({1: "a"}, {}, True)


async def test_without_enough_answers_the_slow_have_failed() -> None:
    never = Never()
    answers = await ask({1: says("a"), 2: never()}, enough=2, most_s=0.05)
    assert (dict(answers), never.given_up) == ({1: "a"}, True)
    assert isinstance(answers.failed[2], TimedOut)


async def test_late_answers_count_within_the_grace() -> None:
    came = asyncio.Event()

    async def first() -> str:
        came.set()
        return "first"

    async def second() -> str:
        await came.wait()
        await asyncio.sleep(0)
        return "second"

    answers = await ask({1: first(), 2: second()}, enough=1, grace_s=ANSWER_S)
    assert dict(answers) == {1: "first", 2: "second"}


async def test_a_bug_is_no_answer() -> None:
    async def broken() -> str:
        raise ZeroDivisionError

    never = Never()
    with pytest.raises(ZeroDivisionError):
        await ask({1: broken(), 2: never()}, enough=2)
    assert never.given_up


async def test_nobody_to_ask() -> None:
    assert await ask({}, enough=0) == {}


# contacts


async def test_a_node_that_nobody_named(world: World) -> None:
    nodes = await world.client_nodes()
    assert nodes.address(node(1)) == "unknown"
    with pytest.raises(Unreachable) as caught:
        nodes.contact(node(1))
    assert caught.value.peer == format_node_id(node(1))
    nodes.dht.hear(Contact(key(1).public, CLOSED))
    assert nodes.address(node(1)) == CLOSED
    assert nodes.peer(node(1)).contact == nodes.contact(node(1))


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("subnet", ["10.1.2.0/24", "10.1.2.0/24", "10.1.3.0/24", "lan"]),
        ("machine", ["10.1.2.3", "10.1.2.4", "10.1.3.4", "10.1.3.5"]),
        ("node", [format_node_id(node(number)) for number in range(4)]),
    ],
)
async def test_what_may_hold_one_shard_of_a_segment(
    world: World, group: PlacementGroup, expected: list[str]
) -> None:
    world.genesis = replace(world.genesis, placement_group=group)
    nodes = await world.client_nodes()
    hosts = ("10.1.2.3:1", "10.1.2.4:2", "10.1.3.4:1", "10.1.3.5:1")
    contacts = [Contact(key(number).public, host) for number, host in enumerate(hosts)]
    nodes.dht.book.heard(contacts[0], "dns", NOW_S)
    nodes.dht.book.heard(contacts[3], "lan", NOW_S)
    assert [nodes.group(each) for each in contacts] == expected


# the network


async def test_whoever_is_there_is_discovered(world: World) -> None:
    running = await world.grow(6)
    nodes = await world.client_nodes(running[2].contact)
    everybody = {each.contact for each in running}
    assert set(await nodes.discover(96)) == everybody
    some = await nodes.discover(3)
    assert len(some) == 3 and set(some) < everybody


async def test_when_the_known_are_silent_others_are_sought(world: World) -> None:
    running = await world.grow(2)
    dead = Contact(key(1).public, CLOSED)
    dht, sought = await world.client(dead), list[Contact]()

    async def seek() -> int:
        sought.extend(dht.seeds())
        dht.book.good(running[0].contact, 0.01, NOW_S)
        return 1

    nodes = Nodes(dht, await world.connections(), seek, world.clock, os.urandom)
    assert {each.node_id for each in await nodes.discover(5)} == {each.node_id for each in running}
    assert sought == [dead]
    assert await nodes.find_record(bytes(slot(1).key)) is None
    assert sought == [dead], "once in, it need not seek"


async def test_when_nobody_lets_it_in(world: World) -> None:
    nodes = await world.client_nodes(Contact(key(1).public, CLOSED))
    for call in (nodes.discover(5), nodes.find_record(bytes(32)), nodes.survey()):
        with pytest.raises(Unreachable) as caught:
            await call
        assert "none of 1 known nodes answered" in caught.value.message
        assert "dsn doctor --net" in caught.value.hint


async def test_a_record_is_found_even_if_the_first_sought_is_not_in(world: World) -> None:
    running = await world.grow(2)
    dht: Dht = await world.client()

    async def seek() -> int:
        dht.book.good(running[0].contact, 0.01, NOW_S)
        return 1

    nodes = Nodes(dht, await world.connections(), seek, world.clock, os.urandom)
    record = slot(1, network=world.network_id)
    await (await world.peer(running[1].contact)).store([(bytes(record.key), record.encode())])
    assert await nodes.find_record(bytes(record.key)) == record


async def test_terms_make_candidates(world: World) -> None:
    running = await world.grow(3)
    nodes = await world.client_nodes(running[0].contact)
    silent = await world.silent()
    nodes.dht.hear(silent.contact(1))
    there = {each.node_id: each for each in running}
    candidates = await nodes.survey()
    assert len(candidates) >= 2, "two of three need not wait for the slow"
    for each in candidates:
        assert each.address == there[each.node].contact.address
        assert each.free_bytes == there[each.node].store.space().free
        assert each.group == format_node_id(each.node)
        assert nodes.max_pending[each.node] > 0


async def test_a_survey_of_all_there_are_saves_lookups(world: World) -> None:
    """A few questions find everybody, and from then on it is known who keeps what."""
    running = await world.grow(7)
    nodes = await world.client_nodes(running[0].contact)
    await nodes.survey()
    assert set(nodes.dht.proven) == {each.node_id for each in running}
    asked = nodes.dht.calls["FindNode"]
    assert asked <= 4 * PARTS
    records = {
        bytes(each.key): each.encode()
        for each in (slot(number, network=world.network_id) for number in range(9))
    }
    done = await announce(nodes.dht, records)
    assert set(done.keepers.values()) == {len(running)}
    assert nodes.dht.calls["FindNode"] == asked


async def test_a_survey_that_nobody_answers_settles_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or what is published next would find no keeper, though all are there again."""
    running = await world.grow(3)
    nodes = await world.client_nodes(running[0].contact)

    async def nobody(*_: Any, **__: Any) -> Answers[Any, Any]:
        return Answers()

    with monkeypatch.context() as patched:
        patched.setattr(nodes, "each", nobody)
        with pytest.raises(Unreachable):
            await nodes.survey()
    assert len((await nodes.dht.region(bytes(32))).nodes) == len(running)


async def test_a_silent_node_is_passed_over_while_others_are_heard_of(world: World) -> None:
    running = await world.grow(4)
    silent = await world.silent()
    dead = [silent.contact(number) for number in range(1, 4)]
    nodes = await world.client_nodes(*dead, running[3].contact)
    found = {each.node_id for each in await nodes.discover(96)}
    assert {each.node_id for each in running} <= found


async def test_as_many_as_are_needed_are_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thirds would do, but a file whose scheme needs all of them could not be placed."""
    running = await world.grow(6)
    nodes = await world.client_nodes(*(each.contact for each in running))
    patience = list[int]()

    async def wait(calls: Any, *, enough: int, **more: Any) -> Any:
        patience.append(enough)
        return await ask(calls, enough=enough, **more)

    monkeypatch.setattr("dsn.apps.nodes.ask", wait)
    for needed, enough in ((1, 4), (5, 5), (6, 6), (99, 6)):
        await nodes.survey(needed)
        assert patience[-1] == enough


async def test_nodes_that_moved_are_reached_and_those_that_are_gone_are_late(world: World) -> None:
    running = await world.grow(4)
    nodes = await world.client_nodes(running[0].contact)
    old = {each.node_id: each.contact for each in running}
    for contact in old.values():
        nodes.dht.hear(contact)
    await world.stop(running[2])
    await world.stop(running[3])
    moved = await world.start(2, running[0].contact)
    assert moved.contact != old[moved.node_id]
    await nodes.reach([*old, node(77)])
    assert nodes.contact(moved.node_id) == moved.contact
    assert nodes.late == {running[3].node_id, node(77)}
    pings = nodes.dht.calls["Ping"]
    await nodes.reach([running[0].node_id, moved.node_id])
    assert nodes.dht.calls["Ping"] == pings, "who answered once is not asked again"
