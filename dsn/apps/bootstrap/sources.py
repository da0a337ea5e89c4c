"""All ways in, in their order, and a report on each.

The address book comes first: what was good is good most of the time, and costs nobody else
anything. Each further way is asked only while too few contacts have answered.

Spec: docs/guide/getting-in.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from dsn.apps.bootstrap.bittorrent import FIND_S, Entrance, find_by_bittorrent
from dsn.apps.bootstrap.dns import TIMEOUT_S, find_by_dns
from dsn.apps.bootstrap.found import Found
from dsn.apps.bootstrap.lan import BROWSE_S, Interfaces, find_on_lan
from dsn.dht.book import AddressBook, Source
from dsn.dht.contact import Contact
from dsn.dht.network import Network
from dsn.errors import DsnError
from dsn.ids import NodeId
from dsn.ports import Clock

ENOUGH: Final = 8
"""With so many contacts that answer a lookup soon knows the rest."""
MOST_ASKED: Final = 32
"""Contacts of one way that are called, all at once."""
ANSWER_S: Final = 4.0
"""When a contact is given up."""
SLACK_S: Final = 2.0
"""How much longer than its own bound a way may take."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way in; ``source`` is what the address book notes of its contacts."""

    name: str
    source: Source | None
    find: Callable[[], Awaitable[Found]]
    bound_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """What one way came to; each contact in ``answered`` was ``found``."""

    name: str
    found: tuple[Contact, ...]
    answered: tuple[Contact, ...]
    problems: tuple[str, ...]


def ways_in(
    network: Network,
    book: AddressBook,
    clock: Clock,
    *,
    dns_names: Sequence[str] = (),
    dns_server: str = "",
    lan: Interfaces | None = None,
    bittorrent: Entrance | None = None,
) -> list[Way]:
    """The ways that are open, in the order in which they are tried.

    Args:
        network: Lists the fixed contacts.
        book: Nodes that were good before.
        clock: Judges records.
        dns_names: Names with TXT records; none leaves DNS out.
        dns_server: ``address:port``; empty for the system's own.
        lan: Interfaces to listen on; ``None`` leaves the local network out.
        bittorrent: ``None`` leaves BitTorrent out.
    """
    network_id = network.network_id

    async def remembered() -> Found:
        return Found(tuple(book.best(MOST_ASKED, clock.now_s())))

    async def listed() -> Found:
        return Found(network.contacts)

    async def by_dns() -> Found:
        return await find_by_dns(dns_names, network_id, clock.now_s(), server=dns_server)

    ways = [
        Way("address book", None, remembered, SLACK_S),
        Way("network file", "file", listed, SLACK_S),
    ]
    if dns_names:
        ways.append(Way("dns", "dns", by_dns, TIMEOUT_S))
    if lan is not None:
        on_lan = partial(find_on_lan, network_id, interfaces=lan)
        ways.append(Way("local network", "lan", on_lan, BROWSE_S))
    if bittorrent is not None:
        visit = partial(find_by_bittorrent, network_id, clock, entrance=bittorrent)
        ways.append(Way("bittorrent", "bittorrent", visit, FIND_S))
    return ways


async def find_contacts(
    ways: Iterable[Way],
    book: AddressBook,
    answers: Callable[[Contact], Awaitable[bool]],
    clock: Clock,
    *,
    me: NodeId,
    enough: int = ENOUGH,
) -> AsyncIterator[Report]:
    """Go through ``ways`` until ``enough`` nodes have answered, and report on each way.

    What a way names is noted in ``book`` before it is called, so that it keeps its source.

    Args:
        ways: As ``ways_in`` gives them.
        book: Hears of every contact.
        answers: Calls a contact; cancelled after ``ANSWER_S`` seconds, and must not raise.
        clock: Dates what the book hears.
        me: Never called.
        enough: Nodes after which no further way is asked.
    """
    outcomes: dict[Contact, bool] = {}
    for way in ways:
        found = await _look(way)
        named = [each for each in dict.fromkeys(found.contacts) if each.node_id != me]
        named = named[:MOST_ASKED]
        if way.source is not None:
            for each in named:
                book.heard(each, way.source, clock.now_s())
        fresh = [each for each in named if each not in outcomes]
        outcomes |= zip(fresh, await _call(fresh, answers), strict=True)
        answered = tuple(each for each in named if outcomes[each])
        yield Report(way.name, tuple(named), answered, found.problems)
        if len({each.node_id for each, good in outcomes.items() if good}) >= enough:
            return


async def _look(way: Way) -> Found:
    bound_s = way.bound_s + SLACK_S
    try:
        async with asyncio.timeout(bound_s):
            return await way.find()
    except TimeoutError:
        return Found(problems=(f"given up after {bound_s:g} s",))
    except DsnError as error:
        return Found(problems=(": ".join(filter(None, (error.message, error.hint))),))


async def _call(
    contacts: Sequence[Contact], answers: Callable[[Contact], Awaitable[bool]]
) -> list[bool]:
    async def call(contact: Contact) -> bool:
        try:
            async with asyncio.timeout(ANSWER_S):
                return await answers(contact)
        except TimeoutError:
            return False

    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(call(contact)) for contact in contacts]
    return [each.result() for each in calls]
