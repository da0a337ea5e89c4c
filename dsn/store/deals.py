"""A provider's deals on disk: what it signed, what was moved, and the highest vouchers.

What a write has returned for survives kill -9; many vouchers share one fsync.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from dsn.core.codec import Reader, Writer
from dsn.ids import DealId, NodeId
from dsn.ledger.bandwidth import Traffic
from dsn.ledger.cells import CellKind, DealCell, DealState, decode_cell
from dsn.ledger.deal import Deal
from dsn.ledger.settlement import SETTLEMENT_SIGNATURE_BYTES
from dsn.store.batches import Batches, open_batches
from dsn.store.revisions import SCHEMA as REVISIONS_SCHEMA
from dsn.store.revisions import RevisionLog

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


class DealStore:
    """One home's deals; made by ``open_deals``."""

    def __init__(self, batches: Batches) -> None:
        """Keep them in a database with this module's schema and that of ``RevisionLog``."""
        self._batches = batches
        self.revisions = RevisionLog(batches)
        """What each deal holds, as far back as anybody may ask."""

    async def sign(self, signed: StoredDeal) -> None:
        """Remember a deal before its signature leaves the house; again: no change."""
        terms, owner = signed.terms.encode(), signed.owner
        row = signed.deal, owner, terms, signed.client_signature, signed.provider_signature
        await self._batches.write((_SIGN, row))

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
        await self._batches.write(("REPLACE INTO tabs VALUES (?, ?, ?)", row))

    async def save_cells(self, cells: Iterable[DealCell]) -> None:
        """Keep deals as the ledger has them now."""
        statement = "UPDATE deals SET cell = ?, closed = ? WHERE id = ?"
        await self._batches.write(
            *(
                (statement, (cell.encode(), cell.state is DealState.CLOSED, cell.deal))
                for cell in cells
            )
        )

    async def forget(self, deal: DealId) -> None:
        """Drop a deal that was signed and can no longer be opened."""
        await self._batches.write(("DELETE FROM deals WHERE id = ? AND cell IS NULL", (deal,)))

    async def sample(self, at_s: int, earned: int, *, keep_s: int) -> None:
        """Note what was earned by ``at_s`` (Unix seconds); forget what is ``keep_s`` older."""
        raw = Writer().u64(earned).done()
        await self._batches.write(
            ("REPLACE INTO samples VALUES (?, ?)", (at_s, raw)),
            ("DELETE FROM samples WHERE at_s < ?", (at_s - keep_s,)),
        )

    async def oldest_sample(self) -> tuple[int, int] | None:
        """When the oldest note was made that is kept, and what it says."""
        return await self._batches.read(_oldest_sample)

    async def _select(self, query: str, arguments: Sequence[Any]) -> list[StoredDeal]:
        return await self._batches.read(partial(_deals, query, arguments))


@asynccontextmanager
async def open_deals(path: Path) -> AsyncIterator[DealStore]:
    """Use the deals at ``path`` while the block runs; a missing file is made.

    Raises:
        DataLost: ``deals_damaged``: it is no such file, or the disk fails.
    """
    async with open_batches(path, _SCHEMA + REVISIONS_SCHEMA) as batches:
        yield DealStore(batches)


def _oldest_sample(connection: sqlite3.Connection) -> tuple[int, int] | None:
    row = connection.execute("SELECT * FROM samples ORDER BY at_s LIMIT 1").fetchone()
    return None if row is None else (row[0], int.from_bytes(row[1], "big"))


def _deals(
    query: str, arguments: Sequence[Any], connection: sqlite3.Connection
) -> list[StoredDeal]:
    found = []
    for deal, owner, terms, client, provider, raw in connection.execute(query, arguments):
        cell = None if raw is None else decode_cell(CellKind.DEAL, raw)
        assert cell is None or isinstance(cell, DealCell)
        ids = DealId(deal), NodeId(owner)
        tabs = _tabs(connection, deal)
        found.append(StoredDeal(*ids, Deal.decode(terms), client, provider, cell, tabs))
    return found


def _tabs(connection: sqlite3.Connection, deal: bytes) -> dict[bool, StoredTab]:
    rows = connection.execute("SELECT by_delegate, tab FROM tabs WHERE deal = ?", (deal,))
    return {bool(by_delegate): StoredTab.decode(raw) for by_delegate, raw in rows}
