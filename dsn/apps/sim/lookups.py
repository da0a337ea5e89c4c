"""Lookups in a large network that has trouble: nodes die, come and go, or lie.

Clients search, each for a record of its own, and nodes answer from their routing tables; the
tables and the lookups are production code. Nobody has noticed the trouble yet: the tables
are those of the moment before.

Liars answer every question at once and alike: with the liars nearest to the key, all there
are, and never with a value, though they took their share of the records. They did not choose
their ids, so no more of them are near a key than their share has it.

Spec: docs/guide/simulate.md#what-is-simulated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from random import Random
from statistics import fmean
from typing import Final

from dsn.apps.sim.driver import Party
from dsn.apps.sim.population import Population
from dsn.apps.sim.world import Caller, Place, Reply, Request, Server, World
from dsn.dht.contact import Contact
from dsn.dht.routing import BUCKET_SIZE
from dsn.ids import ID_BYTES, NodeId
from dsn.machines.lookup import PATHS, Lookup

PUBLISHED_S: Final = 3_600.0
"""A record was published at some time in so many seconds before, on the nodes nearest then."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is the matter with the network, and how it is searched; shares are in [0, 1)."""

    name: str
    dead: float = 0.0
    """Share that died all at once, just now."""
    malicious: float = 0.0
    """Share that lies, all in league."""
    paths: int = 1
    """Disjoint paths of a lookup."""
    churn: bool = False
    """Whether nodes come and go."""


STANDARD: Final = (
    Trouble("healthy"),
    Trouble("20 % dead", dead=0.2),
    Trouble("50 % dead", dead=0.5),
    Trouble("20 % malicious", malicious=0.2),
    Trouble("20 % malicious", malicious=0.2, paths=PATHS),
    Trouble("40 % malicious", malicious=0.4),
    Trouble("40 % malicious", malicious=0.4, paths=PATHS),
    Trouble("churn", churn=True),
)


@dataclass(frozen=True, slots=True)
class Found:
    """How one lookup went: the longest chain of answers, questions asked, and virtual time."""

    success: bool
    hops: int
    calls: int
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Figures:
    """How the lookups of one scenario went."""

    trouble: Trouble
    lookups: tuple[Found, ...]

    @property
    def success(self) -> float:
        """The share that found the record."""
        return fmean(each.success for each in self.lookups)

    def summary(self) -> dict[str, float]:
        """The figures by name; ``p99`` is what 99 % of the lookups do not exceed."""
        hops = sorted(each.hops for each in self.lookups)
        calls = sorted(each.calls for each in self.lookups)
        latency_ms = sorted(each.latency_ms for each in self.lookups)
        return {
            "success": self.success,
            "hops_p50": percentile(hops, 50),
            "hops_p99": percentile(hops, 99),
            "calls_mean": fmean(calls),
            "calls_p99": percentile(calls, 99),
            "latency_ms_p50": percentile(latency_ms, 50),
            "latency_ms_p95": percentile(latency_ms, 95),
            "latency_ms_p99": percentile(latency_ms, 99),
        }


def percentile(ordered: Sequence[float], percent: int) -> float:
    """The least of ``ordered`` that ``percent`` of a hundred do not exceed (nearest rank)."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def run_lookups(
    troubles: Iterable[Trouble],
    nodes: int,
    lookups: int,
    seed: int,
    tell: Callable[[], None] = lambda: None,
) -> Iterator[Figures]:
    """Look up random records from random clients; the same ones in every scenario.

    Args:
        troubles: The scenarios; those with churn together, as they share their nodes.
        nodes: How many nodes the network has.
        lookups: How many in a scenario.
        seed: Decides nodes, clients, keys, who is dead and who lies.
        tell: Called after every lookup.
    """
    for churn, alike in groupby(troubles, key=lambda each: each.churn):
        population = Population(nodes, seed, churn=churn)
        for trouble in alike:
            town, found = _Town(population, trouble, seed), list[Found]()
            for number in range(lookups):
                found.append(town.search(Random(f"lookup {seed} {number}")))
                tell()
            yield Figures(trouble, tuple(found))


class _Town:
    """A population in trouble."""

    def __init__(self, population: Population, trouble: Trouble, seed: int) -> None:
        self.population, self._paths = population, trouble.paths
        alive = [each.contact.node_id for each in population.residents if each.lives(0.0)]
        Random(f"fate {seed}").shuffle(alive)
        liars, dead = round(trouble.malicious * len(alive)), round(trouble.dead * len(alive))
        self.liars = frozenset(alive[:liars])
        self.dead = frozenset(alive[liars : liars + dead])

    def search(self, rng: Random) -> Found:
        """Have a client look up a record that was published a while ago."""
        key, me = rng.randbytes(ID_BYTES), NodeId(rng.randbytes(ID_BYTES))
        scene = _Scene(self, key, -rng.random() * PUBLISHED_S)
        world, table = World(rng, scene.reach), self.population.draw_table(me)
        lookup = Lookup(key, table.closest(key), me=me, values=True, paths=self._paths)
        ended_s: list[float] = []
        client = Party(world, Place.draw(rng), table)
        client.look_up(lookup, lambda _: ended_s.append(world.clock.now_s))
        world.clock.run()
        success = any(hop.values for hop in lookup.hops)
        return Found(success, lookup.depth, len(lookup.hops), 1000 * ended_s[0])


class _Scene:
    """A town as far as the lookup of one key sees it."""

    def __init__(self, town: _Town, key: bytes, published_s: float) -> None:
        nearest, self._town = town.population.nearest, town
        kept = nearest(key, BUCKET_SIZE, lambda one: one.lives(published_s))
        self._keepers = {each.node_id for each in kept}
        self._lie = Reply()
        if town.liars:
            named = nearest(key, BUCKET_SIZE, lambda one: one.contact.node_id in town.liars)
            self._lie = Reply(named)

    def reach(self, _caller: Caller, contact: Contact) -> Server | None:
        """Whoever answers at ``contact``."""
        town, node = self._town, contact.node_id
        resident = town.population.named[node]
        if node in town.dead or not resident.lives(0.0):
            return None
        if node in town.liars:
            return _Server(resident.place, lambda _: self._lie)
        table, values = town.population.table(node), int(node in self._keepers)
        return _Server(resident.place, lambda target: Reply(table.closest(target), values))


@dataclass(frozen=True, slots=True)
class _Server:
    """A node as a client meets it."""

    place: Place
    say: Callable[[bytes], Reply]

    def handle(self, request: Request, caller: Contact | None) -> Reply:
        """Answer; a client is not called back."""
        return Reply() if request.target is None else self.say(request.target)
