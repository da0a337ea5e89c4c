"""Lookups among 1,000 nodes, in every kind of trouble."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.apps.sim.lookups import STANDARD, Figures, Found, Trouble, percentile, run_lookups
from dsn.machines.lookup import HARD_S, PATHS

NODES, LOOKUPS, SEED = 1_000, 120, 40
HEALTHY = Trouble("healthy")


@pytest.fixture(scope="module")
def table() -> dict[tuple[str, int], Figures]:
    """The standard table, by scenario and paths."""
    rows = run_lookups(STANDARD, NODES, LOOKUPS, SEED)
    return {(row.trouble.name, row.trouble.paths): row for row in rows}


def run(trouble: Trouble, seed: int = SEED, lookups: int = 40) -> Figures:
    (figures,) = run_lookups([trouble], NODES, lookups, seed)
    return figures


@pytest.mark.parametrize(
    ("scenario", "paths", "floor"),
    [
        ("healthy", 1, 1.0),
        ("20 % dead", 1, 1.0),
        ("50 % dead", 1, 0.99),
        ("20 % malicious", PATHS, 0.99),
        ("40 % malicious", PATHS, 0.9),
        ("churn", 1, 0.99),
    ],
)
def test_lookups_succeed(
    table: dict[tuple[str, int], Figures], scenario: str, paths: int, floor: float
) -> None:
    assert table[scenario, paths].success >= floor, f"seed {SEED}"


def test_all_of_the_standard_table_is_there(table: dict[tuple[str, int], Figures]) -> None:
    assert len(table) == len(STANDARD)
    assert all(len(row.lookups) == LOOKUPS for row in table.values())


def test_one_path_is_what_liars_catch() -> None:
    caught = Trouble("80 % malicious", malicious=0.8)
    one, four = run(caught), run(replace(caught, paths=PATHS))
    assert one.success < four.success, f"seed {SEED}"


def test_liars_give_no_values_though_they_keep_records() -> None:
    assert run(Trouble("all but all", malicious=0.999)).success < 0.2, f"seed {SEED}"


def test_the_dead_give_nothing_and_cost_time() -> None:
    dead = run(Trouble("half dead", dead=0.5))
    alive = run(HEALTHY)
    assert dead.summary()["latency_ms_p50"] > alive.summary()["latency_ms_p50"], f"seed {SEED}"
    assert run(Trouble("all dead", dead=1.0)).success == 0.0
    slowest_ms = max(each.latency_ms for each in run(Trouble("all dead", dead=1.0)).lookups)
    assert slowest_ms > 1_000 * HARD_S


def test_trouble_adds_up() -> None:
    trouble = Trouble("all at once", dead=0.2, malicious=0.2, churn=True, paths=PATHS)
    assert run(trouble).success > 0.9, f"seed {SEED}"


def test_the_same_seed_gives_the_same_figures() -> None:
    trouble = Trouble("some of all", dead=0.2, malicious=0.2, churn=True, paths=PATHS)
    assert run(trouble, lookups=15) == run(trouble, lookups=15)
    assert run(trouble, lookups=15) != run(trouble, SEED + 1, lookups=15)


def test_a_scenario_is_the_same_whatever_comes_before_it() -> None:
    alone = run(Trouble("20 % dead", dead=0.2), lookups=15)
    *_, last = run_lookups([HEALTHY, Trouble("20 % dead", dead=0.2)], NODES, 15, SEED)
    assert last == alone


def test_progress_is_told_lookup_by_lookup() -> None:
    told: list[None] = []
    rows = run_lookups([HEALTHY, HEALTHY], NODES, 5, SEED, lambda: told.append(None))
    assert len(list(rows)) == 2
    assert len(told) == 10


def test_percentiles_are_figures_that_occurred() -> None:
    ordered = [1.0, 2.0, 3.0, 4.0]
    assert [percentile(ordered, percent) for percent in (1, 25, 26, 50, 99, 100)] == [
        1,
        1,
        2,
        2,
        4,
        4,
    ]
    assert percentile([7.0], 50) == 7.0


def test_a_summary_says_what_the_lookups_did() -> None:
    lookups = tuple(
        Found(number > 1, number, 2 * number, 10.0 * number) for number in range(1, 101)
    )
    assert Figures(HEALTHY, lookups).summary() == {
        "success": 0.99,
        "hops_p50": 50,
        "hops_p99": 99,
        "calls_mean": 101,
        "calls_p99": 198,
        "latency_ms_p50": 500.0,
        "latency_ms_p95": 950.0,
        "latency_ms_p99": 990.0,
    }
