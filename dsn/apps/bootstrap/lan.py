"""Getting in on the local network: multicast DNS (RFC 6762) and service discovery (RFC 6763).

Whatever is announced is untrusted; it only says whom to call, and whoever is called has to
prove its key. Contacts found here are of the caller's own network segment, so shards that
should not be lost together must not be spread among them: the address book flags them.

Spec: docs/guide/getting-in.md#local-network.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

import ifaddr
import zeroconf
from zeroconf import InterfaceChoice, ServiceInfo, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from dsn.apps.bootstrap.found import Found, left_out
from dsn.dht.contact import Contact, check_contact
from dsn.errors import DsnError, MalformedMessage, TransportError
from dsn.ids import NetworkId, format_base32, format_node_id, parse_base32

SERVICE: Final = "_dsn._tcp.local."
BROWSE_S: Final = 2.0
"""How long announcements are collected; a quiet network answers well within."""
ASK_S: Final = 0.5
"""How long one asking for an announcement's details takes. Where many answer at once, an address
may arrive before the name it belongs to; asked anew, it is taken from what was heard so far."""
MOST_SERVICES: Final = 64
"""Announcements that are looked at: anybody on the network can make up more."""
MOST_ADDRESSES: Final = 4
"""Addresses of one node that are tried: some lead to bridges and tunnels inside its machine."""

Interfaces = InterfaceChoice | list[str]
"""All interfaces, or those with these addresses."""
ALL: Final = InterfaceChoice.All


@asynccontextmanager
async def announced(
    contact: Contact, network: NetworkId, *, interfaces: Interfaces = ALL, loopback: bool = False
) -> AsyncIterator[None]:
    """Let others on the local network find this node while the context is open.

    Args:
        contact: This node, at the IP address and port it listens on; ``0.0.0.0`` and ``[::]``
            stand for every address of the machine.
        network: The network it belongs to.
        interfaces: Where to announce.
        loopback: Whether to announce a node that only this machine can reach; without, such a
            node is not announced at all.

    Raises:
        TransportError: ``no_multicast``: the machine does not allow it.
    """
    addresses = _addresses(contact.host, loopback)
    if not addresses:
        yield
        return
    info = ServiceInfo(
        SERVICE,
        f"{format_node_id(contact.node_id)}.{SERVICE}",
        int(contact.address.rpartition(":")[2]),
        properties={
            "network": format_base32(network),
            "key": format_base32(contact.public_key),
        },
        parsed_addresses=addresses,
    )
    async with await _speaker(interfaces) as speaker:
        # Its name is its node id, so nobody else's: no need to ask around first.
        await (await speaker.async_register_service(info, cooperating_responders=True))
        yield


async def find_on_lan(
    network: NetworkId, *, interfaces: Interfaces = ALL, browse_s: float = BROWSE_S
) -> Found:
    """Collect for ``browse_s`` seconds what nodes of ``network`` announce."""
    heard: list[ServiceInfo] = []
    try:
        speaker = await _speaker(interfaces)
    except TransportError as error:
        return Found(problems=(error.message,))
    async with speaker:
        with suppress(TimeoutError):
            async with asyncio.timeout(browse_s):
                await _listen(speaker.zeroconf, heard)
    return _judge(heard, network)


async def _speaker(interfaces: Interfaces) -> AsyncZeroconf:
    try:
        speaker = AsyncZeroconf(interfaces)
        await speaker.zeroconf.async_wait_for_start()
        return speaker
    except (OSError, RuntimeError, zeroconf.Error) as error:
        text = f"no multicast on this machine's network: {error}"
        raise TransportError(text, code="no_multicast") from error


async def _listen(speaker: Zeroconf, heard: list[ServiceInfo]) -> None:
    """Fill ``heard`` until cancelled, or until the most that is looked at was asked for."""
    names: asyncio.Queue[str] = asyncio.Queue()

    def changed(
        zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is not ServiceStateChange.Removed:
            names.put_nowait(name)

    async def resolve(name: str) -> None:
        with suppress(zeroconf.Error):  # a name that is none
            info = AsyncServiceInfo(SERVICE, name)
            while not await info.async_request(speaker, ASK_S * 1_000):
                await asyncio.sleep(ASK_S / 10)  # it returns at once where an answer denies it
                info = AsyncServiceInfo(SERVICE, name)
            heard.append(info)

    known: set[str] = set()
    browser = AsyncServiceBrowser(speaker, SERVICE, handlers=[changed])
    try:
        async with asyncio.TaskGroup() as tasks:
            while len(known) < MOST_SERVICES:
                if (name := await names.get()) not in known:
                    known.add(name)
                    tasks.create_task(resolve(name))
    finally:
        await browser.async_cancel()


def _judge(heard: Sequence[ServiceInfo], network: NetworkId) -> Found:
    """Keep to ``network``: that others are there as well is nobody's fault."""
    contacts: dict[Contact, None] = {}
    refused: Counter[str] = Counter()
    for info in heard:
        if info.properties.get(b"network") != format_base32(network).encode():
            continue
        try:
            contacts |= dict.fromkeys(_read(info))
        except DsnError as error:
            refused[error.detail_code] += 1
    return Found(tuple(contacts), tuple(left_out(refused, "announcement")))


def _read(info: ServiceInfo) -> list[Contact]:
    """Who announced ``info`` (untrusted), at each address that is on a local network.

    Raises:
        UsageError: The key is not base32.
        MalformedMessage: ``bad_contact``: another key, or no such address. A public address
            would flag a node as near that is not.
    """
    key = parse_base32((info.properties.get(b"key") or b"").decode("ascii", "replace"))
    local = [each for each in map(ip_address, info.parsed_addresses()) if _is_local(each)]
    if not local:
        raise MalformedMessage("an announcement without a local address", code="bad_contact")
    return [check_contact(key, _format_address(each, info.port)) for each in local[:MOST_ADDRESSES]]


def _addresses(host: str, loopback: bool) -> list[str]:
    """At which local addresses others reach a node that listens on ``host``."""
    try:
        listen = ip_address(host)
    except ValueError:
        return []
    if not listen.is_unspecified:
        every = [listen]
    else:
        every = [each for each in _own_addresses() if each.version == 4 or listen.version == 6]
    usable = (each for each in every if _is_local(each) and (loopback or not each.is_loopback))
    return [str(each) for each in usable]


def _own_addresses() -> Iterator[IPv4Address | IPv6Address]:
    for adapter in ifaddr.get_adapters():
        for each in adapter.ips:
            yield ip_address(each.ip if isinstance(each.ip, str) else each.ip[0])


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    """Whether it can be called, and only from nearby; a link-local v6 one needs an interface."""
    needs_interface = address.version == 6 and address.is_link_local
    nowhere = address.is_global or address.is_multicast or address.is_unspecified
    return not (nowhere or needs_interface)


def _format_address(address: IPv4Address | IPv6Address, port: int | None) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
