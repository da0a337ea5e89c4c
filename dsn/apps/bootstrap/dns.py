"""Getting in by DNS: TXT records that hold signed node records.

Neither the zone nor the way to it is trusted: a node record is signed by its node and names
the network, and whoever is called has to prove its key.

Spec: docs/guide/getting-in.md#dns.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections import Counter
from collections.abc import Sequence
from itertools import chain
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT

from dsn.apps.bootstrap.found import Found, left_out
from dsn.dht.contact import Contact, host_of, is_address
from dsn.dht.node_record import NodeRecord
from dsn.dht.record import parse_record, verify
from dsn.errors import ConfigError, MalformedMessage, PeerError
from dsn.ids import NetworkId

TIMEOUT_S: Final = 3.0
MOST_NAMES: Final = 8
MOST_RECORDS: Final = 32
"""Texts of one name that are looked at."""
_PREFIX: Final = b"dsn1 "
_STRING_BYTES: Final = 255
"""A TXT record is made of strings of at most so much (RFC 1035, section 3.3.14)."""


def format_txt(record: bytes) -> str:
    """A signed node record as a zone file has it: quoted strings of at most 255 characters."""
    text = (_PREFIX + base64.b64encode(record)).decode("ascii")
    parts = (text[at : at + _STRING_BYTES] for at in range(0, len(text), _STRING_BYTES))
    return " ".join(f'"{part}"' for part in parts)


def parse_txt(strings: Sequence[bytes]) -> bytes | None:
    """The record in the strings (untrusted) of a TXT record; ``None`` if it is not for dsn.

    Raises:
        MalformedMessage: What follows the prefix is not base64.
    """
    text = b"".join(strings)
    if not text.startswith(_PREFIX):
        return None
    try:
        return base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error as error:
        raise MalformedMessage("a TXT record that is not base64", evidence=text) from error


async def find_by_dns(
    names: Sequence[str],
    network: NetworkId,
    now_s: float,
    *,
    server: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Found:
    """Ask for the node records that stand under ``names``, all at once.

    Args:
        names: Domain names; the first 8 are asked for.
        network: Nodes of other networks are left out.
        now_s: Unix seconds; judges the records.
        server: ``address:port`` of a DNS server; empty for the system's own.
        timeout_s: When a name is given up.
    """
    try:
        resolver = _resolver(server)
    except (ConfigError, dns.exception.DNSException) as error:
        return Found(problems=(str(error),))
    async with asyncio.TaskGroup() as tasks:
        asked = [
            tasks.create_task(_ask(resolver, name, network, now_s, timeout_s))
            for name in names[:MOST_NAMES]
        ]
    found = [task.result() for task in asked]
    contacts = dict.fromkeys(chain.from_iterable(each.contacts for each in found))
    return Found(tuple(contacts), tuple(chain.from_iterable(each.problems for each in found)))


def _resolver(server: str) -> dns.asyncresolver.Resolver:
    if not server:
        return dns.asyncresolver.Resolver()
    resolver = dns.asyncresolver.Resolver(configure=False)
    try:
        if not is_address(server):
            raise ValueError(server)
        resolver.nameservers = [host_of(server)]
    except ValueError as error:
        text = f"dns server {server!r} is not an address and a port, such as 192.0.2.1:53"
        raise ConfigError(text, code="bad_address") from error
    resolver.port = int(server.rpartition(":")[2])
    return resolver


async def _ask(
    resolver: dns.asyncresolver.Resolver,
    name: str,
    network: NetworkId,
    now_s: float,
    timeout_s: float,
) -> Found:
    try:
        answer = await resolver.resolve(name, "TXT", lifetime=timeout_s, search=False)
    except (dns.exception.DNSException, OSError) as error:
        return Found(problems=(f"{name}: {_reason(error, timeout_s)}",))
    contacts: list[Contact] = []
    refused: Counter[str] = Counter()
    for text in [each.strings for each in answer if isinstance(each, TXT)][:MOST_RECORDS]:
        try:
            contacts += _read(text, network, now_s)
        except PeerError as error:
            refused[error.detail_code] += 1
    return Found(tuple(contacts), tuple(f"{name}: {text}" for text in left_out(refused, "record")))


def _read(strings: Sequence[bytes], network: NetworkId, now_s: float) -> tuple[Contact, ...]:
    raw = parse_txt(strings)
    if raw is None:
        return ()
    record = parse_record(raw)
    verify(record, network, now_s)
    if not isinstance(record, NodeRecord):
        raise MalformedMessage("a record of another kind than a node's", evidence=raw)
    return record.contacts


def _reason(error: Exception, timeout_s: float) -> str:
    match error:
        case dns.resolver.NXDOMAIN():
            return "no such name"
        case dns.resolver.NoAnswer():
            return "it has no TXT record"
        case dns.resolver.NoNameservers():
            return "no server gave an answer"
        case dns.exception.Timeout():
            return f"no answer within {timeout_s:g} s"
        case _:
            return str(error)
