"""How a provider's holdings came to be what they are: every revision that may still count.

The shard store has the newest holdings. What was held at an earlier revision follows from these
changes, undone one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.ids import ID_BYTES, Commit, DealId
from dsn.proofs.inventory import InventoryEntry
from dsn.store.batches import Batches

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS changes (deal BLOB, number BLOB, base BLOB NOT NULL,
    adds BLOB NOT NULL, drops BLOB NOT NULL, PRIMARY KEY (deal, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS standings (name TEXT PRIMARY KEY, standing BLOB NOT NULL) WITHOUT ROWID;
"""
_HELD_BYTES: Final = HASH_BYTES + 8

Held = tuple[Commit, int]
"""A shard's commit and its leaf count."""


@dataclass(frozen=True, slots=True)
class Change:
    """What revision ``number`` of a deal changed: ``adds`` was not held at ``base``, ``drops`` was.

    Numbers follow each other but where shards were lost: the provider then leaves some out.
    """

    deal: DealId
    number: int
    base: int
    adds: tuple[Held, ...] = ()
    drops: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """What a provider had installed after ``size`` entries of the log, in epoch ``epoch``."""

    size: int
    epoch: int
    entries: Mapping[DealId, InventoryEntry]

    def encode(self) -> bytes:
        """The fields, in order; entries by deal."""
        writer = Writer().u64(self.size).u64(self.epoch).u32(len(self.entries))
        for _, (deal, number, root, leaves) in sorted(self.entries.items()):
            writer.raw(deal, ID_BYTES).u64(number).raw(root, HASH_BYTES).u64(leaves)
        return writer.done()

    @classmethod
    def decode(cls, raw: bytes) -> Standing:
        """Read what ``encode`` wrote."""
        reader = Reader(raw, "standing")
        size, epoch, count = reader.u64(), reader.u64(), reader.u32()
        entries = [
            InventoryEntry(
                DealId(reader.raw(ID_BYTES)), reader.u64(), reader.raw(HASH_BYTES), reader.u64()
            )
            for _ in range(count)
        ]
        return cls(size, epoch, {entry.deal: entry for entry in entries})


class RevisionLog:
    """The changes of all deals of a home, and what was installed when the ledger was last seen."""

    def __init__(self, batches: Batches) -> None:
        """Keep them in a database with ``SCHEMA``."""
        self._batches = batches

    async def append(self, change: Change) -> None:
        """Add a change to its base, in place of whatever was to come after that before."""
        deal, base = change.deal, _key(change.base)
        row = deal, _key(change.number), base, _pack(change.adds), _pack(change.drops)
        await self._batches.write(
            ("DELETE FROM changes WHERE deal = ? AND number > ?", (deal, base)),
            ("INSERT INTO changes VALUES (?, ?, ?, ?, ?)", row),
        )

    async def changes(self, deal: DealId, after: int, newest: int) -> list[Change]:
        """The changes of numbers in ``(after, newest]``, the newest first."""
        query = (
            "SELECT number, base, adds, drops FROM changes WHERE deal = ? AND number > ? "
            "AND number <= ? ORDER BY number DESC"
        )

        def rows(connection: sqlite3.Connection) -> list[Change]:
            found = connection.execute(query, (deal, _key(after), _key(newest)))
            return [
                Change(deal, _number(number), _number(base), _unpack(adds), _unpack(drops))
                for number, base, adds, drops in found
            ]

        return await self._batches.read(rows)

    async def forget(self, deal: DealId, floor: int) -> None:
        """Drop the changes up to number ``floor``: nobody asks what was held before it."""
        await self._batches.write(
            ("DELETE FROM changes WHERE deal = ? AND number <= ?", (deal, _key(floor)))
        )

    async def clear(self, deal: DealId) -> None:
        """Drop all changes of a deal that is closed."""
        await self._batches.write(("DELETE FROM changes WHERE deal = ?", (deal,)))

    async def save_standings(self, live: Standing, frozen: Standing | None) -> None:
        """Replace what was seen last, and what the epoch asks about if that is known."""
        replace = "REPLACE INTO standings VALUES (?, ?)"
        rows = [(replace, ("live", live.encode()))]
        if frozen is None:
            await self._batches.write(*rows, ("DELETE FROM standings WHERE name = 'frozen'", ()))
        else:
            await self._batches.write(*rows, (replace, ("frozen", frozen.encode())))

    async def standings(self) -> tuple[Standing | None, Standing | None]:
        """What ``save_standings`` was given last."""
        found = await self._batches.read(partial(_select, "SELECT name, standing FROM standings"))
        known = {name: Standing.decode(raw) for name, raw in found}
        return known.get("live"), known.get("frozen")


def _select(query: str, connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
    return connection.execute(query).fetchall()


def _key(number: int) -> bytes:
    """A u64 as SQLite, whose integers have a sign, sorts it."""
    return number.to_bytes(8, "big")


def _number(key: bytes) -> int:
    return int.from_bytes(key, "big")


def _pack(pairs: Iterable[Held]) -> bytes:
    return b"".join(commit + leaves.to_bytes(8, "big") for commit, leaves in pairs)


def _unpack(raw: bytes) -> tuple[Held, ...]:
    parts = (raw[at : at + _HELD_BYTES] for at in range(0, len(raw), _HELD_BYTES))
    return tuple(
        (Commit(part[:HASH_BYTES]), int.from_bytes(part[HASH_BYTES:], "big")) for part in parts
    )
