"""Links, claims and losses before the contract that judges them: every code, and what it needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dsn.ids import DealId
from dsn.ledger.bodies import (
    Claim,
    CloseDeal,
    SignedPledge,
    SignedVoucher,
    SubmitLink,
    Transfer,
    Withdraw,
)
from dsn.ledger.disputes import Demand
from dsn.ledger.log import LogLeaf
from dsn.ledger.onchain.cases import on_chain
from dsn.ledger.settlement import NO_ADDRESS
from tests.contracts.fraud_cases import NOTHING_WRONG, Refusals, honest_verdict, told
from tests.support.evm import Reverted, Settled
from tests.support.fraud_world import SignedWorld
from tests.support.ledger_world import address, terms
from tests.support.onchain_history import Lie, anchor_lies
from tests.support.signing import mirrored


@pytest.fixture
def world(settled: Settled) -> SignedWorld:
    world = SignedWorld(settled.params)
    world.fund()
    world.bind("alice", "bob", "paul")
    world.open_epoch()
    return world


def pledge(
    world: SignedWorld, deal: DealId, *numbers: int, by: str = "alice", **changes: Any
) -> Claim:
    """A claim with a revision of which both signed whatever ``changes`` say."""
    signed = world.pledge(deal, numbers, by_delegate=by == "dora")
    said = replace(signed.pledge, **changes)
    return Claim(
        deal,
        SignedPledge(said, by == "dora", world.sign(said, by), world.sign(said, "paul")),
        None,
    )


def voucher(world: SignedWorld, deal: DealId, credits: int, by: str = "alice") -> SignedVoucher:
    return world.voucher(deal, credits, by_delegate=by == "dora")


def test_what_a_link_must_be(settled: Settled, world: SignedWorld) -> None:
    refused = Refusals(world)
    world.hold(world.open(terms()), 1, 2)
    world.pass_epochs(1)
    link, *_ = world.answer("paul")
    for code, wrong in (
        ("wrong_epoch", replace(link, epoch=link.epoch + 1)),
        ("wrong_beacon", replace(link, beacon=bytes(32))),
        ("wrong_inventory", replace(link, root=bytes(32))),
        ("wrong_inventory", replace(link, total=link.total + 1)),
        ("wrong_count", replace(link, count=link.count - 1)),
    ):
        refused.add(code, "paul", SubmitLink(wrong))
    refused.add("nothing_asked", "alice", SubmitLink(link))
    refused.add("nonce_gap", "paul", SubmitLink(link), nonce=world.account("paul").nonce + 2)
    assert honest_verdict(settled, world, "paul", SubmitLink(link)) == NOTHING_WRONG
    refused.add("linked_already", "paul", SubmitLink(link))
    world.shut_epoch()
    refused.add("wrong_phase", "paul", SubmitLink(link))
    refused.check(settled)


def test_what_a_voucher_must_be(settled: Settled, world: SignedWorld) -> None:
    refused = Refusals(world)
    deal, other = world.open(terms()), world.open(terms(salt=b"\x01" * 32, delegate=NO_ADDRESS))
    world.do("paul", Claim(deal, None, voucher(world, deal, 100)))
    world.do("paul", Claim(deal, None, voucher(world, deal, 150, "dora")))
    for code, of, signed in (
        ("stale_voucher", deal, voucher(world, deal, 100)),
        ("stale_voucher", deal, voucher(world, deal, 150, "dora")),
        ("over_escrow", deal, voucher(world, deal, 851)),
        ("over_delegate_credits", deal, voucher(world, deal, 201, "dora")),
        ("other_deal", other, voucher(world, deal, 200)),
        ("invalid_signature", deal, replace(voucher(world, deal, 200), by_delegate=True)),
        ("invalid_signature", other, voucher(world, other, 1, "dora")),
    ):
        refused.add(code, "paul", Claim(of, None, signed))
    malleated = voucher(world, deal, 200)
    malleated = replace(malleated, signature=mirrored(malleated.signature))
    refused.add("malleated_signature", "paul", Claim(deal, None, malleated))
    refused.add("revision_needed", "alice", Claim(deal, None, voucher(world, deal, 200)))
    refused.add("not_a_party", "sam", Claim(deal, None, None))
    refused.add("unknown_deal", "paul", Claim(DealId(bytes(32)), None, None))
    refused.check(settled)
    right = Claim(deal, None, voucher(world, deal, 850))
    assert honest_verdict(settled, world, "paul", right) == NOTHING_WRONG


def test_what_a_revision_must_be(settled: Settled, world: SignedWorld) -> None:
    refused = Refusals(world)
    deal, other = world.open(terms(delegate_leaves=6)), world.open(terms(salt=b"\x01" * 32))
    world.hold(deal, 2)
    for code, claim in (
        ("bad_holdings", pledge(world, deal, 1, shards=3)),
        ("bad_holdings", pledge(world, deal, 1, leaves=1 << 63)),
        ("bad_holdings", pledge(world, deal, 1, root=bytes(32))),
        ("bad_holdings", pledge(world, deal, shards=1, leaves=1)),
        ("stale_revision", pledge(world, deal, 1, number=1)),
        ("other_deal", replace(pledge(world, deal, 1), deal=other)),
        ("delegate_lowers", pledge(world, deal, 1, by="dora")),
        ("over_delegate_leaves", pledge(world, deal, 2, 3, by="dora")),
        ("invalid_signature", pledge(world, deal, 1, by="sam")),
        ("not_covered", pledge(world, deal, 1, leaves=1 << 40)),
    ):
        refused.add(code, "paul", claim)
    both = pledge(world, deal, 1, 2, 3)
    swapped = replace(both.revision, provider_signature=both.revision.signature)  # type: ignore[type-var]
    refused.add("invalid_signature", "alice", replace(both, revision=swapped))
    world.do("alice", Demand(deal, 10, 0))
    refused.add("demand_pending", "alice", pledge(world, deal, 1, 3))
    assert honest_verdict(settled, world, "alice", pledge(world, other, 1, 3)) == NOTHING_WRONG
    refused.check(settled)


def test_growth_waits_for_the_link_and_all_for_the_end(
    settled: Settled, world: SignedWorld
) -> None:
    refused, deal = Refusals(world), world.open(terms(end=4))
    world.hold(deal, 1)
    world.pass_epochs(1)
    refused.add("not_linked", "paul", pledge(world, deal, 1, 2))
    assert honest_verdict(settled, world, "alice", pledge(world, deal, 0)) == NOTHING_WRONG
    world.pass_epochs(2)
    refused.add("deal_over", "dora", pledge(world, deal, 1))
    world.pass_epochs(4)
    world.do("paul", CloseDeal(deal, None))
    refused.add("deal_not_open", "alice", pledge(world, deal, 1))
    refused.add("deal_not_open", "paul", world.loss(deal, 0))
    refused.check(settled)


def test_a_claim_needs_its_fee_and_leaves_it_to_a_poor_provider(
    settled: Settled, world: SignedWorld
) -> None:
    refused, deal = Refusals(world), world.open(terms())
    fee = settled.params.entry_fee
    left = world.account("paul").available - 2 * fee + 1
    world.do("paul", Transfer(address("sam"), left - fee))
    world.do("paul", Withdraw(fee - 1))
    refused.add("fee_not_covered", "paul", Claim(deal, None, None))
    refused.check(settled)
    paid = Claim(deal, pledge(world, deal, 1, 2, 3).revision, voucher(world, deal, 7))
    assert honest_verdict(settled, world, "paul", paid) == NOTHING_WRONG
    assert world.account("paul").available == 0 < world.deal(deal).collateral


def test_no_provider_has_more_leaves_than_can_be_counted(settled: Settled) -> None:
    params = replace(settled.params, min_disk_price=0, max_free_leaves=1 << 63)
    world = SignedWorld(params)
    world.fund()
    world.bind("alice", "paul")
    world.open_epoch()
    refused, huge = Refusals(world), (1 << 63) - 1
    for salt in (b"\x01", b"\x02"):
        deal = world.open(terms(disk_price=0, free_leaves=1 << 63, salt=salt * 32))
        claim = pledge(world, deal, 1, leaves=huge)
        if salt == b"\x02":
            refused.add("too_many_leaves", "paul", claim)
            break
        assert honest_verdict(settled, world, "paul", claim) == NOTHING_WRONG
    refused.check(settled)


def test_what_a_loss_must_be(settled: Settled, world: SignedWorld) -> None:
    refused, deal = Refusals(world), world.open(terms())
    world.hold(deal, 1, 2, 3)
    good = world.loss(deal, 1, 2)
    first, _ = good.deletions
    for code, name, loss in (
        ("not_the_provider", "alice", good),
        ("stale_revision", "paul", replace(good, number=1)),
        ("nothing_lost", "paul", replace(good, deletions=())),
        ("unknown_deal", "paul", replace(good, deal=DealId(bytes(32)))),
        ("short", "paul", replace(good, deletions=(first[:-1],))),
        ("short", "paul", replace(good, deletions=(first, b""))),
        ("trailing", "paul", replace(good, deletions=(first + b"\0",))),
        ("trailing", "paul", replace(good, deletions=(first + bytes(20_000),))),
        ("index", "paul", replace(good, deletions=(first[:40] + b"\xff" * 8 + first[48:],))),
        ("holdings", "paul", replace(good, deletions=(bytes(32) + first[32:],))),
    ):
        refused.add(code, name, loss)
    assert honest_verdict(settled, world, "paul", good) == NOTHING_WRONG
    world.do("alice", Demand(deal, 10, 0))
    refused.add("demand_pending", "paul", world.loss(deal, 3))
    refused.check(settled)


def test_more_shards_cannot_be_lost_than_a_revision_counted(
    settled: Settled, world: SignedWorld
) -> None:
    """Both signed one shard where there were two: then the second has no place to fall from."""
    refused, deal = Refusals(world), world.open(terms())
    world.do("paul", pledge(world, deal, 1, 2, shards=1))
    refused.add("amount_overflow", "paul", world.loss(deal, 1, 2))
    refused.check(settled)
    assert honest_verdict(settled, world, "paul", world.loss(deal, 2)) == NOTHING_WRONG


def test_evidence_that_leaves_anything_out_or_changes_it_convicts_nobody(
    settled: Settled, world: SignedWorld
) -> None:
    """Of a right step and of a wrong one: every place is needed, and every number in a cell."""
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    world.pass_epochs(1)
    before, claim = world.state, Claim(deal, world.pledge(deal, (1,)), voucher(world, deal, 9))
    entry = world.entry("alice", claim)
    wrong = told(world, entry)
    world.submit(entry)
    right = LogLeaf(wrong.entry, wrong.signature, world.state.root)
    frauds, anchor = anchor_lies(
        settled, [Lie("right", before, right), Lie("nothing happened", before, wrong)]
    )
    for fraud, code in zip(frauds, ("no_fault", ""), strict=True):
        call = on_chain(fraud, settled.params, anchor)
        judge = settled.contract(call.contract)
        case, cells, places, held = call.args
        assert reason(judge, case, cells, places, held) == code
        for count in range(len(places)):
            assert reason(judge, case, cells, places[:count], held) == "incomplete_evidence"
        assert reason(judge, case, cells, places, held[1:]) == "incomplete_evidence"
        for changed in one_more(cells):
            assert reason(judge, case, changed, places, held) not in ("", "no_fault")


def one_more(cells: Any) -> Iterator[Any]:
    """``deals.Cells`` with one number in it one higher."""
    for at, cell in enumerate(cells):
        for place, value in enumerate(cell):
            if type(value) is int and (at, place) != (2, 2):
                changed = (*cell[:place], value + 1, *cell[place + 1 :])
                yield (*cells[:at], changed, *cells[at + 1 :])


def reason(judge: Any, *args: Any) -> str:
    """Why ``convict`` is undone; empty if it convicts."""
    try:
        judge.tried("convict", *args)
    except Reverted as error:
        return error.reason
    return ""


def test_a_conviction_drops_the_anchor_freezes_the_vault_and_pays_the_reporter(
    settled: Settled, world: SignedWorld
) -> None:
    operator = settled.params.operator
    settled.mint(operator, 1_000)
    settled.credit.send("approve", settled.vault.address, 1_000, sender=operator)
    settled.vault.send("post_bond", 1_000, sender=operator)
    lie = told(world, world.entry("paul", Claim(DealId(bytes(32)), None, None)))
    (fraud,), anchor = anchor_lies(settled, [Lie("unknown deal", world.state, lie)])
    call = on_chain(fraud, settled.params, anchor)
    judge, sam = settled.contract(call.contract), address("sam")
    settled.evm.fund(sam)
    done = judge.send(call.function, *call.args, sender=sam)
    assert judge.logged(done, "Convicted") == [
        {"index": fraud.index, "reporter": sam, "fault": "unknown_deal"}
    ]
    assert settled.vault.call("anchor_count") == anchor
    assert settled.vault.call("frozen_at") == settled.evm.time_s
    assert (settled.vault.call("owed", sam), settled.vault.call("bond")) == (100, 0)
