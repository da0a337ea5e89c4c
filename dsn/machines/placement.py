"""Which nodes hold a file: one shard of a segment a group, seeded, roomy and quick nodes first."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from dsn.core.hashing import sha256
from dsn.core.layout import Scheme
from dsn.errors import NoSpace, UsageError
from dsn.ids import NodeId, short
from dsn.units import format_size

DEALT: Final = 1.25
"""What an open deal adds to a weight: an entry saved, and not a reason to pass by more room."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that answered: where it stands, what it takes, how far it is."""

    node: NodeId
    group: str
    free_bytes: int
    latency_s: float
    score: float = 1.0
    """How likely it answers, by this client's own history with it, in (0, 1]."""
    address: str = ""
    proven: float = 0.5
    """How verifiers found it, by the verdicts of those that this client trusts, in (0, 1]."""
    dealt: bool = False
    """Whether this client has an open deal with it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a node holds a file, or does not."""

    candidate: Candidate
    weight: float
    """Its part of all candidates' weights: how likely it is drawn first."""
    verdict: str


def choose(
    candidates: Sequence[Candidate], scheme: Scheme, bytes_each: int, draw: Callable[[], float]
) -> list[NodeId]:
    """Order the nodes that may hold a file: the first ``total`` hold it, the rest are spares.

    A weighted draw without replacement (Efraimidis and Spirakis, 2006): the weight is the free
    space, halved for every 100 ms of latency, times how likely the node answers and how
    verifiers found it, so that load follows room without a rule that anybody could game by
    being fastest, and who lied comes last. A deal that is open already saves entries, and weighs
    a quarter more.

    Args:
        candidates: Nodes that answered.
        scheme: Of the file.
        bytes_each: What each holder will store.
        draw: A uniform draw from [0, 1).

    Raises:
        NoSpace: Enough groups answered, but too few have the room.
        UsageError: ``bad_scheme``: fewer groups than ``total``.
    """
    roomy = [c for c in candidates if c.free_bytes >= bytes_each]
    drawn = sorted(roomy, key=lambda c: -math.log(1.0 - draw()) / _weight(c))
    first: dict[str, NodeId] = {}
    for candidate in drawn:
        first.setdefault(candidate.group, candidate.node)
    if len(first) >= scheme.total:
        return list(first.values())
    groups = len({c.group for c in candidates})
    if groups >= scheme.total:
        raise NoSpace(
            f"{len(first)} of {groups} nodes have {format_size(bytes_each)} free, "
            f"scheme {scheme} needs {scheme.total}",
            hint="free space on the nodes, add nodes, or take a scheme with fewer shards",
        )
    raise UsageError(
        f"scheme {scheme} needs {scheme.total} nodes in groups of their own, {groups} answered",
        hint=f"take a scheme with total <= {groups}, or start more nodes",
        code="bad_scheme",
    )


def _weight(candidate: Candidate) -> float:
    room = float(max(1, candidate.free_bytes))
    near = math.pow(0.5, candidate.latency_s / 0.1)
    return room * near * candidate.score * candidate.proven * (DEALT if candidate.dealt else 1.0)


def explain(
    candidates: Sequence[Candidate],
    holders: Collection[NodeId],
    failed: Collection[NodeId],
    bytes_each: int,
) -> list[Reason]:
    """Why each candidate holds a file or not: holders first, then by weight.

    Args:
        candidates: Nodes that answered before the file was placed.
        holders: Nodes that hold it.
        failed: Nodes that were given up since.
        bytes_each: What each holder stores.
    """
    whole = sum(map(_weight, candidates)) or 1.0
    taken = {c.group: c.node for c in candidates if c.node in holders}

    def verdict(candidate: Candidate) -> str:
        if candidate.node in holders:
            return "holds"
        if candidate.node in failed:
            return "failed"
        if candidate.free_bytes < bytes_each:
            return f"no room for {format_size(bytes_each)}"
        if candidate.group in taken:
            return f"group taken by {short(taken[candidate.group])}"
        return "spare"

    reasons = [Reason(each, _weight(each) / whole, verdict(each)) for each in candidates]
    return sorted(reasons, key=lambda each: (each.verdict != "holds", -each.weight))


def uniform(seed: int) -> Callable[[], float]:
    """Draws from [0, 1) that ``seed`` (below 2^128) fixes."""
    state = seed.to_bytes(16, "big")

    def draw() -> float:
        nonlocal state
        state = sha256(state)
        return int.from_bytes(state[:7], "big") / (1 << 56)

    return draw
