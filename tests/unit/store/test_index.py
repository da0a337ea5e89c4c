"""The index: what it was told counts at once, and nothing is forgotten when writing fails."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from dsn.ids import Commit
from dsn.store.changes import Change, Claim, ClaimsSet, RecordPut, Revised, SmallStored
from dsn.store.database import Database
from dsn.store.index import Index, open_index
from dsn.store.state import Place, Position, Rows, touched

VOLUME = b"v" * 32


def commit_of(number: int) -> Commit:
    return Commit(number.to_bytes(32, "big"))


def stored(number: int, client: int = 0) -> SmallStored:
    claim = Claim(client.to_bytes(32, "big"), b"", 9)
    return SmallStored(commit_of(number), b"r" * 32, 100, (claim,), bytes(100))


async def apply(index: Index, *changes: Change) -> None:
    """Tell the index of ``changes`` as if the log had just made them durable."""
    names = [touched(change) for change in changes]
    commits = [commit for commits, _ in names for commit in commits]
    draft = await index.draft(commits, [key for _, keys in names for key in keys], room=0)
    offset = index.applied.offset
    for change in changes:
        draft.apply(change, Place(1, offset, 10))
        offset += 10
    index.commit(draft, Position(1, offset))


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Index]:
    index = await open_index(path, VOLUME)
    try:
        yield index
    finally:
        await index.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "index.db"


async def test_rows_and_records_are_seen_before_and_after_they_are_written(path: Path) -> None:
    commit = commit_of(7)
    async with opened(path) as index:
        await apply(index, *map(stored, range(5_000)), RecordPut(b"k" * 32, b""))
        before = await index.rows([commit])
        for _ in range(2):
            rows = await index.rows([commit_of(n) for n in (0, 4_999, 5_000)])
            assert [row and row.length for row in rows.values()] == [100, 100, None]
            records = await index.records([b"k" * 32, b"l" * 32])
            assert records == {b"k" * 32: Place(1, 50_000, 10), b"l" * 32: None}
            await index.flush()
            assert index.unwritten == 0
    async with opened(path) as again:
        assert await again.rows([commit]) == before
        assert (again.applied, again.totals) == (index.applied, index.totals)
        assert (again.segments, again.pending) == (index.segments, index.pending)


async def test_what_was_not_written_is_not_claimed_to_be(path: Path) -> None:
    async with opened(path) as index:
        await apply(index, stored(1))
        await index.flush()
        flushed = index.applied
        await apply(index, stored(2))
    async with opened(path) as again:
        assert again.applied == flushed
        assert await again.rows([commit_of(2)]) == {commit_of(2): None}
        assert again.totals.shards == 1


class SlowDatabase:
    """A database whose answers to lookups arrive late."""

    def __init__(self, database: Database) -> None:
        self.database, self.asked, self.answer = database, asyncio.Event(), asyncio.Event()

    async def rows(self, commits: Sequence[Commit]) -> Rows:
        rows = await self.database.rows(commits)
        self.asked.set()
        await self.answer.wait()
        return rows


async def test_a_late_answer_does_not_outlive_what_happened_meanwhile(path: Path) -> None:
    commit = commit_of(1)
    async with opened(path) as index:
        await apply(index, stored(1), *map(stored, range(10, 10_000)))  # more than is remembered
        await index.flush()
        await index.rows([commit_of(n) for n in range(10, 10_000)])  # pushes it out
        database = index._database
        slow = SlowDatabase(database)
        index._database = cast(Database, slow)
        late = asyncio.create_task(index.rows([commit]))
        asked = asyncio.create_task(slow.asked.wait())
        await asyncio.wait({late, asked}, return_when=asyncio.FIRST_COMPLETED)
        assert not late.done(), late.result()
        index._database = database
        await apply(index, ClaimsSet((commit,), ()))
        await index.flush()
        slow.answer.set()
        assert await late == {commit: None}
        assert await index.rows([commit]) == {commit: None}


async def test_a_full_disk_forgets_nothing(path: Path) -> None:
    five = (5).to_bytes(32, "big")
    async with opened(path) as index:
        await apply(index, stored(0))
        await index.flush()
        writer = index._database._writer
        [(pages,)] = writer.execute("PRAGMA page_count")
        writer.execute(f"PRAGMA max_page_count = {pages}")
        await apply(index, *(stored(n, client=n) for n in range(1, 2_000)))
        with pytest.raises(sqlite3.OperationalError):
            await index.flush()
        deal = Revised(five, b"d" * 32, (commit_of(5),), (), b"")
        await apply(index, deal, stored(3_000, client=7_000))
        with pytest.raises(sqlite3.OperationalError):
            await index.flush()
        assert (await index.rows([commit_of(5)]))[commit_of(5)].claims[0].deal == b"d" * 32
        writer.execute("PRAGMA max_page_count = 1000000")
        await index.flush()
    async with opened(path) as again:
        assert again.totals.shards == 2_001
        assert await again.held(five, b"d" * 32, b"", 9) == [(commit_of(5), 1)]
        rows = await again.rows([commit_of(n) for n in range(2_000)])
        clients = [row.claims[0].client for row in rows.values()]
        assert clients == [number.to_bytes(32, "big") for number in range(2_000)]


async def test_another_volumes_index_is_refused(path: Path) -> None:
    async with opened(path):
        pass
    with pytest.raises(ValueError, match="another volume"):
        await open_index(path, b"w" * 32)
