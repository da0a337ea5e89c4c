"""Every demand on a node's deals ends in time, and an honest node is never slashed for one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from dsn.ids import DealId
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import (
    AllLost,
    Demand,
    Serve,
    ServedOpening,
    ShardLost,
    SlashUnserved,
)
from dsn.proofs.por import answer_root
from dsn.store.answers import StoredAnswer
from tests.support.ledger_world import inventory, shard
from tests.support.prover_world import NODE, Field, unreachable

BOND = 100


@pytest.fixture
def field(tmp_path: Path) -> Field:
    return Field(tmp_path, demand_epochs=8)


async def linked(field: Field) -> int:
    """Pass an epoch that is linked, and shut: its answers can be demanded. Gives its number."""
    field.world.pass_epochs(1)
    await field.prover().turn(field.snapshot())
    epoch = field.world.epoch
    answer = await field.answers.get(epoch)
    held = inventory(field.world.known[answer.link.root])
    made = (len(field.world.leaves) - 1, answer.link, held, answer.openings)
    field.world.answers[NODE, epoch] = made
    field.world.pass_epochs(1)
    return epoch


def demand_opening(field: Field, epoch: int, place: int) -> DealId:
    opening, deal = field.world.drawn(NODE, epoch, place)
    field.world.do("alice", Demand(deal, BOND, opening))
    return deal


def served(field: Field) -> list[type]:
    return [type(body.service) for body in field.paul.entered if isinstance(body, Serve)]


async def test_every_opening_of_a_link_is_served(field: Field) -> None:
    field.hold(1, 2, 3)
    field.hold(5, 6, salt=b"2" * 32)
    epoch = await linked(field)
    demands = field.demands()
    for place in range((await field.answers.get(epoch)).link.count):
        deal = demand_opening(field, epoch, place)
        before = field.world.account(NODE).available
        await demands.turn(field.snapshot())
        assert field.world.deal(deal).demand is None, f"place {place}"
        assert field.world.account(NODE).available == before + BOND - field.world.params.entry_fee
    assert set(served(field)) == {ServedOpening}


async def test_leaves_of_the_holdings_are_served(field: Field) -> None:
    deal = field.hold(1, 2, 3, 7)
    seed = 5
    random = Random(seed)
    demands = field.demands()
    for _ in range(6):
        leaf = random.randrange(field.world.deal(deal).leaves)
        field.world.do("alice", Demand(deal, BOND, leaf))
        await demands.turn(field.snapshot())
        assert field.world.deal(deal).demand is None, f"leaf {leaf}, seed {seed}"
    assert served(field) == [ServedOpening] * 6


async def test_two_deals_at_once(field: Field) -> None:
    deals = [field.hold(1, 2), field.hold(3, 4, salt=b"2" * 32)]
    for deal in deals:
        field.world.do("alice", Demand(deal, BOND, 0))
    await field.demands().turn(field.snapshot())
    assert [field.world.deal(deal).demand for deal in deals] == [None, None]


async def test_it_is_served_once_whatever_the_ledger_shows(field: Field) -> None:
    deal = field.hold(1, 2)
    field.world.do("alice", Demand(deal, BOND, 0))
    demands, before = field.demands(), field.snapshot()
    await demands.turn(before)
    await demands.turn(before)
    assert (len(field.paul.entered), field.paul.tries) == (1, 1)
    field.world.pass_epochs(1)
    field.world.do("alice", Demand(deal, BOND, 0))
    await demands.turn(field.snapshot())
    assert len(field.paul.entered) == 2


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_ledger_that_is_away(field: Field, when: str) -> None:
    deal = field.hold(1, 2)
    field.world.do("alice", Demand(deal, BOND, 0))
    before = field.snapshot()
    setattr(field, f"{when}_entering", unreachable)
    demands = field.demands()
    await demands.turn(before)
    field.before_entering = field.after_entering = None
    for each in (demands, field.demands()):
        await each.turn(before)
        await each.turn(field.snapshot())
    assert field.world.deal(deal).demand is None
    assert len(field.paul.entered) == 1


async def test_one_that_fails_does_not_keep_others_waiting(field: Field) -> None:
    bad, good = field.hold(1, 2), field.hold(3, 4, salt=b"2" * 32)
    for deal in (bad, good):
        field.world.do("alice", Demand(deal, BOND, 0))
    field.world.shards[bad, 1] = (9,)  # not what was installed: the opening fails
    await field.demands().turn(field.snapshot())
    assert field.world.deal(good).demand is None
    assert field.world.deal(bad).demand is not None


class TestLoss:
    async def test_a_lost_shard_is_given_up_only_when_half_the_time_is_gone(
        self, field: Field
    ) -> None:
        deal = field.hold(2, 3)
        field.world.do("alice", Demand(deal, BOND, 0))
        lost = shard(field.world.demanded(deal)).commit
        field.disk.gone.add(lost)
        demands = field.demands()
        for _ in range(5):
            await demands.turn(field.snapshot())
            assert (served(field), field.given_up) == ([], [])
            field.world.pass_epochs(1)
        await demands.turn(field.snapshot())
        assert (served(field), field.given_up) == ([ShardLost], [(deal, [lost])])
        after = field.world.deal(deal)
        assert (after.demand, after.shards, after.state) == (None, 1, DealState.OPEN)
        assert after.number > 1

    async def test_a_disk_that_comes_back_in_time_costs_nothing(self, field: Field) -> None:
        deal = field.hold(2)
        field.world.do("alice", Demand(deal, BOND, 0))
        field.disk.gone.add(shard(2).commit)
        demands = field.demands()
        await demands.turn(field.snapshot())
        field.world.pass_epochs(3)
        field.disk.gone.clear()
        await demands.turn(field.snapshot())
        assert (served(field), field.given_up) == ([ServedOpening], [])

    async def test_a_lost_answer_costs_the_deal_and_no_other(self, field: Field) -> None:
        field.hold(1, 2, 3)
        field.hold(5, 6, salt=b"2" * 32)
        epoch = await linked(field)
        deal = demand_opening(field, epoch, 0)
        (field.folder / f"{epoch}.answer").write_bytes(b"rot")
        demands = field.demands()
        field.world.pass_epochs(5)
        await demands.turn(field.snapshot())
        assert (served(field), field.given_up) == ([AllLost], [(deal, [])])
        cells = {cell.deal: cell for cell in field.world.deals()}
        assert cells.pop(deal).leaves == 0
        assert all(cell.leaves for cell in cells.values())

    async def test_an_answer_that_is_not_the_links_is_no_answer(self, field: Field) -> None:
        field.hold(1, 2, 3)
        epoch = await linked(field)
        deal = demand_opening(field, epoch, 0)
        kept = await field.answers.get(epoch)
        openings = (b"another", *kept.openings[1:])
        link = replace(kept.link, answer_root=answer_root(openings))
        (field.folder / f"{epoch}.answer").write_bytes(StoredAnswer(link, openings).encode())
        field.world.pass_epochs(5)
        await field.demands().turn(field.snapshot())
        assert (served(field), field.world.deal(deal).demand) == ([AllLost], None)

    async def test_what_ran_out_is_left_alone(self, field: Field) -> None:
        deal = field.hold(2)
        field.world.do("alice", Demand(deal, BOND, 0))
        field.world.pass_epochs(9)
        await field.demands().turn(field.snapshot())
        assert served(field) == []
        assert field.world.code("alice", SlashUnserved(deal)) == ""
