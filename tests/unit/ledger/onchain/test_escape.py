"""What an account shows of the state that it leaves with."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest

from dsn.errors import NotFound
from dsn.ids import DealId
from dsn.ledger.bodies import Agreed, CloseDeal, SignedVoucher
from dsn.ledger.cells import CellKind, cell_digest, cell_key
from dsn.ledger.deal import Close
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.escape import (
    BATCH,
    escape_account,
    escape_deal,
    finish_call,
    redeem_calls,
)
from dsn.ledger.onchain.tuples import account_tuple, deal_tuple
from dsn.ledger.radix import StateLeaf, StateStep, verify_absence, verify_cell
from dsn.ledger.settlement import Address
from dsn.ledger.typed import sign_typed
from dsn.ledger.voucher import Voucher
from tests.support.ledger_world import (
    CHAIN_PARAMS,
    KEYS,
    NO_SIGNATURE,
    World,
    address,
    terms,
)

STRANGER = Address(b"\x57" * 20)
NO_DEAL = DealId(b"\x99" * 32)


@cache
def world() -> tuple[World, DealId, DealId]:
    """A ledger with a deal that is open and one that is closed."""
    ledger = World(replace(CHAIN_PARAMS, entry_fee=0))
    ledger.fund()
    ledger.open_epoch()
    ledger.bind("alice", "paul")
    deal, gone = (ledger.open(terms(salt=bytes([n]) * 32, dispute=2)) for n in range(2))
    ledger.hold(deal, 1, 2)
    agreed = Agreed(Close(gone, ledger.epoch), NO_SIGNATURE, NO_SIGNATURE)
    ledger.do("alice", CloseDeal(gone, agreed))
    ledger.pass_epochs(2, "paul")
    ledger.do("alice", CloseDeal(gone, None))
    return ledger, deal, gone


def check_place(place: tuple[bytes, bytes, list[tuple[int, bytes]]], digest: bytes) -> None:
    """Under the world's root, a place shows the cell with this digest."""
    key, found, steps = place
    ledger, _, _ = world()
    verify_cell(ledger.state.root, StateLeaf(key, found), [StateStep(*step) for step in steps])
    assert found == digest


def test_an_account_shows_its_cell() -> None:
    ledger, _, _ = world()
    call = escape_account(ledger.state, address("alice"))
    assert (call.contract, call.function) == ("Vault", "escape_account")
    cell, place = call.args
    assert cell == account_tuple(ledger.account("alice"))
    check_place(place, cell_digest(ledger.account("alice")))


def test_an_account_that_is_not_there_shows_whose_place_it_would_be() -> None:
    ledger, _, _ = world()
    call = escape_account(ledger.state, STRANGER)
    assert (call.contract, call.function) == ("Vault", "escape_absent")
    account, (key, digest, steps) = call.args
    assert account == STRANGER
    asked = cell_key(CellKind.ACCOUNT, STRANGER)
    shown = StateLeaf(key, digest), [StateStep(*step) for step in steps]
    verify_absence(ledger.state.root, asked, *shown)


def test_a_deal_shows_itself_and_its_provider() -> None:
    ledger, deal, _ = world()
    call = escape_deal(ledger.state, deal)
    assert (call.contract, call.function) == ("Vault", "escape_deal")
    cell, place, provider, provider_place = call.args
    assert cell == deal_tuple(ledger.deal(deal))
    assert provider == account_tuple(ledger.account("paul"))
    check_place(place, cell_digest(ledger.deal(deal)))
    check_place(provider_place, cell_digest(ledger.account("paul")))


def test_a_deal_that_the_state_does_not_have_shows_nothing() -> None:
    ledger, _, _ = world()
    with pytest.raises(NotFound) as caught:
        escape_deal(ledger.state, NO_DEAL)
    assert caught.value.detail_code == "no_deal"


def test_vouchers_go_in_batches_with_their_signatures_taken_apart() -> None:
    deal, domain = DealId(b"\x05" * 32), CHAIN_PARAMS.domain
    vouchers = [Voucher(deal, n) for n in range(2 * BATCH + 1)]
    signed = [
        SignedVoucher(each, each.credits % 2 == 1, sign_typed(each, domain, KEYS["alice"]))
        for each in vouchers
    ]
    calls = redeem_calls(signed)
    assert {(call.contract, call.function) for call in calls} == {("Vault", "redeem_many")}
    assert [len(call.args[0]) for call in calls] == [BATCH, BATCH, 1]
    rows = [row for call in calls for row in call.args[0]]
    for row, each in zip(rows, signed, strict=True):
        found, credits, by_delegate, v, r, s = row
        assert (found, credits, by_delegate) == (deal, each.voucher.credits, each.by_delegate)
        assert r + s + bytes([v]) == each.signature
    assert redeem_calls([]) == []


def test_what_is_left_of_a_deal_is_named_by_its_id() -> None:
    assert finish_call(NO_DEAL) == OnChain("Vault", "finish_deal", (NO_DEAL,))
