from __future__ import annotations

from fractions import Fraction
from math import ceil, floor

from hypothesis import given
from hypothesis import strategies as st

from dsn.ledger.money import burned_of, collateral_needed, disk_due, repair_cost

prices = st.integers(0, (1 << 64) - 1)
amounts = st.integers(0, (1 << 100) - 1)
ppms = st.integers(0, 10**6)
GIB = 1 << 20


def test_a_gib_epoch_costs_its_price() -> None:
    assert disk_due(7, GIB) == 7
    assert disk_due(7, GIB - 1) == 6
    assert repair_cost(7, GIB) == 7
    assert repair_cost(7, 1) == 1
    assert repair_cost(7, 0) == 0
    assert collateral_needed(10, GIB, 1_500_000) == 15


@given(prices, amounts)
def test_pay_is_rounded_down_and_repair_up(price: int, leaves: int) -> None:
    exact = Fraction(price * leaves, GIB)
    assert disk_due(price, leaves) == floor(exact)
    assert repair_cost(price, leaves) == ceil(exact)


@given(prices, amounts, st.integers(0, 5_000_000))
def test_collateral_is_rounded_once(price: int, leaves: int, ppm: int) -> None:
    assert collateral_needed(price, leaves, ppm) == ceil(
        Fraction(price * leaves * ppm, GIB * 10**6)
    )


@given(prices, st.lists(st.integers(0, 1 << 40), max_size=8), ppms)
def test_paying_often_comes_to_the_same(price: int, parts: list[int], ppm: int) -> None:
    paid = burned = so_far = 0
    for part in parts:
        so_far += part
        due = disk_due(price, so_far)
        burned += burned_of(due, ppm) - burned_of(paid, ppm)
        paid = due
    assert paid == disk_due(price, sum(parts))
    assert burned == burned_of(paid, ppm) <= paid
