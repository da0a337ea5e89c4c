"""Virtual time, and how long calls take in it."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from statistics import quantiles

import pytest

from dsn.apps.sim.world import ACCESS_S, SLOWEST_S, Caller, Clock, Place, Reply, Request, World
from dsn.dht.contact import Contact
from dsn.ids import NodeId, node_id
from dsn.machines.lookup import HARD_S

SEED = 20
SOMEBODY = Contact(b"s" * 32, "10.0.0.1:7077")
NEAR = Place(0.5, 0.5, ACCESS_S)


@dataclass
class Stranger:
    """A caller without an address, and a server that keeps what it is asked."""

    place: Place
    contact: Contact | None = None
    asked_s: float = -1.0
    world: World | None = None

    @property
    def me(self) -> NodeId:
        return node_id(bytes(32))

    def handle(self, request: Request, caller: Contact | None) -> Reply:
        assert self.world is not None
        self.asked_s = self.world.clock.now_s
        return Reply([SOMEBODY], 1)


def called(server: Stranger | None) -> tuple[float, Reply | None]:
    """When the answer of ``server`` came, and what it was."""
    answers: list[tuple[float, Reply | None]] = []
    world = World(Random(SEED), lambda _caller, _contact: server)
    if server is not None:
        server.world = world
    world.call(
        Stranger(NEAR),
        SOMEBODY,
        Request(b"t" * 32),
        lambda r: answers.append((world.clock.now_s, r)),
    )
    world.clock.run()
    return answers[0]


def test_things_happen_in_the_order_of_their_time_and_then_of_their_asking() -> None:
    clock, seen = Clock(), list[str]()
    clock.at(2.0, seen.append, "late")
    clock.at(1.0, seen.append, "first of two")
    clock.at(1.0, seen.append, "second of two")
    clock.run()
    assert seen == ["first of two", "second of two", "late"]
    assert clock.now_s == 2.0


def test_time_never_goes_back() -> None:
    clock, seen = Clock(), list[float]()
    clock.at(5.0, lambda: clock.at(1.0, lambda: seen.append(clock.now_s)))
    clock.run()
    assert seen == [5.0]


def test_time_passes_though_nothing_happens_and_what_is_later_stays_to_come() -> None:
    clock, seen = Clock(), list[float]()
    clock.at(10.0, lambda: seen.append(clock.now_s))
    clock.run(until_s=4.0)
    assert (clock.now_s, seen) == (4.0, [])
    clock.run(until_s=10.0)
    assert seen == [10.0]


def test_silence_costs_the_hard_timeout() -> None:
    assert called(None) == (HARD_S, None)


def test_a_call_arrives_halfway_through_its_time() -> None:
    server = Stranger(NEAR)
    ended_s, reply = called(server)
    assert reply == Reply([SOMEBODY], 1)
    assert 0.0 < ended_s < HARD_S
    assert server.asked_s == pytest.approx(ended_s / 2)


def test_an_answer_that_takes_too_long_is_silence() -> None:
    server = Stranger(Place(0.5, 0.5, 10 * SLOWEST_S))
    assert called(server) == (HARD_S, None)
    assert server.asked_s == -1.0


def test_calls_take_as_long_as_the_guide_says() -> None:
    rng = Random(SEED)
    world, places = (
        World(rng, lambda _caller, _contact: None),
        [Place.draw(rng) for _ in range(2_000)],
    )
    pairs = (rng.sample(places, 2) for _ in range(20_000))
    calls_ms = [1_000 * world.round_trip_s(*pair) for pair in pairs]
    percent = [0.0, *quantiles(calls_ms, n=100)]
    assert 70 < percent[50] < 86, f"seed {SEED}"
    assert 150 < percent[95] < 200, f"seed {SEED}"
    assert 260 < percent[99] < 380, f"seed {SEED}"
    assert sum(call_ms > 1_000 * HARD_S for call_ms in calls_ms) < 20, f"seed {SEED}"


def test_a_caller_is_whatever_has_an_id_a_place_and_perhaps_an_address() -> None:
    caller: Caller = Stranger(NEAR)
    assert caller.contact is None
