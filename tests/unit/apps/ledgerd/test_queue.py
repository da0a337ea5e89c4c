"""Who waits where: nobody behind another's crowd, and nobody for good."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random, SystemRandom

import pytest

from dsn.apps.ledger.batch import Refused, Submission
from dsn.apps.ledgerd.queue import (
    A_SECOND,
    BURST,
    MOST_A_CALLER,
    MOST_WAITING,
    Allowance,
    Queue,
)
from dsn.errors import EntryRefused, TransportError
from dsn.ids import NodeId
from dsn.wire.status import RetryLater

ANN, BEN = (NodeId(bytes([n]) * 32) for n in (1, 2))


def entries(name: str, count: int) -> list[Submission]:
    return [Submission(f"{name}{n}".encode(), b"") for n in range(count)]


async def taken(queue: Queue, most: int) -> list[str]:
    return [submission.entry.decode() for _, submission in await queue.take(most)]


async def test_callers_take_turns_and_each_keeps_its_order() -> None:
    queue = Queue()
    queue.put(ANN, entries("a", 4))
    queue.put(ANN, entries("A", 2))
    queue.put(BEN, entries("b", 2))
    assert await taken(queue, 5) == ["a0", "b0", "a1", "b1", "a2"]
    assert len(queue) == 3
    queue.put(BEN, entries("B", 1))
    assert await taken(queue, 9) == ["a3", "B0", "A0", "A1"]
    assert len(queue) == 0


async def test_an_empty_queue_is_waited_for() -> None:
    queue = Queue()
    waiting = asyncio.create_task(taken(queue, 9))
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.put(ANN, entries("a", 1))
    assert await waiting == ["a0"]


async def test_a_call_ends_with_the_last_of_its_outcomes() -> None:
    queue = Queue()
    call = queue.put(ANN, entries("a", 2))
    refusals = [Refused(n, each, EntryRefused("no")) for n, each in enumerate(call.submissions)]
    for (mine, _), outcome in zip(await queue.take(2), refusals, strict=True):
        assert not call.done.done()
        mine.settle(outcome)
    assert await call.done == refusals


async def test_what_nobody_waits_for_any_more_is_not_judged() -> None:
    queue = Queue()
    gone, call = queue.put(ANN, entries("x", 3)), queue.put(ANN, entries("a", 1))
    assert await taken(queue, 1) == ["x0"]
    gone.done.cancel()
    assert await taken(queue, 9) == ["a0"]
    assert (len(queue), call.left) == (0, 0)


async def test_a_full_queue_says_when_to_come_back() -> None:
    queue = Queue()
    for n in range(MOST_WAITING // MOST_A_CALLER):
        caller = NodeId(bytes([n]) * 32)
        queue.put(caller, entries("a", MOST_A_CALLER))
        with pytest.raises(RetryLater) as caught:
            queue.put(caller, entries("a", 1))
        assert caught.value.detail_code == "ledger_busy"
    with pytest.raises(RetryLater) as caught:
        queue.put(NodeId(b"\xff" * 32), entries("b", 1))
    assert caught.value.detail_code == "ledger_busy"
    await queue.take(1)
    queue.put(NodeId(b"\xff" * 32), entries("b", 1))


async def test_a_closed_queue_hands_out_what_it_has_and_takes_nothing() -> None:
    queue = Queue()
    queue.put(ANN, entries("a", 2))
    queue.close()
    with pytest.raises(TransportError) as caught:
        queue.put(ANN, entries("a", 1))
    assert caught.value.detail_code == "stopping"
    assert await taken(queue, 9) == ["a0", "a1"]
    assert await taken(queue, 9) == []


async def test_whatever_is_put_comes_out_once_in_its_callers_order() -> None:
    """And while two have something to say, neither gets more than one turn ahead."""
    seed = SystemRandom().randrange(1 << 32)
    random, queue = Random(seed), Queue()
    callers = [NodeId(bytes([n]) * 32) for n in range(5)]
    put: dict[NodeId, list[bytes]] = {caller: [] for caller in callers}
    for n in range(60):
        caller = random.choice(callers)
        some = entries(f"{n}.", random.randint(1, 5))
        queue.put(caller, some)
        put[caller] += [each.entry for each in some]
    owners = {entry: caller for caller, them in put.items() for entry in them}
    got: dict[NodeId, list[bytes]] = {caller: [] for caller in callers}
    left = Counter({caller: len(them) for caller, them in put.items()})
    while len(queue):
        for _, (entry, _) in await queue.take(random.randint(1, 20)):
            caller = owners[entry]
            got[caller].append(entry)
            left[caller] -= 1
            busy = [len(got[each]) for each in callers if left[each]]
            assert not busy or max(busy) - min(busy) <= 1, f"seed {seed}"
    assert got == put, f"seed {seed}"


def test_an_allowance_refills_and_never_beyond_a_burst() -> None:
    now_s = [0.0]
    allowance = Allowance(lambda: now_s[0])
    allowance.charge(ANN, BURST)
    with pytest.raises(RetryLater) as caught:
        allowance.charge(ANN, 20)
    assert caught.value.retry_after_s == pytest.approx(20 / A_SECOND)
    allowance.charge(BEN, 1)
    now_s[0] += 20 / A_SECOND
    allowance.charge(ANN, 20)
    now_s[0] += 1_000
    allowance.charge(ANN, BURST)
    with pytest.raises(RetryLater):
        allowance.charge(ANN, 1)


def test_refused_entries_cost_twice_even_into_debt() -> None:
    now_s = [0.0]
    allowance = Allowance(lambda: now_s[0])
    allowance.charge(ANN, BURST)
    allowance.fine(ANN, BURST)
    now_s[0] += BURST / A_SECOND
    with pytest.raises(RetryLater):
        allowance.charge(ANN, 1)
    now_s[0] += 2 / A_SECOND
    allowance.charge(ANN, 1)
