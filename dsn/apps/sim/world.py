"""A virtual world: a clock that jumps from event to event, and how long a call takes.

Everybody stands somewhere on a square and has a line of his own. A call and its answer take

    (2 * access of the caller + crossing + 2 * access of the called) * luck

with 100 ms for a crossing as long as a side, access delays drawn once each (lognormal, median
4 ms, heavy tail), and luck drawn once a call (lognormal, around 1). So half of all calls take
up to 78 ms, one in twenty over 175 ms, one in a hundred over 310 ms, the slowest a second.
Silence costs the caller the hard timeout.

Spec: docs/guide/simulate.md#what-is-simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Final, Protocol, TypeVarTuple, Unpack

from dsn.dht.contact import Contact
from dsn.ids import NodeId
from dsn.machines.lookup import HARD_S

CROSSING_S: Final = 0.1
"""There and back along a side of the square."""
ACCESS_S: Final = 0.004
"""The median access delay, one way."""
ACCESS_SPREAD: Final = 1.3
"""The standard deviation of its logarithm: one line in a hundred is twenty times slower."""
SLOWEST_S: Final = 0.15
"""Whoever has a slower line is not called back in time, and does not serve."""
LUCK_SPREAD: Final = 0.2
"""The standard deviation of the logarithm of luck."""

Arguments = TypeVarTuple("Arguments")


class Clock:
    """Virtual time; of things due at once, what was asked for first comes first."""

    def __init__(self) -> None:
        """Start at 0 with nothing to come."""
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._count = 0

    def at(
        self, due_s: float, action: Callable[[Unpack[Arguments]], None], *args: *Arguments
    ) -> None:
        """Have ``action`` done at ``due_s``, or now if that is past."""
        self._count += 1
        heappush(self._events, (max(due_s, self.now_s), self._count, action, args))

    def run(self, until_s: float = math.inf) -> None:
        """Let time pass until ``until_s``, or until nothing more happens."""
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, action, args = heappop(self._events)
            action(*args)
        if until_s < math.inf:
            self.now_s = until_s


@dataclass(frozen=True, slots=True)
class Place:
    """Where somebody stands, [0, 1) each way, and his access delay, one way."""

    x: float
    y: float
    access_s: float

    @staticmethod
    def draw(rng: Random) -> Place:
        """Anywhere, with any line."""
        access_s = ACCESS_S * rng.lognormvariate(0, ACCESS_SPREAD)
        return Place(rng.random(), rng.random(), min(access_s, SLOWEST_S))


@dataclass(frozen=True, slots=True)
class Request:
    """A call: whom do you know nearest to ``target``; a ping, perhaps with a hint, without."""

    target: bytes | None = None
    hint: Contact | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: contacts, and how many valid values."""

    contacts: Sequence[Contact] = ()
    values: int = 0


class Caller(Protocol):
    """Whoever calls."""

    @property
    def me(self) -> NodeId:
        """Its id."""
        ...

    @property
    def place(self) -> Place:
        """Where it stands."""
        ...

    @property
    def contact(self) -> Contact | None:
        """Where it can be called back; a client cannot."""
        ...


class Server(Protocol):
    """Whoever can be called."""

    @property
    def place(self) -> Place:
        """Where it stands."""
        ...

    def handle(self, request: Request, caller: Contact | None) -> Reply:
        """Answer ``caller``, or a client."""
        ...


Reach = Callable[[Caller, Contact], Server | None]
"""Who answers this caller at a contact; ``None`` is silence."""


class World:
    """Carries calls from one to another."""

    def __init__(self, rng: Random, reach: Reach) -> None:
        """Start at time 0; ``rng`` draws the luck of calls."""
        self.clock, self.rng = Clock(), rng
        self._reach = reach

    def round_trip_s(self, a: Place, b: Place) -> float:
        """How long a call takes, this time."""
        way_s = CROSSING_S * math.hypot(a.x - b.x, a.y - b.y)
        luck = self.rng.lognormvariate(0, LUCK_SPREAD)
        return (2 * a.access_s + way_s + 2 * b.access_s) * luck

    def call(
        self,
        caller: Caller,
        contact: Contact,
        request: Request,
        then: Callable[[Reply | None], None],
    ) -> None:
        """Carry ``request`` to ``contact``; after the hard timeout the answer is ``None``."""
        now_s, server = self.clock.now_s, self._reach(caller, contact)
        takes_s = HARD_S if server is None else self.round_trip_s(caller.place, server.place)
        if server is None or takes_s >= HARD_S:
            self.clock.at(now_s + HARD_S, then, None)
            return
        back_s = now_s + takes_s

        def arrive(there: Server) -> None:
            self.clock.at(back_s, then, there.handle(request, caller.contact))

        self.clock.at(now_s + takes_s / 2, arrive, server)
