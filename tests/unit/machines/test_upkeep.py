"""Getting in, staying in and growing together again, step by step and in whole networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count, islice
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsn.dht.contact import Contact
from dsn.dht.distance import ID_BITS, bucket_of
from dsn.dht.routing import RoutingTable
from dsn.machines.upkeep import (
    NEW_FACES,
    SEEDS,
    TELL,
    WALK_HOPS,
    Find,
    Step,
    Steps,
    Tell,
    Visit,
    join,
    meet,
    refresh,
    sample,
)
from tests.support.dht_net import Net, node

ME = node(0)
Replies = Callable[[Step], Sequence[Contact]]


def in_bucket(bucket: int, most: int) -> list[Contact]:
    candidates = (node(n) for n in count(1))
    inside = (each for each in candidates if bucket_of(ME.node_id, each.node_id) == bucket)
    return list(islice(inside, most))


def silence(step: Step) -> Sequence[Contact]:
    return ()


def follow(steps: Steps, reply: Replies = silence) -> list[Step]:
    """Every step that is taken when ``reply`` says what comes of each."""
    taken: list[Step] = []
    try:
        step = next(steps)
        while True:
            taken.append(step)
            step = steps.send(list(reply(step)))
    except StopIteration:
        return taken


def table_of(contacts: Sequence[Contact] = (), subnet_most: int | None = None) -> RoutingTable:
    table = RoutingTable(ME.node_id, subnet_most=subnet_most)
    for each in contacts:
        table.seen(each)
    return table


def build(rng: Random, size: int, first: int = 0, net: Net | None = None) -> Net:
    """A network whose nodes join one after another through the first of them."""
    net = net or Net(rng)
    seed = net.add(node(first)).contact
    for number in range(first + 1, first + size):
        peer = net.add(node(number))
        net.run(peer, join(peer.table, [seed], rng.randbytes))
    return net


def torn(rng: Random, size: int) -> Net:
    """Two networks of half the size that know nothing of each other."""
    net = build(rng, size // 2)
    return build(rng, size // 2, first=size // 2, net=net)


def round_of_refresh(net: Net, seeds: Sequence[Contact]) -> None:
    """Everybody refreshes once and heeds what it is told."""
    for peer in list(net):
        net.run(peer, refresh(peer.table, seeds, net.rng.randbytes))
        net.spread(100_000)


class TestJoin:
    def test_everybody_finds_everybody(self) -> None:
        net = build(Random(1), 50)
        for peer in net:
            for other in net:
                if other is not peer:
                    found = net.look_up(peer, other.contact.node_id).closest()
                    assert found[0] == other.contact, "seed 1"

    @pytest.mark.parametrize("size", [2, 21, 50, 200])
    def test_every_lookup_finds_all_the_nearest(self, size: int) -> None:
        rng = Random(size)
        assert build(rng, size).recall(rng, 100) == 1.0, f"seed {size}"

    def test_what_it_costs(self) -> None:
        net = build(Random(2), 200)
        made = {kind: number / 200 for kind, number in net.calls.items()}
        print(f"a join among 200: {made}")
        assert made["find"] + made["visit"] < 50
        assert made["ping"] + made["call back"] < 50

    def test_whoever_joins_beside_its_seed_hears_of_the_others(self) -> None:
        """Neighbours name neighbours: the far buckets would stay empty."""
        (beside,), far = in_bucket(ID_BITS - 6, 1), in_bucket(ID_BITS - 1, 9)
        table = table_of()

        def reply(step: Step) -> Sequence[Contact]:
            if isinstance(step, Find):
                table.seen(beside)
            if isinstance(step, Visit):
                table.seen(step.contact)
                same = bucket_of(ME.node_id, step.target) == ID_BITS - 1
                return far if step.contact == beside and same else ()
            return ()

        follow(join(table, [beside], Random(3).randbytes), reply)
        assert table.buckets() == {ID_BITS - 6: 1, ID_BITS - 1: NEW_FACES}

    def test_its_own_neighbours_come_first(self) -> None:
        first, *rest = follow(join(table_of(), [node(1), node(2)], Random(4).randbytes))
        assert first == Find(ME.node_id, (node(1), node(2)))
        assert rest == []


class TestEachBucket:
    NEAR, FAR = in_bucket(ID_BITS - 2, 8), in_bucket(ID_BITS - 1, 8)

    def visits(self, table: RoutingTable, reply: Replies = silence) -> list[Visit]:
        steps = follow(join(table, [], Random(5).randbytes), reply)
        return [step for step in steps if isinstance(step, Visit)]

    def test_whoever_was_seen_longest_ago_is_asked_for_a_key_of_it(self) -> None:
        visits = self.visits(table_of([*self.NEAR, *self.FAR, self.FAR[0]]))
        assert [visit.contact for visit in visits] == [self.NEAR[0], self.FAR[1]]
        buckets = [bucket_of(ME.node_id, visit.target) for visit in visits]
        assert buckets == [ID_BITS - 2, ID_BITS - 1]

    def test_an_empty_one_is_asked_for_elsewhere(self) -> None:
        visits = self.visits(table_of(self.NEAR))
        assert [bucket_of(ME.node_id, each.target) for each in visits] == [254, 255]
        assert {visit.contact for visit in visits} <= set(self.NEAR)

    def test_a_few_of_those_named_are_visited_if_there_is_room(self) -> None:
        asked, known, *strangers = self.FAR
        table = table_of([asked, known])
        visits = self.visits(table, lambda step: [ME, known, *strangers])
        assert [visit.contact for visit in visits] == [asked, *strangers[:NEW_FACES]]

    def test_nobody_who_would_get_no_place(self) -> None:
        host = self.FAR[0].host
        rack = [Contact(each.public_key, f"{host}:{port}") for port, each in enumerate(self.FAR, 1)]
        visits = self.visits(table_of(rack[:2], subnet_most=2), lambda step: rack)
        assert [visit.contact for visit in visits] == rack[:1]

    def test_the_table_may_empty_on_the_way(self) -> None:
        table = table_of([*self.NEAR[:1], *self.FAR[:1]])

        def reply(step: Step) -> Sequence[Contact]:
            for each in [*table, *table]:
                table.failed(each.node_id)
            return ()

        assert self.visits(table, reply) == []
        table = table_of([*self.NEAR[:1], *self.FAR[:1]])
        visits = self.visits(table, lambda step: reply(step) if isinstance(step, Visit) else ())
        assert len(visits) == 1


class TestRefresh:
    def test_what_it_costs_and_that_it_fills_the_tables(self) -> None:
        rng = Random(6)
        net = build(rng, 300)
        seed = node(0)
        for turn in range(3):
            net.calls.clear()
            before = sum(len(peer.table) for peer in net)
            round_of_refresh(net, [seed])
            own = (net.calls["find"] + net.calls["visit"] + net.calls["tell"]) / 300
            print(f"refresh {turn} of 300: {own} calls a node; all: {dict(net.calls)}")
            assert own < 60
            assert sum(len(peer.table) for peer in net) > before
        assert net.recall(rng, 100) == 1.0

    def test_the_walk_goes_on_from_one_to_another(self) -> None:
        here = in_bucket(ID_BITS - 1, 1)
        others = [node(n) for n in range(100, 200)]
        trail = iter(others)
        visits: list[Visit] = []

        def reply(step: Step) -> Sequence[Contact]:
            if isinstance(step, Visit) and step.target != ME.node_id:
                visits.append(step)
                return [ME, next(trail)] if len(visits) > 1 else []
            return []

        steps = follow(refresh(table_of(here), [], Random(7).randbytes), reply)
        walk = visits[1:]
        assert [each.contact for each in walk] == [*here, *others[: WALK_HOPS - 1]]
        assert len({each.target for each in walk}) == WALK_HOPS
        end = Visit(others[WALK_HOPS - 2], ME.node_id)
        assert end in steps, "whom it ended at is asked for one's own neighbours"

    def test_silence_does_not_end_the_walk(self) -> None:
        here = in_bucket(ID_BITS - 1, 5)
        steps = follow(refresh(table_of(here), [], Random(8).randbytes))
        walk = [step for step in steps if isinstance(step, Visit) and step.target != ME.node_id][1:]
        assert len(walk) == WALK_HOPS
        assert len({visit.contact for visit in walk}) > 1, "seed 8"

    def test_some_of_the_seeds_are_asked_again(self) -> None:
        seeds = [node(n) for n in range(50, 60)]
        steps = follow(refresh(table_of(), seeds, Random(9).randbytes))
        asked = {step.contact for step in steps if isinstance(step, Visit)}
        assert asked <= set(seeds)
        assert len(asked) == SEEDS
        assert steps[-1] == Find(ME.node_id, ())

    def test_alone_and_without_seeds(self) -> None:
        assert follow(refresh(table_of(), [], Random(1).randbytes)) == [Find(ME.node_id, ())]
        assert follow(join(table_of(), [], Random(1).randbytes)) == [Find(ME.node_id, ())]
        assert follow(meet(table_of(), [], Random(1).randbytes)) == []

    @pytest.mark.parametrize("task", [join, refresh, meet])
    def test_when_everybody_is_silent_it_ends_soon_and_tells_nobody(
        self, task: Callable[..., Steps]
    ) -> None:
        table = table_of([node(n) for n in range(1, 200)])
        steps = follow(task(table, [node(500), node(501)], Random(10).randbytes))
        assert 0 < len(steps) < 40
        assert not any(isinstance(step, Tell) for step in steps)


class TestHints:
    @pytest.mark.parametrize("size", [10, 40, 200])
    def test_one_makes_a_torn_network_whole(self, size: int) -> None:
        rng = Random(size)
        net = torn(rng, size)
        assert net.recall(rng, 60) < 0.6
        net.calls.clear()
        peer = net.peers[node(1).node_id]
        net.run(peer, meet(peer.table, [node(size - 1)], rng.randbytes))
        net.spread(100_000)
        print(f"{size} nodes made whole at {net.calls.total() / size:.0f} calls a node")
        assert net.recall(rng, 60) == 1.0, f"seed {size}"

    @pytest.mark.parametrize("size", [10, 40, 200])
    def test_so_does_one_refresh_with_a_seed_in_common(self, size: int) -> None:
        rng = Random(size)
        net = torn(rng, size)
        round_of_refresh(net, [node(0)])
        assert net.recall(rng, 60) == 1.0, f"seed {size}"

    def test_one_that_is_news_is_told_to_a_few(self) -> None:
        rng = Random(13)
        net = torn(rng, 100)
        peer, known = net.peers[node(1).node_id], set(net.peers[node(1).node_id].table)
        net.run(peer, meet(peer.table, [node(99)], rng.randbytes))
        assert len(net.told) == TELL
        told, hints = zip(*net.told, strict=True)
        assert len(set(told)) == TELL
        assert set(told) <= known
        (hint,) = set(hints)
        assert hint in {node(n) for n in range(50, 100)}

    def test_the_lookup_begins_with_those_who_were_named(self) -> None:
        """They are nearer than the stranger, who is too far off for a lookup to ask."""
        neighbours = sorted(in_bucket(ID_BITS - 6, 4), key=lambda each: each.address)
        (stranger,) = in_bucket(ID_BITS - 1, 1)

        def reply(step: Step) -> Sequence[Contact]:
            return [ME, *neighbours] if step == Visit(stranger, ME.node_id) else [stranger]

        steps = follow(meet(table_of(), [stranger], Random(18).randbytes), reply)
        (find,) = (step for step in steps if isinstance(step, Find))
        assert find.target == ME.node_id
        assert set(neighbours) <= set(find.via) <= {*neighbours, stranger}

    def test_one_that_is_not_dies_at_its_first_stop(self) -> None:
        net = build(Random(14), 60)
        net.calls.clear()
        peer = net.peers[node(1).node_id]
        for stranger in (node(7), node(59), Contact(node(7).public_key, "192.0.2.1:9"), node(999)):
            net.run(peer, meet(peer.table, [stranger], net.rng.randbytes))
        assert net.told == []
        assert net.calls["find"] == 0, "a hint costs no lookup before it was found to hold"
        assert net.calls["visit"] < 40

    def test_a_stranger_who_knows_nobody_is_told_to_nobody(self) -> None:
        net = build(Random(15), 60)
        net.add(node(70))
        peer = net.peers[node(1).node_id]
        net.run(peer, meet(peer.table, [node(70)], net.rng.randbytes))
        assert net.told == []

    def test_a_stranger_who_names_nodes_that_do_not_exist_is_told_to_nobody(self) -> None:
        net = build(Random(16), 60)
        liar, peer = net.add(node(70)), net.peers[node(1).node_id]
        for n in range(1_000, 3_000):
            liar.table.seen(node(n))
        net.calls.clear()
        net.run(peer, meet(peer.table, [liar.contact], net.rng.randbytes))
        assert net.told == []
        assert net.calls.total() < 120

    def test_nodes_that_get_no_place_are_not_news_for_ever(self) -> None:
        """In one /24 with limits most find no place: they must not be told of in every round."""
        rng = Random(17)
        net = Net(rng, subnet_most=2)
        contacts = [node(n, f"10.0.0.{n + 1}") for n in range(50)]
        for each in contacts:
            peer = net.add(each)
            net.run(peer, join(peer.table, contacts[:1], rng.randbytes))
        for _ in range(2):
            for peer in list(net):
                net.run(peer, refresh(peer.table, contacts[:1], rng.randbytes))
            heeded = net.spread(2_000)
        assert heeded == 0


@given(st.integers(0, 12), st.integers(0, 15), st.integers(0, 1 << 32))
def test_a_sample_has_nobody_twice(size: int, wanted: int, seed: int) -> None:
    contacts = [node(n) for n in range(size)]
    drawn = sample(contacts, wanted, Random(seed).randbytes)
    assert len(drawn) == len(set(drawn)) == min(size, wanted)
    assert set(drawn) <= set(contacts)
    assert contacts == [node(n) for n in range(size)]


def test_a_sample_may_hold_anybody() -> None:
    contacts = [node(n) for n in range(10)]
    draws = [sample(contacts, 1, Random(seed).randbytes)[0] for seed in range(200)]
    assert set(draws) == set(contacts)
