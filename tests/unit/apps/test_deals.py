"""A client's deals by themselves: what they lack, what an entry costs, how they are kept."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.deal_book import is_over
from dsn.apps.deal_file import ClientDeal, DealFolder, Seen, Stage, new_deal
from dsn.apps.deal_plan import (
    FIRST_LEAVES,
    LEAST_LEAVES,
    MOST_LEAVES,
    Step,
    Want,
    affordable,
    check_offer,
    draft,
    end_after,
    missing,
    price,
    spare_leaves,
    stored_cost,
    term_epochs,
)
from dsn.errors import DsnError, LimitReached, MalformedMessage
from dsn.ids import DealId, NodeId
from dsn.ledger.bandwidth import Traffic, bandwidth_due
from dsn.ledger.bodies import Agreed, SignedVoucher
from dsn.ledger.cells import DealCell, DealState, Pending
from dsn.ledger.rules.settling import check_cover
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey
from dsn.ledger.terms import Terms
from dsn.ledger.voucher import Voucher
from dsn.units import GIB, LEAF_BYTES, MIB
from tests.support.ledger_world import PARAMS

ME, PAYEE = SettlementKey(b"\x01" * 32), SettlementKey(b"\x02" * 32)
NODE, OTHER = NodeId(b"n" * 32), NodeId(b"o" * 32)
TERMS = Terms(
    settlement=PAYEE.address,
    disk_price=3 * GIB // LEAF_BYTES,
    ingress_price=MIB,
    egress_price=2 * MIB,
    repair_price=PARAMS.min_repair_price,
    collateral_ppm=PARAMS.min_collateral_ppm,
    grace=3,
    notice=2,
    miss_limit=6,
    dispute=5,
    max_term=100,
)
"""Disk is 3 credits a leaf-epoch."""


def made(end: int = 20, disk: int = 0, bandwidth: int = 0, *, epoch: int = 1) -> ClientDeal:
    """A deal that is open since ``epoch``, with these escrows."""
    blank = draft(
        NODE, TERMS, ME.address, epoch=epoch, end=end, epoch_s=3_600, salt=bytes(32)
    ).terms
    terms = replace(blank, disk_escrow=disk, bandwidth_escrow=bandwidth)
    agreed = Agreed(terms, b"c" * 65, b"p" * 65)
    deal = terms.deal_id(PARAMS.domain)
    return new_deal(NODE, deal, agreed, epoch, Stage.OPEN)


def code(call: object, *args: object, **more: object) -> str:
    with pytest.raises(DsnError) as caught:
        call(*args, **more)  # type: ignore[operator]
    return caught.value.detail_code


# what is lacking


@pytest.mark.parametrize("seed", range(40))
def test_what_is_locked_is_what_the_ledger_asks_and_not_a_credit_more(seed: int) -> None:
    rng = random.Random(seed)
    deal = made(disk=rng.randrange(10**5), bandwidth=rng.randrange(10**4))
    deal.leaves, deal.coming = rng.randrange(5_000), rng.randrange(5_000)
    deal.purse.traffic = Traffic(rng.randrange(GIB), rng.randrange(GIB))
    deal.cell = replace(
        deal.cell, leaf_epochs=rng.randrange(10_000), disk_paid=rng.randrange(9_000), settled=4
    )
    want = Want(rng.randrange(1, 9_000), end=rng.choice([0, 5, 40]))
    step = missing(deal, want)
    spare = 0 if step.empty else LEAST_LEAVES
    held = deal.leaves + deal.coming + want.leaves + spare
    cell = replace(
        deal.cell, leaves=held, disk_escrow=deal.cell.disk_escrow + step.disk,
        end=step.end or deal.end,
    )  # fmt: skip
    check_cover(cell)
    if step.disk:
        with pytest.raises(DsnError):
            check_cover(replace(cell, disk_escrow=cell.disk_escrow - 1))
    moved = deal.purse.traffic.stored((deal.coming + want.leaves + spare) * LEAF_BYTES)
    due = bandwidth_due(deal.terms, moved.read(held * LEAF_BYTES))
    assert deal.purse.limit + step.bandwidth == max(deal.purse.limit, due), f"seed {seed}"
    assert step.end == (40 if want.end == 40 else 0)


def test_what_is_covered_lacks_nothing_and_then_something() -> None:
    deal = made(disk=3 * 22 * 100, bandwidth=10**9)
    assert missing(deal, Want(100), 5_000).empty
    assert missing(deal, Want(101), 0) == Step(3 * 22, 0)
    assert missing(deal, Want(101), 10) == Step(3 * 22 * 11, 0)
    assert missing(deal, Want(101)) == missing(deal, Want(101), LEAST_LEAVES)


def test_what_is_reserved_and_not_yet_held_is_not_promised_twice() -> None:
    deal = made(disk=3 * 22 * 100, bandwidth=10**9)
    deal.coming = 60
    assert missing(deal, Want(40)).empty
    assert missing(deal, Want(41), 0) == Step(3 * 22, 0)
    deal.leaves, deal.coming = 60, 0
    assert missing(deal, Want(40)).empty
    assert missing(deal, Want(41), 0) == Step(3 * 22, 0)


def test_a_longer_term_needs_escrow_for_all_that_is_held() -> None:
    deal = made(disk=3 * 22 * 50)
    deal.leaves = 50
    assert missing(deal, Want(end=20)).empty
    assert missing(deal, Want(end=30)) == Step(3 * 10 * 50, 0, 30)


def test_reading_needs_bandwidth_alone() -> None:
    deal = made(bandwidth=2 * MIB)
    assert missing(deal, Want(read_bytes=GIB)).empty
    assert missing(deal, Want(read_bytes=2 * GIB), 0) == Step(0, 2 * MIB)
    assert missing(deal, Want(read_bytes=2 * GIB), MOST_LEAVES) == Step(0, 4 * MIB)


def test_room_grows_with_use_within_bounds() -> None:
    deal = made()
    assert spare_leaves(deal) == FIRST_LEAVES
    deal.leaves, deal.coming = 3 * FIRST_LEAVES, FIRST_LEAVES
    assert spare_leaves(deal) == 4 * FIRST_LEAVES
    deal.leaves = MOST_LEAVES
    assert spare_leaves(deal) == MOST_LEAVES


# what may be spent


def test_room_for_more_is_taken_only_where_it_can_be_paid() -> None:
    deals, wants = {NODE: made(), OTHER: made()}, {NODE: Want(10), OTHER: Want(10)}
    least = {node: missing(deal, wants[node]) for node, deal in deals.items()}
    roomy = {node: missing(deal, wants[node], FIRST_LEAVES) for node, deal in deals.items()}
    cost = sum(price(deals[node], step, 7) for node, step in least.items())
    full = sum(price(deals[node], step, 7) for node, step in roomy.items())
    assert cost == sum(step.locked for step in least.values()) + 2 * 7 < full
    for available, left in ((full, None), (10 * full, full)):
        assert affordable(deals, wants, 7, available=available, left=left) == roomy
    for available, left in ((full - 1, None), (full, full - 1), (cost, None), (full, cost)):
        assert affordable(deals, wants, 7, available=available, left=left) == least
    assert code(affordable, deals, wants, 7, available=cost - 1, left=None) == "not_enough_credit"
    assert code(affordable, deals, wants, 7, available=full, left=cost - 1) == "over_budget"


def test_a_refusal_names_both_figures() -> None:
    with pytest.raises(LimitReached, match=r"^[0-9,]+ credits .*, 1 left of the budget$"):
        affordable({NODE: made()}, {NODE: Want(1)}, 0, available=10**9, left=1)


def test_an_entry_costs_what_it_locks_and_its_fee() -> None:
    deal, step = made(disk=100, bandwidth=20), Step(5, 6)
    assert price(deal, Step(0, 0), 7) == 0
    assert price(deal, step, 7) == 11 + 7
    deal.stage = Stage.SIGNED
    assert price(deal, Step(0, 0), 7) == 120 + 7
    assert price(deal, step, 7) == 120 + 7 + 11 + 7
    deal = draft(NODE, TERMS, ME.address, epoch=1, end=20, epoch_s=60, salt=bytes(32))
    assert price(deal, step, 7) == 11 + 7


def test_storing_costs_disk_up_to_the_end_and_the_bytes_sent() -> None:
    terms = made().terms
    assert stored_cost(terms, [1, LEAF_BYTES + 1], 10, moved=False) == 3 * 3 * 10
    assert stored_cost(terms, [GIB], 0, moved=True) == MIB
    assert stored_cost(terms, [GIB], -5, moved=False) == 0


# terms


def test_days_are_whole_epochs() -> None:
    assert term_epochs(1, 3_600) == 24
    assert term_epochs(1, 86_399) == 2
    assert term_epochs(0.001, 3_600) == 1


@pytest.mark.parametrize("span", [1, 31, 32, 2_160])
def test_puts_of_some_days_share_an_end(span: int) -> None:
    ends = [end_after(epoch, span, 10**6) for epoch in range(1_000, 1_000 + 4 * span)]
    slack = [end - epoch - span for epoch, end in enumerate(ends, 1_000)]
    part = max(1, span // 32)
    assert part <= min(slack) <= max(slack) < 2 * part + 1
    assert len(set(ends)) <= 4 * span / part + 2


def test_no_term_is_longer_than_the_network_allows() -> None:
    assert end_after(5, 100, 100) == 105
    assert code(end_after, 5, 101, 100) == "term_too_long"


def test_terms_that_the_ledger_would_refuse_are_not_signed() -> None:
    check_offer(TERMS, PARAMS, ME.address)
    for change in (
        {"settlement": NO_ADDRESS}, {"settlement": ME.address}, {"disk_price": 4},
        {"repair_price": 6}, {"collateral_ppm": 10}, {"free_leaves": 101}, {"dispute": 1},
        {"grace": 101}, {"notice": 101}, {"miss_limit": 701},
    ):  # fmt: skip
        terms = replace(TERMS, **change)  # type: ignore[arg-type]
        assert code(check_offer, terms, PARAMS, ME.address) == "unpayable_terms", change


@pytest.mark.parametrize(
    ("change", "epoch", "over"),
    [
        ({}, 23, False),
        ({}, 24, True),
        ({"demand": Pending(ME.address, 1, 1)}, 99, False),
        ({"state": DealState.ENDED, "ended": 30}, 34, False),
        ({"state": DealState.ENDED, "ended": 30}, 35, True),
        ({"state": DealState.SLASHED}, 2, True),
        ({"state": DealState.CLOSED}, 99, False),
    ],
)
def test_a_deal_is_closed_as_soon_as_a_party_alone_can(
    change: dict[str, object], epoch: int, over: bool
) -> None:
    assert is_over(replace(made().cell, **change), epoch) is over  # type: ignore[arg-type]


# on disk


def kept(stage: Stage) -> ClientDeal:
    deal = made(disk=100, bandwidth=50)
    deal.stage, deal.leaves = stage, 77
    deal.purse.traffic = Traffic(123, 45)
    deal.purse.promised(40)
    deal.newest = SignedVoucher(Voucher(deal.deal, 40), False, b"v" * 65)
    return deal


@pytest.mark.parametrize("stage", [Stage.SIGNED, Stage.OPEN])
def test_a_deal_comes_back_as_it_was(tmp_path: Path, stage: Stage) -> None:
    folder, deal = DealFolder(tmp_path / "deals"), kept(stage)
    assert folder.load() == [] and folder.ids() == [] and folder.seen() == Seen()
    folder.save(deal)
    folder.keep_seen(Seen(5, 6))
    (back,) = DealFolder(tmp_path / "deals").load()
    assert back.encode() == deal.encode()
    assert (back.node, back.cell, back.stage, back.newest) == (NODE, deal.cell, stage, deal.newest)
    assert (back.purse.traffic, back.purse.credits, back.purse.limit) == (Traffic(123, 45), 40, 50)
    assert (back.leaves, back.coming) == (77, 0)
    assert DealFolder(tmp_path / "deals").seen() == Seen(5, 6)
    folder.remove(deal.deal)
    assert folder.ids() == []


def test_a_damaged_file_is_not_believed() -> None:
    raw = kept(Stage.OPEN).encode()
    rng = random.Random(1)
    for _ in range(200):
        at = rng.randrange(len(raw))
        flipped = raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :]
        with pytest.raises(MalformedMessage):
            ClientDeal.decode(flipped)
    for cut in (0, 31, 32, len(raw) - 1):
        with pytest.raises(MalformedMessage):
            ClientDeal.decode(raw[:cut])


def test_what_the_ledger_says_replaces_what_was_thought() -> None:
    deal = kept(Stage.SIGNED)
    cell: DealCell = replace(deal.cell, bandwidth_escrow=30, voucher_paid=25, end=90, serial=2)
    deal.take(cell)
    assert (deal.stage, deal.end, deal.purse.limit) == (Stage.OPEN, 90, 55)
    assert deal.deal == DealId(cell.deal)
