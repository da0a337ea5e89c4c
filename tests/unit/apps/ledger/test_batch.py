"""Batches: entries taken together are judged as if they had come one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from dsn.apps.ledger.batch import Accepted, Batch, Outcome, Refused, Submission
from dsn.apps.ledger.memory import Memory
from dsn.apps.ledger.tail import NO_LOG
from dsn.ledger.settlement import Address
from dsn.ledger.state import genesis
from tests.support.ledger_story import transfers
from tests.support.ledger_world import PARAMS, address


class Here(Executor):
    """Runs what it is told at once, and counts the signatures."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def submit(self, call: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        self.counts.append(len(given[0]))
        return done(call(*given, **named))


class Claims(Executor):
    """Says of every signature that ``who`` made it."""

    def __init__(self, who: Address | None) -> None:
        self.who = who

    def submit(self, call: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        return done([self.who] * len(given[0]))


def done(result: object) -> Future[Any]:
    future = Future[Any]()
    future.set_result(result)
    return future


def batch() -> Batch:
    memory = Memory(genesis(PARAMS).cells.values())
    return Batch(memory.state(PARAMS), NO_LOG, lambda tile: b"", 0)


def mixed(count: int, seed: int) -> list[Submission]:
    """Good payments, with bad ones of every kind in between."""
    draw, good = Random(seed), transfers(count, seed)
    bad: list[Callable[[Submission], Submission]] = [
        lambda one: Submission(b"\x06", one.signature),
        lambda one: Submission(one.entry, b""),
        lambda one: Submission(one.entry, bytes(65)),
        lambda one: Submission(one.entry, bytes(64) + b"\x1b"),
        lambda one: Submission(one.entry, one.signature[:-1] + b"\x00"),
        lambda one: Submission(one.entry, good[0].signature),
        lambda one: good[0],
    ]
    for at in range(len(good) - 1, 0, -1):
        if draw.random() < 0.3:
            good.insert(at, draw.choice(bad)(good[at]))
    return good


def told(outcomes: list[Outcome]) -> list[tuple[int, object]]:
    return [
        (each.index, each.leaf if isinstance(each, Accepted) else each.error.detail_code)
        for each in outcomes
    ]


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 256])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_together_or_one_by_one_is_the_same(count: int, seed: int) -> None:
    submissions, alone, together = mixed(count, seed), batch(), batch()
    expected = [alone.take(each) for each in submissions]
    with ThreadPoolExecutor(1) as other:
        outcomes = together.take_all(submissions, other)
    assert told(outcomes) == told(expected), f"seed {seed}"
    assert together.state.root == alone.state.root
    assert together.finish() == alone.finish()
    refused = [each.submission for each in outcomes if isinstance(each, Refused)]
    assert refused == [each.submission for each in expected if isinstance(each, Refused)]


def test_most_signers_are_found_out_elsewhere_and_none_for_a_few_entries() -> None:
    other = Here()
    batch().take_all(transfers(256, seed=4), other)
    assert other.counts == [192]
    batch().take_all(transfers(31, seed=4), other)
    assert other.counts == [192]


def test_whom_nobody_found_elsewhere_is_looked_for_here() -> None:
    submissions = mixed(100, seed=5)
    one, other = batch(), batch()
    assert told(one.take_all(submissions, Claims(None))) == told(
        other.take_all(submissions, Here())
    )


def test_the_signer_who_was_found_has_to_be_the_entrys() -> None:
    """So the rules look at what came from elsewhere, and at nothing else."""
    outcomes = batch().take_all(transfers(64, seed=6), Claims(address("alice")))
    assert "invalid_signature" in [what for _, what in told(outcomes[16:])]
    signers = {each.signed.entry.signer for each in outcomes[16:] if isinstance(each, Accepted)}
    assert signers <= {address("alice")}
