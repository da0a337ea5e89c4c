"""The log of revisions: what is written is read back, in order, and nothing of other deals."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dsn.ids import Commit, DealId
from dsn.proofs.inventory import InventoryEntry
from dsn.store.deals import DealStore, open_deals
from dsn.store.revisions import Change, Standing

ONE, OTHER = DealId(b"1" * 32), DealId(b"2" * 32)
MOST = (1 << 64) - 1


def held(*numbers: int) -> tuple[tuple[Commit, int], ...]:
    return tuple((Commit(bytes([n]) * 32), n or MOST) for n in numbers)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DealStore]:
    async with open_deals(tmp_path / "deals") as store:
        yield store


async def test_changes_come_newest_first(store: DealStore) -> None:
    log = store.revisions
    changes = [Change(ONE, 1, 0, held(0, 1)), Change(ONE, 2, 1, held(2), held(1))]
    changes.append(Change(ONE, 1 << 63, 2, (), held(2)))
    for change in changes:
        await log.append(change)
    await log.append(Change(OTHER, 1, 0))
    assert await log.changes(ONE, 0, MOST) == changes[::-1]
    assert await log.changes(ONE, 1, 2) == [changes[1]]
    await log.forget(ONE, 1)
    assert await log.changes(ONE, 0, MOST) == changes[:0:-1]
    await log.clear(ONE)
    assert await log.changes(ONE, 0, MOST) == []
    assert await log.changes(OTHER, 0, MOST) == [Change(OTHER, 1, 0)]


async def test_a_change_replaces_what_never_came_to_be(store: DealStore) -> None:
    log = store.revisions
    for number in (1, 2, 3):
        await log.append(Change(ONE, number, number - 1, held(number)))
    await log.append(Change(ONE, 7, 1, held(7)))
    assert [each.number for each in await log.changes(ONE, 0, MOST)] == [7, 1]
    await log.append(Change(ONE, 7, 1, held(8)))
    assert (await log.changes(ONE, 1, 7))[0].adds == held(8)


async def test_standings_outlive_the_process(tmp_path: Path) -> None:
    seed = 5
    drawn = random.Random(seed)
    entries = [
        InventoryEntry(DealId(drawn.randbytes(32)), drawn.getrandbits(64), drawn.randbytes(32), 9)
        for _ in range(300)
    ]
    live = Standing(MOST, 7, {entry.deal: entry for entry in entries})
    frozen = Standing(0, 7, {entries[0].deal: entries[0]})
    async with open_deals(tmp_path / "deals") as store:
        assert await store.revisions.standings() == (None, None)
        await store.revisions.save_standings(frozen, live)
        await store.revisions.save_standings(live, frozen)
    async with open_deals(tmp_path / "deals") as store:
        assert await store.revisions.standings() == (live, frozen), seed
        await store.revisions.save_standings(live, None)
        assert await store.revisions.standings() == (live, None)
