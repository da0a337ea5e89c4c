"""Every way into a network that the settings open, and none that they do not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsn.apps.entrance import Entrance
from dsn.config import DhtSettings
from dsn.dht.contact import Contact
from tests.support.dht_world import World, opened
from tests.support.records import NOW_S, key

CLOSED = "127.0.0.1:1"


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    async with opened(tmp_path, monkeypatch) as world:
        yield world


async def test_contacts_that_answer_are_remembered(world: World) -> None:
    listed, remembered = await world.grow(2)
    dead = Contact(key(1).public, CLOSED)
    client = await world.client(listed.contact, dead)
    client.book.good(remembered.contact, 0.01, NOW_S)
    entrance = Entrance(client, DhtSettings(), world.clock)
    assert await entrance.seek()
    for each in (listed, remembered):
        entry = client.book.get(each.node_id)
        assert entry is not None
        assert (entry.contact, entry.tried, entry.failing) == (each.contact, True, False)
    assert set(client.table) == {listed.contact, remembered.contact}


async def test_nobody_is_found_where_nobody_is(world: World) -> None:
    client = await world.client(Contact(key(1).public, CLOSED))
    assert await Entrance(client, DhtSettings(), world.clock).seek() == 0
    assert len(client.table) == 0


async def test_a_network_on_one_machine_is_not_told_to_the_lan(world: World) -> None:
    """Whatever the settings say: its addresses mean nothing to others."""
    client = await world.client()
    entrance = Entrance(client, DhtSettings(lan=True), world.clock)
    assert [report.name async for report in entrance.look()] == ["address book", "network file"]
