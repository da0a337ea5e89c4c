"""When an owner asks the ledger for a leaf of its own, and what comes of silence."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.deal_book import DealBook
from dsn.apps.deal_file import DealFolder, Seen, Stage, new_deal
from dsn.apps.demanding import ASKED, EVERY_EPOCHS, Demanding, Question, questions
from dsn.ids import DealId, NodeId
from dsn.ledger.bodies import Agreed
from dsn.ledger.cells import AccountCell, DealCell, DealState, Pending
from dsn.ledger.disputes import Demand, SlashMissed, SlashUnserved
from dsn.ledger.entry import Body
from dsn.ledger.settlement import Address
from dsn.runtime.clock import SystemClock
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


# a turn


class Ledger:
    """One that is away: a turn goes by what was seen before."""

    params = PARAMS

    async def epoch(self) -> int:
        raise AssertionError

    async def accounts(self, addresses: Iterable[Address]) -> dict[Address, AccountCell]:
        raise AssertionError

    async def deals(self, ids: Iterable[DealId]) -> dict[DealId, DealCell]:
        raise AssertionError


class Sender:
    """Keeps what is entered."""

    def __init__(self) -> None:
        self.sent: list[Body] = []

    async def send(self, bodies: Sequence[Body], *, wait: bool = True) -> list[int]:
        assert not wait
        self.sent += bodies
        return list(range(len(bodies)))


def at_home(folder: Path, me: str = "alice") -> DealBook:
    """The book of Alice, or of Dora her delegate, who holds the deal since long ago."""
    deals = DealFolder(folder)
    agreed = Agreed(DEAL.terms, bytes(65), bytes(65))
    deal = new_deal(NodeId(b"n" * 32), DEAL.deal, agreed, 1, Stage.OPEN)
    deal.cell = DEAL
    deals.save(deal)
    deals.keep_seen(Seen(EPOCH, 0))
    (folder / ASKED).write_text(json.dumps({DEAL.deal.hex(): EPOCH - 10 * EVERY_EPOCHS}))
    return DealBook(Ledger(), folder, SystemClock(), address(me))


async def turn(folder: Path, left: int | None, me: str = "alice") -> list[Body]:
    sender = Sender()
    rng = random.Random(1)
    await Demanding(at_home(folder, me), sender, folder / ASKED, rng.randbytes).turn(left)
    return sender.sent


async def test_a_turn_asks_once_and_remembers(tmp_path: Path) -> None:
    (demand,) = await turn(tmp_path, None)
    assert isinstance(demand, Demand)
    assert json.loads((tmp_path / ASKED).read_text()) == {DEAL.deal.hex(): EPOCH}


async def test_no_more_is_spent_than_there_is_left(tmp_path: Path) -> None:
    cost = PARAMS.entry_fee + PARAMS.min_bond
    assert await turn(tmp_path, cost - 1) == []
    assert len(await turn(tmp_path, cost)) == 1


async def test_a_delegate_leaves_it_to_the_owner(tmp_path: Path) -> None:
    assert await turn(tmp_path, None, "dora") == []


@pytest.mark.parametrize("damage", ["", "[]", "3", '{"zz": 1}', '{"00": null}', '{"00": "x"}'])
async def test_a_damaged_memory_is_no_memory(tmp_path: Path, damage: str) -> None:
    book, sender = at_home(tmp_path), Sender()
    (tmp_path / ASKED).write_text(damage)
    await Demanding(book, sender, tmp_path / ASKED, random.Random(1).randbytes).turn(None)
    assert sender.sent == []
