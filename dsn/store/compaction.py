"""Rewriting log segments that are mostly trash, so that their space comes back.

What is still true of a segment is said again at the log's end, made durable and indexed;
only then is the segment deleted. A crash in between leaves both, and the later one counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from dsn.store.changes import decode
from dsn.store.committer import Committer, OnDisk
from dsn.store.index import Index
from dsn.store.log import Found, Log, Scan
from dsn.store.rules import rewrite
from dsn.store.state import SegmentUse, touched
from dsn.units import MIB

_AT_ONCE = 256
"""Changes a proposal: at most 16 MiB of small shards."""


def worth_compacting(segments: Mapping[int, SegmentUse], active: int) -> list[int]:
    """Sealed segments of which more than half can go, oldest first."""
    oldest = min(segments, default=0)
    return [
        number
        for number, use in sorted(segments.items())
        if number != active and 2 * (use.dead + (use.facts if number == oldest else 0)) > use.size
    ]


async def compact_segment(
    segment: int, log: Log, index: Index, committer: Committer, on_disk: OnDisk
) -> int:
    """Rewrite and delete ``segment``.

    Returns:
        The size of the segment; 0 if it stays, because part of it is damaged and what the
        damage hides may be needed.
    """
    scan = await on_disk(_intact, log, segment)
    if scan is None:
        return 0
    oldest = segment == min(index.segments)
    changes = iter(scan)
    while some := await on_disk(_take, changes):
        decoded = [(found.place, decode(found.encoded)) for found in some]
        names = [touched(change) for _, change in decoded]
        await committer.propose(
            rewrite(decoded, oldest=oldest),
            commits=[commit for commits, _ in names for commit in commits],
            keys=[key for _, keys in names for key in keys],
            size=MIB,
        )
    if not await index.checkpoint():
        return 0
    size = index.segments[segment].size
    await on_disk(log.remove, segment)
    index.forget_segment(segment)
    return size


def _intact(log: Log, segment: int) -> Scan | None:
    """A fresh scan of ``segment`` unless something in it had to be skipped."""
    scan = log.scan(segment)
    for _ in scan:
        pass
    whole = not scan.damaged and scan.end == log.size(segment)
    return scan.again() if whole else None


def _take(changes: Iterator[Found]) -> Sequence[Found]:
    return list(itertools.islice(changes, _AT_ONCE))
