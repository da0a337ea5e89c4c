"""A ledger's tables, the same on SQLite and on PostgreSQL, and what each needs to keep promises.

Four tables: one row about the whole, leaves by number, cells by key, hash tiles by place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from dsn.errors import ConfigError, DataLost, DsnError, NoSpace, Unreachable
from dsn.ledger.log import EMPTY_ROOT
from dsn.ports import StoredCell
from dsn.store.ledger import POSTGRESQL, in_use, shown

VERSION: Final = 1
_PG_DISK_FULL: Final = "53100"

_SCHEMA: Final = sql.MetaData()
_NUMBER: Final = sql.BigInteger().with_variant(sql.Integer(), "sqlite")  # SQLite's own row number
LEDGER: Final = sql.Table(
    "ledger",
    _SCHEMA,
    sql.Column("version", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("genesis", sql.Text, nullable=False),
    sql.Column("size", sql.BigInteger, nullable=False),
    sql.Column("root", sql.LargeBinary, nullable=False),
    sql.Column("fenced_size", sql.BigInteger, nullable=False),
    sql.Column("fenced_root", sql.LargeBinary, nullable=False),
)
LEAVES: Final = sql.Table(
    "leaves",
    _SCHEMA,
    sql.Column("number", _NUMBER, primary_key=True, autoincrement=False),
    sql.Column("leaf", sql.LargeBinary, nullable=False),
)
CELLS: Final = sql.Table(
    "cells",
    _SCHEMA,
    sql.Column("key", sql.LargeBinary, primary_key=True),
    sql.Column("kind", sql.SmallInteger, nullable=False),
    sql.Column("raw", sql.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
TILES: Final = sql.Table(
    "tiles",
    _SCHEMA,
    sql.Column("level", sql.SmallInteger, primary_key=True, autoincrement=False),
    sql.Column("number", sql.BigInteger, primary_key=True, autoincrement=False),
    sql.Column("hashes", sql.LargeBinary, nullable=False),
)


def connect(place: str | Path, *, read_only: bool = False) -> sql.Connection:
    """Connect to the SQLite file or the PostgreSQL address ``place``.

    Commits are on disk when they return. A ``read_only`` connection sees the ledger as it stood
    at its first call, whatever is appended meanwhile.

    Raises:
        Unreachable: ``ledger_unreachable``.
    """
    if isinstance(place, Path):
        engine = sql.create_engine(f"sqlite:///{place}", poolclass=NullPool)
        event.listen(engine, "connect", _query_only if read_only else _durable_file)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    else:
        url = place.replace(POSTGRESQL, "postgresql+psycopg://", 1)
        level = "REPEATABLE READ" if read_only else "READ COMMITTED"
        engine = sql.create_engine(
            url, poolclass=NullPool, isolation_level=level, paramstyle="format"
        )
        event.listen(engine, "connect", _durable_server)
    with translated(shown(str(place))):
        return engine.connect()


def hold(connection: sql.Connection, place: str) -> None:
    """Make ``connection`` the one signer of its PostgreSQL ledger, for as long as it lives.

    Raises:
        ConfigError: ``ledger_in_use``.
    """
    lock = sql.text(
        "SELECT pg_try_advisory_lock(hashtext('dsn ledger'), hashtext(current_schema()))"
    )
    with translated(place):
        held = connection.execute(lock).scalar_one()
        connection.commit()
    if not held:
        connection.close()
        raise in_use(place)


def create(
    connection: sql.Connection, place: str, genesis: str, cells: Iterable[StoredCell]
) -> None:
    """Make the tables, all or none, and close ``connection``.

    Raises:
        ConfigError: ``ledger_exists``.
    """
    row = {"version": VERSION, "genesis": genesis, "size": 0, "root": EMPTY_ROOT}
    row |= {"fenced_size": 0, "fenced_root": EMPTY_ROOT}
    with translated(place), connection, connection.begin():
        if sql.inspect(connection).has_table(LEDGER.name):
            raise ConfigError(
                f"{place} holds a ledger already", code="ledger_exists", hint="choose another place"
            )
        _SCHEMA.create_all(connection)
        connection.execute(sql.insert(LEDGER), row)
        connection.execute(sql.insert(CELLS), [cell._asdict() for cell in cells])


def _durable_file(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _query_only(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA query_only = ON")


def _durable_server(connection: Any, _: object) -> None:
    """A server may be set up to acknowledge what is not on its disk yet."""
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def damaged(place: str, reason: str) -> DataLost:
    """The error for a ledger that contradicts itself, or cannot be read."""
    return DataLost(
        f"the ledger {place} is damaged: {reason}",
        code="ledger_damaged",
        hint="restore it from a copy, then 'dsn ledger check'",
    )


@contextmanager
def translated(place: str) -> Iterator[None]:
    """Say what a failing database means for the ledger at ``place``."""
    try:
        yield
    except DBAPIError as error:
        raise _meaning(place, error) from error


def _meaning(place: str, error: DBAPIError) -> DsnError:
    cause = error.orig
    reason = " ".join(str(cause).split())[:200]
    full = getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if full or getattr(cause, "sqlstate", None) == _PG_DISK_FULL:
        return NoSpace(f"the ledger {place}: {reason}", hint="free some space, then repeat")
    gone = error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    if gone and place.startswith(POSTGRESQL):
        return Unreachable(
            f"the ledger's database: {reason}",
            code="ledger_unreachable",
            hint="see that the server runs, then start again",
        )
    return damaged(place, reason)
