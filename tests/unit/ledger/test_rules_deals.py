"""How deals begin, grow older and end: every check and every effect."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.ledger.bodies import Claim, CloseDeal, Open, Quit, TopUp, Withdraw
from dsn.ledger.cells import DealState
from dsn.ledger.deal import Close, Extension
from dsn.ledger.disputes import Demand
from dsn.ledger.settlement import NO_ADDRESS
from tests.support.ledger_world import GIB, PARAMS, START, World, address, locked, terms

FEE = PARAMS.entry_fee


@pytest.fixture
def world() -> World:
    world = World()
    world.bind("alice", "paul", "petra")
    world.open_epoch()
    return world


def opening(world: World, **changes: Any) -> Open:
    deal = terms(**changes)
    return Open(world.agreed(deal, deal))


def test_opening_locks_both_escrows(world: World) -> None:
    before = world.account("alice").available
    deal = world.open(terms())
    cell = world.deal(deal)
    assert (cell.disk_escrow, cell.bandwidth_escrow, locked(cell)) == (5_000, 1_000, 6_000)
    assert (cell.state, cell.settled, cell.leaves) == (DealState.OPEN, world.epoch, 0)
    assert world.account("alice").available == before - 6_000 - FEE
    assert [world.account(name).deals for name in ("alice", "paul")] == [1, 1]
    assert world.account("paul").rolled == world.epoch


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"open_by": 1}, ""),
        ({"open_by": 0}, "offer_expired"),
        ({"end": 1}, "end_passed"),
        ({"end": 2}, ""),
        ({"end": 101}, ""),
        ({"end": 102}, "term_too_long"),
        ({"grace": 101}, "term_too_long"),
        ({"notice": 101}, "term_too_long"),
        ({"dispute": 101}, "term_too_long"),
        ({"dispute": 1}, "dispute_below_minimum"),
        ({"disk_price": 4}, "disk_price_below_minimum"),
        ({"repair_price": 6}, "repair_price_below_minimum"),
        ({"collateral_ppm": 10}, "collateral_below_minimum"),
        ({"free_leaves": 101}, "free_leaves_above_maximum"),
        ({"miss_limit": 700}, ""),
        ({"miss_limit": 701}, "bad_miss_limit"),
        ({"grace": (1 << 64) - 1}, "bad_term"),
        ({"provider": address("alice")}, "same_party"),
        ({"provider": address("sam")}, "not_bound"),
        ({"client": address("bob")}, "not_the_client"),
        ({"delegate": address("paul")}, "bad_delegate"),
        ({"delegate": address("alice")}, "bad_delegate"),
        ({"delegate": NO_ADDRESS}, ""),
        ({"disk_escrow": START}, "not_enough_credit"),
        ({"disk_escrow": (1 << 64) - 1, "bandwidth_escrow": (1 << 64) - 1}, "not_enough_credit"),
        ({"disk_escrow": 0, "bandwidth_escrow": 0}, ""),
    ],
)
def test_what_a_deal_must_be(world: World, changes: dict[str, Any], code: str) -> None:
    assert world.code("alice", opening(world, **changes)) == code


def test_a_client_without_an_identity_cannot_open(world: World) -> None:
    assert world.code("bob", opening(world, client=address("bob"))) == "not_bound"


def test_a_deal_is_opened_once_even_after_it_closed(world: World) -> None:
    deal = world.open(terms())
    assert world.code("alice", opening(world)) == "deal_exists"
    now = world.agreed(Close(deal, world.epoch), terms())
    world.do("alice", CloseDeal(deal, now))
    world.pass_epochs(5)
    world.do("alice", CloseDeal(deal, None))
    assert world.deal(deal).state is DealState.CLOSED
    assert world.code("alice", opening(world)) == "deal_exists"
    assert world.code("alice", opening(world, salt=b"\x01" * 32)) == ""


def extended(world: World, deal: Any, /, **changes: Any) -> TopUp:
    cell = world.deal(deal)
    extension = replace(Extension(deal, cell.serial + 1, cell.end + 1), **changes)
    return TopUp(deal, 10, 20, world.agreed(extension, cell.terms))


def test_a_top_up_adds_to_escrows_and_term(world: World) -> None:
    deal = world.open(terms())
    world.do("alice", extended(world, deal))
    cell = world.deal(deal)
    assert (cell.disk_escrow, cell.bandwidth_escrow) == (5_010, 1_020)
    assert (cell.end, cell.serial) == (21, 1)
    world.do("alice", TopUp(deal, 0, 0, None))
    assert (world.deal(deal).end, world.deal(deal).serial) == (21, 1)


def test_what_a_top_up_must_be(world: World) -> None:
    deal = world.open(terms())
    other = world.open(terms(salt=b"\x01" * 32))
    assert world.code("alice", extended(world, deal)) == ""
    assert world.code("paul", extended(world, deal)) == "not_the_client"
    assert world.code("alice", extended(world, deal, serial=2)) == "wrong_extension"
    assert world.code("alice", extended(world, deal, serial=0)) == "wrong_extension"
    assert world.code("alice", extended(world, deal, end=20)) == "end_not_later"
    assert world.code("alice", extended(world, deal, end=101)) == ""
    assert world.code("alice", extended(world, deal, end=102)) == "term_too_long"
    assert world.code("alice", extended(world, deal, deal=other)) == "other_deal"
    assert world.code("alice", TopUp(deal, START, 0, None)) == "not_enough_credit"
    unknown = replace(extended(world, deal), deal=b"\x09" * 32)
    assert world.code("alice", unknown) == "unknown_deal"


def test_a_longer_term_must_be_covered(world: World) -> None:
    deal = world.open(terms(disk_escrow=3 * 6 * 22 + 3, end=20, grace=3))
    world.hold(deal, 1, 3)
    assert world.deal(deal).leaves == 6
    assert world.code("alice", replace(extended(world, deal), disk=0)) == "not_covered"
    assert world.code("alice", replace(extended(world, deal), disk=18)) == ""


def test_a_deal_can_be_extended_to_the_end_of_its_grace_and_not_after(world: World) -> None:
    deal = world.open(terms(end=3, grace=2))
    world.pass_epochs(4)
    assert world.epoch == 5
    assert world.code("alice", extended(world, deal)) == ""
    world.pass_epochs(1)
    assert world.code("alice", extended(world, deal)) == "deal_over"
    world.do("alice", CloseDeal(deal, None))
    assert world.code("alice", extended(world, deal)) == "deal_not_open"


def test_a_party_quits_a_deal_that_holds_nothing(world: World) -> None:
    deal = world.open(terms(end=20, grace=3, notice=2))
    world.hold(deal, 1)
    for name in ("alice", "paul"):
        assert world.code(name, Quit(deal)) == "deal_not_empty"
    world.pass_epochs(2, "paul")
    world.hold(deal)
    assert world.code("dora", Quit(deal)) == "not_a_party"
    world.do("paul", Quit(deal))
    cell = world.deal(deal)
    assert (cell.end, cell.grace, cell.settled) == (world.epoch, 2, world.epoch - 1)
    assert cell.disk_paid == cell.terms.disk_price * 2 // GIB
    grown = Claim(deal, world.pledge(deal, (1,)), None)
    assert world.code("paul", grown) == "deal_over"
    assert world.code("paul", Claim(deal, None, world.voucher(deal, 5))) == ""
    assert world.code("paul", CloseDeal(deal, None)) == "deal_running"
    world.pass_epochs(3)
    world.do("paul", CloseDeal(deal, None))
    assert world.code("paul", Quit(deal)) == "deal_not_open"


def test_notice_must_come_before_the_end_would(world: World) -> None:
    deal = world.open(terms(end=4, grace=1, notice=2))
    world.pass_epochs(1)
    assert (world.epoch, world.code("paul", Quit(deal))) == (2, "")
    world.pass_epochs(1)
    assert (world.epoch, world.code("paul", Quit(deal))) == (3, "notice_too_late")


def test_closing_twice_gives_everybody_what_is_left(world: World) -> None:
    deal = world.open(terms(end=4, grace=1, dispute=5))
    world.hold(deal, 1, 2, 3)
    collateral = world.deal(deal).collateral
    assert collateral > 0
    world.pass_epochs(4, "paul")
    assert world.epoch == 5
    assert world.code("alice", CloseDeal(deal, None)) == "deal_running"
    world.pass_epochs(1, "paul")
    assert world.code("sam", CloseDeal(deal, None)) == "not_a_party"
    before, live = world.account("alice").available, world.account("paul").live_leaves
    changes = world.do("paul", CloseDeal(deal, None))
    cell = world.deal(deal)
    due = cell.terms.disk_price * 9 * 4 // GIB
    assert (cell.state, cell.ended, cell.disk_paid) == (DealState.ENDED, 6, due)
    assert world.account("alice").available == before + 6_000 - due
    assert (live, world.account("paul").live_leaves) == (9, 0)
    assert (locked(cell), len(changes.cells)) == (collateral, 3)
    world.pass_epochs(4)
    assert world.code("alice", CloseDeal(deal, None)) == "dispute_running"
    world.pass_epochs(1)
    before = world.account("paul").available
    world.do("alice", CloseDeal(deal, None))
    assert world.deal(deal).state is DealState.CLOSED
    assert world.account("paul").available == before + collateral
    assert locked(world.deal(deal)) == 0
    assert [world.account(name).deals for name in ("alice", "paul")] == [0, 0]
    assert world.code("alice", CloseDeal(deal, None)) == "deal_closed"


def test_both_can_close_at_once_and_the_epoch_is_settled_under_the_old_end(world: World) -> None:
    deal = world.open(terms())
    other = world.open(terms(salt=b"\x01" * 32))
    world.hold(deal, 1)
    world.pass_epochs(2, "paul")
    world.link("paul")

    def closing(**changes: Any) -> CloseDeal:
        agreed = replace(Close(deal, world.epoch), **changes)
        return CloseDeal(deal, world.agreed(agreed, terms()))

    assert world.code("alice", closing(epoch=world.epoch + 1)) == "wrong_epoch"
    assert world.code("alice", closing(epoch=world.epoch - 1)) == "wrong_epoch"
    assert world.code("alice", closing(deal=other)) == "other_deal"
    world.do("alice", closing())
    cell = world.deal(deal)
    assert (cell.leaf_epochs, cell.settled, cell.ended) == (2 * 2, 3, 3)
    assert world.code("alice", closing()) == "deal_not_open"


def test_nothing_closes_while_a_demand_is_pending(world: World) -> None:
    deal = world.open(terms(end=2, grace=0))
    world.hold(deal, 1)
    world.pass_epochs(2, "paul")
    world.do("alice", Demand(deal, 10, 0))
    assert world.code("paul", CloseDeal(deal, None)) == "demand_pending"


def test_a_party_without_a_credit_can_still_close(world: World) -> None:
    deal = world.open(terms(end=2, grace=0))
    world.do("paul", Withdraw(world.account("paul").available - FEE))
    assert world.account("paul").available == 0
    world.pass_epochs(2)
    assert world.code("paul", Quit(deal)) == "notice_too_late"
    world.do("paul", CloseDeal(deal, None))
    assert world.deal(deal).state is DealState.ENDED
