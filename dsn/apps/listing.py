"""What a client shows of its files, and what it says of those that are not paid for any more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from dsn.apps.manifests import Manifest
from dsn.apps.nodes import Nodes
from dsn.apps.results import (
    FileInfo,
    FileState,
    Holder,
    ListedFile,
    Placed,
    RemoveResult,
    RenewResult,
)
from dsn.core.catalogue import Entry, Paid
from dsn.core.keys import Kind
from dsn.errors import DsnError, NotFound
from dsn.ids import Commit, NodeId, format_base32, format_node_id
from dsn.machines.placement import Reason

ALLOWS = {
    Kind.READ: "whoever has this link can read the file and check that it is stored",
    Kind.REPAIR: "whoever has this link can rebuild and move the file's shards, not read them",
    Kind.VERIFY: "whoever has this link can check that the file is stored, not read it",
}
"""What to tell whoever shares a link."""
DAY_S: Final = 86_400
WARN_DAYS: Final = (1, 7, 30)
"""Days left at which a person is told."""
RENEW_PART: Final = 3
"""What is to be renewed is when no more than this part of its term is left."""


def listed(entry: Entry, state: FileState) -> ListedFile:
    """A line of ``dsn ls``."""
    paid = entry.paid
    return ListedFile(
        entry.name,
        entry.size,
        state,
        entry.kind.name.lower(),
        str(entry.scheme),
        entry.added_us // 1_000_000,
        None if paid is None else paid.cost,
        None if paid is None else paid.expires_s,
    )


def described(
    manifest: Manifest, name: str | None, paid: Paid | None, nodes: Nodes, state: FileState
) -> FileInfo:
    """What ``dsn info`` shows of the file of ``manifest``, as far as its keys open it."""
    core, keys = manifest.core, manifest.keys
    readable = keys.kind in (Kind.OWNER, Kind.READ)
    private = core.open_private(keys.content_key) if readable else None
    holders = tuple(
        Holder(
            format_node_id(node),
            nodes.address(node),
            len(shards),
            sum(shards.values()),
            None if node not in nodes.late else False,
        )
        for node, shards in sorted(manifest.shards().items())
    )
    return FileInfo(
        name or (private.name if private else None),
        format_base32(manifest.file_id),
        private.kind.name.lower() if private else None,
        core.size,
        str(core.scheme),
        len(core.segments),
        private.media_type if private else None,
        private.mtime_us // 1_000_000 if private else None,
        manifest.sequence,
        holders,
        state,
        None if paid is None else paid.cost,
        None if paid is None else paid.expires_s,
    )


def check_not_expired(name: str | None, paid: Paid | None, now_s: float, reason: DsnError) -> None:
    """Say why a file could not be had, if it is because it is not paid for any more.

    Raises:
        NotFound: ``file_expired``.
    """
    if paid is not None and paid.expires_s <= now_s:
        raise NotFound(
            f"{name} expired {(now_s - paid.expires_s) / DAY_S:.0f} days ago and is gone",
            code="file_expired",
            hint="store it again, and renew it in time: dsn renew NAME",
        ) from reason


def expiring(files: Iterable[ListedFile], now_s: float) -> dict[int, list[str]]:
    """Names of files that expire within 1, 7 and 30 days, each where it first counts.

    Those that have expired are under 0.
    """
    found: dict[int, list[str]] = {}
    for file in files:
        if file.expires_s is None:
            continue
        left_s = file.expires_s - now_s
        within = (days for days in WARN_DAYS if left_s <= days * DAY_S)
        days = 0 if left_s <= 0 else next(within, None)
        if days is not None:
            found.setdefault(days, []).append(file.name)
    return dict(sorted(found.items()))


def renewal_due(entries: Iterable[Entry], days: float, now_s: float) -> list[str]:
    """Names that later puts keep from expiring and of whose ``days`` a third is left."""
    limit_s = now_s + days * DAY_S / RENEW_PART
    return [
        entry.name
        for entry in entries
        if entry.paid is not None and entry.paid.renew and entry.paid.expires_s < limit_s
    ]


def renewed_rows(entries: Mapping[str, Entry], results: Iterable[RenewResult]) -> list[Entry]:
    """The catalogue's rows as they are after a renewal, those that it changes."""
    rows: list[Entry] = []
    for result in results:
        entry = entries.get(result.name or "")
        if entry is not None and entry.paid is not None and not result.refused_nodes:
            cost = entry.paid.cost + result.added_cost
            paid = Paid(cost, result.expires_s, entry.paid.renew)
            rows.append(replace(entry, paid=paid))
    return [row for row in rows if row != entries[row.name]]


def told(reason: Reason) -> Placed:
    """Why a node holds a file or not, for people."""
    candidate = reason.candidate
    return Placed(
        format_node_id(candidate.node),
        candidate.address,
        candidate.group,
        candidate.free_bytes,
        round(candidate.latency_s * 1e3, 1),
        round(candidate.score, 2),
        round(reason.weight, 4),
        reason.verdict,
        round(candidate.proven, 4),
        candidate.dealt,
    )


def freed(
    name: str, shards: Mapping[NodeId, Mapping[Commit, int]], told: set[NodeId]
) -> RemoveResult:
    """What was freed with a name: shard lengths by commit, by node; ``told`` are still to be."""
    return RemoveResult(
        name,
        sum(sum(each.values()) for each in shards.values()),
        tuple(sorted(format_node_id(node) for node in shards if node in told)),
    )
