"""Ledgers of bytes that mean nothing, on every kind of store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dsn.core.hashing import HASH_BYTES, sha256
from dsn.ledger.log import EMPTY_ROOT, Frontier, LogLeaf, Subtree, TreeHead, leaf_hash
from dsn.ledger.tiles import build_tile, grown_tiles
from dsn.ports import LedgerBatch, StoredCell
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
