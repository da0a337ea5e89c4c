"""Links, claims and losses: every check and every effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dsn.ids import DealId
from dsn.ledger.bodies import Claim, CloseDeal, Loss, SubmitLink, Transfer, Withdraw
from dsn.ledger.cells import KEPT_BITS, AccountCell
from dsn.ledger.disputes import Demand
from dsn.ledger.money import collateral_needed, repair_cost
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.settling import roll
from dsn.ledger.settlement import NO_ADDRESS
from dsn.proofs.inventory import InventoryEntry, SumTree, inventory_leaf
from dsn.proofs.post import Link
from tests.support.ledger_world import GIB, PARAMS, START, World, address, holdings, terms

FEE = PARAMS.entry_fee
PRICE = terms().disk_price


def started(params: LedgerParams = PARAMS) -> World:
    world = World(params)
    world.bind("alice", "paul")
    world.open_epoch()
    return world


@pytest.fixture
def world() -> World:
    return started()


def credit(world: World, name: str) -> int:
    return world.account(name).available


# roll


def test_epochs_without_anything_to_prove_count_as_proven() -> None:
    account = roll(AccountCell(address("paul")), 5)
    assert [account.proven(epoch) for epoch in range(1, 6)] == [True] * 5
    holding = replace(account, live=b"\x01" * 32, live_leaves=7)
    later = roll(holding, 8)
    assert [later.proven(epoch) for epoch in range(4, 9)] == [True, True, False, False, False]
    assert (later.frozen, later.frozen_leaves, later.rolled) == (holding.live, 7, 8)
    assert roll(later, 8) is later


def test_an_account_remembers_720_epochs() -> None:
    account = roll(AccountCell(address("paul")), 1)
    holding = replace(account, live=b"\x01" * 32, live_leaves=7)
    assert roll(holding, KEPT_BITS).proven(1)
    assert not roll(holding, KEPT_BITS + 1).proven(1)
    assert roll(account, 10**9).bits == (1 << KEPT_BITS) - 1
    assert roll(holding, 10**9).bits == 0


# links


def test_a_link_proves_the_epoch_and_is_free(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 1)
    assert world.code("paul", SubmitLink(Link(1, bytes(32), bytes(32), 0, 0, b""))) != ""
    world.pass_epochs(1)
    before = credit(world, "paul")
    changes, _ = world.link("paul")
    assert (world.account("paul").proven(2), credit(world, "paul")) == (True, before)
    assert len(changes.cells) == 1


CHANGED: dict[str, Callable[[Link], Link]] = {
    "": lambda link: link,
    "wrong_epoch": lambda link: replace(link, epoch=link.epoch + 1),
    "wrong_beacon": lambda link: replace(link, beacon=bytes(32)),
    "wrong_inventory": lambda link: replace(link, root=b"\x01" * 32),
    "wrong_count": lambda link: replace(link, count=link.count - 1),
}


@pytest.mark.parametrize("code", CHANGED)
def test_what_a_link_must_be(world: World, code: str) -> None:
    world.hold(world.open(terms()), 1, 2)
    world.pass_epochs(1)
    link, *_ = world.answer("paul")
    assert world.code("paul", SubmitLink(CHANGED[code](link))) == code


def test_links_are_taken_once_and_only_while_the_epoch_is_open(world: World) -> None:
    world.hold(world.open(terms()), 1)
    world.pass_epochs(1)
    link, *_ = world.answer("paul")
    assert world.code("alice", SubmitLink(link)) == "nothing_asked"
    total = replace(link, total=link.total + 1)
    assert world.code("paul", SubmitLink(total)) == "wrong_inventory"
    world.link("paul")
    assert world.code("paul", SubmitLink(link)) == "linked_already"
    world.shut_epoch()
    assert world.code("paul", SubmitLink(replace(link, epoch=3))) == "wrong_phase"


def test_what_is_installed_in_an_epoch_is_asked_for_in_the_next(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 1)
    assert not world.can_link("paul") or world.account("paul").frozen_leaves == 0
    world.shut_epoch()
    second = world.open(terms(salt=b"\x01" * 32))  # in the gap: epoch 2 has begun
    assert world.code("paul", Claim(second, world.pledge(second, (2,)), None)) == "not_linked"
    world.open_epoch()
    world.link("paul")
    assert world.account("paul").frozen_leaves == 2
    world.hold(second, 2)
    assert world.account("paul").frozen_leaves == 2
    world.pass_epochs(1)
    world.link("paul")
    assert world.account("paul").frozen_leaves == 5


# settling


def test_proven_epochs_are_paid_missed_ones_are_not(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 3)
    world.pass_epochs(1, "paul")
    world.pass_epochs(2, "paul")
    world.pass_epochs(1)
    world.link("paul")
    before = credit(world, "paul")
    world.do("paul", Claim(deal, None, None))
    cell = world.deal(deal)
    assert (cell.leaf_epochs, cell.missed, cell.settled) == (4 * 3, 1, 5)
    due = PRICE * 12 // GIB
    burned = due // 100
    assert (cell.disk_paid, cell.disk_escrow, cell.burned) == (due, 5_000 - due, burned)
    assert credit(world, "paul") == before + due - burned - FEE
    world.do("paul", Claim(deal, None, None))
    assert world.deal(deal) == cell


def test_what_burns_is_rounded_on_the_sum_too(world: World) -> None:
    deal = world.open(terms(disk_price=50 * GIB, disk_escrow=9_000))
    world.hold(deal, 1, 2)
    for _ in range(7):
        world.pass_epochs(1, "paul")
        world.do("paul", Claim(deal, None, None))
    cell = world.deal(deal)
    paid = 50 * 5 * 6
    assert (cell.disk_paid, cell.burned) == (paid, paid // 100)
    assert cell.burned > 6 * (50 * 5 // 100)


def test_the_running_epoch_is_settled_once_it_is_proven(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 3)
    world.pass_epochs(1)
    world.do("paul", Claim(deal, None, None))
    assert (world.deal(deal).settled, world.deal(deal).missed) == (1, 0)
    world.link("paul")
    world.do("paul", Claim(deal, None, None))
    assert (world.deal(deal).settled, world.deal(deal).leaf_epochs) == (2, 4)


def test_nothing_is_paid_beyond_the_grace(world: World) -> None:
    deal = world.open(terms(end=3, grace=1))
    world.hold(deal, 3)
    world.pass_epochs(8, "paul")
    world.do("paul", Claim(deal, None, None))
    assert (world.deal(deal).settled, world.deal(deal).leaf_epochs) == (4, 3 * 4)


def test_half_of_the_pay_is_kept_until_the_collateral_is_there(world: World) -> None:
    world.do("paul", Withdraw(credit(world, "paul") - 2 * FEE - 20))
    deal = world.open(terms(repair_price=40 * GIB, disk_price=10 * GIB))
    world.hold(deal, 2, 3)
    needed = collateral_needed(40 * GIB, 7 - 2, 1_500_000)
    assert (needed, world.deal(deal).collateral) == (300, 20)
    assert credit(world, "paul") == 0
    world.pass_epochs(2, "paul")
    world.do("paul", Claim(deal, None, None))
    due, burned = 70, 0
    kept = (due - burned) // 2
    assert world.deal(deal).collateral == 20 + kept
    assert credit(world, "paul") == due - burned - kept - FEE


def test_pay_older_than_720_epochs_is_lost(world: World) -> None:
    world = started(replace(PARAMS, max_term=2_000, quorum=0))
    deal = world.open(terms(end=900, disk_escrow=20_000))
    world.hold(deal, 1)
    world.pass_epochs(1 + 730, "paul")
    assert world.epoch == 732
    world.do("paul", Claim(deal, None, None))
    cell = world.deal(deal)
    assert (cell.settled, cell.leaf_epochs, cell.missed) == (731, 2 * 719, 0)


# vouchers


def test_a_voucher_pays_its_rise(world: World) -> None:
    deal = world.open(terms())
    before = credit(world, "paul")
    world.do("paul", Claim(deal, None, world.voucher(deal, 300)))
    world.do("paul", Claim(deal, None, world.voucher(deal, 350)))
    cell = world.deal(deal)
    assert (cell.voucher_paid, cell.bandwidth_escrow) == (350, 650)
    assert credit(world, "paul") == before + 350 - 2 * FEE
    for credits, code in ((350, "stale_voucher"), (0, "stale_voucher"), (1_001, "over_escrow")):
        assert world.code("paul", Claim(deal, None, world.voucher(deal, credits))) == code
    assert world.code("paul", Claim(deal, None, world.voucher(deal, 1_000))) == ""


def test_a_delegate_has_a_stream_of_its_own_up_to_its_limit(world: World) -> None:
    deal = world.open(terms())

    def by_delegate(credits: int) -> Claim:
        return Claim(deal, None, world.voucher(deal, credits, by_delegate=True))

    world.do("paul", Claim(deal, None, world.voucher(deal, 300)))
    world.do("paul", by_delegate(200))
    cell = world.deal(deal)
    assert (cell.voucher_paid, cell.delegate_paid, cell.bandwidth_escrow) == (300, 200, 500)
    assert world.code("paul", by_delegate(200)) == "stale_voucher"
    assert world.code("paul", by_delegate(201)) == "over_delegate_credits"
    alone = world.open(terms(delegate=NO_ADDRESS, delegate_credits=9))
    claim = Claim(alone, None, world.voucher(alone, 5, by_delegate=True))
    assert world.code("paul", claim) == "no_delegate"


def test_a_voucher_is_good_for_one_deal_and_while_it_is_open(world: World) -> None:
    deal, other = world.open(terms(end=2, grace=0)), world.open(terms(salt=b"\x01" * 32))
    assert world.code("paul", Claim(other, None, world.voucher(deal, 5))) == "other_deal"
    world.pass_epochs(5)
    assert world.code("paul", Claim(deal, None, world.voucher(deal, 5))) == ""
    world.do("alice", CloseDeal(deal, None))
    assert world.code("paul", Claim(deal, None, world.voucher(deal, 5))) == "deal_not_open"


# revisions


def test_a_revision_is_installed_and_enters_the_inventory(world: World) -> None:
    deal = world.open(terms())
    changes = world.do("alice", Claim(deal, world.pledge(deal, (1, 3), number=4), None))
    cell, held = world.deal(deal), holdings((1, 3)).tree
    assert (cell.number, cell.shards, cell.leaves, cell.root) == (4, 2, 6, held.root)
    entry = InventoryEntry(deal, 4, held.root, 6)
    live = SumTree.build([(deal, inventory_leaf(*entry), 6)])
    assert (world.account("paul").live, world.account("paul").live_leaves) == (live.root, 6)
    assert len(changes.cells) == 3


def test_who_may_claim_what(world: World) -> None:
    deal = world.open(terms())
    pledge, voucher = world.pledge(deal, (1,)), world.voucher(deal, 5)
    for name, code in (("alice", ""), ("dora", ""), ("paul", ""), ("sam", "not_a_party")):
        assert world.code(name, Claim(deal, pledge, voucher)) == code
        assert world.code(name, Claim(deal, pledge, None)) == code
    for name, code in (("alice", "revision_needed"), ("dora", "revision_needed"), ("paul", "")):
        assert world.code(name, Claim(deal, None, voucher)) == code
        assert world.code(name, Claim(deal, None, None)) == code


def test_what_a_revision_must_be(world: World) -> None:
    deal, other = world.open(terms()), world.open(terms(salt=b"\x01" * 32))
    world.do("paul", Claim(deal, world.pledge(deal, (1,), number=4), None))
    good = world.pledge(deal, (1,), number=5)
    assert world.code("paul", Claim(deal, good, None)) == ""
    old = world.pledge(deal, (), number=4)
    assert world.code("paul", Claim(deal, old, None)) == "stale_revision"
    foreign = world.pledge(other, (1,), number=5)
    assert world.code("paul", Claim(deal, foreign, None)) == "other_deal"
    odd = replace(good, pledge=replace(good.pledge, root=bytes(32)))
    assert world.code("paul", Claim(deal, odd, None)) == "bad_holdings"
    world.pass_epochs(1, "paul")
    world.pass_epochs(18)
    assert (world.epoch, world.code("paul", Claim(deal, good, None))) == (20, "deal_over")


def test_growth_waits_for_the_link_of_the_epoch_shrinking_does_not(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    world.pass_epochs(1)
    assert world.code("paul", Claim(deal, world.pledge(deal, (1, 3)), None)) == "not_linked"
    assert world.code("paul", Claim(deal, world.pledge(deal, (1, 2)), None)) == ""
    assert world.code("paul", Claim(deal, world.pledge(deal, (1,)), None)) == ""
    world.link("paul")
    assert world.code("paul", Claim(deal, world.pledge(deal, (1, 3)), None)) == ""


def test_late_growth_is_not_paid_backwards(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 1)
    world.pass_epochs(3, "paul")
    world.link("paul")
    world.hold(deal, 1, 2, 3)
    assert (world.deal(deal).leaf_epochs, world.deal(deal).settled) == (2 * 3, 4)
    world.pass_epochs(1, "paul")
    world.link("paul")
    world.do("paul", Claim(deal, None, None))
    assert world.deal(deal).leaf_epochs == 2 * 3 + 9


def test_a_revision_must_be_covered_to_the_end_of_the_grace(world: World) -> None:
    escrow = PRICE * 9 * 22 // GIB
    deal = world.open(terms(disk_escrow=escrow, end=20, grace=3))
    assert world.code("paul", Claim(deal, world.pledge(deal, (1, 2, 3)), None)) == ""
    short = world.open(terms(disk_escrow=escrow - 1, end=20, grace=3, salt=b"\x01" * 32))
    assert world.code("paul", Claim(short, world.pledge(short, (1, 2, 3)), None)) == "not_covered"


def test_no_revision_while_a_demand_is_pending(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 1)
    world.do("alice", Demand(deal, 10, 0))
    assert world.code("paul", Claim(deal, world.pledge(deal, ()), None)) == "demand_pending"
    assert world.code("paul", Claim(deal, None, world.voucher(deal, 5))) == ""
    assert world.code("paul", world.loss(deal, 1)) == "demand_pending"


def test_a_delegate_never_lowers_and_stays_within_its_limit(world: World) -> None:
    deal = world.open(terms(delegate_leaves=6))

    def by_delegate(*numbers: int) -> Claim:
        return Claim(deal, world.pledge(deal, numbers, by_delegate=True), None)

    world.hold(deal, 2)
    assert world.code("dora", by_delegate(1)) == "delegate_lowers"
    assert world.code("dora", by_delegate(1, 3)) == ""
    assert world.code("dora", by_delegate(2, 3)) == "over_delegate_leaves"
    assert world.code("paul", by_delegate(2, 3)) == "over_delegate_leaves"
    assert world.code("dora", Claim(deal, world.pledge(deal, (2, 3)), None)) == ""
    alone = world.open(terms(delegate=NO_ADDRESS))
    pledge = replace(world.pledge(alone, (1,)), by_delegate=True)
    assert world.code("paul", Claim(alone, pledge, None)) == "no_delegate"


def test_collateral_is_locked_as_far_as_the_provider_s_credits_go(world: World) -> None:
    deal = world.open(terms(free_leaves=2))
    before = credit(world, "paul")
    world.hold(deal, 1)
    assert world.deal(deal).collateral == 0
    world.do("alice", Claim(deal, world.pledge(deal, (1, 2)), None))
    needed = collateral_needed(terms().repair_price, 3, 1_500_000)
    assert world.deal(deal).collateral == needed
    assert credit(world, "paul") == before - FEE - needed
    world.do("alice", Claim(deal, world.pledge(deal, ()), None))
    assert world.deal(deal).collateral == needed


@pytest.mark.parametrize(("name", "left"), [("paul", 0), ("alice", 0)])
def test_a_provider_short_of_credits_can_still_install_growth(
    world: World, name: str, left: int
) -> None:
    deal = world.open(terms())
    world.do("paul", Withdraw(credit(world, "paul") - FEE - 10))
    world.do(name, Claim(deal, world.pledge(deal, (1, 2, 3)), None))
    assert world.deal(deal).collateral == 10 - (FEE if name == "paul" else 0)
    assert credit(world, "paul") == left


def test_too_many_leaves_under_one_provider_are_refused(world: World) -> None:
    free = started(replace(PARAMS, min_disk_price=0, max_free_leaves=1 << 63))
    for n, code in enumerate(("", "too_many_leaves")):
        deal = free.open(terms(disk_price=0, free_leaves=1 << 63, salt=bytes([n]) * 32))
        signed = free.pledge(deal, (1,))
        huge = replace(signed, pledge=replace(signed.pledge, leaves=(1 << 63) - 1))
        claim = Claim(deal, huge, None)
        assert free.code("paul", claim) == code
        if not code:
            free.shards[deal, 1] = (1,)
            free.do("paul", claim)


# losses


def test_a_loss_is_paid_from_the_collateral_and_is_free_of_fee(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 1, 2, 3)
    collateral, before = world.deal(deal).collateral, credit(world, "paul")
    world.pass_epochs(1)
    world.do("paul", world.loss(deal, 2, 3, number=9))
    cell, rest = world.deal(deal), holdings((1,)).tree
    cost = repair_cost(terms().repair_price, 7)
    assert (cell.number, cell.shards, cell.leaves, cell.root) == (9, 1, 2, rest.root)
    assert (cell.refund, cell.collateral) == (cost, collateral - cost)
    assert credit(world, "paul") == before
    assert world.account("paul").live_leaves == 2
    world.do("paul", world.loss(deal, 1))
    cell = world.deal(deal)
    both = cost + repair_cost(terms().repair_price, 2)
    assert (cell.leaves, cell.root, cell.refund) == (0, bytes(32), both)
    assert world.account("paul").live_leaves == 0


def test_a_loss_takes_no_more_than_the_collateral(world: World) -> None:
    deal = world.open(terms(collateral_ppm=11))
    world.hold(deal, 1, 2, 3)
    assert world.deal(deal).collateral == 1
    world.do("paul", world.loss(deal, 1, 2, 3))
    assert (world.deal(deal).refund, world.deal(deal).collateral) == (1, 0)


def test_what_a_loss_must_be(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 1, 2, 3)
    good = world.loss(deal, 1, 2)
    assert world.code("paul", good) == ""
    assert world.code("alice", good) == "not_the_provider"
    assert world.code("paul", replace(good, number=1)) == "stale_revision"
    assert world.code("paul", replace(good, deletions=())) == "nothing_lost"
    assert world.code("paul", replace(good, deletions=good.deletions[::-1])) != ""
    twice = replace(good, deletions=good.deletions[:1] * 2)
    assert world.code("paul", twice) != ""
    cut = replace(good, deletions=(good.deletions[0][:-1],))
    assert world.code("paul", cut) == "short"
    assert world.code("paul", replace(good, deal=DealId(bytes(32)))) == "unknown_deal"


def test_losses_are_declared_after_the_end_too_but_not_once_closed(world: World) -> None:
    deal = world.open(terms(end=2, grace=1))
    world.hold(deal, 1, 2)
    world.pass_epochs(5)
    loss: Loss = world.loss(deal, 1)
    assert world.code("paul", loss) == ""
    world.do("paul", CloseDeal(deal, None))
    assert world.code("paul", loss) == "deal_not_open"


def test_a_loss_settles_first(world: World) -> None:
    deal = world.open(terms())
    world.hold(deal, 3)
    world.pass_epochs(3, "paul")
    world.do("paul", world.loss(deal, 3))
    assert (world.deal(deal).leaf_epochs, world.deal(deal).leaves) == (2 * 4, 0)


def test_a_claim_needs_the_fee(world: World) -> None:
    deal = world.open(terms())
    world.do("paul", Transfer(address("sam"), credit(world, "paul") - FEE - 1))
    assert credit(world, "paul") == 1
    assert world.code("paul", Claim(deal, None, None)) == "fee_not_covered"
    assert world.code("paul", Claim(deal, None, world.voucher(deal, 2))) == ""
    assert credit(world, "sam") > START
