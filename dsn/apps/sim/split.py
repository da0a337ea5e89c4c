"""A network that breaks in two for an hour, and what it takes to make it whole again.

Every node is there: it joins, refreshes every ten minutes, and is called back before it gets
a place. Then no message crosses between the halves; whatever they still remember of each
other after an hour is taken from them, as a longer split would. Then messages cross again,
and one node of one half learns of one contact in the other.

Spec: docs/guide/simulate.md#a-split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import fmean
from typing import Final

from dsn.apps.sim.driver import REFRESH_S, Node, Party
from dsn.apps.sim.world import Caller, Server, World
from dsn.core.keys import PUBLIC_KEY_BYTES
from dsn.dht.contact import Contact
from dsn.dht.distance import nearest, random_key
from dsn.dht.routing import BUCKET_SIZE, FAILURES, RoutingTable
from dsn.ids import ID_BYTES, NodeId
from dsn.machines.lookup import HARD_S, Lookup
from dsn.machines.upkeep import Entropy, Find, Steps, Visit, join, meet, refresh

JOIN_S: Final = 1.0
"""Between two nodes that join."""
SETTLE: Final = 2
"""Refreshes before the network is taken to be whole."""
APART: Final = 6
"""Refreshes in an hour of being apart."""
HEAL: Final = 4
"""Refreshes that are watched after the link."""
REFRESHES: Final = SETTLE + APART + HEAL
"""Refreshes in all."""
QUIET_S: Final = 60.0
"""After all is forgotten, until messages cross again: no task that knew somebody runs on."""
LINK_S: Final = 30.0
"""After the link, until recall is measured for the first time."""
LINK: Final = "link"
"""The moment after it, when no refresh has ended yet."""

Task = Callable[[RoutingTable, Sequence[Contact], Entropy], Steps]


@dataclass(frozen=True, slots=True)
class Habits:
    """What nodes do to stay in the network."""

    name: str
    refresh: Task
    """Every ten minutes; is given the network file's seeds, if they help."""
    meet: Task
    """When a node learns of a stranger."""
    seeds: bool = False
    """Whether there are seeds that help, one in each half; then no node learns of a stranger."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How whole the network is at some moment."""

    name: str
    recall: float
    """Of the truly nearest nodes to random keys, how many lookups find; in [0, 1]."""
    calls: float
    """Calls of a node in the last refresh interval; after the link, since then."""


@dataclass(frozen=True, slots=True)
class History:
    """What happened to a network of some habits."""

    habits: str
    moments: tuple[Moment, ...]
    remembered: float
    """Share of a node's contacts that were in the other half before it had to forget them."""


def plain_refresh(table: RoutingTable, _seeds: Sequence[Contact], entropy: Entropy) -> Steps:
    """Kademlia's own refresh: look up oneself, and a random key of every bucket."""
    yield Find(table.me)
    for bucket in table.buckets():
        yield Find(random_key(table.me, bucket, entropy))


def plain_meet(table: RoutingTable, strangers: Sequence[Contact], _entropy: Entropy) -> Steps:
    """Kademlia's own way in: look up oneself by way of ``strangers``."""
    for stranger in strangers:
        named = yield Visit(stranger, table.me)
        yield Find(table.me, tuple(named))


PLAIN: Final = Habits("plain Kademlia", plain_refresh, plain_meet)
OURS: Final = Habits("dsn", refresh, meet)
SEEDED: Final = Habits("dsn, seeds, no link", refresh, meet, seeds=True)
COMPARED: Final = (PLAIN, OURS, SEEDED)


def run_split(
    habits: Habits,
    nodes: int,
    seed: int,
    *,
    lookups: int = 100,
    apart: int = APART,
    heal: int = HEAL,
    tell: Callable[[], None] = lambda: None,
) -> History:
    """Let a network grow, break, and be linked again.

    Args:
        habits: What its nodes do.
        nodes: How many.
        seed: Decides everything that is left to chance.
        lookups: How many a recall is the mean of.
        apart: Refreshes of the halves alone.
        heal: Refreshes after the link.
        tell: Called after every refresh.
    """
    network = _Network(habits, nodes, Random(f"split {seed}"), lookups)
    network.grow()
    network.refreshes(SETTLE, tell)
    network.note("before")
    network.apart = True
    network.refreshes(apart, tell)
    network.note("apart")
    remembered = network.remembered()
    network.forget()
    network.link()
    network.note(LINK)
    for number in range(1, heal + 1):
        network.refreshes(1, tell)
        network.note(f"refresh {number}")
    return History(habits.name, tuple(network.moments), remembered)


class _Network:
    """Some hundred nodes, all of them simulated."""

    def __init__(self, habits: Habits, nodes: int, rng: Random, lookups: int) -> None:
        self.apart = False
        self.moments: list[Moment] = []
        self._habits, self._rng, self._lookups = habits, rng, lookups
        self._world = World(rng, self._reach)
        keys = (rng.randbytes(PUBLIC_KEY_BYTES) for _ in range(nodes))
        contacts = [Contact(key, f"node-{at}:7077") for at, key in enumerate(keys)]
        self._nodes = {each.node_id: Node(self._world, each) for each in contacts}
        self._half = {each.node_id: at % 2 for at, each in enumerate(contacts)}
        self._seeds = contacts[:2]
        self._before = 0

    def grow(self) -> None:
        """Let all nodes join, one by one, by way of the first."""
        clock, rng = self._world.clock, self._rng
        grown_s = len(self._nodes) * JOIN_S
        for at, node in enumerate(self._nodes.values()):
            clock.at(at * JOIN_S, node.follow, join(node.table, self._seeds[:1], rng.randbytes))
            clock.at(grown_s + rng.random() * REFRESH_S, self._refresh, node)
        clock.run(grown_s)

    def refreshes(self, rounds: int, tell: Callable[[], None]) -> None:
        """Let so many refresh intervals pass."""
        for _ in range(rounds):
            self._before = self._total()
            self._world.clock.run(self._world.clock.now_s + REFRESH_S)
            tell()

    def link(self) -> None:
        """Let messages cross; unless seeds help, one node learns of one in the other half."""
        self.apart = False
        self._before = self._total()
        one, other = (
            self._rng.choice([each for each in self._nodes.values() if self._half[each.me] == half])
            for half in (0, 1)
        )
        if not self._habits.seeds:
            one.follow(self._habits.meet(one.table, [other.contact], self._rng.randbytes))
        self._world.clock.run(self._world.clock.now_s + LINK_S)

    def note(self, name: str) -> None:
        """Measure how whole the network is, and what the last refresh cost."""
        calls = (self._total() - self._before) / len(self._nodes)
        self.moments.append(Moment(name, self._recall(), calls))

    def remembered(self) -> float:
        """The mean share of a node's contacts that are in the other half."""
        return fmean(
            fmean(self._half[each.node_id] != self._half[node.me] for each in node.table)
            for node in self._nodes.values()
        )

    def forget(self) -> None:
        """Take from every node all it remembers of the other half, and what is in its hands."""
        for node in self._nodes.values():
            for other, half in self._half.items():
                if half != self._half[node.me]:
                    for _ in range(FAILURES):
                        node.table.failed(other)
        self._world.clock.run(self._world.clock.now_s + QUIET_S)

    def _total(self) -> int:
        return sum(node.calls for node in self._nodes.values())

    def _refresh(self, node: Node) -> None:
        seeds = [each for each in self._seeds if self._habits.seeds and each != node.contact]
        node.follow(self._habits.refresh(node.table, seeds, self._rng.randbytes))
        self._world.clock.at(self._world.clock.now_s + REFRESH_S, self._refresh, node)

    def _reach(self, caller: Caller, contact: Contact) -> Server | None:
        across = self._half[caller.me] != self._half[contact.node_id]
        return None if self.apart and across else self._nodes[contact.node_id]

    def _recall(self) -> float:
        """Measured by lookups that nobody's table learns from."""
        recalls: list[float] = []
        everybody = list(self._nodes.values())
        for _ in range(self._lookups):
            node, key = self._rng.choice(everybody), self._rng.randbytes(ID_BYTES)
            others = (each.contact for each in everybody if each is not node)
            truth = {each.node_id for each in nearest(others, key, BUCKET_SIZE)}
            observer = Party(self._world, node.place, _copy(node.table))
            lookup = Lookup(key, observer.table.closest(key), me=node.me)
            observer.look_up(lookup, partial(_count, truth, recalls))
        while len(recalls) < self._lookups:
            self._world.clock.run(self._world.clock.now_s + HARD_S)
        return fmean(recalls)


def _count(truth: set[NodeId], recalls: list[float], lookup: Lookup) -> None:
    recalls.append(len(truth & {each.node_id for each in lookup.closest()}) / len(truth))


def _copy(table: RoutingTable) -> RoutingTable:
    copy = RoutingTable(table.me, subnet_most=None)
    for contact in table:
        copy.seen(contact)
    return copy
