"""Two homes of one node: the one that does not know its node's newest link stops."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dsn.errors import ConfigError, DsnError
from dsn.ledger.bodies import Claim, SubmitLink
from dsn.store.answers import begin_takeover
from tests.support.prover_world import NODE, Field, unreachable


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path)


async def prove(field: Field, epochs: int = 1) -> None:
    """Pass ``epochs``, each proven by this home."""
    prover = field.prover()
    for _ in range(epochs):
        field.world.pass_epochs(1)
        await prover.turn(field.snapshot())


def elsewhere(field: Field, epochs: int = 1) -> None:
    """Pass ``epochs``, each proven by another home."""
    for _ in range(epochs):
        field.world.pass_epochs(1)
        field.world.link(NODE)


async def refused(field: Field) -> str:
    with pytest.raises(ConfigError) as raised:
        await field.prover().turn(field.snapshot())
    assert "takeover" in raised.value.hint
    return raised.value.detail_code


def links(field: Field) -> list[int]:
    return [body.link.epoch for body in field.paul.entered if isinstance(body, SubmitLink)]


@pytest.mark.parametrize("known", [0, 1, 3])
@pytest.mark.parametrize("since", [0, 1, 4])
async def test_a_link_of_another_home_is_seen(field: Field, known: int, since: int) -> None:
    field.hold(1, 2)
    await prove(field, known)
    elsewhere(field, 2)
    if since:
        field.world.pass_epochs(since)
    assert await refused(field) == "home_is_stale"
    assert links(field) == list(range(2, 2 + known))


async def test_it_is_seen_while_the_node_runs(field: Field) -> None:
    field.hold(1, 2)
    field.world.pass_epochs(1)
    prover = field.prover()
    await prover.turn(field.snapshot())
    elsewhere(field)
    with pytest.raises(ConfigError):
        await prover.turn(field.snapshot())


async def test_it_is_seen_in_the_epoch_in_which_all_was_well_before(field: Field) -> None:
    field.hold(1, 2)
    field.world.shut_epoch()
    prover = field.prover()
    await prover.turn(field.snapshot())
    field.world.open_epoch()
    field.world.link(NODE)
    field.world.pass_epochs(1)
    with pytest.raises(ConfigError):
        await prover.turn(field.snapshot())


async def test_a_copy_from_before_the_last_links_is_stale(field: Field, tmp_path: Path) -> None:
    field.hold(1)
    await prove(field, 2)
    shutil.copytree(field.folder, tmp_path / "copy")
    await prove(field, 2)
    field.folder = tmp_path / "copy"
    assert await refused(field) == "home_is_stale"


async def test_epochs_that_asked_for_nothing_are_not_foreign(field: Field) -> None:
    field.world.pass_epochs(5)
    field.hold(1)
    await field.prover().turn(field.snapshot())
    field.world.pass_epochs(1)
    await field.prover().turn(field.snapshot())
    assert links(field) == [7]


async def test_an_empty_time_between_two_full_ones_is_not_foreign(field: Field) -> None:
    deal = field.hold(1)
    await prove(field, 2)
    field.world.do(NODE, Claim(deal, field.world.pledge(deal, []), None))
    field.world.pass_epochs(4)
    field.hold(2, salt=b"2" * 32)
    for _ in range(2):
        await field.prover().turn(field.snapshot())
        field.world.pass_epochs(1)
    await field.prover().turn(field.snapshot())
    assert links(field) == [2, 3, 8, 9]


async def test_downtime_is_not_foreign(field: Field) -> None:
    field.hold(1)
    await prove(field, 2)
    field.world.pass_epochs(5)
    await prove(field, 1)
    assert links(field) == [2, 3, 9]


async def test_a_ledger_that_shows_no_log_makes_nobody_stale(field: Field) -> None:
    """In doubt it is asked, and while it does not answer nothing is linked."""
    field.world.pass_epochs(5)
    field.hold(1)
    whole, prover = field.leaves, field.prover()

    async def away(start: int, end: int) -> list[object]:
        unreachable()
        return []

    prover._twins._leaves = away
    with pytest.raises(DsnError) as raised:
        await prover.turn(field.snapshot())
    assert raised.value.detail_code == "ledger_unreachable"
    prover._twins._leaves = whole
    await prover.turn(field.snapshot())
    field.world.pass_epochs(1)
    await prover.turn(field.snapshot())
    assert links(field) == [7]


async def test_a_forged_link_in_a_log_that_nobody_vouches_for(field: Field) -> None:
    """Only this account's own signature makes a link foreign: the ledger cannot stop a node."""
    field.world.pass_epochs(2)
    field.hold(1)
    field.world.pass_epochs(1)
    forged = field.world.entry(NODE, SubmitLink(field.world.answer(NODE)[0]))
    field.world.add(type(field.world.leaves[0])(forged.encode(), bytes(65), bytes(32)))
    await field.prover().turn(field.snapshot())
    assert links(field) == [4]


class TestTakeover:
    @pytest.mark.parametrize("quiet", [0, 1])
    async def test_it_waits_for_a_whole_quiet_epoch(self, field: Field, quiet: int) -> None:
        field.hold(1)
        elsewhere(field, 2)
        if quiet:
            field.world.pass_epochs(quiet)
        begin_takeover(field.folder)
        prover = field.prover()
        await prover.turn(field.snapshot())
        field.world.pass_epochs(1)
        await prover.turn(field.snapshot())
        assert links(field) == [], "the epoch in which it began counts for nothing"
        field.world.pass_epochs(1)
        await prover.turn(field.snapshot())
        first = 5 + quiet
        assert links(field) == [first]
        await prove(field, 1)
        assert (links(field), field.answers.accepted) == ([first, first + 1], first - 1)

    async def test_another_home_that_still_links_keeps_it_waiting(self, field: Field) -> None:
        field.hold(1)
        elsewhere(field, 2)
        begin_takeover(field.folder)
        prover = field.prover()
        for _ in range(4):
            await prover.turn(field.snapshot())
            elsewhere(field)
        assert links(field) == []
        field.world.pass_epochs(2)
        await prover.turn(field.snapshot())
        assert links(field) == [field.world.epoch]

    async def test_a_restart_begins_to_wait_anew(self, field: Field) -> None:
        field.hold(1)
        elsewhere(field, 2)
        begin_takeover(field.folder)
        for _ in range(3):
            await field.prover().turn(field.snapshot())
            field.world.pass_epochs(1)
        assert links(field) == []

    async def test_with_nothing_held_there_is_nothing_to_wait_for(self, field: Field) -> None:
        begin_takeover(field.folder)
        prover = field.prover()
        await prover.turn(field.snapshot())
        assert not field.answers.waiting
        field.hold(1)
        field.world.pass_epochs(1)
        await prover.turn(field.snapshot())
        assert links(field) == [2]

    async def test_a_link_of_another_home_after_it_is_seen(self, field: Field) -> None:
        field.hold(1)
        elsewhere(field)
        begin_takeover(field.folder)
        prover = field.prover()
        await prover.turn(field.snapshot())
        field.world.pass_epochs(2)
        await prover.turn(field.snapshot())
        elsewhere(field)
        assert await refused(field) == "home_is_stale"
