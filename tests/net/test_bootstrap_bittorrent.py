"""Notes in a BitTorrent DHT of real libtorrent sessions, all on loopback."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeGuard

import libtorrent
import pytest

from dsn.apps.bootstrap.bittorrent import (
    Entrance,
    Meeting,
    find_by_bittorrent,
    meeting,
    publish_by_bittorrent,
)
from dsn.apps.bootstrap.found import Found
from dsn.apps.bootstrap.note import MOST_BYTES, TERM_S, expand_seed, note_seed
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.errors import ConfigError, TransportError
from dsn.ids import NetworkId
from dsn.runtime.clock import SystemClock

NETWORK, OTHER = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
SEED = note_seed(NETWORK)
NOW_S = 1_700_000_000
STRANGERS = 3
VISITS = 20
NOTHING = Found(problems=("no note of this network was found",))


class FixedClock(SystemClock):
    """A calendar that stands still."""

    def __init__(self, now_s: float = NOW_S) -> None:
        self._now_s = now_s

    def now_s(self) -> float:
        return self._now_s


def contact(number: int, address: str = "10.0.0.1:7077") -> Contact:
    return Contact(number.to_bytes(32, "big"), address)


def is_put(alert: libtorrent.alert) -> TypeGuard[libtorrent.dht_put_alert]:
    return isinstance(alert, libtorrent.dht_put_alert)


class Crowd:
    """A small BitTorrent DHT of nodes that know nothing of dsn."""

    def __init__(self) -> None:
        self.strangers: list[libtorrent.session] = []
        for _ in range(STRANGERS):
            settings: libtorrent.settings_pack = {
                "alert_mask": libtorrent.alert.category_t.dht_notification,
                "listen_interfaces": "127.0.0.1:0",
                "dht_bootstrap_nodes": self.entrance.routers,
                "dht_restrict_routing_ips": False,
                "dht_restrict_search_ips": False,
                "dht_block_ratelimit": 100_000,
                "dht_upload_rate_limit": 1_000_000,
                "enable_lsd": False,
                "enable_natpmp": False,
                "enable_upnp": False,
            }
            self.strangers.append(libtorrent.session(settings))
            while not self.strangers[-1].listen_port():
                self.strangers[-1].wait_for_alert(10)

    @property
    def entrance(self) -> Entrance:
        routers = ",".join(f"127.0.0.1:{each.listen_port()}" for each in self.strangers)
        return Entrance("127.0.0.1:0", routers, address_limits=False)

    def meet(
        self, network: NetworkId = NETWORK, now_s: float = NOW_S
    ) -> AbstractAsyncContextManager[Meeting]:
        return meeting(network, FixedClock(now_s), entrance=self.entrance)

    async def find(self, network: NetworkId = NETWORK, now_s: float = NOW_S) -> Found:
        return await find_by_bittorrent(network, FixedClock(now_s), entrance=self.entrance)

    def scribble(self, item: bytes) -> None:
        """Write over the note, as anybody can."""
        writer, taken = self.strangers[-1], 0
        while not taken:
            writer.pop_alerts()
            writer.dht_put_mutable_item(expand_seed(SEED), SigningKey(SEED).public, item, b"")
            writer.wait_for_alert(200)
            taken = sum(each.num_success for each in writer.pop_alerts() if is_put(each))


@pytest.fixture
def crowd() -> Crowd:
    return Crowd()


def native_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


async def test_a_node_that_published_itself_is_found(crowd: Crowd) -> None:
    assert await crowd.find() == NOTHING
    async with crowd.meet() as node:
        assert await node.publish(contact(1)) >= 1
        assert await node.find() == Found((contact(1),))
        assert await crowd.find() == Found((contact(1),))


async def test_a_note_outlives_the_visit_of_its_writer(crowd: Crowd) -> None:
    taken = await publish_by_bittorrent(contact(1), NETWORK, FixedClock(), entrance=crowd.entrance)
    assert taken >= STRANGERS
    assert await crowd.find() == Found((contact(1),))


async def test_each_keeps_what_it_finds(crowd: Crowd) -> None:
    moved = contact(0, "10.0.0.9:1")
    async with crowd.meet() as first, crowd.meet(now_s=NOW_S + 1) as second:
        await first.publish(contact(0))
        await first.publish(contact(1))
        await second.publish(contact(2))
        assert await crowd.find() == Found((contact(2), contact(1), contact(0)))
        await second.publish(moved)
        assert await crowd.find() == Found((moved, contact(2), contact(1)))
        assert await crowd.find(now_s=NOW_S + TERM_S) == Found((moved, contact(2)))
        assert await crowd.find(now_s=NOW_S + TERM_S + 1) == NOTHING


async def test_two_at_a_time_take_turns(crowd: Crowd) -> None:
    async with crowd.meet() as node:
        await asyncio.gather(*(node.publish(contact(number)) for number in range(4)))
        assert set((await crowd.find()).contacts) == {contact(number) for number in range(4)}


async def test_other_networks_meet_elsewhere(crowd: Crowd) -> None:
    async with crowd.meet() as one, crowd.meet(OTHER) as other:
        await one.publish(contact(1))
        assert await other.find() == NOTHING
        await other.publish(contact(2))
        assert await crowd.find() == Found((contact(1),))
        assert await crowd.find(OTHER) == Found((contact(2),))


@pytest.mark.parametrize("size", [1, 32, MOST_BYTES])
async def test_a_note_by_anybody_does_no_harm_and_is_written_over(crowd: Crowd, size: int) -> None:
    crowd.scribble(random.Random(size).randbytes(size))
    found = await crowd.find()
    assert found.contacts == ()
    assert found.problems[0].startswith(("note: ", "a contact's ")), size
    async with crowd.meet() as node:
        await node.publish(contact(1))
        assert await crowd.find() == Found((contact(1),))


async def test_nothing_is_left_behind(crowd: Crowd) -> None:
    before = native_threads()
    for _ in range(VISITS):
        await crowd.find()
    assert native_threads() < before + VISITS, "a session has several threads of its own"


@pytest.mark.parametrize("routers", ["", "127.0.0.1:1", "nowhere.invalid:1", "?"])
async def test_silence_has_an_end(routers: str) -> None:
    alone = Entrance("127.0.0.1:0", routers, address_limits=False)
    async with meeting(NETWORK, FixedClock(), entrance=alone) as node:
        found = await node.find(timeout_s=0.5)
        assert found in (
            NOTHING,
            Found(problems=("no answer from the BitTorrent network within 0.5 s",)),
        )
        with pytest.raises(TransportError) as failure:
            await node.publish(contact(1), timeout_s=0.5)
    assert failure.value.detail_code in ("unreachable", "timed_out")
    assert failure.value.hint == "check that UDP gets out"


async def test_without_libtorrent_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libtorrent", None)
    with pytest.raises(ConfigError) as failure:
        await find_by_bittorrent(NETWORK, FixedClock())
    assert failure.value.detail_code == "missing_extra"
    assert failure.value.hint == "pip install 'dsn[bittorrent]'"
