from __future__ import annotations

import pytest

from dsn.core.codec import U64_MAX
from dsn.errors import DealMismatch, PeerError
from dsn.ledger.typed import sign_typed, verify_typed
from dsn.ledger.voucher import Voucher, check_voucher
from tests.support.signing import (
    CLIENT,
    DEAL_ID,
    DOMAIN,
    OTHER_DEAL,
    OTHER_DOMAINS,
    refusal,
    spoiled,
)

VOUCHER = Voucher(DEAL_ID, 1_000)
SIGNATURE = sign_typed(VOUCHER, DOMAIN, CLIENT)


def code(credits: int, paid: int, escrow: int) -> str:
    with pytest.raises(PeerError) as failure:
        check_voucher(Voucher(DEAL_ID, credits), DEAL_ID, paid=paid, escrow=escrow)
    return failure.value.detail_code


@pytest.mark.parametrize(
    ("credits", "paid", "escrow"),
    [(1, 0, 1), (1_000, 0, 1_000), (1_000, 999, 1), (1_000, 400, 600), (U64_MAX, 0, U64_MAX)],
)
def test_a_voucher_that_is_covered(credits: int, paid: int, escrow: int) -> None:
    check_voucher(Voucher(DEAL_ID, credits), DEAL_ID, paid=paid, escrow=escrow)


@pytest.mark.parametrize(("credits", "paid"), [(0, 0), (5, 5), (4, 5), (0, U64_MAX)])
def test_a_replayed_or_lower_voucher_pays_nothing(credits: int, paid: int) -> None:
    assert code(credits, paid, U64_MAX) == "stale_voucher"


@pytest.mark.parametrize(
    ("credits", "paid", "escrow"),
    [(1, 0, 0), (1_001, 0, 1_000), (1_000, 399, 600), (U64_MAX, 0, 9)],
)
def test_a_voucher_cannot_take_more_than_is_locked(credits: int, paid: int, escrow: int) -> None:
    assert code(credits, paid, escrow) == "over_escrow"


def test_a_voucher_of_another_deal() -> None:
    with pytest.raises(DealMismatch) as failure:
        check_voucher(VOUCHER, OTHER_DEAL, paid=0, escrow=1_000)
    assert failure.value.detail_code == "other_deal"


def test_a_voucher_cannot_be_moved_to_another_deal() -> None:
    moved = Voucher(OTHER_DEAL, VOUCHER.credits)
    assert refusal(lambda: verify_typed(moved, DOMAIN, SIGNATURE, CLIENT.address)) == (
        "invalid_signature"
    )


def test_a_voucher_cannot_be_raised() -> None:
    raised = Voucher(DEAL_ID, VOUCHER.credits + 1)
    assert refusal(lambda: verify_typed(raised, DOMAIN, SIGNATURE, CLIENT.address)) == (
        "invalid_signature"
    )


@pytest.mark.parametrize("other", OTHER_DOMAINS)
def test_a_voucher_of_another_network_chain_or_vault(other: str) -> None:
    domain = OTHER_DOMAINS[other]
    assert refusal(lambda: verify_typed(VOUCHER, domain, SIGNATURE, CLIENT.address)) == (
        "invalid_signature"
    )


@pytest.mark.parametrize(
    ("bad", "expected"), [pytest.param(*case[1:], id=case[0]) for case in spoiled(SIGNATURE)]
)
def test_a_malleated_voucher(bad: bytes, expected: str) -> None:
    assert refusal(lambda: verify_typed(VOUCHER, DOMAIN, bad, CLIENT.address)) == expected
