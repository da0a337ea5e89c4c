"""A large network at one moment: who is alive, and whom each node knows.

Nobody can let 100,000 nodes join and refresh for hours in one thread, and a lookup meets
some fifty of them. So a table is made when its node is first asked, and holds what upkeep
would have put there: all of the node's corner of the keyspace, the largest subtree with at
most ``bucket_size`` nodes, and as many random ones of every bucket beyond.

How fresh they are follows from ``machines.upkeep``: every refresh looks up the nearest nodes
and visits one contact of each bucket, the one seen longest ago. So the corner is as it was at
the last refresh, and of a full bucket one contact was there at the last, one at the one
before, and so on. (Upkeep itself does a little better: it keeps contacts that last.)

Spec: docs/guide/simulate.md#what-is-simulated.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from dsn.apps.sim.driver import REFRESH_S
from dsn.apps.sim.world import Place
from dsn.core.keys import PUBLIC_KEY_BYTES
from dsn.dht.contact import Contact
from dsn.dht.distance import ID_BITS
from dsn.dht.routing import BUCKET_SIZE, RoutingTable
from dsn.ids import NodeId

SHAPE: Final = 0.5
"""Of the Weibull distribution of sessions (as Stutzbach and Rejaie found them, 2006): most are
short, and whoever has stayed long will stay longer."""
MEDIAN_S: Final = 3_600.0
"""Half of all sessions are shorter; their mean is 4.2 h."""
HISTORY_S: Final = (BUCKET_SIZE + 1) * REFRESH_S
"""Whoever left earlier is in no table any more."""
DRAWS: Final = 4 * BUCKET_SIZE
"""Nodes that are drawn to fill a bucket; some will not have been there at the right time."""
_SCALE_S: Final = MEDIAN_S / math.log(2) ** (1 / SHAPE)
_MEAN_S: Final = _SCALE_S * math.gamma(1 + 1 / SHAPE)

Span = tuple[int, int]
"""Nodes ``[start, end)`` in the order of their ids: a subtree of the keyspace."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A node that was there at some time; 0 is the moment that is simulated."""

    contact: Contact
    place: Place
    born_s: float
    died_s: float

    def lives(self, at_s: float) -> bool:
        """Whether it runs at ``at_s``."""
        return self.born_s <= at_s < self.died_s


class Population:
    """Everybody who is there at 0, or left so late that others remember."""

    def __init__(self, nodes: int, seed: int, *, churn: bool) -> None:
        """Draw ``nodes`` nodes; about as many if they come and go."""
        rng = Random(f"population {seed}")
        spans = list(_sessions(nodes, rng)) if churn else [(-math.inf, math.inf)] * nodes
        everybody = (_resident(at, span, rng) for at, span in enumerate(spans))
        self.residents = sorted(everybody, key=lambda each: each.contact.node_id)
        self.named = {each.contact.node_id: each for each in self.residents}
        self._ids = [int.from_bytes(each.contact.node_id, "big") for each in self.residents]
        self._seed, self._draws = seed, DRAWS if churn else BUCKET_SIZE
        self._tables: dict[NodeId, RoutingTable] = {}

    def table(self, node: NodeId) -> RoutingTable:
        """The one table of ``node``; to be read only."""
        if node not in self._tables:
            self._tables[node] = self.draw_table(node)
        return self._tables[node]

    def draw_table(self, me: NodeId) -> RoutingTable:
        """A table as ``me`` would have it, whether or not it is in the network."""
        rng = Random(f"table {self._seed} {me.hex()}")
        table = RoutingTable(me, subnet_most=None)
        for at in self._known(int.from_bytes(me, "big"), rng):
            table.seen(self.residents[at].contact)
        return table

    def nearest(self, key: bytes, count: int, among: Callable[[Resident], bool]) -> list[Contact]:
        """The ``count`` residents nearest to ``key`` that ``among`` takes, nearest first."""
        goal, found = int.from_bytes(key, "big"), list[int]()
        for inside, _ in reversed(list(self._subtrees(goal))):
            found = [at for at in range(*inside) if among(self.residents[at])]
            if len(found) >= count:
                break
        found.sort(key=lambda at: self._ids[at] ^ goal)
        return [self.residents[at].contact for at in found[:count]]

    def _known(self, me: int, rng: Random) -> Iterator[int]:
        """Whom ``me`` knows; of each bucket the one heard of longest ago first."""
        age_s = rng.random() * REFRESH_S
        for inside, bucket in self._subtrees(me):
            if _width(inside) <= DRAWS:
                near = [at for at in range(*inside) if self.residents[at].lives(-age_s)]
                if len(near) <= BUCKET_SIZE:
                    yield from rng.sample(near, len(near))
                    return
            yield from reversed(self._sample(bucket, age_s, rng))

    def _sample(self, bucket: Span, age_s: float, rng: Random) -> list[int]:
        """Random nodes of ``bucket``, each there when it was visited; the latest first."""
        chosen: list[int] = []
        for at in rng.sample(range(*bucket), min(_width(bucket), self._draws)):
            if self.residents[at].lives(-age_s - len(chosen) * REFRESH_S):
                chosen.append(at)
            if len(chosen) == BUCKET_SIZE:
                break
        return chosen

    def _subtrees(self, goal: int) -> Iterator[tuple[Span, Span]]:
        """From the whole keyspace inwards: all with a prefix of ``goal``, and its next bucket.

        The bucket is the half of them that differs from ``goal`` in the next bit.
        """
        start, end = 0, len(self._ids)
        for bit in reversed(range(ID_BITS)):
            if start == end:
                return
            middle = bisect_left(self._ids, (goal >> bit | 1) << bit, start, end)
            upper = goal >> bit & 1
            yield (start, end), (start, middle) if upper else (middle, end)
            start, end = (middle, end) if upper else (start, middle)


def _width(span: Span) -> int:
    return span[1] - span[0]


def _resident(number: int, span: tuple[float, float], rng: Random) -> Resident:
    address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}:7077"
    return Resident(Contact(rng.randbytes(PUBLIC_KEY_BYTES), address), Place.draw(rng), *span)


def _sessions(nodes: int, rng: Random) -> Iterator[tuple[float, float]]:
    """From when to when each node runs, in a network that has been so for ever.

    Those there at the start of its history are in the middle of a session, which is a long one
    the more likely the longer it is; then others come as fast as sessions end.
    """
    for _ in range(nodes):
        whole_s = _SCALE_S * rng.gammavariate(1 + 1 / SHAPE, 1) ** (1 / SHAPE)
        yield -math.inf, whole_s * rng.random() - HISTORY_S
    for _ in range(round(nodes * HISTORY_S / _MEAN_S)):
        born_s = -rng.random() * HISTORY_S
        yield born_s, born_s + rng.weibullvariate(_SCALE_S, SHAPE)
