"""Copies of a ledger on SQLite, made while it runs, and the way back from one.

A copy is a directory like the ledger's own, with the newest published checkpoint beside it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from dsn.errors import ConfigError, DataLost, UsageError
from dsn.ledger.params import LedgerParams
from dsn.ledger.params_text import format_params
from dsn.store.files import PRIVATE_DIRECTORY, sync_directory, write_atomic
from dsn.store.ledger import LEDGER_FILE, POSTGRESQL, no_ledger, open_ledger

CHECKPOINT_FILE: Final = "ledger.checkpoint"
"""The newest published note: among what a ledger's process remembers, and in a copy."""


def back_up(place: str, state: Path, target: Path) -> int:
    """Copy the ledger at ``place`` as it stands, and the checkpoint that ``state`` has.

    Args:
        place: A directory; it may be in use.
        state: Where the ledger's process keeps its checkpoint.
        target: A directory that is not there yet, or empty.

    Returns:
        Entries in the copy.

    Raises:
        UsageError: ``use_pg_dump``.
        NotFound: ``no_ledger``.
        ConfigError: ``ledger_exists``.
        DataLost: ``ledger_damaged``.
    """
    directory = _on_disk(place)
    note = _read(state / CHECKPOINT_FILE)  # first: the copy is then no older than it
    target.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise _exists(target)
    _copy(directory, target)
    if note:
        write_atomic(target / CHECKPOINT_FILE, note)
    with closing(open_ledger(str(target), signer=False)) as store:
        return store.head().size


def restore(source: Path, place: str, state: Path, params: LedgerParams) -> int:
    """Put a copy where the ledger's process looks for it.

    A checkpoint that the home itself remembers stays: if it is newer than the copy, then the
    copy must not be gone on with, and ``ledger_behind`` says so at the next start.

    Args:
        source: What ``back_up`` made.
        place: A directory without a ledger.
        state: Where the ledger's process keeps its checkpoint.
        params: The network's.

    Returns:
        Entries.

    Raises:
        UsageError: ``use_pg_dump``.
        NotFound: ``no_ledger``.
        ConfigError: ``ledger_exists``, ``other_ledger``.
        DataLost: ``ledger_damaged``.
    """
    directory = _on_disk(place)
    with closing(open_ledger(str(source), signer=False)) as store:
        size, genesis = store.head().size, store.genesis
    if genesis != format_params(params):
        raise ConfigError(
            f"{source} holds the ledger of another network",
            code="other_ledger",
            hint="join that network first, or take another copy",
        )
    if (directory / LEDGER_FILE).exists():
        raise _exists(directory)
    for each in (directory, state):
        each.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    _copy(source, directory)
    note = _read(source / CHECKPOINT_FILE)
    if note and not (state / CHECKPOINT_FILE).exists():
        write_atomic(state / CHECKPOINT_FILE, note)
    return size


def _on_disk(place: str) -> Path:
    if place.startswith(POSTGRESQL):
        raise UsageError(
            "a ledger on PostgreSQL is copied with that server's own tools",
            code="use_pg_dump",
            hint=f"pg_dump and pg_restore; and copy state/{CHECKPOINT_FILE} of the home",
        )
    return Path(place)


def _copy(source: Path, target: Path) -> None:
    """All pages in one reading: a writer goes on meanwhile, and the copy is of one moment."""
    file, partial = source / LEDGER_FILE, target / f".{LEDGER_FILE}"
    if not file.is_file():
        raise no_ledger(str(source))
    partial.unlink(missing_ok=True)
    try:
        with (
            closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as reader,
            closing(sqlite3.connect(partial)) as writer,
        ):
            reader.backup(writer)
    except sqlite3.DatabaseError as error:
        partial.unlink(missing_ok=True)
        raise DataLost(f"the ledger {source}: {error}", code="ledger_damaged") from error
    handle = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    partial.rename(target / LEDGER_FILE)
    sync_directory(target)


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _exists(directory: Path) -> ConfigError:
    return ConfigError(
        f"{directory} is not empty: nothing is overwritten",
        code="ledger_exists",
        hint="choose another directory, or move what is there",
    )
