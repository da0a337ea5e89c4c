"""Ledgers of bytes that mean nothing, on every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sql

from dsn.core.hashing import HASH_BYTES, sha256
from dsn.ledger.log import EMPTY_ROOT, Frontier, LogLeaf, Subtree, TreeHead, leaf_hash
from dsn.ledger.tiles import build_tile, grown_tiles
from dsn.ports import LedgerBatch, StoredCell
from dsn.store.ledger import create_ledger, open_ledger
from dsn.store.ledger_sql import SqlLedger
from dsn.store.ledger_tables import CELLS, LEAVES, LEDGER, TILES
from tests.support.postgres import fresh_schema

GENESIS = "what it began with: ä\n"
FIRST_CELLS = [StoredCell(sha256(b"first %d" % n), 2, b"cell %d" % n) for n in range(3)]

PLACES: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda directory: str(directory / "ledger"),
    "postgresql": lambda directory: fresh_schema(),
}
"""Gives a place where no ledger is yet."""


def leaf(number: int, salt: bytes = b"") -> LogLeaf:
    """A leaf that is like no other."""
    entry = b"entry %d " % number + salt + b"x" * (number % 7)
    return LogLeaf(entry, sha256(entry) * 2 + b"\x1b", sha256(b"state" + entry))


def cell(name: bytes, raw: bytes) -> StoredCell:
    """The cell called ``name``."""
    return StoredCell(sha256(name), 2, raw)


class Kept:
    """One open ledger that is emptied for another history, sooner than a new one is made."""

    def __init__(self, place: str, genesis: str, cells: Sequence[StoredCell]) -> None:
        """Make it at ``place``."""
        create_ledger(place, genesis, cells)
        self._store, self._cells = open_ledger(place, signer=True), cells

    def emptied(self) -> SqlLedger:
        """The store, as it was made."""
        connection = self._store._connection
        start = {"size": 0, "root": EMPTY_ROOT, "fenced_size": 0, "fenced_root": EMPTY_ROOT}
        with connection.begin():
            for table in (LEAVES, CELLS, TILES):
                connection.execute(sql.delete(table))
            connection.execute(sql.insert(CELLS), [cell._asdict() for cell in self._cells])
            connection.execute(sql.update(LEDGER).values(start))
        return self._store

    def close(self) -> None:
        """Let go of it."""
        self._store.close()


@dataclass(frozen=True)
class Growing:
    """A log as it grows, and all hashes it ever had."""

    frontier: Frontier
    hashes: dict[Subtree, bytes]

    @property
    def head(self) -> TreeHead:
        """Size and root."""
        return self.frontier.head

    def batch(self, count: int, *cells: StoredCell, salt: bytes = b"") -> LedgerBatch:
        """What the next ``count`` leaves add."""
        base = self.head
        leaves = [leaf(number, salt) for number in range(base.size, base.size + count)]
        frontier, more = self.frontier.extend(leaf_hash(each.encode()) for each in leaves)
        hashes = self.hashes | more
        tiles = {
            tile: build_tile(hashes.__getitem__, tile)
            for tile in grown_tiles(base.size, frontier.size)
        }
        return LedgerBatch(base, frontier.head, leaves, cells, tiles)

    def after(self, batch: LedgerBatch) -> Growing:
        """The log with ``batch`` in it."""
        frontier, more = self.frontier.extend(leaf_hash(each.encode()) for each in batch.leaves)
        return replace(self, frontier=frontier, hashes=self.hashes | more)


START = Growing(Frontier(), {})
assert (START.head, HASH_BYTES) == (TreeHead(0, EMPTY_ROOT), 32)


def steps(*counts: int, salt: bytes = b"") -> Iterator[tuple[Growing, LedgerBatch]]:
    """Batches of so many leaves, and the log before each."""
    log = START
    for count in counts:
        batch = log.batch(count, cell(b"newest", b"%d" % log.head.size), salt=salt)
        yield log, batch
        log = log.after(batch)
