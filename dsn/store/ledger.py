"""Where a ledger is kept: a directory with one SQLite file, or a PostgreSQL database.

SQLAlchemy is slow to import and PostgreSQL's driver an extra, so both are asked for when a ledger
is opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dsn.errors import ConfigError, NotFound
from dsn.ports import StoredCell
from dsn.store.files import PRIVATE_DIRECTORY, sync_directory
from dsn.store.lock import FileLock

if TYPE_CHECKING:
    from dsn.store.ledger_sql import SqlLedger

POSTGRESQL: Final = "postgresql://"
"""How the place of a ledger on a server begins."""
LEDGER_FILE: Final = "ledger.db"
_LOCK_FILE: Final = "ledger.lock"


def create_ledger(place: str, genesis: str, cells: Iterable[StoredCell]) -> None:
    """Make an empty ledger: no entries yet, and the cells that the network begins with.

    Args:
        place: A directory, made if it is not there, or ``postgresql://...``.
        genesis: What the cells follow from, kept beside them.
        cells: The state before the first entry.

    Raises:
        ConfigError: ``ledger_exists``, ``missing_extra``.
        Unreachable: ``ledger_unreachable``.
    """
    with _extra(place):
        from dsn.store.ledger_tables import connect, create
    if place.startswith(POSTGRESQL):
        create(connect(place), shown(place), genesis, cells)
        return
    directory = Path(place)
    directory.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    with ExitStack() as held:
        held.callback(_lock(directory).release)
        create(connect(directory / LEDGER_FILE), place, genesis, cells)
        sync_directory(directory)


def open_ledger(place: str, *, signer: bool) -> SqlLedger:
    """Open the ledger at ``place``.

    Args:
        place: As ``create_ledger`` was told.
        signer: Whether to change it: then nobody else may until it is closed.

    Raises:
        ConfigError: ``ledger_in_use`` by another signer, ``missing_extra``, ``other_version``.
        NotFound: ``no_ledger``.
        DataLost: ``ledger_damaged``.
        Unreachable: ``ledger_unreachable``.
    """
    with _extra(place):
        from dsn.store.ledger_sql import SqlLedger
        from dsn.store.ledger_tables import connect, hold
    if place.startswith(POSTGRESQL):
        connection = connect(place, read_only=not signer)
        if signer:
            hold(connection, shown(place))
        return SqlLedger(connection, shown(place), signs=signer)
    file = Path(place) / LEDGER_FILE
    if not file.is_file():
        raise no_ledger(place)
    with ExitStack() as held:
        lock = _lock(file.parent) if signer else None
        if lock:
            held.callback(lock.release)
        store = SqlLedger(connect(file, read_only=not signer), place, signs=signer, lock=lock)
        held.pop_all()
    return store


def shown(place: str) -> str:
    """``place`` without the password that a server's address may have in it."""
    return re.sub("(//[^/@:]*):[^/]*@", r"\1@", place)


def no_ledger(place: str) -> NotFound:
    """The error for a place that holds none."""
    return NotFound(f"{place} holds no ledger", code="no_ledger", hint="dsn ledger init makes one")


def in_use(place: str) -> ConfigError:
    """The error for a ledger that somebody else signs for."""
    return ConfigError(
        f"the ledger {place} has a signer already",
        code="ledger_in_use",
        hint="a ledger has one at a time: stop that process",
    )


def _lock(directory: Path) -> FileLock:
    lock = FileLock(directory / _LOCK_FILE, what=f"the ledger {directory}", wait=False)
    try:
        lock.acquire()
    except ConfigError as error:
        raise in_use(str(directory)) from error
    return lock


@contextmanager
def _extra(place: str) -> Iterator[None]:
    try:
        if place.startswith(POSTGRESQL):
            import psycopg  # noqa: F401
        yield
    except ImportError as error:
        raise ConfigError(
            f"this ledger needs the package {error.name}",
            code="missing_extra",
            hint="pip install 'dsn[postgresql]'",
        ) from error
