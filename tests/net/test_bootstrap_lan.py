"""Announcements by real multicast, on the loopback interface."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from zeroconf import DNSOutgoing, DNSPointer, ServiceInfo
from zeroconf.asyncio import AsyncZeroconf
from zeroconf.const import _CLASS_IN, _FLAGS_AA, _FLAGS_QR_RESPONSE, _TYPE_PTR

from dsn.apps.bootstrap.found import Found
from dsn.apps.bootstrap.lan import MOST_ADDRESSES, MOST_SERVICES, SERVICE, announced, find_on_lan
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.ids import NetworkId, format_base32

NETWORK, OTHER = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
LOOPBACK = ["127.0.0.1"]
MULTICAST = ("224.0.0.251", 5353)
BROWSE_S = 1.5
GOOD = {"network": format_base32(NETWORK), "key": format_base32(bytes(32))}


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """One test at a time on this machine: whoever is on loopback hears all others there."""
    with (Path(tempfile.gettempdir()) / "dsn-test-lan.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(autouse=True)
async def clean(alone: None) -> AsyncIterator[None]:
    """Nothing here may hang, or leave a task or a thread behind."""
    threads = threading.active_count()
    async with asyncio.timeout(60):
        yield
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert threading.active_count() <= threads, "one of an earlier test may have ended meanwhile"


def contact(number: int, address: str = "") -> Contact:
    key = SigningKey(number.to_bytes(32, "big"))
    return Contact(key.public, address or f"127.0.0.1:{4_000 + number}")


def announce(number: int, network: NetworkId = NETWORK, address: str = "") -> object:
    return announced(contact(number, address), network, interfaces=LOOPBACK, loopback=True)


async def find(network: NetworkId = NETWORK, browse_s: float = BROWSE_S) -> Found:
    found = await find_on_lan(network, interfaces=LOOPBACK, browse_s=browse_s)
    contacts = sorted(found.contacts, key=lambda each: each.address)
    return Found(tuple(contacts), found.problems)


@asynccontextmanager
async def strangers(*services: ServiceInfo) -> AsyncIterator[None]:
    """Announce whatever one likes."""
    async with AsyncZeroconf(LOOPBACK) as speaker:
        said = [
            await speaker.async_register_service(service, cooperating_responders=True)
            for service in services
        ]
        await asyncio.gather(*said)
        yield


def service(
    name: str, properties: dict[str, str | bytes | None], *addresses: str, port: int = 7077
) -> ServiceInfo:
    return ServiceInfo(
        SERVICE, f"{name}.{SERVICE}", port, properties=properties, parsed_addresses=list(addresses)
    )


@asynccontextmanager
async def shouting(*packets: bytes) -> AsyncIterator[None]:
    """Send raw packets to everybody, over and over."""

    async def shout() -> None:
        while True:
            for packet in packets:
                sender.sendto(packet, MULTICAST)
            await asyncio.sleep(0.05)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK[0]))
        task = asyncio.create_task(shout())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def test_nodes_of_the_network_are_found_and_no_others() -> None:
    async with announce(1), announce(2), announce(3, OTHER):
        assert await find(browse_s=2 * BROWSE_S) == Found((contact(1), contact(2)))
        assert await find(OTHER, browse_s=2 * BROWSE_S) == Found((contact(3),))


async def test_a_node_that_stopped_is_not_found() -> None:
    async with announce(1):
        assert (await find()).contacts == (contact(1),)
    assert await find(browse_s=0.3) == Found()


async def test_nobody_is_there() -> None:
    assert await find(browse_s=0.1) == Found()


@pytest.mark.parametrize("address", ["127.0.0.1:7077", "127.0.7.1:7077", "[::1]:7077"])
async def test_a_node_on_loopback_is_not_announced_unless_asked(address: str) -> None:
    async with announced(contact(1, address), NETWORK, interfaces=LOOPBACK):
        assert await find(browse_s=0.4) == Found()


@pytest.mark.parametrize("address", ["example.org:7077", "8.8.8.8:7077", "[fe80::1]:7077"])
async def test_what_others_nearby_cannot_call_is_not_announced(address: str) -> None:
    async with announce(1, address=address):
        assert await find(browse_s=0.4) == Found()


@pytest.mark.parametrize("listen", ["0.0.0.0", "[::]"])
async def test_every_address_stands_for_those_of_the_machine(listen: str) -> None:
    async with announce(1, address=f"{listen}:7077"):
        found = (await find()).contacts
    assert {each.node_id for each in found} == {contact(1).node_id}
    assert {"0.0.0.0", "::"} & {each.host for each in found} == set()


async def test_a_node_is_found_at_each_of_its_addresses_but_not_at_hundreds() -> None:
    many = [f"10.0.0.{number}" for number in range(1, 9)]
    async with strangers(service("few", GOOD, "10.0.1.1", "fd00::1"), service("many", GOOD, *many)):
        hosts = {each.host for each in (await find()).contacts}
    assert hosts >= {"10.0.1.1", "fd00::1"}
    assert len(hosts & set(many)) == MOST_ADDRESSES


async def test_an_error_of_the_caller_stays_its_own() -> None:
    with pytest.raises(OSError, match="disk on fire"):
        async with announce(1):
            raise OSError("disk on fire")


async def test_announcements_that_are_wrong_are_left_out_and_counted() -> None:
    async with strangers(
        service("public", GOOD, "8.8.8.8", "2606:4700::1"),
        service("nowhere", GOOD, "0.0.0.0"),
        service("nobody", GOOD),
        service("no-port", GOOD, "127.0.0.1", port=0),
        service("no-properties", {}, "127.0.0.1"),
        service("no-key", {"network": GOOD["network"]}, "127.0.0.1"),
        service("short-key", {**GOOD, "key": "aa"}, "127.0.0.1"),
        service("bad-key", {**GOOD, "key": b"\xff\x00"}, "127.0.0.1"),
        service("both", GOOD, "8.8.8.8", "127.0.0.1"),
    ):
        found = await find()
    assert found.contacts == (Contact(bytes(32), "127.0.0.1:7077"),)
    counts = {text.partition(" left out: ")[2]: int(text.split()[0]) for text in found.problems}
    assert counts == {"bad_base32": 1, "bad_contact": 5}


async def test_names_and_packets_that_are_none_do_no_harm() -> None:
    reply = DNSOutgoing(_FLAGS_QR_RESPONSE | _FLAGS_AA)
    for name in ("evil", "a.b.local.", f"x.y.{SERVICE}", SERVICE, "é."):
        reply.add_answer_at_time(DNSPointer(SERVICE, _TYPE_PTR, _CLASS_IN, 60, name), 0)
    packets = reply.packets()
    noise = [b"", b"\x00" * 11, b"\xff" * 200, packets[0][:-7], packets[0] + b"\xc0\xff" * 9]
    async with shouting(*packets, *noise), announce(1):
        found = await find()
    assert found == Found((contact(1),))


async def test_there_is_an_end_to_announcements() -> None:
    made_up = [
        service(
            f"n{number}", {**GOOD, "key": format_base32(contact(number).public_key)}, "127.0.0.1"
        )
        for number in range(2 * MOST_SERVICES)
    ]
    async with strangers(*made_up):
        found = await find(browse_s=30)  # it ends as soon as it has enough
    assert len(found.contacts) == MOST_SERVICES
    assert set(found.contacts) <= {contact(n, "127.0.0.1:7077") for n in range(2 * MOST_SERVICES)}


WITHOUT_MULTICAST = """
import asyncio
from dsn.apps.bootstrap.lan import announced, find_on_lan
from dsn.dht.contact import Contact
from dsn.errors import TransportError

async def main():
    print(*(await find_on_lan(bytes(32), interfaces=["127.0.0.1"])).problems)
    try:
        async with announced(Contact(bytes(32), "10.0.0.1:1"), bytes(32)):
            print("announced")
    except TransportError as error:
        print(error.detail_code)

asyncio.run(main())
"""


def test_without_multicast_it_says_so() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("", MULTICAST[1]))  # nobody else gets the port
        command = [sys.executable, "-c", WITHOUT_MULTICAST]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found, announced = done.stdout.splitlines()
    assert found.startswith("no multicast on this machine's network: ")
    assert announced == "no_multicast"
    assert done.stderr == ""
