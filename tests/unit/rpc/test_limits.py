"""Bounds: the last call within one is served, the next is told when to come back."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest

from dsn.errors import TooMany
from dsn.ids import NodeId
from dsn.rpc.limits import (
    HOUR_S,
    Admission,
    Budget,
    Limits,
    Patience,
    Places,
    check_count,
)
from dsn.wire.status import RetryLater

ANN, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)
LIMITS = Limits(calls=4, calls_a_peer=3, connections_an_address=2, connections_a_subnet=3)


def connection(host: str, port: int) -> str:
    return f"ipv4:{host}:{port}"


class Calls(ExitStack):
    """Calls under way, until the block ends."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self.limits, self.admission = limits, Admission(limits)

    def begin(self, caller: NodeId, peer: str) -> Patience:
        patience = Patience(self.limits, self.enter_context(Unending()))
        self.enter_context(self.admission.call(caller, peer, patience))
        return patience


class Unending(asyncio.Timeout):
    """A deadline outside of the task that it would end."""

    def __init__(self) -> None:
        super().__init__(None)
        self.asked: list[float | None] = []

    def __enter__(self) -> Unending:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def reschedule(self, when: float | None) -> None:
        self.asked.append(when)


async def test_calls_of_one_peer_and_of_all_are_bounded() -> None:
    here = connection("10.0.0.1", 1)
    with Calls(LIMITS) as calls:
        for _ in range(3):
            calls.begin(ANN, here)
        with pytest.raises(RetryLater, match="3 calls of"):
            calls.begin(ANN, here)
        calls.begin(BOB, here)
        with pytest.raises(RetryLater, match="4 calls under way"):
            calls.begin(BOB, here)


async def test_a_call_that_ended_makes_room() -> None:
    calls = Calls(Limits(calls_a_peer=1))
    for _ in range(3):
        with calls:
            calls.begin(ANN, connection("10.0.0.1", 1))


async def test_the_call_silent_longest_gives_way() -> None:
    here = connection("10.0.0.1", 1)
    with Calls(Limits(calls=2, shed_after_s=0.0)) as calls:
        first, second = calls.begin(ANN, here), calls.begin(BOB, here)
        first.moved()
        calls.begin(ANN, here)
        assert isinstance(second.spent(), RetryLater)
        assert first.spent().detail_code == "too_slow"


async def test_a_call_that_this_side_works_on_does_not_give_way() -> None:
    here = connection("10.0.0.1", 1)
    with Calls(Limits(calls=1, shed_after_s=0.0)) as calls:
        calls.begin(ANN, here).work()
        with pytest.raises(RetryLater):
            calls.begin(BOB, here)


async def test_places_go_from_the_silent_to_the_new() -> None:
    limits = Limits(shed_after_s=0.0)
    places = Places(1, "uploads", limits)
    with Unending() as deadline, Unending() as other:
        first, second = Patience(limits, deadline), Patience(limits, other)
        with places.take(first), places.take(second):
            assert isinstance(first.spent(), RetryLater)
            assert "1 uploads under way, 1 at most" in first.spent().message
        with places.take(second):
            pass
        assert second.spent().detail_code == "too_slow"


async def test_a_stopping_node_ends_only_those_who_wait_for_nothing() -> None:
    here = connection("10.0.0.1", 1)
    with Calls(Limits(shed_after_s=0.0)) as calls:
        resting, sending, working = (calls.begin(ANN, here) for _ in range(3))
        resting.idle()
        sending.transfer(10)
        working.work()
        calls.admission.end_resting()
        codes = [each.spent().detail_code for each in (resting, sending, working)]
    assert codes == ["stopping", "too_slow", "timed_out"]


async def test_one_who_just_did_something_may_still_be_owed_an_answer() -> None:
    with Calls(Limits(shed_after_s=60.0)) as calls:
        resting = calls.begin(ANN, connection("10.0.0.1", 1))
        resting.idle()
        calls.admission.end_resting()
        assert resting.spent().detail_code == "too_slow"


async def test_connections_of_an_address_are_bounded_and_end_with_their_calls() -> None:
    with Calls(LIMITS) as calls:
        calls.begin(ANN, connection("10.0.0.1", 1))
        with Calls(LIMITS) as more:
            more.admission = calls.admission
            more.begin(ANN, connection("10.0.0.1", 2))
            more.begin(ANN, connection("10.0.0.1", 2))
            with pytest.raises(RetryLater, match=r"2 connections from 10\.0\.0\.1"):
                more.begin(BOB, connection("10.0.0.1", 3))
        calls.begin(BOB, connection("10.0.0.1", 3))


async def test_connections_of_a_subnet_are_bounded() -> None:
    with Calls(LIMITS) as calls:
        for last in range(3):
            calls.begin(NodeId(bytes([last]) * 32), connection(f"10.0.0.{last}", 1))
        with pytest.raises(RetryLater, match=r"10\.0\.0\.0/24"):
            calls.begin(ANN, connection("10.0.0.9", 1))
        calls.begin(ANN, connection("10.0.1.9", 1))


async def test_a_subnet_gets_its_connections_back() -> None:
    calls = Calls(Limits(connections_a_subnet=1))
    for last in range(5):
        with calls:
            calls.begin(ANN, connection(f"10.0.0.{last}", 1))


async def test_a_loopback_network_does_not_count_addresses() -> None:
    with Calls(Limits(address_limits=False, connections_an_address=1)) as calls:
        for port in range(20):
            calls.begin(ANN, connection("127.0.0.1", port))


async def test_a_v6_peer_is_counted_by_its_address() -> None:
    with Calls(Limits(connections_an_address=1)) as calls:
        calls.begin(ANN, "ipv6:%5B2001:db8::1%5D:5")
        with pytest.raises(RetryLater, match="from 2001:db8::1"):
            calls.begin(ANN, "ipv6:%5B2001:db8::1%5D:6")


class Hours:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


def test_a_leaf_budget_fills_up_over_an_hour() -> None:
    clock = Hours()
    budget = Budget("leaves", 100, clock.monotonic_s)
    budget.charge(ANN, 60)
    budget.charge(ANN, 40)
    with pytest.raises(RetryLater) as refused:
        budget.charge(ANN, 50)
    assert refused.value.retry_after_s == pytest.approx(HOUR_S / 2)
    budget.charge(BOB, 100)
    clock.now_s += HOUR_S / 2 + 1
    budget.charge(ANN, 50)
    clock.now_s += 9 * HOUR_S
    with pytest.raises(RetryLater):
        budget.charge(ANN, 101)
    budget.charge(ANN, 100)


async def wait_after(limits: Limits, transfer: int) -> Patience:
    """Wait for a message that never comes, after promising ``transfer`` bytes if any."""
    deadline = asyncio.timeout(None)
    try:
        async with deadline:
            patience = Patience(limits, deadline)
            if transfer:
                patience.transfer(transfer)
            await asyncio.Event().wait()
    except TimeoutError:
        return patience


@pytest.mark.parametrize(("transfer", "reason"), [(0, "first message"), (8, "8 bytes")])
async def test_patience_ends_a_stream_that_owes_something(transfer: int, reason: str) -> None:
    limits = Limits(first_message_s=0.0, transfer_grace_s=0.0, transfer_bytes_per_s=10**9)
    spent = (await wait_after(limits, transfer)).spent()
    assert spent.detail_code == "too_slow"
    assert reason in spent.message


async def test_patience_moves_on() -> None:
    async with asyncio.timeout(None) as deadline:
        patience = Patience(Limits(first_message_s=0.0), deadline)
        patience.idle()
        await asyncio.sleep(0)
        when = deadline.when()
        assert when is not None
        assert when > asyncio.get_running_loop().time() + 100


def test_repeated_fields_are_bounded() -> None:
    check_count("records", [1, 2], 2)
    with pytest.raises(TooMany, match="3 records in one call, 2 at most"):
        check_count("records", [1, 2, 3], 2)
