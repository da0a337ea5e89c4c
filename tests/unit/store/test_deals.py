"""A provider's deals on disk: what a write has returned for is there, whatever happens."""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.errors import DataLost
from dsn.ids import NodeId
from dsn.ledger.bandwidth import Traffic
from dsn.ledger.cells import DealCell, DealState
from dsn.store.deals import StoredDeal, StoredTab, open_deals
from tests.support.signing import DOMAIN, deal

OWNER, OTHER = NodeId(b"o" * 32), NodeId(b"x" * 32)


def signed(number: int, owner: NodeId = OWNER) -> StoredDeal:
    terms = deal(salt=bytes([number]) * 32)
    return StoredDeal(terms.deal_id(DOMAIN), owner, terms, b"c" * 65, b"p" * 65)


def cell(of: StoredDeal, state: DealState = DealState.OPEN) -> DealCell:
    return DealCell(of.deal, of.terms, state, end=of.terms.end, grace=0, settled=1)


async def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    one, other = signed(1), signed(2, OTHER)
    tab = StoredTab(Traffic(5, (1 << 64) - 1), (1 << 64) - 1, b"s" * 65, 7)
    async with open_deals(tmp_path / "deals") as store:
        await store.sign(one)
        await store.sign(other)
        await store.save_tab(one.deal, False, StoredTab())
        await store.save_tab(one.deal, False, tab)
        await store.save_tab(one.deal, True, StoredTab(credits=3))
        await store.save_cells([cell(one)])
    async with open_deals(tmp_path / "deals") as store:
        found = await store.get(one.deal)
        tabs = {False: tab, True: StoredTab(credits=3)}
        assert found == replace(one, cell=cell(one), tabs=tabs)
        assert await store.get(other.deal) == other
        assert [each.deal for each in await store.owned(OTHER)] == [other.deal]
        assert await store.get(signed(3).deal) is None


async def test_signing_again_changes_nothing(tmp_path: Path) -> None:
    async with open_deals(tmp_path / "deals") as store:
        await store.sign(signed(1))
        await store.save_cells([cell(signed(1))])
        await store.sign(replace(signed(1), owner=OTHER))
        found = await store.get(signed(1).deal)
        assert found == replace(signed(1), cell=cell(signed(1)))


async def test_closed_deals_are_kept_and_not_running(tmp_path: Path) -> None:
    deals = [signed(n) for n in range(3)]
    async with open_deals(tmp_path / "deals") as store:
        for each in deals:
            await store.sign(each)
        await store.save_cells([cell(deals[0]), cell(deals[1], DealState.CLOSED)])
        assert {each.deal for each in await store.running()} == {deals[0].deal, deals[2].deal}
        assert len(await store.owned(OWNER)) == 2
        assert len(await store.all()) == 3
        await store.forget(deals[0].deal)
        await store.forget(deals[2].deal)
        assert {each.deal for each in await store.all()} == {deals[0].deal, deals[1].deal}


async def test_of_many_writes_at_once_the_last_counts(tmp_path: Path) -> None:
    one = signed(1)
    async with open_deals(tmp_path / "deals") as store:
        await store.sign(one)
        async with asyncio.TaskGroup() as group:
            for credits in range(300):
                group.create_task(store.save_tab(one.deal, False, StoredTab(credits=credits)))
        found = await store.get(one.deal)
        assert found is not None
        assert found.tabs[False].credits == 299


@pytest.mark.parametrize("turns", range(8))
async def test_a_writer_that_leaves_takes_nobody_elses_write_along(
    tmp_path: Path, turns: int
) -> None:
    one = signed(1)
    async with open_deals(tmp_path / "deals") as store:
        await store.sign(one)
        writes = [
            asyncio.create_task(store.save_tab(one.deal, False, StoredTab(credits=credits)))
            for credits in range(4)
        ]
        for _ in range(turns):
            await asyncio.sleep(0)
        writes[0].cancel()
        writes[1].cancel()
        await asyncio.gather(*writes, return_exceptions=True)
        found = await store.get(one.deal)
        assert found is not None
        assert found.tabs[False].credits == 3


async def test_samples_are_kept_for_a_day(tmp_path: Path) -> None:
    async with open_deals(tmp_path / "deals") as store:
        assert await store.oldest_sample() is None
        for at_s in (0, 50, 100):
            await store.sample(at_s, 10 * at_s, keep_s=60)
        assert await store.oldest_sample() == (50, 500)


async def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "deals").write_bytes(b"not a database" * 1_000)
    with pytest.raises(DataLost) as error:
        async with open_deals(tmp_path / "deals"):
            pass
    assert error.value.detail_code == "deals_damaged"
    assert isinstance(error.value.__cause__, sqlite3.DatabaseError)
