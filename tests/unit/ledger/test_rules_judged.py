"""A slash that a chain judged: every check and every effect."""

from __future__ import annotations

import pytest

from dsn.ids import DealId
from dsn.ledger.bodies import CloseDeal, Transfer
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import Demand, SlashJudged
from dsn.ledger.money import repair_cost
from tests.support.ledger_world import CHAIN_PARAMS, World, address, locked, terms

FEE = CHAIN_PARAMS.entry_fee


@pytest.fixture
def world() -> World:
    world = World(CHAIN_PARAMS)
    world.fund()
    world.bind("alice", "paul")
    world.open_epoch()
    return world


@pytest.fixture
def deal(world: World) -> DealId:
    """Five leaves that collateral is kept for, linked in epochs 2 to 4; it is epoch 5."""
    deal = world.open(terms(collateral_ppm=9_000_000))
    world.hold(deal, 1, 2, 3)
    world.pass_epochs(4, "paul")
    return deal


def test_whoever_demanded_on_chain_is_the_reporter(world: World, deal: DealId) -> None:
    names = ("operator", "alice", "paul", "dora")
    before, had = world.deal(deal), {name: world.account(name).available for name in names}
    changes = world.do("operator", SlashJudged(deal, before.number, address("dora")))
    after = world.deal(deal)
    client = min(before.collateral, repair_cost(before.terms.repair_price, before.leaves))
    rest = before.collateral - client
    assert (client > 0, rest // 10 > 0) == (True, True)
    assert (after.state, after.collateral) == (DealState.SLASHED, 0)
    assert after.refund == client + before.disk_escrow + before.bandwidth_escrow == locked(after)
    assert after.burned == before.burned + rest - rest // 10
    got = {name: world.account(name).available - had[name] for name in names}
    assert got == {"operator": 0, "alice": 0, "paul": 0, "dora": rest // 10}
    assert world.account("paul").live_leaves == 0
    assert len(changes.cells) == 4


def test_a_demand_on_the_ledger_is_cleared_too(world: World, deal: DealId) -> None:
    world.do("alice", Demand(deal, 50, 4))
    had = world.account("alice").available
    changes = world.do("operator", SlashJudged(deal, 1, address("dora")))
    assert world.deal(deal).demand is None
    assert world.account("alice").available == had + 50
    assert len(changes.cells) == 5, "deal, provider, both askers, operator"


def test_the_operator_pays_the_fee_if_it_can(world: World, deal: DealId) -> None:
    assert world.account("operator").available == 0
    world.do("alice", Transfer(address("operator"), FEE - 1))
    world.do("operator", SlashJudged(deal, 1, address("alice")))
    operator = world.account("operator")
    assert (operator.available, operator.burned) == (0, FEE - 1)


def test_what_a_judged_slash_must_be(world: World, deal: DealId) -> None:
    number = world.deal(deal).number
    good = SlashJudged(deal, number, address("alice"))
    assert world.code("operator", good) == ""
    assert world.code("operator", SlashJudged(deal, number + 5, address("alice"))) == ""
    for name in ("alice", "paul", "sam"):
        assert world.code(name, good) == "not_the_operator"
    unknown = SlashJudged(DealId(bytes(32)), number, address("alice"))
    assert world.code("operator", unknown) == "unknown_deal"
    world.hold(deal, 1, 2)
    assert world.code("operator", good) == "revision_moved"


def test_an_ended_deal_can_be_slashed_and_a_slashed_one_cannot(world: World, deal: DealId) -> None:
    number = world.deal(deal).number
    body = SlashJudged(deal, number, address("alice"))
    world.pass_epochs(20, "paul")
    world.do("alice", CloseDeal(deal, None))
    assert world.deal(deal).state is DealState.ENDED
    world.do("operator", body)
    assert world.deal(deal).state is DealState.SLASHED
    assert world.code("operator", body) == "deal_not_open"
    world.do("alice", CloseDeal(deal, None))
    assert world.code("operator", body) == "deal_not_open"


def test_without_a_vault_there_is_no_judge() -> None:
    world = World()
    world.bind("alice", "paul")
    world.open_epoch()
    deal = world.open(terms())
    assert world.code("operator", SlashJudged(deal, 0, address("alice"))) == "no_vault"
