"""Which nodes are chosen."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from dsn.core.layout import Scheme
from dsn.errors import NoSpace, UsageError
from dsn.ids import NodeId
from dsn.machines.placement import DEALT, Candidate, choose, explain
from dsn.units import GIB


def _candidate(number: int, group: str = "", free: int = GIB, latency_s: float = 0.0) -> Candidate:
    return Candidate(NodeId(bytes([number]) * 32), group or str(number), free, latency_s)


def test_one_node_a_group() -> None:
    candidates = [_candidate(n, group=str(n % 4)) for n in range(12)]
    chosen = choose(candidates, Scheme(2, 4), 1000, random.Random(1).random)
    groups = {c.node: c.group for c in candidates}
    assert sorted(groups[node] for node in chosen) == ["0", "1", "2", "3"]


def test_too_few_groups_is_a_bad_scheme_that_names_both_figures() -> None:
    with pytest.raises(UsageError) as caught:
        choose([_candidate(n) for n in range(5)], Scheme(4, 6), 1, random.Random(1).random)
    assert caught.value.detail_code == "bad_scheme"
    assert "6" in caught.value.message and "5" in caught.value.message


def test_full_nodes_are_left_out_and_said_so() -> None:
    candidates = [_candidate(n, free=GIB if n else 10) for n in range(6)]
    with pytest.raises(NoSpace):
        choose(candidates, Scheme(4, 6), 1000, random.Random(1).random)
    chosen = choose(candidates, Scheme(3, 5), 1000, random.Random(1).random)
    assert NodeId(bytes(32)) not in chosen


def test_room_draws_more_and_distance_less() -> None:
    candidates = [_candidate(0, free=4 * GIB), _candidate(1), _candidate(2, latency_s=0.3)]
    rng = random.Random(7)
    first = Counter(choose(candidates, Scheme(1, 1), 1, rng.random)[0][0] for _ in range(2000))
    assert first[0] > 2.5 * first[1] > 5 * first[2]


def test_an_open_deal_weighs_a_little_more() -> None:
    one, other = replace(_candidate(1), dealt=True), _candidate(2)
    weights = {each.candidate.node: each.weight for each in explain([one, other], (), (), 1)}
    assert weights[one.node] / weights[other.node] == pytest.approx(DEALT)
    assert 1 < DEALT < 2, "room still decides"


def test_the_seed_decides() -> None:
    candidates = [_candidate(n) for n in range(9)]
    a, b, c = (
        choose(candidates, Scheme(3, 6), 1, random.Random(seed).random) for seed in (1, 1, 2)
    )
    assert a == b != c
