from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import pytest

from dsn.apps.bootstrap import sources
from dsn.apps.bootstrap.bittorrent import PUBLIC
from dsn.apps.bootstrap.found import Found
from dsn.apps.bootstrap.lan import ALL
from dsn.apps.bootstrap.sources import MOST_ASKED, Report, Way, find_contacts, ways_in
from dsn.core.keys import SigningKey
from dsn.dht.book import AddressBook, Source
from dsn.dht.contact import Contact
from dsn.dht.network import Genesis, Network, sign_network
from dsn.errors import ConfigError, Unreachable
from dsn.ids import NodeId
from dsn.runtime.clock import SystemClock

CLOCK = SystemClock()
OPERATOR = SigningKey(bytes(32))
NOBODY = NodeId(bytes(32))


def contact(number: int, address: str = "10.0.0.1:7077") -> Contact:
    return Contact(number.to_bytes(32, "big"), address)


def contacts(*numbers: int) -> tuple[Contact, ...]:
    return tuple(map(contact, numbers))


@pytest.fixture(scope="module")
def network() -> Network:
    genesis = Genesis("test", 1, OPERATOR.public, "node", False)
    return sign_network(genesis, contacts(1, 2), OPERATOR.sign)


@pytest.fixture
def book() -> AddressBook:
    return AddressBook(subnet_limits=False)


def way(name: str, source: Source | None, *found: Contact, problems: tuple[str, ...] = ()) -> Way:
    async def find() -> Found:
        return Found(found, problems)

    return Way(name, source, find, 1.0)


class Callers:
    """Answers for some nodes, and notes who was called."""

    def __init__(self, good: Collection[Contact]) -> None:
        self.good, self.called = good, list[Contact]()

    async def __call__(self, contact: Contact) -> bool:
        self.called.append(contact)
        return contact in self.good


async def look(
    ways: list[Way],
    book: AddressBook,
    answers: Callable[[Contact], Awaitable[bool]],
    *,
    me: NodeId = NOBODY,
    enough: int = 8,
) -> list[Report]:
    async with asyncio.timeout(30):
        found = find_contacts(ways, book, answers, CLOCK, me=me, enough=enough)
        return [report async for report in found]


# which ways there are


def test_the_ways_stand_in_their_order(network: Network, book: AddressBook) -> None:
    ways = ways_in(network, book, CLOCK, dns_names=["a.example"], lan=ALL, bittorrent=PUBLIC)
    assert [(each.name, each.source) for each in ways] == [
        ("address book", None),
        ("network file", "file"),
        ("dns", "dns"),
        ("local network", "lan"),
        ("bittorrent", "bittorrent"),
    ]


def test_what_is_not_set_up_is_no_way(network: Network, book: AddressBook) -> None:
    ways = ways_in(network, book, CLOCK, dns_server="127.0.0.1:53")
    assert [each.name for each in ways] == ["address book", "network file"]


async def test_the_book_and_the_file_are_looked_up_when_asked(
    network: Network, book: AddressBook
) -> None:
    remembered, listed = ways_in(network, book, CLOCK)
    assert await remembered.find() == Found()
    book.good(contact(7), 0.01, CLOCK.now_s())
    assert await remembered.find() == Found(contacts(7))
    assert await listed.find() == Found(contacts(1, 2))


# how they are gone through


async def test_each_way_is_reported(book: AddressBook) -> None:
    ways = [
        way("address book", None, *contacts(1, 2)),
        way("network file", "file"),
        way("dns", "dns", contact(3), problems=("a.example: no such name",)),
    ]
    assert await look(ways, book, Callers(contacts(2, 3))) == [
        Report("address book", contacts(1, 2), contacts(2), ()),
        Report("network file", (), (), ()),
        Report("dns", contacts(3), contacts(3), ("a.example: no such name",)),
    ]


@pytest.mark.parametrize("enough", range(1, 6))
async def test_it_ends_with_the_way_that_makes_it_enough(book: AddressBook, enough: int) -> None:
    ways = [way(str(number), "peer", *contacts(number, 10 + number)) for number in range(9)]
    reports = await look(ways, book, Callers(contacts(*range(9))), enough=enough)
    assert [report.name for report in reports] == [str(number) for number in range(enough)]


async def test_without_an_answer_every_way_is_asked(book: AddressBook) -> None:
    ways = [way(str(number), "peer", contact(number)) for number in range(9)]
    reports = await look(ways, book, Callers(()), enough=1)
    assert [(len(report.found), len(report.answered)) for report in reports] == 9 * [(1, 0)]


async def test_a_node_at_two_addresses_is_one(book: AddressBook) -> None:
    twice = (contact(1), contact(1, "10.0.0.2:7077"))
    ways = [way("one", "dns", *twice), way("two", "lan", contact(2))]
    reports = await look(ways, book, Callers((*twice, contact(2))), enough=2)
    assert [report.answered for report in reports] == [twice, contacts(2)]


async def test_nobody_is_called_twice_and_counts_wherever_it_was_found(book: AddressBook) -> None:
    callers = Callers(contacts(1))
    ways = [way("one", None, *contacts(1, 1, 2)), way("two", "file", *contacts(2, 1, 3))]
    reports = await look(ways, book, callers)
    assert sorted(callers.called, key=lambda each: each.public_key) == list(contacts(1, 2, 3))
    assert [report.found for report in reports] == [contacts(1, 2), contacts(2, 1, 3)]
    assert [report.answered for report in reports] == [contacts(1), contacts(1)]


async def test_a_node_does_not_call_itself(book: AddressBook) -> None:
    callers = Callers(contacts(1, 2))
    ways = [way("one", "lan", contact(1), contact(1, "10.0.0.2:1"), contact(2))]
    (report,) = await look(ways, book, callers, me=contact(1).node_id)
    assert callers.called == [contact(2)]
    assert report.found == contacts(2)
    assert book.get(contact(1).node_id) is None


async def test_a_way_that_names_thousands_is_cut_short(book: AddressBook) -> None:
    callers = Callers(())
    many = contacts(*range(5_000))
    (report,) = await look([way("one", "bittorrent", *many)], book, callers)
    assert set(callers.called) == set(report.found) == set(many[:MOST_ASKED])
    assert len(book) == MOST_ASKED


async def test_the_book_hears_of_a_contact_before_it_is_called(book: AddressBook) -> None:
    heard: dict[str, Source] = {}

    async def answers(contact: Contact) -> bool:
        entry = book.get(contact.node_id)
        assert entry is not None
        heard[contact.address] = entry.source
        book.good(contact, 0.01, CLOCK.now_s())
        return True

    near, far = contact(1, "10.0.0.1:1"), contact(2, "10.0.0.2:2")
    await look([way("one", "lan", near), way("two", "file", near, far)], book, answers)
    assert heard == {near.address: "lan", far.address: "file"}
    entry = book.get(near.node_id)
    assert entry is not None
    assert (entry.source, entry.tried) == ("lan", True)


async def test_the_address_book_is_not_told_what_it_said(book: AddressBook) -> None:
    await look([way("address book", None, contact(1))], book, Callers(()))
    assert len(book) == 0


# ways and nodes that do not do what they should


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (Unreachable("nobody there"), "nobody there"),
        (
            ConfigError("libtorrent is missing", hint="install it"),
            "libtorrent is missing: install it",
        ),
    ],
)
async def test_a_way_that_fails_is_a_problem_and_no_more(
    book: AddressBook, error: Exception, problem: str
) -> None:
    async def fail() -> Found:
        raise error

    ways = [Way("one", "dns", fail, 1.0), way("two", "lan", contact(1))]
    assert await look(ways, book, Callers(contacts(1))) == [
        Report("one", (), (), (problem,)),
        Report("two", contacts(1), contacts(1), ()),
    ]


async def hang() -> Found:
    await asyncio.Event().wait()
    raise AssertionError


async def test_a_way_that_hangs_is_given_up(
    book: AddressBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "SLACK_S", 0.1)
    ways = [Way("one", "dns", hang, 0.0), way("two", "lan", contact(1))]
    first, second = await look(ways, book, Callers(contacts(1)))
    assert first == Report("one", (), (), ("given up after 0.1 s",))
    assert second.answered == contacts(1)


async def test_a_node_that_hangs_holds_nobody_up(
    book: AddressBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ANSWER_S", 0.1)
    answered = asyncio.Event()

    async def answers(called: Contact) -> bool:
        if called != contact(2):
            await asyncio.Event().wait()
        answered.set()
        return True

    (report,) = await look([way("one", "file", *contacts(1, 2, 3))], book, answers)
    assert answered.is_set()
    assert report.answered == contacts(2)
