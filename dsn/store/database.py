"""The tables under the index, and one transaction to bring them up to date."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import operator
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from dsn import units
from dsn.errors import DataLost
from dsn.ids import Commit
from dsn.store.changes import PENDING, Claim
from dsn.store.state import Place, Position, Records, Row, Rows, SegmentUse, Totals

_T = TypeVar("_T")
_Step = tuple[str, Sequence[tuple[Any, ...]]]
"""A statement, and the values it is run with."""
_VERSION = 2
_ASK = 256
"""Keys a query."""
_SCHEMA = """
CREATE TABLE state (version INTEGER, volume BLOB, segment INTEGER, offset INTEGER,
    shards INTEGER, lost INTEGER, small INTEGER, large INTEGER, kept INTEGER,
    log INTEGER, dead INTEGER, damaged INTEGER);
CREATE TABLE segments (number INTEGER PRIMARY KEY, size INTEGER, dead INTEGER, facts INTEGER);
CREATE TABLE accounts (id INTEGER PRIMARY KEY, client BLOB, deal BLOB);
CREATE TABLE claims (sha BLOB, account INTEGER, keep_until_s INTEGER, root BLOB,
    length INTEGER, segment INTEGER, offset INTEGER, size INTEGER, large INTEGER, lost INTEGER,
    PRIMARY KEY (sha, account)) WITHOUT ROWID;
CREATE INDEX claims_by_account ON claims (account, sha);
CREATE INDEX claims_large ON claims (sha) WHERE large;
CREATE INDEX claims_lost ON claims (sha) WHERE lost;
CREATE TABLE records (id BLOB PRIMARY KEY, segment INTEGER, offset INTEGER, size INTEGER)
    WITHOUT ROWID;
"""
_CLAIM = "INSERT INTO claims VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_STATE = (
    "UPDATE state SET segment = ?, offset = ?, shards = ?, lost = ?, small = ?, large = ?, "
    "kept = ?, log = ?, dead = ?, damaged = ?"
)
_ROWS = (
    "SELECT sha, client, deal, keep_until_s, root, length, segment, offset, size, large, lost "
    "FROM claims JOIN accounts ON account = id WHERE sha IN ({}) ORDER BY sha"
)
_RECORDS = "SELECT id, segment, offset, size FROM records WHERE id IN ({})"
_PENDING = (
    "SELECT client, SUM(length) FROM accounts JOIN claims ON account = id "
    "WHERE deal = ? GROUP BY client"
)
_EXPIRED = (
    "SELECT client, sha FROM accounts JOIN claims ON account = id "
    "WHERE deal = ? AND keep_until_s <= ?"
)
_HELD = "SELECT sha, length FROM claims WHERE account = ? AND sha > ? ORDER BY sha LIMIT ?"
_KEYS = "SELECT id FROM records WHERE length(id) = 32 AND id > ? ORDER BY id LIMIT ?"
_COMMITS = "SELECT DISTINCT sha FROM claims WHERE sha > ? ORDER BY sha LIMIT ?"
_LOST = "SELECT DISTINCT sha FROM claims WHERE lost AND sha > ? ORDER BY sha LIMIT ?"
_LARGE = "SELECT sha, lost FROM claims WHERE large AND sha >= ? AND sha < ?"


@dataclass(slots=True)
class Sums:
    """What is known of the store as a whole at one position of the log."""

    applied: Position
    totals: Totals
    segments: dict[int, SegmentUse] = field(default_factory=dict)
    pending: Counter[bytes] = field(default_factory=Counter)
    """Bytes a client; follows from the rows."""


class Database:
    """One volume's tables; reads see the last transaction, and never wait for the next."""

    def __init__(
        self,
        path: Path,
        lookup: sqlite3.Connection,
        reader: aiosqlite.Connection,
        writer: sqlite3.Connection,
    ) -> None:
        """Use ``open_database``.

        Args:
            path: Where it is.
            lookup: Answers by key at once: a few microseconds, where a thread would cost hundreds.
            reader: Answers what may take long.
            writer: Changes it, a whole transaction at a time, in a thread of its own.
        """
        self._files = [path, path.with_name(path.name + "-wal")]
        self._lookup, self._reader, self._writer = lookup, reader, writer
        self._thread = ThreadPoolExecutor(1, "index")
        self._accounts: dict[tuple[bytes, bytes], int] = {}
        self.broken = False
        """It contradicted itself and must be rebuilt from the log."""

    def size_bytes(self) -> int:
        """What the database takes on disk."""
        return sum(file.stat().st_size for file in self._files if file.exists())

    async def load(self, volume: bytes) -> Sums:
        """Read what is known of the whole.

        Raises:
            ValueError: The database belongs to another volume or version.
        """
        rows = await self._ask("SELECT * FROM state")
        if [row[:2] for row in rows] != [(_VERSION, volume)]:
            raise ValueError("index of another volume or version")
        segment, offset, *totals = rows[0][2:]
        sums = Sums(Position(segment, offset), Totals(*totals))
        for number, *use in await self._ask("SELECT * FROM segments"):
            sums.segments[number] = SegmentUse(*use)
        for number, client, deal in await self._ask("SELECT * FROM accounts"):
            self._accounts[client, deal] = number
        sums.pending.update(dict(await self._ask(_PENDING, (PENDING,))))
        return sums

    async def rows(self, commits: Sequence[Commit]) -> Rows:
        """Those of ``commits`` that have a row."""
        return {row.commit: row for row in _gather(self._select(_ROWS, commits))}

    async def records(self, keys: Sequence[bytes]) -> Records:
        """Those of ``keys`` that have a record."""
        return {key: Place(*place) for key, *place in self._select(_RECORDS, keys)}

    async def record_keys(self, after: bytes, limit: int) -> list[bytes]:
        """Keys beyond ``after`` that records stand under, sorted."""
        return [key for (key,) in await self._ask(_KEYS, (after, limit))]

    async def commits(self, after: bytes, limit: int) -> list[Commit]:
        """Commits beyond ``after`` that anybody claims, sorted."""
        return [Commit(sha) for (sha,) in await self._ask(_COMMITS, (after, limit))]

    async def lost(self, after: bytes, limit: int) -> list[Commit]:
        """Commits beyond ``after`` of shards known to be lost, sorted."""
        return [Commit(sha) for (sha,) in await self._ask(_LOST, (after, limit))]

    async def held(
        self, account: tuple[bytes, bytes], after: bytes, limit: int
    ) -> list[tuple[Commit, int]]:
        """Commits beyond ``after`` that a client's deal claims, with their leaf counts."""
        rows = await self._ask(_HELD, (self._accounts.get(account, 0), after, limit))
        return [(Commit(sha), units.leaf_count(length)) for sha, length in rows]

    async def expired(self, now_s: float) -> list[tuple[bytes, Commit]]:
        """Clients and commits whose time as pending is over."""
        rows = await self._ask(_EXPIRED, (PENDING, int(now_s)))
        return [(client, Commit(sha)) for client, sha in rows]

    async def large(self, first_bytes: range) -> dict[Commit, bool]:
        """Large shards whose commit starts in ``first_bytes``, and whether each is lost."""
        ends = bytes([first_bytes[0]]), bytes([first_bytes[-1]]) + b"\xff" * 32
        return {Commit(sha): bool(lost) for sha, lost in await self._ask(_LARGE, ends)}

    async def write(
        self, sums: Sums, segments: Iterable[int], rows: Rows, records: Records
    ) -> None:
        """Change ``segments``, ``rows`` and ``records`` to what they are now, all at once.

        Raises:
            sqlite3.OperationalError: The disk is full; nothing has changed.
        """
        known = len(self._accounts)
        try:
            await self._write(self._change, self._steps(sums, segments, rows, records))
        except BaseException:
            while len(self._accounts) > known:
                self._accounts.popitem()
            raise

    async def sync(self) -> bool:
        """Make the last transaction survive a loss of power; false if a reader is in the way."""
        return await self._write(self._checkpoint)

    async def close(self) -> None:
        """Close it."""
        self._lookup.close()
        await self._reader.close()
        await self._write(self._writer.close)
        self._thread.shutdown()

    async def _write(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """``call`` in the writer's thread: what it began is ended, whoever waits."""
        done = asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            raise

    def _change(self, steps: Iterable[_Step]) -> None:
        """All of ``steps`` or none."""
        self._writer.execute("BEGIN")
        try:
            for statement, lines in steps:
                self._writer.executemany(statement, lines)
            self._writer.execute("COMMIT")
        except BaseException:
            self._writer.rollback()
            raise

    def _checkpoint(self) -> bool:
        [(busy, *_)] = self._writer.execute("PRAGMA wal_checkpoint(FULL)")
        return not busy

    def _steps(
        self, sums: Sums, segments: Iterable[int], rows: Rows, records: Records
    ) -> list[_Step]:
        new = [account for row in rows.values() if row for account in self._unknown(row)]
        claims = [line for row in rows.values() if row for line in self._lines(row)]
        return [
            ("INSERT INTO accounts VALUES (?, ?, ?)", new),
            ("DELETE FROM claims WHERE sha = ?", [(commit,) for commit in rows]),
            (_CLAIM, claims),
            (
                "REPLACE INTO records VALUES (?, ?, ?, ?)",
                [(key, *place) for key, place in records.items() if place],
            ),
            (
                "DELETE FROM segments WHERE number = ?",
                [(number,) for number in segments if number not in sums.segments],
            ),
            (
                "REPLACE INTO segments VALUES (?, ?, ?, ?)",
                [(n, *astuple(sums.segments[n])) for n in segments if n in sums.segments],
            ),
            (_STATE, [(*sums.applied, *astuple(sums.totals))]),
        ]

    def _unknown(self, row: Row) -> Iterator[tuple[int, bytes, bytes]]:
        for claim in row.claims:
            account = claim.client, claim.deal
            if account not in self._accounts:
                self._accounts[account] = number = len(self._accounts) + 1
                yield number, *account

    def _lines(self, row: Row) -> Iterator[tuple[Any, ...]]:
        for client, deal, keep_until_s in row.claims:
            account = self._accounts[client, deal]
            shard = row.root, row.length, *row.place, row.large, row.lost
            yield row.commit, account, keep_until_s, *shard

    def _select(self, query: str, keys: Sequence[bytes]) -> list[Any]:
        """Rows of ``query`` for all ``keys``, a few hundred at a time."""
        rows: list[Any] = []
        with self._damage_noted():
            for at in range(0, len(keys), _ASK):
                some = keys[at : at + _ASK]
                rows += self._lookup.execute(query.format(",".join("?" * len(some))), some)
        return rows

    async def _ask(self, query: str, arguments: Iterable[Any] = ()) -> list[Any]:
        with self._damage_noted():
            return list(await self._reader.execute_fetchall(query, arguments))

    @contextlib.contextmanager
    def _damage_noted(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            self.broken |= not isinstance(error, sqlite3.OperationalError)
            raise damaged(error) from error


async def open_database(path: Path) -> Database:
    """Open the database at ``path``; a missing one is made by ``create_database``.

    Raises:
        sqlite3.DatabaseError: It is damaged.
    """
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA synchronous = NORMAL")
        reader = await aiosqlite.connect(path, isolation_level=None)
        lookup = sqlite3.connect(path, isolation_level=None)
    except BaseException:
        writer.close()
        raise
    return Database(path, lookup, reader, writer)


def create_database(path: Path, volume: bytes) -> None:
    """Replace whatever is at ``path`` by empty tables of the volume that ``volume`` names."""
    discard_database(path)
    connection = sqlite3.connect(path)
    try:
        connection.executescript(_SCHEMA)
        state = "INSERT INTO state VALUES (?, ?, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)"
        connection.execute(state, (_VERSION, volume))
        connection.commit()
    finally:
        connection.close()


def discard_database(path: Path) -> None:
    """Delete the database and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def damaged(error: sqlite3.DatabaseError) -> DataLost:
    """What a failing database means for the store."""
    return DataLost(
        f"the index of this volume fails: {error}",
        hint="restart; it is rebuilt from the log",
        code="index_damaged",
    )


def _gather(lines: Iterable[Any]) -> Iterator[Row]:
    """Rows from lines sorted by commit, one line a claim."""
    for _, group in itertools.groupby(lines, key=operator.itemgetter(0)):
        shared = list(group)
        sha, _, _, _, root, length, segment, offset, size, large, lost = shared[0]
        claims = tuple(Claim(*line[1:4]) for line in shared)
        place = Place(segment, offset, size)
        yield Row(Commit(sha), root, length, place, bool(large), bool(lost), claims)
