from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from dsn.dht.book import (
    EPISODE_S,
    FORGET_S,
    HALF_LIFE_S,
    MEMORY,
    MOST_NEW,
    MOST_TRIED,
    NEW_FAILURES,
    SOURCES,
    SUBNET_MOST,
    AddressBook,
    Entry,
    Source,
)
from dsn.dht.contact import Contact, subnet_of
from dsn.ids import format_base32

NOW_S = 1_700_000_400.0
assert NOW_S % EPISODE_S == 0


def contact(number: int, address: str = "") -> Contact:
    """Node ``number``, alone in its subnet."""
    return Contact(number.to_bytes(32, "big"), address or f"10.{number >> 8}.{number & 255}.1:7077")


def known(book: AddressBook, number: int) -> Entry:
    entry = book.get(contact(number).node_id)
    assert entry is not None
    return entry


def proven(numbers: range, now_s: float = NOW_S) -> AddressBook:
    """A book of nodes that all answered once."""
    book = AddressBook()
    for number in numbers:
        book.good(contact(number), 0.01, now_s)
    return book


# in and out


def test_a_contact_heard_of_is_new_until_it_was_good() -> None:
    book = AddressBook()
    book.heard(contact(1), "dns", NOW_S)
    assert known(book, 1) == Entry(contact(1), "dns")
    book.good(contact(1), 0.02, NOW_S)
    assert known(book, 1) == Entry(contact(1), "dns", True, NOW_S, NOW_S, 1, 0, 0.02)
    assert (len(book), [entry.contact for entry in book]) == (1, [contact(1)])


def test_a_node_nobody_named_is_of_a_peer_once_it_was_good() -> None:
    book = proven(range(1, 2))
    assert (known(book, 1).source, known(book, 1).tried) == ("peer", True)


def test_failures_of_a_node_that_is_not_in_the_book_are_nothing() -> None:
    book = AddressBook()
    book.failed(contact(1).node_id, NOW_S)
    assert len(book) == 0


def test_the_order_is_tried_then_new_then_failing() -> None:
    book = proven(range(1, 4))
    for number, source in enumerate(SOURCES[::-1], 11):
        book.heard(contact(number), source, NOW_S)
    later_s = NOW_S + EPISODE_S
    book.good(contact(2), 0.01, later_s)
    book.failed(contact(1).node_id, later_s)
    book.failed(contact(12).node_id, later_s)
    wanted = [2, 3, 15, 14, 13, 11, 1, 12]
    assert book.best(99, later_s) == [contact(number) for number in wanted]
    assert book.best(3, later_s) == [contact(number) for number in wanted[:3]]
    assert book.best(0, later_s) == []


def test_a_node_that_failed_and_came_back_is_as_good_as_its_history() -> None:
    book = proven(range(1, 3))
    book.failed(contact(1).node_id, NOW_S + 1)
    assert known(book, 1).failing
    assert book.best(2, NOW_S + 1) == [contact(2), contact(1)]
    book.good(contact(1), 0.01, NOW_S + 2)
    assert not known(book, 1).failing
    assert book.best(2, NOW_S + 2) == [contact(2), contact(1)], "it failed once, the other never"
    for step in range(1, 9):
        book.good(contact(1), 0.01, NOW_S + step * EPISODE_S)
    assert book.best(2, NOW_S + 9 * EPISODE_S) == [contact(1), contact(2)]


def test_an_entry_that_never_was_good_goes_after_some_failures() -> None:
    book = AddressBook()
    book.heard(contact(1), "peer", NOW_S)
    for failure in range(NEW_FAILURES):
        assert book.get(contact(1).node_id) is not None
        book.failed(contact(1).node_id, NOW_S + failure * EPISODE_S)
    assert book.get(contact(1).node_id) is None


def test_an_entry_that_was_good_goes_after_a_month_of_silence() -> None:
    book = proven(range(1, 2))
    for hour in range(0, FORGET_S, 3_600):
        book.failed(contact(1).node_id, NOW_S + hour + 1)
    book.failed(contact(1).node_id, NOW_S + FORGET_S)
    assert known(book, 1).failing
    book.failed(contact(1).node_id, NOW_S + FORGET_S + 1)
    assert len(book) == 0


# addresses and sources


def test_hearsay_does_not_move_a_node_that_answers() -> None:
    book = proven(range(1, 2))
    book.heard(contact(2), "peer", NOW_S)
    for number in (1, 2):
        book.heard(contact(number, "6.6.6.6:1"), "lan", NOW_S + 1)
        assert known(book, number).contact == contact(number)
        assert known(book, number).source == "peer", "no flag for an address that was not taken"


def test_hearsay_moves_a_node_that_fails() -> None:
    book = proven(range(1, 2))
    book.failed(contact(1).node_id, NOW_S + 1)
    moved = contact(1, "10.0.0.2:9")
    book.heard(moved, "peer", NOW_S + 2)
    before = known(book, 1)
    assert (before.contact, before.tried, before.successes) == (moved, True, 1)
    book.good(moved, 0.01, NOW_S + 3)
    assert known(book, 1).contact == moved


def test_a_new_address_that_proved_itself_replaces_the_old() -> None:
    book = proven(range(1, 2))
    book.good(contact(1, "10.0.0.2:9"), 0.01, NOW_S + 1)
    assert [entry.contact for entry in book] == [contact(1, "10.0.0.2:9")]


@pytest.mark.parametrize("first", SOURCES)
@pytest.mark.parametrize("second", SOURCES)
@pytest.mark.parametrize("tried", [False, True])
def test_of_two_sources_the_firmer_stays(first: Source, second: Source, tried: bool) -> None:
    book = AddressBook()
    book.heard(contact(1), first, NOW_S)
    if tried:
        book.good(contact(1), 0.01, NOW_S)
    book.heard(contact(1), second, NOW_S)
    assert known(book, 1).source == min(first, second, key=SOURCES.index)


def test_a_node_of_the_lan_stays_flagged() -> None:
    book = AddressBook()
    book.heard(contact(1), "lan", NOW_S)
    book.good(contact(1), 0.01, NOW_S)
    book.heard(contact(1), "file", NOW_S)
    book.good(contact(1, "10.0.0.2:9"), 0.01, NOW_S)
    assert known(book, 1).source == "lan"
    (again,) = AddressBook.decode(book.encode())
    assert again.source == "lan"


# limits


def test_a_subnet_gets_few_of_the_new_places() -> None:
    book = AddressBook()
    rack = [contact(number, f"10.0.0.{number}:7077") for number in range(1, 99)]
    rack += [contact(number, f"[2001:db8:0:{number:x}::1]:1") for number in range(100, 199)]
    for each in rack:
        book.heard(each, "peer", NOW_S)
    assert [entry.contact for entry in book] == rack[:SUBNET_MOST] + rack[98 : 98 + SUBNET_MOST]


@pytest.mark.parametrize("leave", ["good", "failed"])
def test_a_place_of_a_subnet_is_free_again(leave: str) -> None:
    book = AddressBook()
    rack = [contact(number, f"10.0.0.{number}:7077") for number in range(1, 99)]
    for each in rack[:SUBNET_MOST]:
        book.heard(each, "peer", NOW_S)
    for step in range(NEW_FAILURES):
        if leave == "good":
            book.good(rack[0], 0.01, NOW_S + step * EPISODE_S)
        else:
            book.failed(rack[0].node_id, NOW_S + step * EPISODE_S)
    for each in rack[SUBNET_MOST:]:
        book.heard(each, "peer", NOW_S)
    new = [entry.contact for entry in book if not entry.tried]
    assert new == rack[1 : SUBNET_MOST + 1]


def test_on_loopback_all_nodes_share_a_subnet() -> None:
    book = AddressBook(subnet_limits=False)
    for number in range(1, 99):
        book.heard(contact(number, f"127.0.0.1:{number}"), "peer", NOW_S)
    assert len(book) == 98
    assert len(AddressBook.decode(book.encode(), subnet_limits=False)) == 98
    assert len(AddressBook.decode(book.encode())) == SUBNET_MOST


def test_a_flood_of_names_pushes_nobody_out() -> None:
    book = proven(range(1, 9))
    for number in range(100, 104):
        book.heard(contact(number), "peer", NOW_S)
    before = list(book)
    for number in range(10_000, 10_000 + 3 * MOST_NEW):
        book.heard(contact(number), "peer", NOW_S + 1)
    assert len(book) == 8 + MOST_NEW
    assert list(book)[: len(before)] == before


def test_a_full_book_gives_up_what_fails_and_what_is_less_believed() -> None:
    book = AddressBook()
    for number in range(MOST_NEW):
        book.heard(contact(number), "peer", NOW_S)
    book.failed(contact(7).node_id, NOW_S)
    book.heard(contact(5_000), "bittorrent", NOW_S)
    assert book.get(contact(7).node_id) is None
    assert known(book, 5_000).source == "bittorrent"
    book.heard(contact(5_001), "dns", NOW_S)
    assert book.get(contact(5_000).node_id) is None
    book.heard(contact(5_002), "dns", NOW_S)
    assert {known(book, 5_001).source, known(book, 5_002).source} == {"dns"}
    assert sum(entry.source == "peer" for entry in book) == MOST_NEW - 2


def test_reachable_newcomers_push_out_one_another_first() -> None:
    book = AddressBook()
    for step in range(4):
        for number in range(20):
            book.good(contact(number), 0.01, NOW_S + step * EPISODE_S)
    for number in range(10_000, 10_000 + 2 * MOST_TRIED):
        book.good(contact(number), 0.01, NOW_S + 4 * EPISODE_S)
    assert len(book) == MOST_TRIED
    assert all(book.get(contact(number).node_id) for number in range(20))
    assert book.best(20, NOW_S + 4 * EPISODE_S) == [contact(number) for number in range(20)]


# history


def test_a_score_follows_from_what_a_node_did() -> None:
    book = proven(range(1, 2))
    nobody = contact(99).node_id
    assert book.score(nobody, NOW_S) == 0.5
    assert book.score(contact(1).node_id, NOW_S) == pytest.approx(2 / 3)
    book.heard(contact(2), "peer", NOW_S)
    assert book.score(contact(2).node_id, NOW_S) == 0.5
    book.failed(contact(2).node_id, NOW_S)
    assert book.score(contact(2).node_id, NOW_S) == pytest.approx(1 / 3)


def test_old_history_fades_to_not_knowing() -> None:
    entry = Entry(contact(1), "peer", True, NOW_S, NOW_S, successes=60)
    scores = [entry.score(NOW_S + weeks * HALF_LIFE_S) for weeks in range(30)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 61 / 62
    assert scores[1] == 31 / 32
    assert scores[-1] == pytest.approx(0.5, abs=1e-6)
    assert entry.score(NOW_S - 1e6) == scores[0], "a clock that went back makes nobody better"


def test_a_busy_while_counts_once() -> None:
    book = AddressBook()
    for second in range(2 * EPISODE_S):
        book.good(contact(1), 0.01, NOW_S + second)
    assert known(book, 1).successes == 2
    for second in range(2 * EPISODE_S, 3 * EPISODE_S):
        book.failed(contact(1).node_id, NOW_S + second)
    assert (known(book, 1).successes, known(book, 1).failures) == (2, 1)
    assert known(book, 1).last_good_s == NOW_S + 2 * EPISODE_S - 1
    assert known(book, 1).last_asked_s == NOW_S + 3 * EPISODE_S - 1


def test_a_first_success_counts_however_young_the_clock() -> None:
    book = proven(range(1, 2), now_s=3.0)
    assert known(book, 1).successes == 1


def test_a_node_that_changed_is_seen_to_have_changed() -> None:
    entry = Entry(contact(1), "peer")
    now_s = NOW_S
    for _ in range(10 * MEMORY):
        now_s += EPISODE_S
        entry = entry.answered(contact(1), 0.01, now_s)
        assert entry.successes <= MEMORY
    assert entry.score(now_s) > 0.97
    for _ in range(2 * MEMORY):
        now_s += EPISODE_S
        entry = entry.silent(now_s)
    assert entry.score(now_s) < 0.2


def test_latency_is_a_moving_mean() -> None:
    book = AddressBook()
    book.good(contact(1), 0.1, NOW_S)
    assert known(book, 1).latency_s == 0.1
    book.good(contact(1), 0.2, NOW_S)
    assert known(book, 1).latency_s == pytest.approx(0.125)
    for _ in range(40):
        book.good(contact(1), 0.01, NOW_S)
    assert known(book, 1).latency_s == pytest.approx(0.01, abs=1e-4)


# the file


def busy(seed: int) -> AddressBook:
    """A book after thousands of random events, its bounds watched after each."""
    draw = random.Random(seed)
    book, now_s = AddressBook(), NOW_S
    for _ in range(6_000):
        now_s += draw.expovariate(1 / 60)
        number = int(draw.triangular(0, 1_500, 0))
        someone = contact(number)
        if draw.random() < 0.2:
            someone = contact(number, f"172.16.{draw.randrange(20)}.{number % 250 + 1}:7077")
        match draw.choice("heard heard good failed".split()):
            case "heard":
                book.heard(someone, draw.choice(SOURCES), now_s)
            case "good":
                book.good(someone, draw.random(), now_s)
            case _:
                book.failed(someone.node_id, now_s)
    return book


@pytest.mark.parametrize("seed", range(4))
def test_a_busy_book_keeps_its_bounds_and_reads_back(seed: int) -> None:
    book = busy(seed)
    new = [entry.contact for entry in book if not entry.tried]
    tried = [entry.contact for entry in book if entry.tried]
    assert new and tried, seed
    assert len({each.node_id for each in new + tried}) == len(book), seed
    assert max(Counter(subnet_of(each.host) for each in new).values()) <= SUBNET_MOST, seed
    assert {entry.source for entry in book} == set(SOURCES), seed
    assert all(0 < entry.score(NOW_S + 1e5) < 1 for entry in book), seed
    again = AddressBook.decode(book.encode())
    assert list(again) == list(book), seed
    assert again.best(9_999, NOW_S) == book.best(9_999, NOW_S), seed
    for number in range(20_000, 20_100):
        for each in (book, again):
            each.heard(contact(number, f"172.16.{number % 20}.9:1"), "peer", NOW_S)
    assert list(again) == list(book), f"seed {seed}: the subnets are counted anew"


def test_the_file_is_for_people() -> None:
    book = proven(range(1, 3))
    lines = book.encode().decode().splitlines()
    assert (lines[0], lines[-1], len(lines)) == ('{"version": 1, "nodes": [', "]}", 4)
    assert '"address": "10.0.1.1:7077"' in lines[1]
    assert f'"public_key": "{format_base32(contact(1).public_key)}"' in lines[1]
    assert AddressBook().encode() == b'{"version": 1, "nodes": [\n\n]}\n'


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"version": 1}',
        b'{"version": 1, "nodes": {}}',
        b'{"version": 2, "nodes": []}',
        b'{"version": 1, "nodes": [1, null, [], {}, "x"]}',
        b'{"version": ' + b"9" * 5_000 + b', "nodes": []}',
        b"[" * 100_000,
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_a_file_that_is_no_book_gives_an_empty_one(raw: bytes) -> None:
    book = AddressBook.decode(raw)
    assert len(book) == 0
    assert book.best(8, NOW_S) == []
    book.heard(contact(1), "file", NOW_S)
    assert len(book) == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_file_with_flipped_bytes_reads_as_far_as_it_goes(seed: int) -> None:
    draw, book = random.Random(seed), proven(range(1, 9))
    raw = bytearray(book.encode())
    for _ in range(draw.randrange(1, 40)):
        raw[draw.randrange(len(raw))] = draw.randrange(256)
    again = AddressBook.decode(bytes(raw))
    assert len(again) <= 8, seed
    assert AddressBook.decode(again.encode()).encode() == again.encode(), seed


def nodes_of(book: AddressBook) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = json.loads(book.encode())["nodes"]
    return nodes


def decoded(nodes: list[dict[str, Any]]) -> AddressBook:
    return AddressBook.decode(json.dumps({"version": 1, "nodes": nodes}).encode())


@pytest.mark.parametrize(
    "change",
    [
        {"source": "rumour"},
        {"tried": 1},
        {"tried": "true"},
        {"last_good_s": -1},
        {"last_good_s": "0"},
        {"last_good_s": float("nan")},
        {"last_asked_s": float("inf")},
        {"latency_s": None},
        {"successes": 1.5},
        {"successes": MEMORY + 1},
        {"failures": -1},
        {"failures": True},
        {"contact": None},
        {"contact": {"public_key": "a", "address": "10.0.0.1:1"}},
        {"contact": {"public_key": "A" * 52, "address": "10.0.0.1:1"}},
        {"contact": {"public_key": "a" * 52, "address": "10.0.0.1"}},
        {"contact": {"public_key": "a" * 52, "address": "10.0.0.1:1", "node_id": "a"}},
        {"nickname": "x"},
    ],
    ids=str,
)
def test_an_entry_that_is_wrong_is_left_out_alone(change: dict[str, Any]) -> None:
    first, second, third = nodes_of(proven(range(1, 4)))
    book = decoded([first, second | change, third])
    assert [entry.contact for entry in book] == [contact(1), contact(3)]


def test_a_node_stands_in_a_file_once() -> None:
    (first,) = nodes_of(proven(range(1, 2)))
    other = {**first, "tried": False, "contact": {**first["contact"], "address": "6.6.6.6:6"}}
    assert list(decoded([first, other, first])) == list(decoded([first]))


def test_a_file_that_is_too_long_is_cut() -> None:
    (entry,) = nodes_of(proven(range(1)))
    nodes = []
    for number in range(MOST_NEW + MOST_TRIED + 500):
        each = contact(number)
        plain = {"public_key": format_base32(each.public_key), "address": each.address}
        nodes.append({**entry, "tried": number % 2 == 0, "contact": plain})
    nodes += nodes_of(proven(range(5_000, 5_900)))
    assert Counter(each.tried for each in decoded(nodes)) == {True: MOST_TRIED, False: MOST_NEW}
