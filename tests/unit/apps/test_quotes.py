"""What storing would cost, and how likely a file is lost."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from dsn.apps.deal_plan import end_after, term_epochs
from dsn.apps.durability import durability, loss_in_shock, loss_per_year, several
from dsn.apps.quotes import Moment, Quote, Range, quote, shard_lengths
from dsn.core.layout import FileLayout, Scheme
from dsn.errors import DsnError
from dsn.ids import NodeId
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.ledger.terms import Terms
from dsn.ledger.typed import Domain
from dsn.machines.placement import Candidate
from dsn.units import GIB, KIB, MIB, leaf_count
from tests.support.ledger_world import NETWORK

PARAMS = LedgerParams(Domain(NETWORK, 0, NO_ADDRESS), NO_ADDRESS, entry_fee=11)
MOMENT = Moment(PARAMS, 100, 1_000_000)
SCHEME = Scheme(4, 6)


def candidates(count: int) -> list[Candidate]:
    return [Candidate(NodeId(bytes([n]) * 32), str(n), GIB, 0.01) for n in range(count)]


def terms(*disk_prices: int) -> list[Terms]:
    return [
        Terms(Address(bytes([9]) * 20), disk_price=each, ingress_price=MIB, egress_price=2 * MIB,
              max_term=10**6)
        for each in disk_prices
    ]  # fmt: skip


def quoted(size: int, *disk_prices: int, days: float = 30) -> Quote:
    return quote(size, SCHEME, days, candidates(len(disk_prices)), terms(*disk_prices), MOMENT)


def test_a_quote_counts_what_each_holder_stores_and_for_how_long() -> None:
    prices = [1_000] * 6
    found = quoted(40 * MIB, *prices)
    assert found.cost is not None and found.prices is not None and found.expires_s is not None
    lengths = shard_lengths(40 * MIB, SCHEME)
    epochs = end_after(100, term_epochs(30, 3_600), 10**6) - 100
    disk = 6 * (1_000 * sum(map(leaf_count, lengths)) * epochs // (GIB // KIB))
    assert found.cost.disk == Range(disk, disk, disk)
    store = 6 * (MIB * sum(lengths) // GIB)
    assert found.cost.store.expected == store
    assert found.cost.fees == 6 * 11
    assert found.cost.total.expected == disk + store + 66
    assert found.cost.read.expected == 4 * (2 * MIB * sum(lengths) // GIB)
    assert found.cost.locked.expected > found.cost.disk.expected
    assert found.upload_bytes == 6 * sum(lengths) and found.segments == 2
    assert found.expires_s - 1_000_000 == epochs * 3_600 >= 30 * 86_400
    assert found.prices.disk.expected == 1_000 * 30 * 24


def test_the_cheapest_and_the_dearest_bound_what_is_expected() -> None:
    found = quoted(40 * MIB, 9_000, *[1_000] * 6, *[2_000] * 5)
    assert found.cost is not None and found.prices is not None
    cost = found.cost
    assert cost.disk.low < cost.disk.expected < cost.disk.high
    assert cost.total.low < cost.total.expected < cost.total.high
    assert found.prices.disk.low * 9 == found.prices.disk.high
    same = quoted(40 * MIB, *[1_000] * 6).cost
    assert same is not None and same.disk.low == cost.disk.low


@pytest.mark.parametrize("size", [0, 1, 4_096, 4_097, MIB, 33 * MIB, 200 * MIB + 7])
def test_shards_add_up_to_the_layout(size: int) -> None:
    layout, lengths = FileLayout(size, 4), shard_lengths(size, SCHEME)
    exact = [layout.segment(number).shard_bytes for number in range(layout.segments)]
    assert lengths[:-1] == exact
    assert lengths[-1] >= 4_096 + (size if not exact else 0)


def test_where_nobody_pays_a_quote_says_so() -> None:
    found = quote(MIB, SCHEME, 30, candidates(6), terms(*[0] * 6), None)
    assert (found.cost, found.prices, found.expires_s) == (None, None, None)
    assert found.durability.loss_per_year > 0


def test_too_few_nodes_are_too_few() -> None:
    for offers in (terms(1, 1, 1, 1, 1), [*terms(1, 1, 1, 1, 1), Terms()]):
        with pytest.raises(DsnError) as caught:
            quote(MIB, SCHEME, 30, candidates(len(offers)), offers, MOMENT)
        assert caught.value.detail_code == "bad_scheme"


def test_a_term_beyond_the_networks_is_refused() -> None:
    short = replace(MOMENT, params=replace(PARAMS, max_term=100))
    with pytest.raises(DsnError) as caught:
        quote(MIB, SCHEME, 30, candidates(6), terms(*[1] * 6), short)
    assert caught.value.detail_code == "term_too_long"


# durability


def test_the_published_figures_come_out() -> None:
    wide = Scheme(10, 30)
    assert wide.repair_at == 20
    assert f"{loss_per_year(wide, 0.2, 24):.0e}" == "2e-23"
    assert f"{loss_in_shock(wide, 0.3):.0e}" == "7e-06"


@pytest.mark.parametrize("seed", range(3))
def test_the_formula_agrees_with_chance(seed: int) -> None:
    scheme, afr, repair_hours = Scheme(2, 4), 0.9, 2_000.0
    rng, years = random.Random(seed), 20_000
    rate, repairs = -math.log1p(-afr), 8_766 / repair_hours
    lost, good, at = 0, scheme.total, 0.0
    while at < years:
        dying = good * rate
        mending = repairs if good <= scheme.repair_at else 0.0
        at += rng.expovariate(dying + mending)
        if rng.random() * (dying + mending) < mending:
            good = scheme.total
        else:
            good -= 1
        if good < scheme.required:
            lost, good = lost + 1, scheme.total
    found = -math.log1p(-loss_per_year(scheme, afr, repair_hours))
    assert abs(lost / years - found) < 5 * math.sqrt(found / years), f"seed {seed}"


def test_more_shards_and_faster_repair_lose_less() -> None:
    narrow, wide = loss_per_year(Scheme(4, 6), 0.2, 24), loss_per_year(Scheme(10, 30), 0.2, 24)
    assert 0 < wide < loss_per_year(Scheme(10, 30), 0.2, 240) < narrow < 1
    assert loss_in_shock(Scheme(4, 6), 0.3) > loss_in_shock(Scheme(10, 30), 0.3) > 0
    assert loss_in_shock(Scheme(1, 1), 0.25) == 0.25


def test_several_segments_lose_more_and_nothing_cancels() -> None:
    assert several(1e-23, 1_000) == pytest.approx(1e-20)
    assert several(0.5, 2) == pytest.approx(0.75)
    assert several(1.0, 3) == 1.0
    assert several(0.3, 0) == 0.0
    one, many = durability(SCHEME, 1), durability(SCHEME, 50)
    assert one.loss_per_year < many.loss_per_year < 1
    assert one.loss_per_year_shock < many.loss_per_year_shock < 1
