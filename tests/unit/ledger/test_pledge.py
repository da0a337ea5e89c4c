from __future__ import annotations

from dataclasses import astuple, replace
from typing import Any

import pytest

from dsn.errors import PeerError
from dsn.ids import Commit
from dsn.ledger.pledge import Pledge, check_pledge
from dsn.ledger.revision import Revision, first_revision, next_revision
from dsn.ledger.typed import sign_typed, verify_typed
from dsn.proofs.inventory import EMPTY, EMPTY_ROOT, MAX_TOTAL, holdings
from tests.support.signing import CLIENT, DEAL_ID, DOMAIN, OTHER_DEAL, PROVIDER, refusal

HELD = holdings([(Commit(bytes([n]) * 32), n + 1) for n in range(4)])
REVISION = next_revision(Revision(DEAL_ID, 7, 1, 1, bytes(32)), HELD)
PLEDGE = REVISION.pledge


def test_a_pledge_says_what_its_revision_says() -> None:
    assert Pledge(DEAL_ID, 8, 4, 10, HELD.root) == PLEDGE
    assert astuple(PLEDGE) == astuple(REVISION)


@pytest.mark.parametrize(
    "pledge",
    [
        PLEDGE,
        first_revision(DEAL_ID).pledge,
        next_revision(REVISION, EMPTY).pledge,
        replace(PLEDGE, shards=10),
        replace(PLEDGE, shards=1, leaves=MAX_TOTAL),
    ],
    ids=str,
)
def test_what_could_be_held(pledge: Pledge) -> None:
    check_pledge(pledge)


@pytest.mark.parametrize(
    "change",
    [
        {"shards": 11},
        {"shards": 0},
        {"leaves": 0},
        {"leaves": MAX_TOTAL + 1},
        {"root": EMPTY_ROOT},
        {"shards": 0, "leaves": 0},
        {"shards": 0, "root": EMPTY_ROOT},
        {"leaves": 0, "root": EMPTY_ROOT},
    ],
    ids=str,
)
def test_what_no_holdings_could_be(change: dict[str, Any]) -> None:
    with pytest.raises(PeerError) as failure:
        check_pledge(replace(PLEDGE, **change))
    assert failure.value.detail_code == "bad_holdings"


def test_both_sign_the_same_pledge_of_one_deal() -> None:
    for key in (CLIENT, PROVIDER):
        signature = sign_typed(PLEDGE, DOMAIN, key)
        verify_typed(PLEDGE, DOMAIN, signature, key.address)
        moved = replace(PLEDGE, deal=OTHER_DEAL)
        found = refusal(lambda: verify_typed(moved, DOMAIN, signature, key.address))  # noqa: B023
        assert found == "invalid_signature"
