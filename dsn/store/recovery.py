"""What a start does before anything is served: bring log, index and files into agreement."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from dsn.errors import DataLost, MalformedMessage
from dsn.store.changes import Change, decode
from dsn.store.committer import OnDisk
from dsn.store.database import discard_database
from dsn.store.index import Index, open_index
from dsn.store.log import Found, Log, Scan
from dsn.store.state import Place, Position, touched
from dsn.store.volume import Volume

_AT_ONCE = 1_024
_FLUSH_ROWS = 4_096
_FANS = 16
"""Directories of large shards compared at once: a sixteenth of all names in memory."""


async def recover(volume: Volume, log: Log, on_disk: OnDisk) -> tuple[Index, int]:
    """Open the index, complete it from the log, and sweep files that nothing names.

    Nothing here fails on damage: it is skipped and counted.

    Returns:
        The index, and how many files that nothing names were kept: where the log has holes,
        they may be what is missing.

    Raises:
        OSError: The disk cannot be read at all.
    """
    await on_disk(_empty, volume.temporary)
    index = await _usable_index(volume, log)
    try:
        for segment in await on_disk(log.segments):
            if segment >= index.applied.segment:
                index.totals.damaged += await _replay(segment, log, index, on_disk)
        for gone in set(index.segments) - set(log.segments()):
            index.forget_segment(gone)
        orphans = 0
        for first in range(0, 256, _FANS):
            fans = range(first, first + _FANS)
            orphans += await _compare(fans, volume, index, on_disk)
        await index.flush()
    except BaseException:
        await index.close()
        raise
    return index, orphans


async def _usable_index(volume: Volume, log: Log) -> Index:
    """The index there is, or an empty one if it is damaged or ahead of the log."""
    try:
        index = await open_index(volume.index, volume.identity)
        if index.applied == Position(0, 0) or index.applied <= log.end:
            return index
        await index.close()
    except (ValueError, DataLost, sqlite3.DatabaseError):
        pass
    discard_database(volume.index)
    return await open_index(volume.index, volume.identity)


async def _replay(segment: int, log: Log, index: Index, on_disk: OnDisk) -> int:
    """Apply what the index lacks of one segment; returns how often something was skipped."""
    start = index.applied.offset if segment == index.applied.segment else 0
    scan = await on_disk(log.scan, segment, start)
    found, unread = iter(scan), 0
    while some := await on_disk(_take, found):
        changes = _decoded(some)
        unread += len(some) - len(changes)
        await _apply(changes, index, Position(segment, some[-1].place.end))
    return unread + scan.damaged + await on_disk(_trim, log, segment, scan)


def _take(found: itertools.chain[Found]) -> Sequence[Found]:
    return list(itertools.islice(found, _AT_ONCE))


def _decoded(found: Sequence[Found]) -> list[tuple[Place, Change]]:
    changes = []
    for each in found:
        try:
            changes.append((each.place, decode(each.encoded)))
        except MalformedMessage:
            continue
    return changes


async def _apply(changes: Sequence[tuple[Place, Change]], index: Index, end: Position) -> None:
    names = [touched(change) for _, change in changes]
    commits = [commit for commits, _ in names for commit in commits]
    draft = await index.draft(commits, [key for _, keys in names for key in keys], room=0)
    for place, change in changes:
        draft.apply(change, place)
    index.commit(draft, end)
    if index.unwritten > _FLUSH_ROWS:
        await index.flush()


def _trim(log: Log, segment: int, scan: Scan) -> int:
    """Cut off what follows the last change: a torn write, unless newer segments exist."""
    if scan.end == log.size(segment):
        return 0
    if segment != log.active:
        return 1
    log.truncate(segment, scan.end)
    return 0


def _empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


async def _compare(fans: range, volume: Volume, index: Index, on_disk: OnDisk) -> int:
    """Note which large shards have no file; delete orphans, or keep and count them."""
    files = await on_disk(_list, [volume.fan(first_byte) for first_byte in fans])
    known = {volume.file(c): (c, lost) for c, lost in (await index.large(fans)).items()}
    changed = [commit for file, (commit, lost) in known.items() if lost == (file in files)]
    draft = await index.draft(changed, (), room=0)
    for commit in changed:
        row = draft.rows[commit]
        assert row is not None
        draft.lose(row, lost=not row.lost)
    index.commit(draft, index.applied)
    orphans = files - known.keys()
    if index.totals.damaged:
        return len(orphans)
    await on_disk(_delete, orphans)
    return 0


def _list(directories: Iterable[Path]) -> set[Path]:
    return {path for directory in directories for path in directory.iterdir()}


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink()
