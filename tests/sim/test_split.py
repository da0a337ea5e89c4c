"""A split that upkeep heals, and that Kademlia's own refresh does not."""

from __future__ import annotations

import pytest

from dsn.apps.sim.split import LINK, OURS, PLAIN, SEEDED, Habits, History, Moment, run_split

NODES, LOOKUPS, SEED = 100, 20, 50


def split(habits: Habits, *, nodes: int = NODES, seed: int = SEED) -> History:
    return run_split(habits, nodes, seed, lookups=LOOKUPS, apart=1, heal=2)


@pytest.fixture(scope="module")
def plain() -> dict[str, Moment]:
    return by_name(split(PLAIN))


@pytest.fixture(scope="module")
def ours() -> dict[str, Moment]:
    return by_name(split(OURS))


def by_name(history: History) -> dict[str, Moment]:
    return {each.name: each for each in history.moments}


def test_both_are_whole_before_and_half_apart(
    plain: dict[str, Moment], ours: dict[str, Moment]
) -> None:
    for moments in (plain, ours):
        assert moments["before"].recall == 1.0, f"seed {SEED}"
        assert 0.4 < moments["apart"].recall < 0.6, f"seed {SEED}"


def test_plain_kademlia_stays_broken(plain: dict[str, Moment]) -> None:
    assert plain["refresh 2"].recall < 0.9, f"seed {SEED}"


def test_upkeep_makes_it_whole_within_two_refreshes(ours: dict[str, Moment]) -> None:
    assert ours["refresh 2"].recall == 1.0, f"seed {SEED}"


def test_hints_make_it_whole_before_the_first(ours: dict[str, Moment]) -> None:
    assert ours[LINK].recall == 1.0, f"seed {SEED}"


def test_upkeep_costs_less_than_plain_kademlia(
    plain: dict[str, Moment], ours: dict[str, Moment]
) -> None:
    assert ours["before"].calls < plain["before"].calls / 2
    assert ours["refresh 2"].calls < 50, f"seed {SEED}"
    assert sum(each.calls for each in ours.values()) < sum(each.calls for each in plain.values())


@pytest.mark.parametrize("seed", [51, 52])
def test_a_smaller_network_heals_too(seed: int) -> None:
    assert by_name(split(OURS, nodes=60, seed=seed))["refresh 2"].recall == 1.0


def test_a_link_that_nobody_tells_of_is_found_by_walks() -> None:
    history = split(Habits("no hint at the link", OURS.refresh, PLAIN.meet))
    assert by_name(history)["refresh 2"].recall == 1.0, f"seed {SEED}"


def test_seeds_in_both_halves_need_no_link() -> None:
    assert by_name(split(SEEDED, nodes=60))["refresh 2"].recall == 1.0, f"seed {SEED}"


def test_the_halves_remember_each_other_until_they_have_to_forget() -> None:
    history = split(Habits("no refresh after the link", OURS.refresh, no_meeting), nodes=60)
    assert history.remembered > 0.0
    assert by_name(history)["refresh 2"].recall < 0.6, f"seed {SEED}"


def no_meeting(table, strangers, entropy):
    """The link is not used."""
    yield from ()


def test_the_same_seed_gives_the_same_history() -> None:
    assert split(OURS, nodes=20) == split(OURS, nodes=20)
    assert split(OURS, nodes=20) != split(OURS, nodes=20, seed=SEED + 1)


def test_progress_is_told_refresh_by_refresh() -> None:
    told: list[None] = []
    run_split(OURS, 10, SEED, lookups=1, apart=3, heal=2, tell=lambda: told.append(None))
    assert len(told) == 2 + 3 + 2
