from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from dsn.core.codec import U64_MAX
from dsn.errors import PeerError
from dsn.ledger.deal import MAX_MISS_LIMIT, Deal, Extension, check_deal
from dsn.ledger.settlement import NO_ADDRESS
from dsn.ledger.typed import digest, sign_typed, verify_typed
from tests.support.signing import (
    CLIENT,
    DEAL,
    DEAL_ID,
    DOMAIN,
    OTHER_DEAL,
    OTHER_DOMAINS,
    PROVIDER,
    deal,
    refusal,
)


def code(terms: Deal) -> str:
    with pytest.raises(PeerError) as failure:
        check_deal(terms)
    return failure.value.detail_code


def test_a_deal_is_named_by_the_digest_that_both_sign() -> None:
    assert digest(DOMAIN, DEAL) == DEAL_ID
    for key in (CLIENT, PROVIDER):
        verify_typed(DEAL, DOMAIN, key.sign(DEAL_ID), key.address)


@pytest.mark.parametrize("name", [each.name for each in fields(Deal)])
def test_whatever_differs_makes_another_deal(name: str) -> None:
    value: Any = getattr(DEAL, name)
    other = value + 1 if isinstance(value, int) else bytes(len(value))
    assert replace(DEAL, **{name: other}).deal_id(DOMAIN) != DEAL_ID


def test_the_same_terms_elsewhere_are_another_deal() -> None:
    ids = {DEAL.deal_id(domain) for domain in OTHER_DOMAINS.values()}
    assert len(ids | {DEAL_ID}) == 4


def test_a_deal_takes_220_bytes() -> None:
    assert Deal.struct.size == 3 * 20 + 16 * 8 + 32 == 220


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"miss_limit": MAX_MISS_LIMIT},
        {"miss_limit": 0},
        {"end": U64_MAX - 720},
        {"end": 0, "grace": U64_MAX},
        {"delegate": NO_ADDRESS},
        {"delegate": CLIENT.address},
        {"disk_price": U64_MAX, "disk_escrow": U64_MAX, "bandwidth_escrow": U64_MAX},
    ],
    ids=str,
)
def test_a_sound_deal(change: dict[str, Any]) -> None:
    check_deal(deal(**change))


def test_nobody_deals_with_oneself() -> None:
    assert code(deal(provider=CLIENT.address)) == "same_party"


def test_a_miss_limit_the_ledger_cannot_remember() -> None:
    assert MAX_MISS_LIMIT == 700
    assert code(deal(miss_limit=701)) == "bad_miss_limit"


@pytest.mark.parametrize(("end", "grace"), [(U64_MAX, 1), (1, U64_MAX), (U64_MAX, U64_MAX)])
def test_a_term_beyond_64_bits(end: int, grace: int) -> None:
    assert code(deal(end=end, grace=grace)) == "bad_term"


def test_an_extension_of_one_deal_is_none_of_another() -> None:
    extension = Extension(DEAL_ID, 1, 4_320)
    signature = sign_typed(extension, DOMAIN, PROVIDER)
    verify_typed(extension, DOMAIN, signature, PROVIDER.address)
    moved = replace(extension, deal=OTHER_DEAL)
    assert refusal(lambda: verify_typed(moved, DOMAIN, signature, PROVIDER.address)) == (
        "invalid_signature"
    )
