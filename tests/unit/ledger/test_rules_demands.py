"""Demands, what serves them, and slashes: every check and every effect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.core.keys import node_id_of
from dsn.ids import DealId
from dsn.ledger.bodies import Bind, Claim, CloseDeal, SubmitLink, Withdraw
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.disputes import (
    AllLost,
    Demand,
    DrawnOpening,
    Serve,
    ServedOpening,
    ShardLost,
    SlashMissed,
    SlashUnserved,
    SlashWrong,
)
from dsn.ledger.log import LogLeaf, build_inclusion_proof
from dsn.ledger.money import repair_cost
from dsn.proofs.por import answer_root
from dsn.proofs.post import build_answer_path
from tests.support.ledger_world import IDENTITIES, PARAMS, World, address, holdings, locked, terms

FEE = PARAMS.entry_fee
REPAIR = terms().repair_price


@pytest.fixture
def world() -> World:
    world = World()
    world.bind("alice", "paul")
    world.open_epoch()
    return world


@pytest.fixture
def deal(world: World) -> DealId:
    """Nine leaves, linked in epochs 2 to 4; it is epoch 5."""
    deal = world.open(terms())
    world.hold(deal, 1, 2, 3)
    world.pass_epochs(4, "paul")
    return deal


def credit(world: World, name: str) -> int:
    return world.account(name).available


def unserved(world: World, deal: DealId) -> None:
    """A demand is pending, and its time is up."""
    world.do("alice", Demand(deal, 50, 4))
    world.pass_epochs(PARAMS.demand_epochs + 1)


def wrong_link(world: World, deal: DealId) -> SlashWrong:
    """Paul links with a wrong opening, and somebody finds it."""
    epoch = world.epoch
    world.link("paul", wrong=2)
    world.pass_epochs(1)
    drawn, found = world.drawn("paul", epoch, 2)
    assert found == deal
    return SlashWrong(deal, drawn, world.served("paul", epoch, 2))


# asking


def test_a_demand_pins_its_target_and_locks_the_bond(world: World, deal: DealId) -> None:
    before = credit(world, "alice")
    changes = world.do("alice", Demand(deal, 50, 8))
    pending = world.deal(deal).demand
    assert pending is not None
    assert (pending.asker, pending.deadline, pending.index) == (address("alice"), 8, 8)
    assert (world.deal(deal).bond, pending.link) == (50, None)
    assert credit(world, "alice") == before - 50 - FEE
    assert len(changes.cells) == 2


def test_what_a_demand_on_a_leaf_must_be(world: World, deal: DealId) -> None:
    assert world.code("alice", Demand(deal, 10, 8)) == ""
    assert world.code("dora", Demand(deal, 10, 0)) == ""
    for name in ("paul", "sam", "bob"):
        assert world.code(name, Demand(deal, 10, 0)) == "not_the_client"
    assert world.code("alice", Demand(deal, 9, 0)) == "bond_too_low"
    assert world.code("alice", Demand(deal, 10, 9)) == "no_such_leaf"
    assert world.code("alice", Demand(deal, 1 << 40, 0)) == "not_enough_credit"
    world.do("alice", Demand(deal, 10, 0))
    assert world.code("alice", Demand(deal, 10, 0)) == "demand_pending"


def test_a_demand_on_an_answer_pins_the_link(world: World, deal: DealId) -> None:
    drawn, found = world.drawn("paul", 3, 5)
    assert found == deal
    world.do("alice", Demand(deal, 10, drawn))
    pending = world.deal(deal).demand
    assert pending is not None
    assert (pending.link, pending.place) == (world.answers["paul", 3][1], 5)


def test_what_a_demand_on_an_answer_must_be(world: World, deal: DealId) -> None:
    drawn, _ = world.drawn("paul", 3, 5)
    other = world.open(terms(salt=b"\x01" * 32))
    foreign = world.leaves[world.answers["paul", 3][0] - 1]

    def code(**changes: object) -> str:
        return world.code("alice", Demand(deal, 10, replace(drawn, **changes)))

    assert code() == ""
    assert world.code("alice", Demand(other, 10, drawn)) == "other_deal"
    assert code(beacon=bytes(32)) == "wrong_beacon"
    assert code(place=9) == "place"
    assert code(bracket=drawn.bracket[:-1]) == "short"
    assert code(bracket=bytes(len(drawn.bracket))) != ""
    assert code(path=drawn.path[:-1]) == "short"
    assert code(index=drawn.index + 1) != ""
    assert code(leaf=foreign) != ""
    assert code(leaf=replace(drawn.leaf, state_root=bytes(32))) != ""


def test_an_entry_that_is_no_link_of_the_provider_proves_nothing(
    world: World, deal: DealId
) -> None:
    drawn, _ = world.drawn("paul", 3, 5)
    index, *rest = world.answers["paul", 3]
    world.answers["paul", 3] = (index - 1, *rest)  # type: ignore[assignment]
    shut, _ = world.drawn("paul", 3, 5)
    assert shut.leaf != drawn.leaf
    assert world.code("alice", Demand(deal, 10, shut)) == "not_a_link"
    world.bind("petra")
    hers = world.open(terms(provider=address("petra")))
    world.hold(hers, 4)
    world.pass_epochs(1, "paul")
    epoch = world.epoch
    world.pass_epochs(1, "paul", "petra")
    drawn, found = world.drawn("petra", epoch, 0)
    assert found == hers
    assert world.code("alice", Demand(hers, 10, drawn)) == ""
    assert world.code("alice", Demand(deal, 10, drawn)) == "not_a_link"


@pytest.mark.parametrize(
    "forged", [{"count": 8}, {"count": 10}, {"total": 10}, {"total": 1 << 62, "count": 0xFFFF_FFFF}]
)
def test_a_link_that_no_rule_let_in_draws_nothing(
    world: World, deal: DealId, forged: dict[str, int]
) -> None:
    """Who makes up a log may write any count into it, and a judge would draw as many leaves."""
    link = world.answers["paul", 3][1]
    drawn, _ = world.drawn("paul", 3, 5)
    entry = world.entry("paul", SubmitLink(replace(link, **forged)))
    leaf = LogLeaf(entry.encode(), bytes(65), world.state.root)
    index = len(world.leaves)
    world.add(leaf)
    world.pass_epochs(1, "paul")
    path = build_inclusion_proof(world.nodes.__getitem__, index, world.state.network.closed.size)
    target = replace(drawn, leaf=leaf, index=index, path=tuple(path))
    assert world.code("alice", Demand(deal, 10, target)) == "wrong_count"


def test_a_link_of_the_running_epoch_is_not_closed_yet(world: World, deal: DealId) -> None:
    world.link("paul")
    head = world.state.network.closed
    assert world.answers["paul", world.epoch][0] >= head.size
    drawn, _ = world.drawn("paul", 3, 5)
    late = replace(drawn, index=world.answers["paul", world.epoch][0], leaf=world.leaves[-1])
    assert world.code("alice", Demand(deal, 10, late)) != ""


def test_answers_are_owed_for_the_dispute_epochs_only(world: World, deal: DealId) -> None:
    for epoch, code in ((6, ""), (7, "too_old")):
        world.pass_epochs(1, "paul")
        drawn, _ = world.drawn("paul", 2, 0)
        assert (world.epoch, world.code("alice", Demand(deal, 10, drawn))) == (epoch, code)


def test_an_inclusion_proof_is_under_the_newest_closed_log(world: World, deal: DealId) -> None:
    drawn, _ = world.drawn("paul", 3, 5)
    world.pass_epochs(1, "paul")
    assert world.code("alice", Demand(deal, 10, drawn)) != ""
    drawn, _ = world.drawn("paul", 3, 5)
    assert world.code("alice", Demand(deal, 10, drawn)) == ""


def test_an_ended_deal_owes_answers_of_before_its_end_and_no_leaves(world: World) -> None:
    deal = world.open(terms(end=3, grace=1))
    world.hold(deal, 1)
    world.pass_epochs(4, "paul")
    world.link("paul")  # epoch 5 still asks for it
    world.do("alice", CloseDeal(deal, None))
    world.pass_epochs(1, "paul")
    assert world.deal(deal).ended == 5
    for epoch, code in ((2, ""), (5, "")):
        drawn, _ = world.drawn("paul", epoch, 0)
        assert world.code("alice", Demand(deal, 10, drawn)) == code
    assert world.code("alice", Demand(deal, 10, 0)) == "deal_not_open"


# serving


def test_an_opening_that_verifies_earns_the_bond(world: World, deal: DealId) -> None:
    for leaf in range(9):
        world.do("alice", Demand(deal, 50, leaf))
        before = credit(world, "paul")
        world.do("paul", Serve(deal, world.service(deal)))
        assert credit(world, "paul") == before + 50 - FEE
        assert (world.deal(deal).demand, world.deal(deal).bond) == (None, 0)


def test_an_answer_counts_only_as_it_was_given(world: World, deal: DealId) -> None:
    drawn, _ = world.drawn("paul", 3, 5)
    world.do("alice", Demand(deal, 50, drawn))
    good = world.served("paul", 3, 5)
    assert world.code("paul", Serve(deal, good)) == ""
    assert world.code("paul", Serve(deal, replace(good, path=good.path[:-1]))) == "answer_path"
    assert world.code("paul", Serve(deal, world.served("paul", 3, 4))) != ""
    other = replace(good, opening=world.served("paul", 3, 4).opening)
    assert world.code("paul", Serve(deal, other)) == "answer_root"
    world.do("paul", Serve(deal, good))


def test_what_serves_a_demand(world: World, deal: DealId) -> None:
    assert world.code("paul", Serve(deal, ServedOpening(b"", ()))) == "no_demand"
    world.do("alice", Demand(deal, 50, 4))
    good = world.service(deal)
    assert world.code("alice", Serve(deal, good)) == "not_the_provider"
    assert world.code("paul", Serve(deal, replace(good, path=(bytes(32),)))) == "answer_path"
    assert world.code("paul", Serve(deal, replace(good, opening=good.opening[:-1]))) == "short"
    assert (
        world.code("paul", Serve(deal, replace(good, opening=good.opening + b"\0"))) == "trailing"
    )
    assert world.code("paul", Serve(deal, AllLost(2))) == "shard_needed"
    world.pass_epochs(PARAMS.demand_epochs)
    assert world.code("sam", SlashUnserved(deal)) == "still_time"
    assert world.code("paul", Serve(deal, good)) == ""
    world.pass_epochs(1)
    assert world.code("paul", Serve(deal, good)) == "too_late"
    assert world.code("sam", SlashUnserved(deal)) == ""


def test_a_provider_without_a_credit_can_serve(world: World, deal: DealId) -> None:

    world.do("paul", Withdraw(credit(world, "paul") - FEE))
    world.do("alice", Demand(deal, 10, 4))
    world.do("paul", Serve(deal, world.service(deal)))
    assert credit(world, "paul") == 10 - FEE


def test_a_leaf_is_given_up_with_its_shard(world: World, deal: DealId) -> None:
    world.do("alice", Demand(deal, 50, 4))
    lost = world.shard_lost(deal)
    shard = world.demanded(deal)
    others = [n for n in (1, 2, 3) if n != shard]
    wrong = world.loss(deal, others[0]).deletions[0]
    number = world.deal(deal).number
    assert world.code("paul", Serve(deal, replace(lost, deletion=wrong))) == "other_shard"
    assert world.code("paul", Serve(deal, replace(lost, number=number))) == "stale_revision"
    alice, paul, collateral = (
        credit(world, "alice"),
        credit(world, "paul"),
        world.deal(deal).collateral,
    )
    world.do("paul", Serve(deal, lost))
    cell, rest = world.deal(deal), holdings(tuple(others)).tree
    cost = repair_cost(REPAIR, 9 - rest.total)
    assert (cell.root, cell.leaves, cell.shards) == (rest.root, rest.total, 2)
    assert (cell.refund, cell.collateral) == (cost, collateral - cost)
    assert (cell.demand, cell.leaf_epochs) == (None, 3 * 9)
    assert credit(world, "alice") == alice + 50
    pay = cell.disk_paid - cell.burned
    assert credit(world, "paul") == paul + pay
    assert world.account("paul").live_leaves == rest.total


def test_an_answer_is_given_up_with_the_whole_deal(world: World, deal: DealId) -> None:
    drawn, _ = world.drawn("paul", 3, 5)
    world.do("alice", Demand(deal, 50, drawn))
    body = world.loss(deal, 1)

    one = Serve(deal, ShardLost(body.number, body.deletions[0]))
    assert world.code("paul", one) == "whole_deal_needed"
    number = world.deal(deal).number
    assert world.code("paul", Serve(deal, AllLost(number))) == "stale_revision"
    alice, collateral = credit(world, "alice"), world.deal(deal).collateral
    world.do("paul", Serve(deal, AllLost(number + 1)))
    cell = world.deal(deal)
    cost = min(collateral, repair_cost(REPAIR, 9))
    assert (cell.leaves, cell.shards, cell.root, cell.state) == (0, 0, bytes(32), DealState.OPEN)
    assert (cell.refund, cell.collateral) == (cost, collateral - cost)
    assert (cell.leaf_epochs, credit(world, "alice")) == (27, alice + 50)
    assert world.account("paul").live_leaves == 0


@pytest.mark.parametrize("ended", [True, False])
def test_what_is_ended_or_empty_gives_up_all_collateral(world: World, ended: bool) -> None:
    deal = world.open(terms(end=4, grace=0, collateral_ppm=9_000_000))
    world.hold(deal, 1, 2)
    world.pass_epochs(3, "paul")
    if ended:
        world.pass_epochs(1)
        world.do("alice", CloseDeal(deal, None))
    else:
        world.do("paul", world.loss(deal, 1, 2))
    before = world.deal(deal)
    assert before.collateral > 0
    drawn, _ = world.drawn("paul", 3, 1)
    world.do("alice", Demand(deal, 50, drawn))
    world.do("paul", Serve(deal, AllLost(99)))
    cell = world.deal(deal)
    assert (cell.collateral, cell.refund) == (0, before.refund + before.collateral)


# slashing


def check_split(world: World, before: DealCell, reporter: str, had: dict[str, int]) -> None:
    cell = world.deal(before.deal)
    client = min(before.collateral, repair_cost(REPAIR, before.leaves))
    rest = before.collateral - client
    assert cell.state is DealState.SLASHED
    escrows = before.disk_escrow + before.bandwidth_escrow
    assert cell.refund == before.refund + client + escrows
    assert cell.burned == before.burned + rest - rest // 10
    assert locked(cell) == cell.refund
    assert credit(world, reporter) == had[reporter] + rest // 10 - FEE
    assert credit(world, "alice") == had["alice"] + before.bond
    assert credit(world, "paul") == had["paul"]
    assert cell.demand is None
    assert world.account("paul").live_leaves == 0
    assert world.account("paul").deals == 1
    for body in (SlashMissed(before.deal), SlashUnserved(before.deal)):
        assert world.code("sam", body) == "deal_not_open"


def balances(world: World) -> dict[str, int]:
    return {name: credit(world, name) for name in ("alice", "paul", "sam")}


def test_an_unserved_demand_splits_the_collateral(world: World, deal: DealId) -> None:
    unserved(world, deal)
    before, had = world.deal(deal), balances(world)
    assert world.code("paul", SlashUnserved(deal)) == "own_deal"
    changes = world.do("sam", SlashUnserved(deal))
    check_split(world, before, "sam", had)
    assert len(changes.cells) == 4


def test_a_wrong_answer_splits_the_collateral(world: World, deal: DealId) -> None:
    body = wrong_link(world, deal)
    before, had = world.deal(deal), balances(world)
    assert world.code("paul", body) == "own_deal"
    world.do("sam", body)
    check_split(world, before, "sam", had)
    assert world.code("sam", body) == "deal_not_open"


def test_a_rest_of_the_collateral_goes_to_reporter_and_fire(world: World) -> None:
    deal = world.open(terms(collateral_ppm=9_000_000))
    world.hold(deal, 1, 2, 3)
    world.pass_epochs(1, "paul")
    world.do("paul", world.loss(deal, 1))
    assert world.deal(deal).refund > 0
    unserved(world, deal)
    before, had = world.deal(deal), balances(world)
    assert (before.collateral - repair_cost(REPAIR, 9)) // 10 > 0
    world.do("sam", SlashUnserved(deal))
    check_split(world, before, "sam", had)


def test_what_a_slash_for_a_wrong_answer_must_be(world: World, deal: DealId) -> None:
    body = wrong_link(world, deal)
    right, _ = world.drawn("paul", 3, 2)
    good = SlashWrong(deal, right, world.served("paul", 3, 2))
    assert world.code("sam", good) == "opening_holds"
    forged = replace(good, answer=replace(good.answer, opening=b"made up"))
    assert world.code("sam", forged) == "answer_root"
    assert world.code("sam", replace(body, answer=replace(body.answer, path=()))) == "answer_path"
    assert world.code("sam", replace(body, drawn=replace(body.drawn, place=1))) != ""
    assert world.code("sam", replace(body, drawn=replace(body.drawn, beacon=bytes(32)))) != ""
    assert world.code("sam", body) == ""


def test_an_opening_without_a_bracket_of_its_own_is_wrong_too(world: World, deal: DealId) -> None:
    """The deal is proven by whoever slashes: garbage instead of an opening does not hide it."""

    link, held, _, opened = world.answer("paul")
    garbage = (b"garbage", *opened[1:])
    link = replace(link, answer_root=answer_root(garbage))
    epoch = world.epoch
    world.do("paul", SubmitLink(link))
    world.answers["paul", epoch] = (len(world.leaves) - 1, link, held, garbage)
    world.pass_epochs(1)
    drawn, _ = world.drawn("paul", epoch, 0)
    answer = ServedOpening(b"garbage", tuple(build_answer_path(garbage, 0)))
    world.do("sam", SlashWrong(deal, drawn, answer))
    assert world.deal(deal).state is DealState.SLASHED


def test_a_wrong_answer_convicts_after_the_end_but_not_after_release(world: World) -> None:
    deal = world.open(terms(end=2, grace=0))
    world.hold(deal, 3)
    world.pass_epochs(1)
    body, epoch = wrong_link(world, deal), world.epoch - 1
    world.do("alice", CloseDeal(deal, None))
    assert world.code("sam", body) == ""
    world.pass_epochs(5)
    body = replace(body, drawn=world.drawn("paul", epoch, 2)[0])
    assert world.code("sam", body) == ""
    world.do("alice", CloseDeal(deal, None))
    assert world.code("sam", body) == "deal_not_open"


def test_a_link_is_judged_with_the_node_that_made_it(world: World, deal: DealId) -> None:
    assert world.account("paul").node == node_id_of(IDENTITIES["paul"].public)

    assert world.code("paul", Bind(world.binding("paul", 2, identity="sam"))) == "deals_open"


def test_more_misses_than_allowed_are_slashable(world: World) -> None:
    deal = world.open(terms(miss_limit=2))
    world.hold(deal, 1, 2)
    world.pass_epochs(2, "paul")
    world.pass_epochs(2)
    assert world.code("sam", SlashMissed(deal)) == "within_miss_limit"
    world.pass_epochs(1)
    before, had = world.deal(deal), balances(world)
    assert before.missed == 0
    assert world.code("paul", SlashMissed(deal)) == "own_deal"
    world.do("sam", SlashMissed(deal))
    cell = world.deal(deal)
    assert (cell.missed, cell.leaf_epochs, cell.state) == (3, 5, DealState.SLASHED)
    pay = cell.disk_paid - cell.disk_paid // 100
    assert credit(world, "paul") == had["paul"] + pay


def test_what_was_not_settled_is_forfeit(world: World, deal: DealId) -> None:
    unserved(world, deal)
    assert world.deal(deal).leaf_epochs == 0
    world.do("sam", SlashUnserved(deal))
    assert (world.deal(deal).disk_paid, world.deal(deal).leaf_epochs) == (0, 0)
    assert world.code("paul", Claim(deal, None, None)) == "deal_not_open"


def test_a_slashed_deal_is_released_at_once(world: World, deal: DealId) -> None:
    unserved(world, deal)
    world.do("sam", SlashUnserved(deal))
    refund, before = world.deal(deal).refund, credit(world, "alice")
    assert world.code("alice", Demand(deal, 10, 0)) == "deal_not_open"
    world.do("paul", CloseDeal(deal, None))
    assert world.deal(deal).state is DealState.CLOSED
    assert credit(world, "alice") == before + refund
    assert [world.account(name).deals for name in ("alice", "paul")] == [0, 0]


def test_there_is_nothing_to_slash_without_a_demand(world: World, deal: DealId) -> None:
    assert world.code("sam", SlashUnserved(deal)) == "no_demand"
    assert isinstance(world.drawn("paul", 3, 0)[0], DrawnOpening)
