from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dsn.apps.earnings import (
    Earned,
    Proofs,
    count_proofs,
    earned,
    month_end_s,
    read_earnings,
    sample_earnings,
)
from dsn.ids import DealId, NodeId
from dsn.ledger.bandwidth import Traffic
from dsn.ledger.cells import AccountCell, DealCell, DealState
from dsn.store.deals import StoredDeal, StoredTab, open_deals
from dsn.units import GIB
from tests.support.signing import DEAL, DEAL_ID, PROVIDER

OWNER = NodeId(b"o" * 32)
CELL = DealCell(DEAL_ID, DEAL, DealState.OPEN, end=DEAL.end, grace=DEAL.grace, settled=1)
ACCOUNT = AccountCell(PROVIDER.address)
NOON_S = int(datetime(2026, 11, 21, 0, tzinfo=UTC).timestamp())
amounts = st.integers(0, 1 << 50)


class Clock:
    """Time as the test has it."""

    def __init__(self, at_s: float) -> None:
        self.at_s = at_s

    def now_s(self) -> float:
        return self.at_s

    def monotonic_s(self) -> float:
        return self.at_s


def stored(cell: DealCell | None, *tabs: StoredTab) -> StoredDeal:
    by_payer = dict(zip((False, True), tabs, strict=False))
    return StoredDeal(DEAL_ID, OWNER, DEAL, b"c" * 65, b"p" * 65, cell, by_payer)


def test_a_deal_that_the_ledger_never_saw_earns_nothing() -> None:
    assert earned(stored(None, StoredTab(credits=9)), 0) == Earned()


def test_what_is_settled_is_split_by_what_was_counted() -> None:
    cell = replace(CELL, voucher_paid=40, delegate_paid=10)
    client = StoredTab(Traffic(2 * GIB, 2 * GIB), 100, b"s" * 65)
    result = earned(stored(cell, client, StoredTab(Traffic(0, GIB), 30, b"s" * 65)), 0)
    assert result == Earned(ingress=16, egress=24 + 10, unclaimed=60 + 20)
    assert result.total == 50


@given(amounts, amounts, amounts, amounts, amounts, amounts, st.integers(0, 10**6))
def test_the_parts_sum_up_to_what_the_ledger_paid(
    disk: int, voucher: int, delegate: int, more: int, ingress: int, egress: int, ppm: int
) -> None:
    burned = disk * ppm // 10**6
    paid = replace(
        CELL, disk_paid=disk, voucher_paid=voucher, delegate_paid=delegate, burned=burned + more
    )
    result = earned(stored(paid, StoredTab(Traffic(ingress, egress), voucher + more)), ppm)
    assert result.total == disk + voucher + delegate - burned - more
    assert (result.slashed, result.unclaimed) == (more, more)
    assert min(asdict(result).values()) >= 0
    ended = earned(stored(replace(paid, state=DealState.ENDED), StoredTab(credits=1 << 60)), ppm)
    assert ended.unclaimed == 0


def test_what_is_proven_and_not_settled_is_unclaimed() -> None:
    """One GiB at one credit a GiB-epoch; epochs 2, 3 and 5 of the five after the last settle."""
    deal = replace(DEAL, disk_price=1_000)
    cell = replace(
        CELL, terms=deal, end=100, leaves=1 << 20, leaf_epochs=4 << 20, disk_paid=4_000,
        disk_escrow=10**6, collateral=10**9, burned=40,
    )  # fmt: skip
    account = AccountCell(PROVIDER.address, rolled=6, bits=0b110_10)
    result = earned(stored(cell), 10_000, account)
    assert (result.disk, result.unclaimed) == (4_000 - 40, 3 * 990)
    assert result.total == result.disk
    over = earned(stored(replace(cell, state=DealState.ENDED)), 10_000, account)
    assert (over.disk, over.unclaimed) == (4_000 - 40, 0)


def test_epochs_are_counted_by_links_and_gaps() -> None:
    account = AccountCell(PROVIDER.address, rolled=10, bits=0b1110_1110)
    assert count_proofs(account, {5, 6, 8}) == Proofs(proven=2, missed=3, last=8)
    assert count_proofs(account, {5, 6, 8, 9, 10}) == Proofs(proven=3, missed=3, last=9)
    assert count_proofs(replace(account, bits=account.bits | 1), {10}) == Proofs(1, 3, 10)
    assert count_proofs(AccountCell(PROVIDER.address), {1}) == Proofs(0, 0, 0)
    ages = AccountCell(PROVIDER.address, rolled=10_000, bits=(1 << 720) - 2)
    assert count_proofs(ages, range(10_001)) == Proofs(719, 0, 9_999)
    assert count_proofs(replace(ages, bits=0), ()) == Proofs(0, 719, 0)


def test_months_end() -> None:
    def at(*date: int) -> float:
        return datetime(*date, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]

    assert month_end_s(at(2026, 12, 31, 23)) == at(2027, 1, 1)
    assert month_end_s(at(2028, 2, 1)) == at(2028, 3, 1)


async def test_the_forecast_goes_on_at_the_last_days_rate(tmp_path: Path) -> None:
    clock = Clock(NOON_S - 86_400)
    async with open_deals(tmp_path / "deals") as store:
        await store.sign(stored(None))
        await sample_earnings(store, ACCOUNT, 0, clock)
        clock.at_s = NOON_S
        await store.save_cells([replace(CELL, voucher_paid=70)])
        await store.save_tab(DEAL_ID, False, StoredTab(Traffic(0, GIB), 100, b"s" * 65))
        result = await read_earnings(store, ACCOUNT, (), 0, clock)
        assert result.forecast == 100 + 10 * 100
        fields = result.fields()
        assert (fields["total"], fields["unclaimed"], fields["forecast"]) == ("70", "30", "1100")
        assert (fields["epochs_proven"], fields["epochs_missed"], fields["relay"]) == (0, 0, "0")
        assert [row["deal"] for row in fields["deals"]] == [DealId(DEAL_ID).hex()]
