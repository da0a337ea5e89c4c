"""The one ``LedgerStore``: SQL that SQLite and PostgreSQL both speak."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from dsn.core.hashing import HASH_BYTES
from dsn.errors import ConfigError, DataLost, MalformedMessage, NotFound, Unreachable
from dsn.ledger.log import LogLeaf, TreeHead
from dsn.ledger.tiles import Tile, format_path
from dsn.ports import LedgerBatch, StoredCell
from dsn.store.ledger import no_ledger
from dsn.store.ledger_tables import CELLS, LEAVES, LEDGER, TILES, VERSION, damaged, translated
from dsn.store.lock import FileLock

_PAGE: Final = 1_024
"""Rows in memory at a time."""


class SqlLedger:
    """A ``LedgerStore`` over one connection; made by ``open_ledger``."""

    def __init__(
        self,
        connection: sql.Connection,
        place: str,
        *,
        signs: bool,
        lock: FileLock | None = None,
    ) -> None:
        """Read what it was created with.

        Args:
            connection: From ``connect``; closed with the store.
            place: For messages.
            signs: Whether it may change the ledger.
            lock: Released with the store.

        Raises:
            NotFound: ``no_ledger``.
            ConfigError: ``other_version``.
        """
        self._connection, self._place, self._signs = connection, place, signs
        self._lock, self._open = lock, True
        upsert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        cells, tiles = upsert(CELLS), upsert(TILES)
        put_cells = cells.on_conflict_do_update(
            index_elements=["key"], set_={"raw": cells.excluded.raw}
        )
        put_tiles = tiles.on_conflict_do_update(
            index_elements=["level", "number"], set_={"hashes": tiles.excluded.hashes}
        )
        self._put_leaves, self._put_cells, self._put_tiles = (
            str(each.compile(dialect=connection.dialect))
            for each in (sql.insert(LEAVES), put_cells, put_tiles)
        )
        try:
            self._genesis = self._load_genesis()
        except BaseException:
            self.close()
            raise

    @property
    def genesis(self) -> str:
        """What the ledger began with: the text that it was created for."""
        return self._genesis

    def head(self) -> TreeHead:
        """Size and root of the log."""
        [(size, root)] = self._rows(sql.select(LEDGER.c.size, LEDGER.c.root))
        return TreeHead(size, self._bytes(root))

    def fenced(self) -> TreeHead:
        """The newest log that ``fence`` was called for; an empty one before."""
        [(size, root)] = self._rows(sql.select(LEDGER.c.fenced_size, LEDGER.c.fenced_root))
        return TreeHead(size, self._bytes(root))

    def append(self, batch: LedgerBatch) -> None:
        """See ``LedgerStore``."""
        assert self._signs
        assert batch.head.size == batch.base.size + len(batch.leaves) > batch.base.size
        grown = sql.update(LEDGER).where(_is_head(batch.base))
        leaves = [
            (number, leaf.encode()) for number, leaf in enumerate(batch.leaves, batch.base.size)
        ]
        tiles = [(tile.level, tile.index, hashes) for tile, hashes in batch.tiles.items()]
        with self._using() as connection, connection.begin():
            done = connection.execute(grown.values(size=batch.head.size, root=batch.head.root))
            if done.rowcount != 1:
                raise self._moved(batch.base)
            for statement, rows in (
                (self._put_leaves, leaves),
                (self._put_cells, list(batch.cells)),
                (self._put_tiles, tiles),
            ):
                if rows:
                    connection.exec_driver_sql(statement, rows)

    def fence(self, head: TreeHead) -> None:
        """See ``LedgerStore``."""
        assert self._signs
        row = LEDGER.c
        again = (row.fenced_size == head.size) & (row.fenced_root == head.root)
        free = _is_head(head) & ((row.fenced_size < head.size) | again)
        fence = sql.update(LEDGER).where(free)
        with self._using() as connection, connection.begin():
            done = connection.execute(fence.values(fenced_size=head.size, fenced_root=head.root))
            if done.rowcount != 1:
                raise self._moved(head)

    def leaves(self, start: int, end: int) -> Iterator[LogLeaf]:
        """Leaves ``[start, end)`` of the log, a bounded number in memory; fewer if it ends.

        Raises:
            DataLost: ``ledger_damaged``, at the first that is missing or no leaf.
        """
        for first in range(start, end, _PAGE):
            place = LEAVES.c.number.between(first, min(first + _PAGE, end) - 1)
            rows = self._rows(sql.select(LEAVES).where(place).order_by(LEAVES.c.number))
            if not rows:
                return
            for expected, (number, raw) in enumerate(rows, first):
                if number != expected:
                    raise self._damaged(f"leaf {expected} is missing")
                try:
                    yield LogLeaf.decode(self._bytes(raw))
                except MalformedMessage as error:
                    raise self._damaged(f"leaf {expected} is none") from error

    def cells(self, keys: Iterable[bytes]) -> dict[bytes, StoredCell]:
        """Those of ``keys`` that have a cell."""
        asked, found = iter(keys), dict[bytes, StoredCell]()
        while some := list(islice(asked, _PAGE)):
            for row in self._rows(sql.select(CELLS).where(CELLS.c.key.in_(some))):
                found[row.key] = self._cell(*row)
        return found

    def all_cells(self) -> Iterator[StoredCell]:
        """Every cell, by key, a bounded number in memory."""
        ordered = sql.select(CELLS).order_by(CELLS.c.key).limit(_PAGE)
        rows = self._rows(ordered)
        while rows:
            yield from (self._cell(*row) for row in rows)
            rows = self._rows(ordered.where(CELLS.c.key > rows[-1].key))

    def tile(self, tile: Tile) -> bytes:
        """See ``LedgerStore``."""
        place = (TILES.c.level == tile.level) & (TILES.c.number == tile.index)
        rows = self._rows(sql.select(TILES.c.hashes).where(place))
        hashes = self._bytes(rows[0].hashes) if rows else b""
        if len(hashes) < tile.width * HASH_BYTES:
            raise NotFound(
                f"{format_path(tile)}: {len(hashes) // HASH_BYTES} hashes are stored",
                code="no_such_tile",
            )
        return hashes[: tile.width * HASH_BYTES]

    def close(self) -> None:
        """Let go of the ledger; does nothing the second time."""
        if self._open:
            self._open = False
            with suppress(DBAPIError):
                self._connection.close()
            if self._lock:
                self._lock.release()

    def _load_genesis(self) -> str:
        with self._using() as connection:
            exists = sql.inspect(connection).has_table(LEDGER.name)
            self._end_reading()
        rows = self._rows(sql.select(LEDGER.c.version, LEDGER.c.genesis)) if exists else []
        if not rows:
            raise no_ledger(self._place)
        version, genesis = rows[0]
        if version != VERSION:
            raise ConfigError(
                f"{self._place} holds a ledger of version {version}, {VERSION} is known here",
                code="other_version",
                hint="use the dsn that wrote it",
            )
        return str(genesis)

    def _rows(self, query: sql.Select[Any]) -> list[Any]:
        with self._using() as connection:
            try:
                return list(connection.execute(query))
            finally:
                self._end_reading()

    def _end_reading(self) -> None:
        """Whoever only reads keeps what it saw at first; a signer's view goes on."""
        if self._signs:
            self._connection.rollback()

    @contextmanager
    def _using(self) -> Iterator[sql.Connection]:
        """The connection; once it broke, what was locked is not locked any more: so close."""
        if not self._open:
            raise Unreachable(f"the ledger {self._place} is closed", code="ledger_closed")
        try:
            with translated(self._place):
                yield self._connection
        except Unreachable:
            self.close()
            raise

    def _cell(self, key: object, kind: int, raw: object) -> StoredCell:
        return StoredCell(self._bytes(key), kind, self._bytes(raw))

    def _bytes(self, value: object) -> bytes:
        """SQLite stores any type in any column, and a rotten file may claim any."""
        if not isinstance(value, bytes):
            raise self._damaged(f"{type(value).__name__} where bytes were stored")
        return value

    def _damaged(self, reason: str) -> DataLost:
        return damaged(self._place, reason)

    def _moved(self, head: TreeHead) -> ConfigError:
        return ConfigError(
            f"the ledger {self._place} is not at {head.size} entries with the root "
            f"{head.root.hex()[:16]} any more, or was signed beyond that",
            code="ledger_moved",
            hint="open it again; if it was restored from a copy, restore a newer one",
        )


def _is_head(head: TreeHead) -> sql.ColumnElement[bool]:
    return (LEDGER.c.size == head.size) & (LEDGER.c.root == head.root)
