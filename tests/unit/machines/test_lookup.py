"""What a lookup asks, and what it makes of each answer, one input at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from dsn.dht.contact import Contact
from dsn.dht.distance import nearest
from dsn.machines.lookup import ADDRESSES, PARALLELISM, SOFT_S, Ask, Lookup, Outcome
from tests.support.dht_net import Said, drive, ids, node

ME = node(0)
TARGET = bytes(32)
NODES = nearest([node(n) for n in range(1, 101)], TARGET, 100)
"""Nearest to the target first."""
FAR = NODES[50:]


def at(contact: Contact, port: int) -> Contact:
    return Contact(contact.public_key, f"192.0.2.1:{port}")


def lookup(
    start: Sequence[Contact],
    *,
    values: bool = False,
    paths: int = 1,
    parallelism: int = PARALLELISM,
    bucket_size: int = 20,
) -> Lookup:
    return Lookup(
        TARGET,
        start,
        me=ME.node_id,
        values=values,
        paths=paths,
        parallelism=parallelism,
        bucket_size=bucket_size,
    )


def contacts(asks: Iterable[Ask]) -> list[Contact]:
    return [ask.contact for ask in asks]


def test_the_nearest_are_asked_first() -> None:
    search = lookup(FAR)
    assert contacts(search.start(0.0)) == FAR[:PARALLELISM]
    assert contacts(search.answered(FAR[0].node_id, NODES[:5], 0, 0.1)) == NODES[:1]
    assert contacts(search.failed(FAR[1].node_id, 0.1)) == NODES[1:2]
    assert not search.done


def test_nobody_to_begin_with() -> None:
    for start in ([], [ME]):
        search = lookup(start, paths=4)
        assert search.start(0.0) == []
        assert search.done
        assert search.next_s is None
        assert (search.closest(), search.hops, search.depth) == ([], [], 0)


def test_it_ends_when_the_nearest_have_answered() -> None:
    search = lookup(NODES[:50])
    asked = drive(search, lambda contact: Said(NODES[:20]))
    assert asked == NODES[:20], "the others are farther than 20 that answered"
    assert search.closest() == NODES[:20]


def test_for_one_that_fails_the_next_is_asked() -> None:
    silent = {NODES[0], NODES[7], NODES[19]}
    search = lookup(NODES[:50])
    asked = drive(search, lambda contact: None if contact in silent else Said())
    assert set(asked) == set(NODES[:23])
    assert search.closest() == [each for each in NODES[:23] if each not in silent]


def test_when_all_are_silent_it_ends_with_nothing() -> None:
    search = lookup(NODES, paths=4)
    assert set(drive(search, lambda contact: None)) == set(NODES)
    assert search.done
    assert search.closest() == []


def test_a_smaller_bucket_asks_fewer() -> None:
    search = lookup(NODES, bucket_size=5)
    assert len(drive(search, lambda contact: Said(NODES))) == 5
    assert search.closest() == NODES[:5]


class TestSoftTimeout:
    def test_a_slow_contact_lets_another_be_asked(self) -> None:
        search = lookup(NODES)
        search.start(1.0)
        assert search.next_s == 1.0 + SOFT_S
        assert search.tick(1.0 + SOFT_S / 2) == []
        assert contacts(search.tick(1.0 + SOFT_S)) == NODES[3:6]
        assert search.next_s == 1.0 + 2 * SOFT_S

    def test_only_those_asked_so_long_ago_are_slow(self) -> None:
        search = lookup(NODES)
        search.start(0.0)
        search.answered(NODES[0].node_id, [], 0, 0.1)
        assert contacts(search.tick(SOFT_S)) == NODES[4:6]
        assert search.next_s == 0.1 + SOFT_S

    def test_nothing_is_due_when_all_are_slow_and_nobody_is_left(self) -> None:
        search = lookup(NODES[:2])
        search.start(0.0)
        assert search.tick(SOFT_S) == []
        assert search.next_s is None
        assert not search.done, "they may still answer"

    def test_a_late_answer_counts(self) -> None:
        search = lookup(FAR[:3])
        search.start(0.0)
        search.tick(SOFT_S)
        assert contacts(search.answered(FAR[0].node_id, NODES[:1], 0, 0.9)) == NODES[:1]
        assert FAR[0] in search.closest()

    def test_a_tick_early_late_or_twice_does_no_harm(self) -> None:
        search = lookup(NODES[:3])
        search.start(0.0)
        for now_s in (0.0, SOFT_S, SOFT_S, 9.0):
            assert search.tick(now_s) == []
        for each in NODES[:3]:
            search.answered(each.node_id, [], 0, 9.0)
        assert search.done
        assert search.tick(10.0) == []


class TestAddresses:
    def test_one_that_fails_is_asked_where_else_it_may_be(self) -> None:
        search = lookup([at(NODES[0], 1), FAR[0]])
        search.start(0.0)
        assert search.answered(FAR[0].node_id, [at(NODES[0], 2)], 0, 0.1) == []
        assert contacts(search.failed(NODES[0].node_id, 1.0)) == [at(NODES[0], 2)]
        assert search.answered(NODES[0].node_id, [], 0, 1.1) == []
        assert search.closest() == [at(NODES[0], 2), FAR[0]], "where it answered"

    def test_also_when_the_other_address_is_heard_later(self) -> None:
        search = lookup([at(NODES[0], 1), FAR[0]])
        search.start(0.0)
        assert search.failed(NODES[0].node_id, 0.1) == []
        asks = search.answered(FAR[0].node_id, [at(NODES[0], 2)], 0, 0.2)
        assert contacts(asks) == [at(NODES[0], 2)]

    def test_never_twice_at_one(self) -> None:
        asked = drive(
            lookup(NODES[:3]), lambda contact: None if contact != NODES[0] else Said(NODES[:3])
        )
        assert len(asked) == 3

    def test_no_more_than_a_few(self) -> None:
        """Or whoever names nodes at addresses that time out keeps a lookup busy at will."""
        rumours = iter(range(1, 1_000))
        search = lookup([NODES[0], *FAR[:30]])
        asked = drive(
            search,
            lambda contact: (
                None if contact.node_id == NODES[0].node_id else Said([at(NODES[0], next(rumours))])
            ),
        )
        assert ids(asked).count(NODES[0].node_id) == ADDRESSES

    def test_one_answer_cannot_use_them_all_up(self) -> None:
        forged = [at(NODES[0], port) for port in range(1, 9)]
        search = lookup([FAR[0], FAR[1]])
        says = {FAR[0]: Said(forged, after_s=0.01), FAR[1]: Said(NODES[:1], after_s=0.5)}
        drive(
            search,
            lambda contact: (
                says.get(contact) if contact in says else (Said() if contact == NODES[0] else None)
            ),
        )
        assert NODES[0] in search.closest()


class TestAnswersOutOfPlace:
    @pytest.fixture
    def search(self) -> Lookup:
        search = lookup(FAR[:2])
        assert len(search.start(0.0)) == 2
        return search

    def test_uninvited(self, search: Lookup) -> None:
        for stranger in (NODES[3], FAR[40], ME):
            assert search.answered(stranger.node_id, NODES[:20], 1, 0.1) == []
            assert search.failed(stranger.node_id, 0.1) == []
        assert search.closest() == []
        assert len(search.hops) == 2

    def test_repeated(self, search: Lookup) -> None:
        search.answered(FAR[0].node_id, [], 0, 0.1)
        assert search.answered(FAR[0].node_id, NODES[:20], 1, 0.2) == []
        assert search.failed(FAR[0].node_id, 0.3) == []
        assert search.closest() == FAR[:1]
        assert search.hops[0].ended_s == 0.1

    def test_after_it_was_given_up(self, search: Lookup) -> None:
        search.failed(FAR[0].node_id, 1.0)
        assert search.answered(FAR[0].node_id, NODES[:20], 0, 1.1) == []
        assert search.closest() == []

    def test_after_the_end(self, search: Lookup) -> None:
        for each in FAR[:2]:
            search.answered(each.node_id, [], 0, 0.1)
        assert search.done
        assert search.answered(FAR[0].node_id, NODES, 1, 0.2) == []
        assert search.tick(5.0) == []
        assert search.done
        assert search.next_s is None


class TestLiars:
    def test_ten_thousand_contacts_count_as_twenty(self) -> None:
        flood = [node(n) for n in range(1_000, 11_000)]
        search = lookup(FAR[:1])
        asked = drive(search, lambda contact: Said(flood) if contact == FAR[0] else None)
        assert asked == [FAR[0], *nearest(flood, TARGET, 20)]

    def test_itself_the_asker_and_the_same_again(self) -> None:
        liar = FAR[0]
        search = lookup([liar])
        names = [liar, at(liar, 9), ME, at(ME, 9), *[NODES[0]] * 30, *[NODES[1]] * 30]
        asked = drive(search, lambda contact: Said(names))
        assert sorted(ids(asked)) == sorted(ids([liar, *NODES[:2]]))

    def test_doubles_do_not_crowd_others_out(self) -> None:
        search = lookup(FAR[:1])
        names = [*(at(NODES[0], port) for port in range(1, 50)), *NODES[1:5]]
        asked = drive(search, lambda contact: Said(names) if contact == FAR[0] else Said())
        assert set(ids(asked)) == set(ids([FAR[0], *NODES[:5]]))


class TestValues:
    def test_it_stops_at_once_when_its_path_has_one(self) -> None:
        search = lookup(NODES, values=True)
        search.start(0.0)
        assert search.answered(NODES[1].node_id, NODES[:20], 1, 0.1) == []
        assert search.done
        assert search.next_s is None
        assert search.tick(1.0) == []
        assert [hop.values for hop in search.hops] == [0, 1, 0]

    def test_each_path_needs_its_own(self) -> None:
        search = lookup(NODES[:8], values=True, paths=2)
        assert len(search.start(0.0)) == 6
        search.answered(NODES[0].node_id, [], 1, 0.1)
        assert not search.done
        assert contacts(search.answered(NODES[1].node_id, [], 0, 0.1)) == [NODES[7]]
        search.answered(NODES[3].node_id, [], 2, 0.2)
        assert search.done

    def test_those_of_a_path_that_has_ended_are_ignored(self) -> None:
        search = lookup(NODES[:8], values=True, paths=2)
        search.start(0.0)
        search.answered(NODES[0].node_id, [], 1, 0.1)
        assert search.answered(NODES[2].node_id, FAR, 5, 0.2) == []
        assert search.failed(NODES[4].node_id, 0.2) == []
        by_contact = {hop.contact: hop for hop in search.hops}
        assert by_contact[NODES[2]].values == 0
        assert by_contact[NODES[2]].outcome is Outcome.ANSWERED
        assert all(hop.path == 1 for hop in search.hops if hop.outcome is Outcome.ASKED)

    def test_a_path_that_finds_none_ends_as_usual(self) -> None:
        search = lookup(NODES[:40], values=True, paths=4)
        drive(search, lambda contact: Said(values=int(contact == NODES[0])))
        assert search.done
        assert {hop.path for hop in search.hops if hop.values} == {0}
        assert {hop.contact for hop in search.hops if hop.path} == {
            each for index, each in enumerate(NODES[:40]) if index % 4
        }

    def test_they_mean_nothing_when_nodes_are_sought(self) -> None:
        search = lookup(NODES[:5])
        assert len(drive(search, lambda contact: Said(values=1))) == 5


class TestPaths:
    def test_the_start_is_dealt_in_turn(self) -> None:
        search = lookup(NODES[:12], paths=4, parallelism=2)
        assert contacts(search.start(0.0)) == [NODES[n] for n in (0, 4, 1, 5, 2, 6, 3, 7)]
        assert [hop.path for hop in search.hops] == [0, 0, 1, 1, 2, 2, 3, 3]

    def test_whom_one_path_heard_of_no_other_asks(self) -> None:
        search = lookup(FAR[:2], paths=2)
        drive(search, lambda contact: Said(NODES[:30]))
        asked = [hop.contact for hop in search.hops]
        assert len(asked) == len(set(asked)) == 2 + 20
        assert {hop.path for hop in search.hops if hop.contact in NODES[:30]} == {0}

    def test_a_path_without_a_start_begins_with_what_another_hears(self) -> None:
        search = lookup(FAR[:1], paths=4)
        search.start(0.0)
        assert len(search.answered(FAR[0].node_id, NODES[:8], 0, 0.1)) == 6
        paths = {hop.contact: hop.path for hop in search.hops}
        assert [paths[each] for each in NODES[:3]] == [1, 2, 3]
        assert [paths[each] for each in NODES[3:6]] == [0, 0, 0]

    def test_a_node_said_to_be_elsewhere_is_asked_once_its_address_is_known(self) -> None:
        """The path that was lied to has ended by the time another hears the truth."""
        search = lookup(FAR[:2], paths=2)
        forged = [at(each, 9) for each in NODES[:20]]
        says = {FAR[0]: Said(forged), FAR[1]: Said(NODES[:20], after_s=0.9)}

        def answer(contact: Contact) -> Said | None:
            return None if contact in forged else says.get(contact, Said())

        drive(search, answer)
        assert search.closest() == NODES[:20]
        assert {hop.path for hop in search.hops if hop.contact in NODES} == {0, 1}

    def test_a_path_that_waits_for_nobody_may_be_woken(self) -> None:
        search = lookup([at(NODES[0], 1), FAR[0]], paths=2)
        search.start(0.0)
        assert search.failed(NODES[0].node_id, 0.1) == []
        assert not search.done
        asks = search.answered(FAR[0].node_id, [NODES[0]], 0, 0.2)
        assert contacts(asks) == [NODES[0]]
        search.answered(NODES[0].node_id, [], 0, 0.3)
        assert search.done
        assert search.closest() == [NODES[0], FAR[0]]


def test_hops_tell_the_story() -> None:
    search = lookup([FAR[0], FAR[1]])
    search.start(1.0)
    search.answered(FAR[0].node_id, NODES[:1], 0, 1.5)
    search.failed(FAR[1].node_id, 2.0)
    search.answered(NODES[0].node_id, NODES[1:2], 0, 2.5)
    told = [
        (hop.contact, hop.depth, hop.asked_s, hop.ended_s, hop.outcome.value, hop.path)
        for hop in search.hops
    ]
    assert told == [
        (FAR[0], 1, 1.0, 1.5, "answered", 0),
        (FAR[1], 1, 1.0, 2.0, "failed", 0),
        (NODES[0], 2, 1.5, 2.5, "answered", 0),
        (NODES[1], 3, 2.5, 0.0, "asked", 0),
    ]
    assert search.depth == 2, "only answers count"
    assert search.closest() == [NODES[0], FAR[0]]
