"""lib/settling against the Python rules, to the unit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from dsn.errors import DsnError
from dsn.ids import DealId, NodeId
from dsn.ledger.cells import KEPT_BITS, AccountCell, DealCell, DealState, Pending
from dsn.ledger.onchain.tuples import account_tuple, deal_tuple
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.settling import (
    Parties,
    charge_loss,
    check_cover,
    missing_collateral,
    roll,
    settle,
    split,
)
from dsn.ledger.rules.turn import Turn
from dsn.ledger.settlement import Address
from dsn.ledger.state import genesis
from tests.contracts.probes import deploy_probe, reverts
from tests.support.evm import Contract, Evm
from tests.support.ledger_world import PARAMS, address, terms

MANY = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
PPM = 1_000_000
START = 2_000
"""Epochs are about this one, so that what happened 720 epochs ago is told apart from never."""
LEAVES = st.one_of(st.just(0), st.integers(1, 50), st.integers(1, 1 << 50))
PRICES = st.one_of(st.integers(0, 9 << 20), st.integers(0, (1 << 64) - 1))
AMOUNTS = st.one_of(st.just(0), st.integers(0, 10**6), st.integers(0, 1 << 100))
HASHES = st.binary(min_size=32, max_size=32)
BITS = st.one_of(st.just(0), st.just((1 << KEPT_BITS) - 1), st.integers(0, (1 << KEPT_BITS) - 1))
EPOCHS = st.one_of(
    st.integers(START - 3, START + 3), st.integers(START - 800, START + 800), st.integers(1, 5)
)


@st.composite
def accounts(draw: st.DrawFn) -> AccountCell:
    return AccountCell(
        address("paul"),
        *(draw(AMOUNTS) for _ in range(3)),
        *(draw(st.integers(0, 9)) for _ in range(3)),
        NodeId(draw(HASHES)),
        rolled=draw(EPOCHS),
        bits=draw(BITS),
        live=draw(HASHES),
        live_leaves=draw(LEAVES),
        frozen=draw(HASHES),
        frozen_leaves=draw(LEAVES),
    )


@st.composite
def deals(draw: st.DrawFn) -> DealCell:
    agreed = terms(
        disk_price=draw(PRICES),
        repair_price=draw(PRICES),
        collateral_ppm=draw(st.one_of(st.integers(0, 2 * PPM), st.integers(0, (1 << 64) - 1))),
        free_leaves=draw(st.one_of(st.just(0), LEAVES)),
    )
    settled = draw(EPOCHS)
    end = settled + draw(st.integers(0, 900))
    asked = Pending(address("alice"), START, 3) if draw(st.booleans()) else None
    return DealCell(
        DealId(draw(HASHES)),
        agreed,
        DealState.OPEN,
        end=end,
        grace=draw(st.integers(0, 20)),
        settled=settled,
        missed=draw(st.integers(0, 700)),
        number=3,
        shards=2,
        leaves=draw(LEAVES),
        root=draw(HASHES),
        leaf_epochs=draw(AMOUNTS),
        disk_paid=0,
        voucher_paid=draw(AMOUNTS),
        disk_escrow=draw(st.one_of(AMOUNTS, st.just((1 << 128) - 1))),
        bandwidth_escrow=draw(AMOUNTS),
        collateral=draw(AMOUNTS),
        refund=draw(AMOUNTS),
        bond=5 if asked else 0,
        burned=draw(AMOUNTS),
        demand=asked,
    )


@pytest.fixture(scope="module")
def settling(node: Evm) -> Contract:
    node.rpc("anvil_setLoggingEnabled", False)  # nobody reads what it says
    return deploy_probe(node, "settling_probe")


def sized(cell: AccountCell | DealCell) -> bool:
    """Whether a field of ``cell`` overflowed or went below zero, which the ledger refuses."""
    try:
        cell.encode()
    except (OverflowError, DsnError):
        return False
    return True


@MANY
@given(accounts(), EPOCHS)
@example(AccountCell(address("paul"), rolled=1, bits=5, live_leaves=1), 1 + KEPT_BITS)
@example(AccountCell(address("paul"), rolled=1, bits=1), 1 + 256)
@example(AccountCell(address("paul"), rolled=1, bits=1), 1 + 512)
@example(AccountCell(address("paul"), rolled=1, bits=1), 1 + KEPT_BITS - 1)
def test_an_account_is_rolled_as_in_python(
    settling: Contract, account: AccountCell, epoch: int
) -> None:
    expected = roll(account, epoch)
    assert_same(settling.call("roll", account_tuple(account), epoch), account_tuple(expected))


@MANY
@given(accounts(), st.integers(0, 1_500))
def test_an_epoch_is_proven_if_its_bit_is_set_and_not_forgotten(
    settling: Contract, account: AccountCell, back: int
) -> None:
    epoch = max(0, account.rolled - back)
    found = settling.call("proven", account_tuple(account), epoch)
    assert found == account.proven(epoch)


def test_an_epoch_still_to_come_is_not_asked_for(settling: Contract) -> None:
    account = account_tuple(AccountCell(address("paul"), rolled=7))
    assert reverts(settling, "proven", account, 8)


@MANY
@given(deals(), accounts(), EPOCHS, st.integers(0, PPM), st.data())
def test_a_deal_is_settled_as_in_python_to_the_unit(
    settling: Contract,
    deal: DealCell,
    account: AccountCell,
    epoch: int,
    burn_ppm: int,
    data: st.DataObject,
) -> None:
    assume(account.rolled <= epoch)
    due = deal.terms.disk_price * deal.leaf_epochs >> 20
    paid = data.draw(st.one_of(st.just(due), st.integers(0, due)), label="paid")
    assume(paid < 1 << 128)
    before = Parties(replace(deal, disk_paid=paid), roll(account, epoch))
    after = settle(before, epoch, burn_ppm)
    args = deal_tuple(before.deal), account_tuple(before.provider), epoch, burn_ppm
    if sized(after.deal) and sized(after.provider):
        found = settling.call("settle", *args)
        assert_same(found, (deal_tuple(after.deal), account_tuple(after.provider)))
    else:
        assert reverts(settling, "settle", *args)


@MANY
@given(deals())
def test_cover_and_missing_collateral_are_those_of_python(
    settling: Contract, deal: DealCell
) -> None:
    for each in (deal, replace(deal, settled=deal.last + 1), replace(deal, disk_escrow=0)):
        found = settling.call("missing_collateral", deal_tuple(each))
        assert found == missing_collateral(each)
        assert settling.call("covered", deal_tuple(each)) == is_covered(each)


def is_covered(deal: DealCell) -> bool:
    try:
        check_cover(deal)
    except DsnError:
        return False
    return True


def test_a_deal_is_covered_to_the_unit(settling: Contract) -> None:
    """3 leaves at 2^20 base units a GiB-epoch for 10 epochs are due 30."""
    agreed = terms(disk_price=1 << 20)
    deal = DealCell(DealId(bytes(32)), agreed, DealState.OPEN, 15, 2, 7, leaves=3)
    for escrow in (29, 30):
        short = replace(deal, disk_escrow=escrow - 4, disk_paid=4)
        assert settling.call("covered", deal_tuple(short)) == (escrow == 30) == is_covered(short)


@MANY
@given(deals(), LEAVES)
def test_a_loss_is_charged_as_in_python(settling: Contract, deal: DealCell, leaves: int) -> None:
    expected = charge_loss(deal, leaves)
    if sized(expected):
        found = settling.call("charge_loss", deal_tuple(deal), leaves)
        assert_same(found, deal_tuple(expected))
    else:
        assert reverts(settling, "charge_loss", deal_tuple(deal), leaves)


@MANY
@given(deals())
def test_a_slash_splits_as_in_python(settling: Contract, deal: DealCell) -> None:
    assume(not deal.leaves)  # so that no inventory goes with it, which is not of money
    check_split(settling, deal)


@MANY
@given(deals(), st.integers(1, 1 << 50))
def test_a_slash_of_what_is_held_splits_as_in_python(
    settling: Contract, deal: DealCell, leaves: int
) -> None:
    held = replace(deal, leaves=leaves, state=DealState.ENDED)  # as above: out of the inventory
    check_split(settling, held)


def check_split(settling: Contract, deal: DealCell) -> None:
    params: LedgerParams = replace(PARAMS, allocation=())
    reporter = Address(b"\x99" * 20)
    turn = Turn(genesis(params), reporter)
    split(turn, Parties(deal, AccountCell(address("paul"))), reporter)
    expected = turn.deal(deal.deal)
    if not sized(expected):
        assert reverts(settling, "split", deal_tuple(deal))
        return
    found, part = settling.call("split", deal_tuple(deal))
    kept: Any = replace(expected, demand=deal.demand, bond=deal.bond)
    assert_same(found, deal_tuple(kept))
    assert part == turn.account(reporter).available


def assert_same(found: Any, expected: Any) -> None:
    """Tuples and lists alike: the decoder makes one of what the encoder took as the other."""
    assert plain(found) == plain(expected)


def plain(value: Any) -> Any:
    return tuple(map(plain, value)) if isinstance(value, list | tuple) else value
