from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsn.ledger.bandwidth import (
    FIRST_WINDOW_BYTES,
    LAST_WINDOW_BYTES,
    Traffic,
    bandwidth_due,
    egress_due,
    ingress_due,
    window,
    worth_bytes,
)
from dsn.units import GIB, MIB
from tests.support.signing import deal

prices = st.integers(0, 1 << 53)
sizes = st.integers(0, 1 << 50)


def test_a_gib_costs_its_price() -> None:
    terms = deal(ingress_price=20, egress_price=30)
    assert bandwidth_due(terms, Traffic(GIB, GIB)) == 50
    assert bandwidth_due(terms, Traffic(GIB - 1, GIB - 1)) == 19 + 29
    assert bandwidth_due(terms, Traffic()) == 0


@given(prices, prices, st.lists(st.tuples(sizes, sizes), max_size=6))
def test_cutting_changes_nothing(stored: int, read: int, parts: list[tuple[int, int]]) -> None:
    terms, traffic = deal(ingress_price=stored, egress_price=read), Traffic()
    for ingress, egress in parts:
        traffic = traffic.stored(ingress).read(egress)
    whole = Traffic(sum(part[0] for part in parts), sum(part[1] for part in parts))
    assert traffic == whole
    due = bandwidth_due(terms, traffic)
    assert due == ingress_due(terms, whole) + egress_due(terms, whole)


@given(prices, prices, st.integers(0, 1 << 64), st.integers(0, 1 << 64))
def test_a_window_doubles_with_what_was_paid(
    stored: int, read: int, credits: int, more: int
) -> None:
    terms = deal(ingress_price=stored, egress_price=read)
    price = max(stored, read)
    low, high = window(terms, 0), window(terms, 1 << 80)
    assert price * FIRST_WINDOW_BYTES <= low * GIB < price * FIRST_WINDOW_BYTES + GIB
    assert price * LAST_WINDOW_BYTES <= high * GIB < price * LAST_WINDOW_BYTES + GIB
    assert low <= window(terms, credits) <= window(terms, credits + more) <= high
    assert window(terms, credits) in (low, credits, high)


@given(prices, st.integers(0, 1 << 64), sizes, sizes)
def test_what_credits_buy_costs_no_more(price: int, credits: int, most: int, before: int) -> None:
    terms = deal(ingress_price=0, egress_price=price)
    size = worth_bytes(price, credits, most)
    assert 0 <= size <= most
    cost = egress_due(terms, Traffic(0, before + size)) - egress_due(terms, Traffic(0, before))
    assert cost <= credits
    if size < most:
        assert price * (size + 1) > credits * GIB


def test_what_is_free_is_not_counted() -> None:
    assert worth_bytes(0, 0, MIB) == MIB
    assert window(deal(ingress_price=0, egress_price=0), 99) == 0
