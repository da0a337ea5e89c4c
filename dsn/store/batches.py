"""A home's database, in one thread, written in batches that become durable together.

While one transaction is on its way to the disk the next one gathers, so many small writes share
one fsync. What a write has returned for survives kill -9.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from dsn.errors import DataLost

T = TypeVar("T")
Statement: TypeAlias = tuple[str, Sequence[Any]]
"""SQL and what stands for its question marks."""


@dataclass(slots=True)
class _Batch:
    """Statements that become durable together."""

    statements: list[Statement] = field(default_factory=list)
    done: bool = False


class Batches:
    """One database; made by ``open_batches``."""

    def __init__(self, path: Path, connection: sqlite3.Connection, disk: ThreadPoolExecutor):
        """Use ``connection`` in the one thread of ``disk`` only."""
        self._path, self._connection, self._disk = path, connection, disk
        self._turn = asyncio.Lock()
        self._gathering = _Batch()

    async def write(self, *statements: Statement) -> None:
        """Have ``statements`` durable, all or none of them, in this order.

        Whoever's turn it is first commits what all have gathered.

        Raises:
            DataLost: ``deals_damaged``: the disk fails.
        """
        batch = self._gathering
        batch.statements += statements
        async with self._turn:
            if batch.done:
                return
            self._gathering = _Batch()
            await self._on_disk(self._commit, batch)

    async def read(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """What ``call`` reads; raises as ``write``."""
        return await self._on_disk(call, self._connection)

    def _commit(self, batch: _Batch) -> None:
        with self._connection:
            self._connection.execute("BEGIN")
            for statement, arguments in batch.statements:
                self._connection.execute(statement, arguments)
        batch.done = True

    async def _on_disk(self, call: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._disk, call, *arguments)
        except sqlite3.DatabaseError as error:
            raise _failing(self._path, error) from error


@asynccontextmanager
async def open_batches(path: Path, schema: str) -> AsyncIterator[Batches]:
    """Use the database at ``path`` while the block runs; a missing file is made.

    Args:
        path: The file.
        schema: Statements that make what is not there.

    Raises:
        DataLost: ``deals_damaged``: it is no such file, or the disk fails.
    """
    with ThreadPoolExecutor(1, "deals") as disk:
        loop = asyncio.get_running_loop()
        try:
            connection = await loop.run_in_executor(disk, _connect, path, schema)
        except sqlite3.DatabaseError as error:
            raise _failing(path, error) from error
        try:
            yield Batches(path, connection, disk)
        finally:
            await loop.run_in_executor(disk, connection.close)


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(schema)
    except BaseException:
        connection.close()
        raise
    return connection


def _failing(path: Path, error: sqlite3.DatabaseError) -> DataLost:
    return DataLost(
        f"the deals in {path} fail: {error}",
        hint="free some space, or bring the home back from a copy",
        code="deals_damaged",
    )
