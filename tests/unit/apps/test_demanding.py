"""When an owner asks the ledger for a leaf of its own, and what comes of silence."""

from __future__ import annotations

import random
from dataclasses import replace

from dsn.apps.demanding import EVERY_EPOCHS, Question, questions
from dsn.ledger.cells import DealCell, DealState, Pending
from dsn.ledger.disputes import Demand, SlashMissed, SlashUnserved
from tests.support.ledger_world import PARAMS, World, address, terms

EPOCH = 10_000


def a_deal() -> DealCell:
    world = World()
    world.bind("alice", "paul")
    world.open_epoch()
    deal = world.open(terms())
    world.hold(deal, 1, 2, 3)
    return world.deal(deal)


DEAL = a_deal()


def asked(cell: DealCell, since: int | None, seed: int = 1) -> list[Question]:
    rng = random.Random(seed)
    thought = {} if since is None else {cell.deal: EPOCH - since}
    return list(questions([cell], EPOCH, thought, PARAMS, rng.randbytes))


def test_a_deal_is_asked_once_in_a_month_of_epochs_on_average() -> None:
    demands = [each for seed in range(2_000) for each in asked(DEAL, 72, seed)]
    assert 140 < len(demands) < 260  # a tenth of the span, so a tenth of 2,000
    leaves = {each.target for each in demands if isinstance(each, Demand)}
    assert leaves == set(range(DEAL.leaves))
    assert {each.bond for each in demands if isinstance(each, Demand)} == {PARAMS.min_bond}
    assert all(asked(DEAL, EVERY_EPOCHS, seed) for seed in range(20))


def test_one_that_was_just_thought_of_or_never_is_not_asked() -> None:
    assert not any(asked(DEAL, since, seed) for seed in range(200) for since in (0, None))


def test_what_holds_nothing_or_is_over_is_not_asked() -> None:
    for cell in (
        replace(DEAL, leaves=0),
        replace(DEAL, state=DealState.ENDED),
        replace(DEAL, state=DealState.SLASHED),
        replace(DEAL, state=DealState.CLOSED),
    ):
        assert asked(cell, 10 * EVERY_EPOCHS) == []


def test_who_did_not_answer_in_time_is_slashed_and_nobody_earlier() -> None:
    waits = replace(DEAL, demand=Pending(address("alice"), EPOCH, 3))
    assert asked(waits, 10 * EVERY_EPOCHS) == []
    late = replace(DEAL, demand=Pending(address("alice"), EPOCH - 1, 3))
    assert asked(late, 0) == [SlashUnserved(DEAL.deal)]
    assert asked(replace(late, state=DealState.ENDED), 0) == [SlashUnserved(DEAL.deal)]


def test_who_missed_more_than_was_agreed_is_slashed() -> None:
    limit = DEAL.terms.miss_limit
    assert asked(replace(DEAL, missed=limit), 0) == []
    assert asked(replace(DEAL, missed=limit + 1), 0) == [SlashMissed(DEAL.deal)]
