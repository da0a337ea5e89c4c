from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsn.apps.node.dealing import check_offer
from dsn.apps.node.quota import DAY_S, FreeQuota
from dsn.apps.node.terms import TERMS_S, Self, make_terms
from dsn.apps.provider import price_rows, set_prices
from dsn.config import ProviderSettings, load
from dsn.core.codec import U64_MAX
from dsn.core.keys import SigningKey
from dsn.errors import LimitReached
from dsn.ids import NodeId
from dsn.ledger.money import PPM
from dsn.ledger.params import LedgerParams
from tests.support.signing import CLIENT, DOMAIN, PROVIDER, deal

SETTINGS = ProviderSettings()
HOURLY = LedgerParams(DOMAIN, CLIENT.address)
DAY_EPOCHS = 24


def test_a_node_stands_by_all_it_asked_within_the_hour() -> None:
    first = make_terms(SETTINGS, HOURLY, PROVIDER.address)
    me = Self(DOMAIN.network, SigningKey(b"N" * 32), first)
    assert me.stands_by(0) == [first]
    second, third = replace(first, egress_price=2), replace(first, egress_price=3)
    me.ask(second, 1_000)
    me.ask(third, 2_000)
    assert me.terms == third
    for now_s, standing in (
        (2_000, [third, second, first]),
        (1_000 + TERMS_S - 0.5, [third, second, first]),
        (1_000 + TERMS_S, [third, second]),
        (2_000 + TERMS_S, [third]),
    ):
        assert me.stands_by(now_s) == standing
    me.ask(first, 3_000 + TERMS_S)
    assert me.stands_by(3_000 + TERMS_S) == [first, third]


def test_hourly_epochs() -> None:
    terms = make_terms(SETTINGS, HOURLY, PROVIDER.address)
    assert terms.settlement == PROVIDER.address
    assert terms.disk_price == 4_000_000 * 3_600 // (30 * 86_400) == 5_555
    assert (terms.ingress_price, terms.egress_price) == (500_000, 7_000_000)
    assert (terms.grace, terms.dispute) == (30 * DAY_EPOCHS, 35 * DAY_EPOCHS)
    assert (terms.notice, terms.miss_limit) == (7 * DAY_EPOCHS, 3 * DAY_EPOCHS)
    assert (terms.collateral_ppm, terms.free_leaves) == (PPM, 97_656_250)


@pytest.mark.parametrize(
    ("epoch_s", "min_dispute", "dispute"),
    [(5, 2, 840), (3_599, 2, 840), (7_200, 2, 420), (5, 900, 900), (1 << 40, 0, 1)],
)
def test_answers_are_owed_for_840_epochs_at_most_unless_the_network_asks_for_more(
    epoch_s: int, min_dispute: int, dispute: int
) -> None:
    params = replace(HOURLY, epoch_s=epoch_s, min_dispute=min_dispute)
    assert make_terms(SETTINGS, params, PROVIDER.address).dispute == dispute


@given(
    st.integers(1, 10**7),
    st.integers(1, 1 << 32),
    st.integers(1, 700),
    st.integers(0, 1 << 32),
    st.integers(0, 1 << 40),
)
def test_terms_are_within_every_ledger(
    epoch_s: int, max_term: int, claim_epochs: int, min_dispute: int, least: int
) -> None:
    params = replace(
        HOURLY,
        epoch_s=epoch_s,
        max_term=max_term,
        claim_epochs=claim_epochs,
        min_dispute=min(min_dispute, max_term),
        min_disk_price=least,
        min_repair_price=least,
        min_collateral_ppm=least,
        max_free_leaves=least,
    )
    terms = make_terms(SETTINGS, params, PROVIDER.address)
    assert 1 <= max(terms.grace, terms.notice, terms.dispute) <= max_term
    assert terms.dispute >= params.min_dispute
    assert terms.notice >= min(max_term, 2 * claim_epochs + 2)
    assert 1 <= terms.miss_limit <= 700
    assert min(terms.disk_price, terms.repair_price, terms.collateral_ppm) >= least
    assert terms.free_leaves <= least
    offer = deal(
        disk_price=terms.disk_price, ingress_price=terms.ingress_price,
        egress_price=terms.egress_price, repair_price=terms.repair_price, grace=terms.grace,
        notice=terms.notice, miss_limit=terms.miss_limit, dispute=terms.dispute,
        collateral_ppm=terms.collateral_ppm, free_leaves=terms.free_leaves, open_by=8, end=9,
    )  # fmt: skip
    check_offer(offer, terms, 8, 0)
    check_offer(replace(offer, disk_price=U64_MAX, collateral_ppm=0), terms, 8, 0)


# prices


def test_prices_are_written_beside_other_settings(tmp_path: object) -> None:
    from pathlib import Path

    home = Path(str(tmp_path))
    (home / "dsn.toml").write_text('[provider]\ncapacity = "1GB"\n[client]\ndays = 7\n')
    set_prices(home / "dsn.toml", {"disk_price": 5, "egress_price": 6})
    settings = load(home, {}).settings
    assert (settings.provider.disk_price, settings.provider.egress_price) == (5, 6)
    assert (int(settings.provider.capacity), settings.client.days) == (10**9, 7)


def test_prices_by_the_gib_the_tb_and_the_epoch() -> None:
    disk, ingress, _, repair = price_rows(SETTINGS, 3_600)
    assert disk.fields() == {"gib": "4000000", "tb": "3725290298", "epoch": "5555"}
    assert ingress.cells() == ["ingress", "500,000", "465,661,287", ""]
    assert repair.epoch is price_rows(SETTINGS, None)[0].epoch is None


# the free quota


class Clock:
    """Time as the test has it."""

    def __init__(self) -> None:
        self.at_s = 5 * DAY_S + 0.5

    def now_s(self) -> float:
        return self.at_s

    def monotonic_s(self) -> float:
        return self.at_s


def test_everybody_has_a_quota_a_day() -> None:
    clock = Clock()
    quota, one, other = FreeQuota(100, clock), NodeId(b"1" * 32), NodeId(b"2" * 32)
    quota.charge(one, 60)
    quota.charge(other, 100)
    with pytest.raises(LimitReached) as error:
        quota.charge(one, 41)
    assert error.value.detail_code == "payment_needed"
    quota.charge(one, 40)
    clock.at_s += DAY_S
    quota.charge(one, 100)
