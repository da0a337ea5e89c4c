"""What a verifier found, on disk: its draws, its verdicts in order, and the bundles behind them.

A verdict and its bundle become durable together, before anybody hears of them, and there is at
most one for each draw: a verifier that was killed looks again only where it had not signed yet.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import aiosqlite

from dsn.errors import DataLost
from dsn.ids import NodeId
from dsn.proofs.verdict import NO_EVIDENCE, NO_VERDICT, SignedVerdict, Verdict
from dsn.store.files import PRIVATE_DIRECTORY

_Statement: TypeAlias = tuple[str, Sequence[Any]]
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS draws (epoch INTEGER PRIMARY KEY, opened INTEGER NOT NULL,
    seed BLOB NOT NULL, links INTEGER NOT NULL, most INTEGER NOT NULL, sample INTEGER NOT NULL,
    skipped INTEGER NOT NULL, done INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS verdicts (number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE,
    node BLOB NOT NULL, epoch INTEGER NOT NULL, nonce BLOB NOT NULL, appeal BLOB NOT NULL,
    raw BLOB NOT NULL, signature BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS one_a_draw ON verdicts (node, epoch, nonce, appeal);
CREATE INDEX IF NOT EXISTS verdicts_on_appeal ON verdicts (appeal) WHERE appeal != zeroblob(32);
CREATE TABLE IF NOT EXISTS bundles (evidence BLOB PRIMARY KEY, at_s INTEGER NOT NULL,
    raw BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS bundles_by_time ON bundles (at_s);
"""
_ADD: Final = (
    "INSERT OR IGNORE INTO verdicts (number, hash, node, epoch, nonce, appeal, raw, signature) "
    "VALUES ((SELECT IFNULL(MAX(number) + 1, 0) FROM verdicts), ?, ?, ?, ?, ?, ?, ?)"
)
_BUNDLE: Final = (
    "INSERT OR IGNORE INTO bundles SELECT ?, ?, ? "
    "WHERE EXISTS (SELECT 1 FROM verdicts WHERE hash = ?)"
)
_PAGE: Final = "SELECT number, raw, signature FROM verdicts WHERE number >= ? {} ORDER BY number"


@dataclass(frozen=True, slots=True)
class Draw:
    """What a verifier looks at of one epoch.

    Attributes:
        epoch: Which one.
        opened: Number of the log's entry that opened it.
        seed: Of the draw, ``dsn.proofs.sample.sample_seed``.
        links: How many links the epoch has.
        most: How many of them are looked at, if there are so many.
        sample: How many openings of each.
        skipped: How many of the drawn links were not looked at: the budget was spent.
        done: Whether every other one has its verdict.
    """

    epoch: int
    opened: int
    seed: bytes
    links: int
    most: int
    sample: int
    skipped: int = 0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Numbered:
    """A verdict and its place in the order in which they were given, from 0."""

    number: int
    signed: SignedVerdict


class VerdictStore:
    """One verifier's findings; made by ``open_verdicts``."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        """Use ``connection``, which nobody else writes."""
        self._connection = connection
        self._turn = asyncio.Lock()

    async def begin(self, draw: Draw) -> Draw:
        """Record a draw before anything is looked at; gives the one that was recorded first."""
        marks = ", ".join("?" * 8)
        await self._write((f"INSERT OR IGNORE INTO draws VALUES ({marks})", astuple(draw)))
        (recorded,) = await self.draws(draw.epoch, draw.epoch)
        return recorded

    async def finish(self, epoch: int, skipped: int) -> None:
        """Record that all of a draw was looked at, but ``skipped`` links."""
        await self._write(
            ("UPDATE draws SET done = 1, skipped = ? WHERE epoch = ?", (skipped, epoch))
        )

    async def draws(self, first: int = 0, last: int = 1 << 62) -> list[Draw]:
        """Draws of the epochs ``first`` to ``last``, both of them too, in order."""
        sql = "SELECT * FROM draws WHERE epoch BETWEEN ? AND ? ORDER BY epoch"
        rows = await self._rows(sql, (first, last))
        return [_draw(row) for row in rows]

    async def add(
        self, verdicts: Sequence[SignedVerdict], evidence: bytes = NO_EVIDENCE, bundle: bytes = b""
    ) -> int:
        """Keep verdicts, and the bundle that they stand in, all or none.

        Returns:
            How many were new: of a draw that has a verdict already, none is kept.
        """
        statements: list[_Statement] = [(_ADD, _row(signed)) for signed in verdicts]
        if bundle:
            first = verdicts[0].verdict
            statements.append((_BUNDLE, (evidence, first.at_s, bundle, first.hash)))
        return sum((await self._write(*statements))[: len(verdicts)])

    async def page(
        self, after: int = 0, limit: int = 1 << 62, node: NodeId | None = None
    ) -> list[Numbered]:
        """Verdicts from number ``after`` on, on all nodes or on ``node``."""
        only, values = ("AND node = ?", [after, node, limit]) if node else ("", [after, limit])
        rows = await self._rows(_PAGE.format(only) + " LIMIT ?", values)
        return [_numbered(row) for row in rows]

    async def find(self, digest: bytes) -> SignedVerdict | None:
        """The verdict with this hash, if it is one of ours."""
        rows = await self._rows("SELECT 0, raw, signature FROM verdicts WHERE hash = ?", [digest])
        return _numbered(rows[0]).signed if rows else None

    async def of_draw(self, node: NodeId, epoch: int) -> SignedVerdict | None:
        """The first verdict on a node's epoch."""
        sql = "SELECT 0, raw, signature FROM verdicts WHERE node = ? AND epoch = ? AND appeal = ?"
        rows = await self._rows(sql, [node, epoch, NO_VERDICT])
        return _numbered(rows[0]).signed if rows else None

    async def appeal_of(self, digest: bytes) -> SignedVerdict | None:
        """What an appeal against the verdict with this hash came to, if there was one."""
        rows = await self._rows("SELECT 0, raw, signature FROM verdicts WHERE appeal = ?", [digest])
        return _numbered(rows[0]).signed if rows else None

    async def bundle(self, evidence: bytes) -> bytes:
        """The bundle that ``evidence`` names; empty: not kept any more."""
        rows = await self._rows("SELECT raw FROM bundles WHERE evidence = ?", [evidence])
        return bytes(rows[0][0]) if rows else b""

    async def forget_bundles(self, before_s: int) -> None:
        """Delete bundles that are older."""
        await self._write(("DELETE FROM bundles WHERE at_s < ?", (before_s,)))

    async def count(self) -> int:
        """Verdicts given so far."""
        ((count,),) = await self._rows("SELECT COUNT(*) FROM verdicts")
        return int(count)

    async def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return list(await self._connection.execute_fetchall(sql, values))

    async def _write(self, *statements: _Statement) -> list[int]:
        """Run statements as one transaction; gives how many rows each changed."""
        async with self._turn:
            try:
                cursors = [await self._connection.execute(*each) for each in statements]
                await self._connection.commit()
            except sqlite3.Error as error:
                await self._connection.rollback()
                raise DataLost(f"the verdicts cannot be written: {error}") from error
            return [cursor.rowcount for cursor in cursors]


@asynccontextmanager
async def open_verdicts(path: Path) -> AsyncIterator[VerdictStore]:
    """The findings in ``path``, made if they are not there.

    Raises:
        DataLost: ``verdicts_damaged``: it is no database of ours.
    """
    path.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    async with aiosqlite.connect(path) as connection:
        try:
            await connection.execute("PRAGMA journal_mode = WAL")
            await connection.execute("PRAGMA synchronous = FULL")
            await connection.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise DataLost(
                f"{path}: {error}",
                code="verdicts_damaged",
                hint="move it away: what others fetched of it still counts",
            ) from error
        yield VerdictStore(connection)


def _row(signed: SignedVerdict) -> tuple[Any, ...]:
    said = signed.verdict
    who = said.hash, said.node, said.epoch, said.nonce, said.appeal
    return (*who, said.encode(), signed.signature)


def _draw(row: Sequence[Any]) -> Draw:
    epoch, opened, seed, links, most, sample, skipped, done = row
    return Draw(epoch, opened, seed, links, most, sample, skipped, bool(done))


def _numbered(row: Sequence[Any]) -> Numbered:
    number, raw, signature = row
    return Numbered(number, SignedVerdict(Verdict.decode(raw), signature))
