"""What the client's commands return: plain values, printed by ``cli`` and read by scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class FileState(Enum):
    """How well a file is stored; ``product`` states with their exit codes."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    AT_RISK = "at_risk"
    LOST = "lost"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of long work: ``done`` of ``total`` bytes (or leaves) of ``stage``."""

    stage: str
    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class Placed:
    """Why a node holds a file or not.

    ``score`` says how likely it answers, ``proven`` how verifiers found it, ``dealt`` whether a
    deal was open with it; ``weight`` is its chance to be drawn first.
    """

    node: str
    address: str
    group: str
    free_bytes: int
    latency_ms: float
    score: float
    weight: float
    verdict: str
    proven: float = 0.5
    dealt: bool = False


@dataclass(frozen=True, slots=True)
class PutResult:
    """A stored file or directory and the links that open it.

    ``cost`` is in base units and ``expires_s`` in Unix seconds; ``None`` where nobody pays.
    ``confirmed`` says whether a verifier found every holder; ``None`` if none was asked.
    """

    name: str
    read: str
    repair: str
    verify: str
    file_id: str
    size: int
    scheme: str
    segments: int
    placed: int
    total: int
    uploaded_bytes: int
    seconds: float
    cost: int | None = None
    expires_s: int | None = None
    warnings: tuple[str, ...] = ()
    explained: tuple[Placed, ...] = ()
    confirmed: bool | None = None


@dataclass(frozen=True, slots=True)
class GetResult:
    """What was read back; ``sha256`` is over the bytes written (hex)."""

    size: int
    sha256: str
    seconds: float
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A line of ``dsn ls``: ``state`` is what was last seen, not asked anew.

    ``cost`` is in base units and ``expires_s`` in Unix seconds; ``None`` where nobody pays.
    """

    name: str
    size: int
    state: FileState
    kind: str
    scheme: str
    added_s: int
    cost: int | None = None
    expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """A node that holds shards of a file."""

    node: str
    address: str
    shards: int
    bytes: int
    reachable: bool | None


@dataclass(frozen=True, slots=True)
class FileInfo:
    """What ``dsn info`` shows; fields a capability does not open are ``None``."""

    name: str | None
    file_id: str
    kind: str | None
    size: int
    scheme: str
    segments: int
    media_type: str | None
    mtime_s: int | None
    sequence: int
    holders: tuple[Holder, ...]
    state: FileState
    cost: int | None = None
    expires_s: int | None = None


@dataclass(frozen=True, slots=True)
class SegmentHealth:
    """Shards of one segment that answered well."""

    good: int
    required: int
    total: int


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The verdict of ``dsn check`` and the arithmetic behind it."""

    state: FileState
    segments: tuple[SegmentHealth, ...]
    manifest: SegmentHealth
    leaves: int
    bytes: int
    confidence: str
    faults: tuple[str, ...]
    silent: tuple[str, ...]
    deep: bool


LOSSES = frozenset({"declared_lost", "unknown_shard"})
"""Reasons of a silent verdict that are the node's own word: what it held is gone."""


@dataclass(frozen=True, slots=True)
class Audited:
    """What one holder of a file showed: ``held``, ``wrong``, ``silent`` or ``unclear``, and why.

    ``leaves`` is how many of the ``asked`` were proven, ``held_bytes`` what the node is to hold.
    """

    node: str
    address: str
    outcome: str
    reason: str
    asked: int
    leaves: int
    held_bytes: int
    response_ms: int


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What ``dsn audit`` found: how many holders held, were wrong, silent or unclear.

    ``leaves`` is how many were proven, ``moved_bytes`` the messages that this took, both ways,
    and ``bundle`` what anybody can judge again with ``dsn verify``.
    """

    held: int
    wrong: int
    silent: int
    unclear: int
    leaves: int
    moved_bytes: int
    seconds: float
    confidence: str
    holders: tuple[Audited, ...]
    bundle: bytes


@dataclass(frozen=True, slots=True)
class RepairResult:
    """What a repair did, or would do.

    ``rebuilt`` shards were made again, ``moved`` of them for another node than before, and
    ``leaves`` given back; ``bytes`` were stored. ``state`` is how the file is now. ``cost``, in
    base units, is what the new shards cost until they expire, ``locked`` what it took to have
    them stored; ``None`` where nobody pays. ``silent`` holders did not answer.
    """

    rebuilt: int
    moved: int
    state: FileState
    leaves: int
    bytes: int
    seconds: float
    cost: int | None = None
    locked: int | None = None
    silent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveResult:
    """What ``dsn rm`` freed; nodes that did not answer are told at the next change."""

    name: str
    freed_bytes: int
    pending_nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RenewResult:
    """A file that lasts longer now; nodes that did not agree hold it only as long as before.

    ``added_cost`` is in base units: what the longer term adds if every epoch is proven.
    """

    name: str | None
    file_id: str
    expires_s: int
    added_cost: int
    refused_nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReservedDeal:
    """A deal for somebody else's repairs.

    In it may be held at most ``bytes``, and ``credits`` be promised for moving them; ``locked``
    is what it holds in escrow.
    """

    node: str
    deal: str
    bytes: int
    credits: int
    locked: int


@dataclass(frozen=True, slots=True)
class Reserved:
    """Deals for somebody else's repairs, and the ``text`` that their delegate needs.

    ``locked`` is what was locked and burned for them, in base units; until ``expires_s``, in Unix
    seconds, they last at least; ``refused_nodes`` did not agree.
    """

    text: str
    deals: tuple[ReservedDeal, ...]
    locked: int
    expires_s: int
    refused_nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShareResult:
    """A link and what it allows; ``reserved`` pays for what its holder does."""

    kind: str
    capability: str
    allows: str
    reserved: Reserved | None = None


@dataclass(frozen=True, slots=True)
class RecoverResult:
    """What came back from the phrase alone."""

    node_id: str
    files: int
    bytes: int
    deals: int
    """That this home did not know."""
    missing_deals: int
    """That are open on the ledger and that no node showed."""


ProgressSink = Callable[[Progress], None]
NoticeSink = Callable[[str], None]
