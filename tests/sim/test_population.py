"""Large networks: who is there, and whom each of them knows."""

from __future__ import annotations

from collections import Counter
from random import Random
from statistics import fmean, median

import pytest

from dsn.apps.sim.driver import REFRESH_S, Node
from dsn.apps.sim.population import HISTORY_S, MEDIAN_S, Population, Resident
from dsn.apps.sim.world import Caller, Server, World
from dsn.core.keys import PUBLIC_KEY_BYTES
from dsn.dht.contact import Contact
from dsn.dht.distance import bucket_of, nearest
from dsn.dht.routing import BUCKET_SIZE, RoutingTable
from dsn.ids import ID_BYTES, NodeId
from dsn.machines.upkeep import join, refresh

NODES, SEED = 2_000, 30


@pytest.fixture(scope="module")
def steady() -> Population:
    """Nobody comes or goes."""
    return Population(NODES, SEED, churn=False)


@pytest.fixture(scope="module")
def churning() -> Population:
    """Nodes come and go."""
    return Population(NODES, SEED, churn=True)


def possible(population: Population, me: NodeId) -> Counter[int]:
    """How many nodes could be in each bucket of ``me``."""
    return Counter(bucket_of(me, node) for node in population.named if node != me)


def some(population: Population, count: int) -> list[NodeId]:
    """A few nodes that are there, and as many ids that are not."""
    rng = Random(SEED)
    alive = [each.contact.node_id for each in population.residents if each.lives(0.0)]
    return [*rng.sample(alive, count), *(NodeId(rng.randbytes(ID_BYTES)) for _ in range(count))]


def test_everybody_is_there_and_stays(steady: Population) -> None:
    assert len(steady.named) == NODES
    assert all(each.lives(-1e9) and each.lives(1e9) for each in steady.residents)


def test_tables_are_full_and_know_all_that_are_near(steady: Population) -> None:
    for me in some(steady, 20):
        could = possible(steady, me)
        wanted = {bucket: min(BUCKET_SIZE, number) for bucket, number in could.items()}
        assert steady.draw_table(me).buckets() == dict(sorted(wanted.items())), f"seed {SEED}"


def test_a_table_is_the_same_whoever_asks_first() -> None:
    one, other = (Population(500, SEED, churn=True) for _ in range(2))
    nodes = some(one, 5)
    forwards = [list(one.table(node)) for node in nodes]
    backwards = [list(other.table(node)) for node in reversed(nodes)]
    assert forwards == backwards[::-1]
    assert one.table(nodes[0]) is one.table(nodes[0])


def test_another_seed_is_another_network(steady: Population) -> None:
    other = Population(NODES, SEED + 1, churn=False)
    assert not set(other.named) & set(steady.named)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.02, 0.0])
def test_the_nearest_are_those_that_counting_finds(steady: Population, share: float) -> None:
    rng = Random(SEED)
    chosen = {node for node in steady.named if rng.random() < share}
    contacts = [steady.named[node].contact for node in chosen]

    def among(resident: Resident) -> bool:
        return resident.contact.node_id in chosen

    for _ in range(20):
        key = rng.randbytes(ID_BYTES)
        assert steady.nearest(key, BUCKET_SIZE, among) == nearest(contacts, key, BUCKET_SIZE)


def test_as_many_come_as_go(churning: Population) -> None:
    for at_s in (-HISTORY_S, -HISTORY_S / 2, 0.0):
        alive = sum(each.lives(at_s) for each in churning.residents)
        assert alive == pytest.approx(NODES, rel=0.1), f"seed {SEED}, at {at_s} s"


def test_half_of_all_sessions_are_shorter_than_an_hour(churning: Population) -> None:
    sessions = [one.died_s - one.born_s for one in churning.residents if one.born_s > -HISTORY_S]
    assert median(sessions) == pytest.approx(MEDIAN_S, rel=0.15), f"seed {SEED}"
    assert max(sessions) > 20 * MEDIAN_S, f"seed {SEED}"


def test_who_has_stayed_long_stays_longer(churning: Population) -> None:
    before = [one for one in churning.residents if one.lives(-HISTORY_S / 2)]
    veterans = [one for one in before if one.born_s < -HISTORY_S]
    newcomers = [one for one in before if one.born_s >= -HISTORY_S]
    survivors = [fmean(one.lives(0.0) for one in group) for group in (veterans, newcomers)]
    assert survivors[0] > survivors[1] + 0.1, f"seed {SEED}"


def test_some_of_a_table_are_gone_and_the_older_the_more(churning: Population) -> None:
    gone: list[list[bool]] = [[] for _ in range(BUCKET_SIZE)]
    for me in some(churning, 60):
        far = [each for each in churning.draw_table(me) if bucket_of(me, each.node_id) == 255]
        for at, contact in enumerate(far):
            gone[at].append(not churning.named[contact.node_id].lives(0.0))
    oldest, newest = (fmean(map(fmean, part)) for part in (gone[:5], gone[-5:]))
    assert oldest > newest + 0.1, f"seed {SEED}"
    assert 0.1 < fmean(map(fmean, gone)) < 0.3, f"seed {SEED}"


def test_neighbours_are_as_fresh_as_the_last_refresh(churning: Population) -> None:
    for me in some(churning, 20):
        mine = nearest(churning.draw_table(me), me, 3)
        assert all(churning.named[each.node_id].died_s > -REFRESH_S for each in mine)


def test_all_neighbours_are_known_that_were_there_at_the_last_refresh(
    churning: Population,
) -> None:
    for me in some(churning, 40):
        table = churning.draw_table(me)
        near = churning.nearest(me, 6, lambda one: one.lives(-REFRESH_S) and one.lives(0.0))
        unknown = [each for each in near if each.node_id != me and each not in set(table)]
        assert unknown == [], f"seed {SEED}"


def test_upkeep_makes_tables_as_full_as_these() -> None:
    """The claim that the shortcut rests on, tried where nodes really join and refresh."""
    rng, nodes = Random(SEED), dict[NodeId, Node]()

    def reach(caller: Caller, contact: Contact) -> Server | None:
        return nodes[contact.node_id]

    world = World(rng, reach)
    for number in range(90):
        node = Node(world, Contact(rng.randbytes(PUBLIC_KEY_BYTES), f"node-{number}:7077"))
        nodes[node.me] = node
        seeds = [next(iter(nodes.values())).contact] if number else []
        node.follow(join(node.table, seeds, rng.randbytes))
        world.clock.run()
    for _ in range(4):
        for node in nodes.values():
            node.follow(refresh(node.table, [], rng.randbytes))
        world.clock.run()
    assert fmean(fullness(node.table, nodes) for node in nodes.values()) > 0.98, f"seed {SEED}"


def fullness(table: RoutingTable, nodes: dict[NodeId, Node]) -> float:
    """The share of places that are taken, of those that could be."""
    could = Counter(bucket_of(table.me, node) for node in nodes if node != table.me)
    return len(table) / sum(min(BUCKET_SIZE, number) for number in could.values())
