"""Which of the batches that a node keeps name a shard: each stored once, found by any commit.

Spec: docs/spec/network.md#shard-records.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsn.dht.shards import BatchTree, ShardBatch
from dsn.dht.shelf import Kept
from dsn.errors import PeerError, TooMany
from dsn.ids import Commit

MOST_HOLDERS: Final = 20
"""Holders kept of one shard: first come, for nobody can tell which of them have it."""


@dataclass(slots=True, eq=False)
class KeptBatch(Kept):
    """A batch whose bytes hash to ``name``; it answers for the ``live`` commits of it."""

    tree: BatchTree
    live: int

    @property
    def batch(self) -> ShardBatch:
        """What was signed."""
        return self.tree.batch


class Plan(NamedTuple):
    """What the new batch ``name`` will answer for, and how many commits it takes over."""

    name: bytes
    commits: list[Commit]
    displaced: Counter[KeptBatch]

    @property
    def gone(self) -> list[KeptBatch]:
        """Batches that are left with nothing to answer for."""
        return [each for each, commits in self.displaced.items() if commits == each.live]


class Holders:
    """By commit: the newest batch of every holder that names it."""

    def __init__(self) -> None:
        """Know none."""
        self._batches: dict[Commit, tuple[KeptBatch, ...]] = {}

    def of(self, commit: Commit) -> tuple[KeptBatch, ...]:
        """The batches that answer for ``commit``, one a holder."""
        return self._batches.get(commit, ())

    def plan(self, batch: ShardBatch, name: bytes) -> Plan:
        """What keeping ``batch``, whose bytes hash to ``name``, would change.

        Raises:
            PeerError: ``stale_record``: newer batches of its holder name all its commits.
            TooMany: ``holders_full``: as many holders as are kept are known for all others.
        """
        plan, stale = Plan(name, [], Counter()), False
        for commit in batch.commits:
            kept = self.of(commit)
            own = next((each for each in kept if each.batch.public_key == batch.public_key), None)
            if own is None and len(kept) < MOST_HOLDERS:
                plan.commits.append(commit)
            elif own is not None and _newer(batch, name, own):
                plan.commits.append(commit)
                plan.displaced[own] += 1
            stale |= own is not None
        if plan.commits:
            return plan
        if stale:
            raise PeerError("batch: newer ones are here", code="stale_record")
        raise TooMany(
            f"batch: {MOST_HOLDERS} holders of each shard are known, no more are kept",
            code="holders_full",
        )

    def place(self, new: KeptBatch, plan: Plan) -> None:
        """Let ``new`` answer for what was planned."""
        for commit in plan.commits:
            others = [each for each in self.of(commit) if each not in plan.displaced]
            self._batches[commit] = (*others, new)
        for old, commits in plan.displaced.items():
            old.live -= commits

    def drop(self, old: KeptBatch) -> None:
        """Let ``old`` answer for nothing any more."""
        for commit in old.batch.commits:
            others = tuple(each for each in self.of(commit) if each is not old)
            if others:
                self._batches[commit] = others
            else:
                self._batches.pop(commit, None)


def _newer(batch: ShardBatch, name: bytes, kept: KeptBatch) -> bool:
    """The higher sequence wins, at equal ones the lower hash, as between records."""
    return (-batch.sequence, name) < (-kept.batch.sequence, kept.name)
