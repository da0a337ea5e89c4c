"""A provider's deals on disk: what it signed, what was moved, and the highest vouchers.

What a write has returned for survives kill -9. While one transaction is on its way to the disk
the next one gathers, so many vouchers share one fsync.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from dsn.core.codec import Reader, Writer
from dsn.errors import DataLost
from dsn.ids import DealId, NodeId
from dsn.ledger.bandwidth import Traffic
from dsn.ledger.cells import CellKind, DealCell, DealState, decode_cell
from dsn.ledger.deal import Deal
from dsn.ledger.settlement import SETTLEMENT_SIGNATURE_BYTES

T = TypeVar("T")
_Statement: TypeAlias = tuple[str, Sequence[Any]]
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS deals (id BLOB PRIMARY KEY, owner BLOB NOT NULL, terms BLOB NOT NULL,
    client_signature BLOB NOT NULL, provider_signature BLOB NOT NULL, cell BLOB,
    closed INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tabs (deal BLOB, by_delegate INTEGER, tab BLOB NOT NULL,
    PRIMARY KEY (deal, by_delegate)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (at_s INTEGER PRIMARY KEY, earned BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS deals_by_owner ON deals (owner);
CREATE INDEX IF NOT EXISTS deals_running ON deals (id) WHERE NOT closed;
"""
_NOTHING: Final = Traffic()
_SIGN: Final = (
    "INSERT OR IGNORE INTO deals (id, owner, terms, client_signature, provider_signature) "
    "VALUES (?, ?, ?, ?, ?)"
)
_ROWS: Final = "SELECT id, owner, terms, client_signature, provider_signature, cell FROM deals"


@dataclass(frozen=True, slots=True)
class StoredTab:
    """What a payer owes and has promised.

    Attributes:
        traffic: Bytes moved for it; after a crash, up to a few MiB fewer than there were.
        credits: The highest voucher's.
        signature: That voucher's, or empty.
        claimed: What the ledger was asked to redeem; never more than ``credits``.
    """

    traffic: Traffic = _NOTHING
    credits: int = 0
    signature: bytes = b""
    claimed: int = 0

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().u64(self.traffic.ingress_bytes).u64(self.traffic.egress_bytes)
        return writer.u64(self.credits).u64(self.claimed).var(self.signature).done()

    @classmethod
    def decode(cls, raw: bytes) -> StoredTab:
        """Read what ``encode`` wrote."""
        reader = Reader(raw, "tab")
        traffic, credits, claimed = Traffic(reader.u64(), reader.u64()), reader.u64(), reader.u64()
        return cls(traffic, credits, reader.var(SETTLEMENT_SIGNATURE_BYTES), claimed)


@dataclass(frozen=True, slots=True)
class StoredDeal:
    """A deal that this provider signed.

    Attributes:
        deal: Its id.
        owner: The client's identity.
        terms: What both signed.
        client_signature: The client's.
        provider_signature: The provider's.
        cell: The deal as the ledger last had it; ``None`` if it was never seen there.
        tabs: By whether the delegate pays.
    """

    deal: DealId
    owner: NodeId
    terms: Deal
    client_signature: bytes
    provider_signature: bytes
    cell: DealCell | None = None
    tabs: Mapping[bool, StoredTab] = field(default_factory=dict)


@dataclass(slots=True)
class _Batch:
    """Statements that become durable together."""

    statements: list[_Statement] = field(default_factory=list)
    done: bool = False


class DealStore:
    """One home's deals; made by ``open_deals``."""

    def __init__(self, path: Path, connection: sqlite3.Connection, disk: ThreadPoolExecutor):
        """Use ``connection`` in the one thread of ``disk`` only."""
        self._path, self._connection, self._disk = path, connection, disk
        self._turn = asyncio.Lock()
        self._gathering = _Batch()

    async def sign(self, signed: StoredDeal) -> None:
        """Remember a deal before its signature leaves the house; again: no change."""
        terms, owner = signed.terms.encode(), signed.owner
        row = signed.deal, owner, terms, signed.client_signature, signed.provider_signature
        await self._write((_SIGN, row))

    async def get(self, deal: DealId) -> StoredDeal | None:
        """The deal, if it was signed here."""
        found = await self._select(f"{_ROWS} WHERE id = ?", (deal,))
        return found[0] if found else None

    async def owned(self, owner: NodeId) -> list[StoredDeal]:
        """The deals of one client that are not closed."""
        return await self._select(f"{_ROWS} WHERE owner = ? AND NOT closed", (owner,))

    async def running(self) -> list[StoredDeal]:
        """All deals that are not closed."""
        return await self._select(f"{_ROWS} WHERE NOT closed", ())

    async def all(self) -> list[StoredDeal]:
        """Every deal there ever was, in no particular order."""
        return await self._select(_ROWS, ())

    async def save_tab(self, deal: DealId, by_delegate: bool, tab: StoredTab) -> None:
        """Replace a payer's tab."""
        row = deal, by_delegate, tab.encode()
        await self._write(("REPLACE INTO tabs VALUES (?, ?, ?)", row))

    async def save_cells(self, cells: Iterable[DealCell]) -> None:
        """Keep deals as the ledger has them now."""
        statement = "UPDATE deals SET cell = ?, closed = ? WHERE id = ?"
        await self._write(
            *(
                (statement, (cell.encode(), cell.state is DealState.CLOSED, cell.deal))
                for cell in cells
            )
        )

    async def forget(self, deal: DealId) -> None:
        """Drop a deal that was signed and can no longer be opened."""
        await self._write(("DELETE FROM deals WHERE id = ? AND cell IS NULL", (deal,)))

    async def sample(self, at_s: int, earned: int, *, keep_s: int) -> None:
        """Note what was earned by ``at_s`` (Unix seconds); forget what is ``keep_s`` older."""
        raw = Writer().u64(earned).done()
        await self._write(
            ("REPLACE INTO samples VALUES (?, ?)", (at_s, raw)),
            ("DELETE FROM samples WHERE at_s < ?", (at_s - keep_s,)),
        )

    async def oldest_sample(self) -> tuple[int, int] | None:
        """When the oldest note was made that is kept, and what it says."""
        return await self._on_disk(self._oldest_sample)

    def _oldest_sample(self) -> tuple[int, int] | None:
        row = self._connection.execute("SELECT * FROM samples ORDER BY at_s LIMIT 1").fetchone()
        return None if row is None else (row[0], int.from_bytes(row[1], "big"))

    async def _write(self, *statements: _Statement) -> None:
        """Have them durable: whoever's turn it is first commits what all have gathered."""
        batch = self._gathering
        batch.statements += statements
        async with self._turn:
            if batch.done:
                return
            self._gathering = _Batch()
            await self._on_disk(self._commit, batch)

    def _commit(self, batch: _Batch) -> None:
        with self._connection:
            self._connection.execute("BEGIN")
            for statement, arguments in batch.statements:
                self._connection.execute(statement, arguments)
        batch.done = True

    async def _select(self, query: str, arguments: Sequence[Any]) -> list[StoredDeal]:
        return await self._on_disk(self._rows, query, arguments)

    def _rows(self, query: str, arguments: Sequence[Any]) -> list[StoredDeal]:
        found = []
        for deal, owner, terms, client, provider, raw in self._connection.execute(query, arguments):
            cell = None if raw is None else decode_cell(CellKind.DEAL, raw)
            assert cell is None or isinstance(cell, DealCell)
            ids = DealId(deal), NodeId(owner)
            tabs = self._tabs(deal)
            found.append(StoredDeal(*ids, Deal.decode(terms), client, provider, cell, tabs))
        return found

    def _tabs(self, deal: bytes) -> dict[bool, StoredTab]:
        query = "SELECT by_delegate, tab FROM tabs WHERE deal = ?"
        rows = self._connection.execute(query, (deal,))
        return {bool(by_delegate): StoredTab.decode(raw) for by_delegate, raw in rows}

    async def _on_disk(self, call: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._disk, call, *arguments)
        except sqlite3.DatabaseError as error:
            raise _failing(self._path, error) from error


@asynccontextmanager
async def open_deals(path: Path) -> AsyncIterator[DealStore]:
    """Use the deals at ``path`` while the block runs; a missing file is made.

    Raises:
        DataLost: ``deals_damaged``: it is no such file, or the disk fails.
    """
    with ThreadPoolExecutor(1, "deals") as disk:
        loop = asyncio.get_running_loop()
        try:
            connection = await loop.run_in_executor(disk, _connect, path)
        except sqlite3.DatabaseError as error:
            raise _failing(path, error) from error
        try:
            yield DealStore(path, connection, disk)
        finally:
            await loop.run_in_executor(disk, connection.close)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA)
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
