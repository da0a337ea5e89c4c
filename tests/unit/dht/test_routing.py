from __future__ import annotations

import pickle
from itertools import count
from random import Random

import pytest

from dsn.dht.contact import Contact
from dsn.dht.distance import bucket_of
from dsn.dht.routing import BUCKET_SIZE, FAILURES, SPARES, SUBNET_MOST, RoutingTable
from dsn.ids import NodeId
from tests.support.dht_net import ids, node

ME = node(0)
FAR = 255


def in_bucket(bucket: int, hosts: str = "") -> list[Contact]:
    """40 nodes of one bucket of ``ME``, in subnets of their own or others at ``hosts``."""
    numbers = count(10_000 if hosts else 1)
    candidates = (node(n, hosts.format(n % 256) if hosts else None) for n in numbers)
    inside = (each for each in candidates if bucket_of(ME.node_id, each.node_id) == bucket)
    return [next(inside) for _ in range(40)]


OTHERS = in_bucket(FAR)
RACK = in_bucket(FAR, "192.0.2.{}")


def moved(contact: Contact, address: str = "203.0.113.9:4001") -> Contact:
    return Contact(contact.public_key, address)


@pytest.fixture
def table() -> RoutingTable:
    return RoutingTable(ME.node_id)


@pytest.fixture
def full(table: RoutingTable) -> RoutingTable:
    """A table whose far bucket holds the first 20 of ``OTHERS``, the first seen longest ago."""
    for each in OTHERS[:BUCKET_SIZE]:
        assert table.seen(each) is None
    return table


def test_an_empty_table(table: RoutingTable) -> None:
    assert (len(table), list(table), table.buckets(), table.closest(bytes(32))) == (0, [], {}, [])
    assert table.oldest(FAR) is None
    assert table.get(OTHERS[0].node_id) is None
    table.failed(OTHERS[0].node_id)
    assert table.wants(OTHERS[0])


def lose(table: RoutingTable, node: NodeId) -> None:
    """Have ``node`` fail as often as it takes to go."""
    for _ in range(FAILURES):
        table.failed(node)


def test_it_never_holds_itself(table: RoutingTable) -> None:
    for me in (ME, moved(ME)):
        assert not table.wants(me)
        assert table.seen(me) is None
    lose(table, ME.node_id)
    assert table.get(ME.node_id) is None
    assert len(table) == 0


def test_what_it_holds_is_listed_nearest_bucket_first(table: RoutingTable) -> None:
    others = [node(n) for n in range(1, 60)]
    for each in others:
        table.seen(each)
    listed = [bucket_of(ME.node_id, each.node_id) for each in table]
    assert listed == sorted(listed)
    assert table.buckets() == {bucket: listed.count(bucket) for bucket in listed}
    assert list(table.buckets()) == sorted(table.buckets())
    assert len(table) == len(listed)


def test_whoever_is_seen_again_is_no_longer_the_oldest(full: RoutingTable) -> None:
    assert full.oldest(FAR) == OTHERS[0]
    assert full.seen(OTHERS[0]) is None
    assert full.oldest(FAR) == OTHERS[1]
    assert full.buckets() == {FAR: BUCKET_SIZE}


class TestAFullBucket:
    def test_old_contacts_stay_as_long_as_they_answer(self, full: RoutingTable) -> None:
        for newcomer in OTHERS[BUCKET_SIZE:]:
            oldest = full.seen(newcomer)
            if oldest is not None:
                assert oldest == full.oldest(FAR)
                full.seen(oldest)
        assert set(full) == set(OTHERS[:BUCKET_SIZE])

    def test_a_spare_gets_the_place_of_one_that_fails(self, full: RoutingTable) -> None:
        newcomer = OTHERS[20]
        assert full.seen(newcomer) == OTHERS[0]
        assert full.get(newcomer.node_id) is None
        full.failed(OTHERS[0].node_id)
        assert full.get(OTHERS[0].node_id) is None
        assert full.get(newcomer.node_id) == newcomer
        assert full.buckets() == {FAR: BUCKET_SIZE}
        assert full.oldest(FAR) == newcomer, "a spare proved itself before any that stayed"

    def test_the_spare_seen_last_goes_first(self, full: RoutingTable) -> None:
        for newcomer in (*OTHERS[20:23], OTHERS[20]):
            full.seen(newcomer)
        for leaver, heir in zip(OTHERS[:3], (OTHERS[20], OTHERS[22], OTHERS[21]), strict=True):
            full.failed(leaver.node_id)
            assert full.oldest(FAR) == heir

    def test_few_wait_and_the_last_seen_are_kept(self, full: RoutingTable) -> None:
        for newcomer in OTHERS[20:40]:
            full.seen(newcomer)
        for leaver in OTHERS[:20]:
            lose(full, leaver.node_id)
        assert set(full) == set(OTHERS[40 - SPARES : 40])

    def test_the_oldest_is_pinged_once_for_each_place_among_the_spares(
        self, full: RoutingTable
    ) -> None:
        newcomers = OTHERS[20 : 20 + SPARES]
        assert [full.seen(each) for each in newcomers] == [OTHERS[0]] * SPARES
        for again in (*newcomers, *OTHERS[20 + SPARES : 40]):
            assert full.seen(again) is None, "or every answer from a stranger would cost a ping"

    def test_a_spare_that_failed_never_gets_a_place(self, full: RoutingTable) -> None:
        full.seen(OTHERS[20])
        full.seen(OTHERS[21])
        full.failed(OTHERS[21].node_id)
        full.failed(OTHERS[0].node_id)
        assert full.get(OTHERS[20].node_id) and not full.get(OTHERS[21].node_id)

    def test_another_bucket_is_none_of_its_business(self, full: RoutingTable) -> None:
        near = in_bucket(FAR - 1)[0]
        full.seen(OTHERS[20])
        assert full.wants(near)
        assert full.seen(near) is None
        full.failed(near.node_id)
        assert full.get(near.node_id) == near


class TestFailures:
    def test_the_second_in_a_row_is_one_too_many(self, full: RoutingTable) -> None:
        node_id = OTHERS[0].node_id
        for _ in range(FAILURES - 1):
            full.failed(node_id)
            assert full.get(node_id) == OTHERS[0]
        full.failed(node_id)
        assert full.get(node_id) is None
        assert full.buckets() == {FAR: BUCKET_SIZE - 1}

    def test_an_answer_in_between_counts(self, full: RoutingTable) -> None:
        for _ in range(5):
            full.failed(OTHERS[0].node_id)
            assert full.get(OTHERS[0].node_id) == OTHERS[0]
            full.seen(OTHERS[0])

    def test_who_comes_back_starts_anew(self, table: RoutingTable) -> None:
        for _ in range(3):
            table.seen(OTHERS[0])
            for _ in range(FAILURES):
                table.failed(OTHERS[0].node_id)
            assert len(table) == 0
        table.seen(OTHERS[0])
        table.failed(OTHERS[0].node_id)
        assert len(table) == 1

    def test_a_table_survives_its_own_line_being_down(self, full: RoutingTable) -> None:
        for each in list(full):
            full.failed(each.node_id)
        assert set(full) == set(OTHERS[:BUCKET_SIZE])


class TestANodeThatMoved:
    def test_it_is_wanted_and_takes_effect_by_proof_alone(self, full: RoutingTable) -> None:
        new = moved(OTHERS[3])
        assert full.wants(new)
        assert full.get(new.node_id) == OTHERS[3]
        assert full.seen(new) is None
        assert full.get(new.node_id) == new
        assert OTHERS[3] not in full.closest(new.node_id)
        assert not full.wants(new)
        assert full.buckets() == {FAR: BUCKET_SIZE}

    def test_a_spare_may_move_too(self, full: RoutingTable) -> None:
        for each in OTHERS[20 : 20 + SPARES]:
            full.seen(each)
        new = moved(OTHERS[20])
        assert full.wants(new)
        assert full.seen(new) is None
        full.failed(OTHERS[0].node_id)
        assert full.get(new.node_id) == new

    def test_not_into_a_subnet_that_has_enough(self, table: RoutingTable) -> None:
        stranger = OTHERS[0]
        for each in (*RACK[:SUBNET_MOST], stranger):
            table.seen(each)
        into = moved(stranger, RACK[5].address)
        assert not table.wants(into)
        assert table.seen(into) is None
        assert table.get(stranger.node_id) == stranger
        table.failed(stranger.node_id)
        table.seen(into)
        table.failed(stranger.node_id)
        assert table.get(stranger.node_id) is None, "proof of one address is none of another"

    def test_within_its_own_subnet_it_may(self, table: RoutingTable) -> None:
        for each in RACK[:SUBNET_MOST]:
            table.seen(each)
        into = moved(RACK[0], "192.0.2.77:9")
        assert table.wants(into)
        table.seen(into)
        assert set(table) == {into, *RACK[1:SUBNET_MOST]}


class TestSubnets:
    def test_a_rack_gets_two_places_in_a_bucket(self, table: RoutingTable) -> None:
        for each in RACK:
            assert table.wants(each) == (len(table) < SUBNET_MOST)
            assert table.seen(each) is None
        assert list(table) == RACK[:SUBNET_MOST]

    def test_two_of_each_bucket(self, table: RoutingTable) -> None:
        near = in_bucket(FAR - 1, "192.0.2.{}")
        for each in (*RACK, *near):
            table.seen(each)
        assert table.buckets() == {FAR - 1: SUBNET_MOST, FAR: SUBNET_MOST}

    def test_those_that_wait_count_or_a_rack_would_inherit_more(self, full: RoutingTable) -> None:
        for each in RACK:
            full.seen(each)
        for each in OTHERS[:BUCKET_SIZE]:
            lose(full, each.node_id)
        assert set(full) == set(RACK[:SUBNET_MOST])

    def test_a_place_is_free_again_when_one_of_them_is_gone(self, table: RoutingTable) -> None:
        for each in RACK[:3]:
            table.seen(each)
        lose(table, RACK[0].node_id)
        assert table.wants(RACK[2])
        table.seen(RACK[2])
        assert list(table) == RACK[1:3]

    @pytest.mark.parametrize(
        "hosts", ["[2001:db8:7:{}::1]", "[::ffff:192.0.2.{}]", "n{}.example", "h.n{}.example.org"]
    )
    def test_other_ways_to_share_a_subnet(self, table: RoutingTable, hosts: str) -> None:
        """A /48 is one customer's, and names cost their domain's owner nothing."""
        for each in in_bucket(FAR, hosts):
            table.seen(each)
        assert len(table) == SUBNET_MOST

    def test_a_name_is_in_no_numbered_subnet(self, table: RoutingTable) -> None:
        for each in (*RACK[:2], *in_bucket(FAR, "n{}.example")[10:12]):
            table.seen(each)
        assert len(table) == 4

    def test_where_all_share_addresses_nothing_is_counted(self) -> None:
        table = RoutingTable(ME.node_id, subnet_most=None)
        for each in RACK[:BUCKET_SIZE]:
            assert table.wants(each)
            table.seen(each)
        assert len(table) == BUCKET_SIZE


class TestWhoIsWorthACall:
    def test_nobody_who_is_known_where_he_says(self, full: RoutingTable) -> None:
        full.seen(OTHERS[20])
        assert [full.wants(each) for each in OTHERS[:21]] == [False] * 21

    def test_strangers_while_places_or_spares_are_free(self, full: RoutingTable) -> None:
        for each in OTHERS[20 : 20 + SPARES]:
            assert full.wants(each)
            full.seen(each)
        assert not full.wants(OTHERS[30])
        full.failed(OTHERS[0].node_id)
        assert full.wants(OTHERS[30])

    def test_not_one_that_its_subnet_keeps_out_even_of_the_spares(self, full: RoutingTable) -> None:
        for each in RACK[:SUBNET_MOST]:
            full.seen(each)
        assert not full.wants(RACK[SUBNET_MOST])

    def test_asking_changes_nothing(self, full: RoutingTable) -> None:
        before = pickle.dumps(full)
        for each in (*OTHERS, *RACK, ME, moved(OTHERS[2])):
            full.wants(each)
        assert pickle.dumps(full) == before


def test_closest_looks_past_buckets_that_are_far_from_the_target(table: RoutingTable) -> None:
    everybody = [node(n) for n in range(1, 200)]
    for each in everybody:
        table.seen(each)
    held = list(table)
    for target in (ME.node_id, *ids(everybody[:20]), bytes(32), b"\xff" * 32):
        goal = int.from_bytes(target, "big")
        order = sorted(held, key=lambda each: int.from_bytes(each.node_id, "big") ^ goal)
        assert table.closest(target) == order[:BUCKET_SIZE]
        assert table.closest(target, 1) == order[:1]
        assert table.closest(target, 0) == []
        assert table.closest(target, 1_000) == order


def test_buckets_may_be_smaller() -> None:
    table = RoutingTable(ME.node_id, bucket_size=3)
    for each in OTHERS:
        table.seen(each)
    assert list(table) == OTHERS[:3]


def test_whatever_comes_it_remembers_only_whom_it_lists(table: RoutingTable) -> None:
    rng = Random(7)
    for n in range(1, 6_000):
        contact = node(rng.randrange(3_000), f"10.{rng.randrange(99)}.{n % 250}.1")
        table.seen(contact)
        table.wants(moved(contact))
        for _ in range(rng.randrange(3)):
            table.failed(node(rng.randrange(3_000)).node_id)
    listed = len(table) + SPARES * len(table.buckets())
    assert len(pickle.dumps(table)) < 1_000 + 250 * listed, "seed 7"
