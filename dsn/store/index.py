"""The index over the log: where everything stands, rebuildable at any time.

What the log made durable is first kept in memory and written to the database in batches,
together with the log position up to which the database is complete. Lookups see both.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dsn.ids import Commit
from dsn.store.database import Database, Sums, create_database, damaged, open_database
from dsn.store.state import Draft, Position, Records, Rows, SegmentUse, Totals

_Key = TypeVar("_Key", bound=bytes)
_Value = TypeVar("_Value")
_CLEAN = 4_096
"""Rows, and as many places of records, remembered after they were read or written."""
_ENOUGH = 256
"""Changes that are worth a transaction before ``_FLUSH_S`` is over."""
_FLUSH_S = 3.0
"""The log has it all by then: a longer wait costs a restart more, and a short one every put."""


@dataclass(slots=True)
class _Layer:
    """What memory knows: before the database does, or of what it said."""

    rows: Rows = field(default_factory=dict)
    records: Records = field(default_factory=dict)
    segments: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.rows) + len(self.records)

    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return not (self.rows or self.records or self.segments)

    def under(self, newer: _Layer) -> _Layer:
        """Both, the newer one on top."""
        return _Layer(
            self.rows | newer.rows,
            self.records | newer.records,
            self.segments | newer.segments,
        )


class Index:
    """Rows, records and sums as of the last durable change."""

    def __init__(self, database: Database, sums: Sums) -> None:
        """Start with what ``database`` has; use ``open_index``."""
        self._database, self._sums = database, sums
        self._dirty, self._flushing, self._clean = _Layer(), _Layer(), _Layer()
        self._flush_lock = asyncio.Lock()
        self._some, self._enough = asyncio.Event(), asyncio.Event()
        self._stopping = False
        self._commits = 0

    @property
    def applied(self) -> Position:
        """The log position that this state belongs to."""
        return self._sums.applied

    @property
    def totals(self) -> Totals:
        """Sums over all shards."""
        return self._sums.totals

    @property
    def segments(self) -> dict[int, SegmentUse]:
        """The log's segments and how much of each is dead."""
        return self._sums.segments

    @property
    def pending(self) -> Counter[bytes]:
        """Bytes of each client that nothing but receipts keep."""
        return self._sums.pending

    @property
    def broken(self) -> bool:
        """Whether the database contradicted itself and must be rebuilt from the log."""
        return self._database.broken

    @property
    def unwritten(self) -> int:
        """Rows and records that only memory has."""
        return len(self._dirty)

    def size_bytes(self) -> int:
        """What the database takes on disk."""
        return self._database.size_bytes()

    async def draft(self, commits: Collection[Commit], keys: Collection[bytes], room: int) -> Draft:
        """A draft over everything known of ``commits`` and of the records under ``keys``."""
        return Draft(await self.rows(commits), await self.records(keys), room)

    async def rows(self, commits: Collection[Commit]) -> Rows:
        """The row of each commit, or ``None``."""
        return await self._find(commits, lambda layer: layer.rows, self._database.rows)

    async def records(self, keys: Collection[bytes]) -> Records:
        """The place of each record, or ``None``."""
        return await self._find(keys, lambda layer: layer.records, self._database.records)

    def commit(self, draft: Draft, applied: Position) -> None:
        """Take over what ``draft`` changed; the log is durable up to ``applied``."""
        self._commits += 1
        for commit in draft.changed:
            self._dirty.rows[commit] = draft.rows[commit]
            self._clean.rows.pop(commit, None)
        for key in draft.recorded:
            self._dirty.records[key] = draft.records[key]
            self._clean.records.pop(key, None)
        for segment, use in draft.grown.items():
            self._count_segment(segment, -1)
            self.segments.setdefault(segment, SegmentUse()).add(use)
            self._count_segment(segment, 1)
        self._dirty.segments.update(draft.grown)
        self.totals.add(draft.totals)
        self.pending.update(draft.pending)
        for client in draft.pending:
            if not self.pending[client]:
                del self.pending[client]
        self._sums.applied = applied
        if draft.grown or draft.changed:
            self._some.set()
        if len(self._dirty) >= _ENOUGH:
            self._enough.set()

    async def run(self) -> None:
        """Flush soon after every change, until ``stop``.

        Raises:
            DataLost: ``index_damaged``.
        """
        while not self._stopping:
            await self._some.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_S):
                    await self._enough.wait()
            self._some.clear()
            self._enough.clear()
            try:
                await self.flush()
            except sqlite3.OperationalError:
                self._some.set()
            except sqlite3.DatabaseError as error:
                self._database.broken = True
                raise damaged(error) from error

    def stop(self) -> None:
        """Let ``run`` end after one more flush."""
        self._stopping = True
        self._some.set()
        self._enough.set()

    async def flush(self) -> None:
        """Write all that only memory has, in one transaction.

        Raises:
            sqlite3.OperationalError: The disk is full; nothing is forgotten.
        """
        async with self._flush_lock:
            if self._dirty.is_empty():
                return
            self._flushing, self._dirty = self._dirty, _Layer()
            doing = self._flushing
            try:
                await self._database.write(self._sums, doing.segments, doing.rows, doing.records)
            except BaseException:
                self._dirty = doing.under(self._dirty)
                raise
            finally:
                self._flushing = _Layer()
            _remember(self._clean.rows, doing.rows)
            _remember(self._clean.records, doing.records)

    async def checkpoint(self) -> bool:
        """As ``flush``; true if it is now certain to survive a loss of power."""
        await self.flush()
        return await self._database.sync()

    async def held(
        self, client: bytes, deal: bytes, after: bytes, limit: int
    ) -> list[tuple[Commit, int]]:
        """Commits beyond ``after`` that a deal claims, sorted, with their leaf counts."""
        await self.flush()
        return await self._database.held((client, deal), after, limit)

    async def record_keys(self, after: bytes, limit: int) -> list[bytes]:
        """Keys beyond ``after`` that records stand under, sorted."""
        await self.flush()
        return await self._database.record_keys(after, limit)

    async def commits(self, after: bytes, limit: int) -> list[Commit]:
        """Commits beyond ``after`` that anybody claims, sorted."""
        await self.flush()
        return await self._database.commits(after, limit)

    async def lost(self, after: bytes, limit: int) -> list[Commit]:
        """Commits beyond ``after`` of shards known to be lost, sorted."""
        await self.flush()
        return await self._database.lost(after, limit)

    async def expired(self, now_s: float) -> list[tuple[bytes, Commit]]:
        """Clients and commits whose time as pending is over."""
        await self.flush()
        return await self._database.expired(now_s)

    async def large(self, first_bytes: range) -> dict[Commit, bool]:
        """Large shards whose commit starts in ``first_bytes``, and whether each is lost."""
        await self.flush()
        return await self._database.large(first_bytes)

    def forget_segment(self, segment: int) -> None:
        """Leave out a log segment that was deleted."""
        self._count_segment(segment, -1)
        self.segments.pop(segment, None)
        self._dirty.segments.add(segment)
        self._some.set()

    async def close(self) -> None:
        """Close the database; what only memory has is in the log."""
        await self._database.close()

    def _count_segment(self, segment: int, sign: int) -> None:
        use = self.segments.get(segment, SegmentUse())
        self.totals.log += sign * use.size
        self.totals.dead += sign * use.dead

    async def _find(
        self,
        keys: Collection[_Key],
        part: Callable[[_Layer], dict[_Key, _Value | None]],
        read: Callable[[Sequence[_Key]], Awaitable[Mapping[_Key, _Value | None]]],
    ) -> dict[_Key, _Value | None]:
        """What memory has under ``keys`` in a ``part`` of it, else what the database ``read`` says.

        Memory counts once more when the answer is there: something may have happened meanwhile.
        """
        found: dict[_Key, _Value | None] = {}

        def known(key: _Key) -> bool:
            for layer in (self._dirty, self._flushing, self._clean):
                if key in part(layer):
                    found[key] = part(layer)[key]
                    return True
            return False

        missing = [key for key in dict.fromkeys(keys) if not known(key)]
        if missing:
            before, said = self._commits, await read(missing)
            fresh = {key: said.get(key) for key in missing}
            if before == self._commits:
                _remember(part(self._clean), fresh)
            found |= {key: value for key, value in fresh.items() if not known(key)}
        return found


def _remember(clean: dict[_Key, _Value], fresh: Mapping[_Key, _Value]) -> None:
    clean.update(fresh)
    while len(clean) > _CLEAN:
        del clean[next(iter(clean))]


async def open_index(path: Path, volume: bytes) -> Index:
    """Open or make the index at ``path`` of the volume that ``volume`` names.

    Raises:
        ValueError, DataLost, sqlite3.DatabaseError: It is damaged or another volume's.
    """
    if not path.exists():
        create_database(path, volume)
    database = await open_database(path)
    try:
        return Index(database, await database.load(volume))
    except BaseException:
        await database.close()
        raise
