"""Room for what strangers bring: bounded in number and bytes, shared out by publisher, aging.

What is kept is found elsewhere. Here is only how much there is, who brought it and when it
runs out. Nothing here looks at all that is kept, so what is refused costs the same whether
the shelf is empty or full.

Spec: docs/spec/network.md#what-a-node-keeps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, NamedTuple

from dsn.errors import TooMany
from dsn.ids import NodeId

_SLACK: Final = 64
_TAKEN_OFF: Final = -1


@dataclass(slots=True, eq=False)
class Kept:
    """Something that a publisher brought; a class below it is a kind with its own quota.

    Attributes:
        name: What its keeper finds it by.
        publisher: Whose quota it counts against.
        expires_s: Unix seconds: what it says of itself.
        until_s: Unix seconds: when it is forgotten, never after ``expires_s``.
        size_bytes: Memory that it takes, as its keeper reckons.
    """

    name: bytes
    publisher: NodeId
    expires_s: int
    until_s: int
    size_bytes: int


class Quota(NamedTuple):
    """How much there may be of one kind: things by one publisher, and bytes by all."""

    most_a_publisher: int
    most_bytes: int


class Shelf:
    """Counts what is kept, and lets it age."""

    def __init__(self, most: int, most_bytes: int, quotas: Mapping[type[Kept], Quota]) -> None:
        """Start empty, with room for ``most`` things that take ``most_bytes`` in all."""
        self._most, self._most_bytes, self._quotas = most, most_bytes, quotas
        self._count = 0
        self._brought: Counter[tuple[type[Kept], NodeId]] = Counter()
        self._bytes: Counter[type[Kept]] = Counter()
        self._queue: list[tuple[int, int, Kept]] = []
        self._turns = count()

    def __len__(self) -> int:
        """How many things there are."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """Memory that they take."""
        return self._bytes.total()

    def check_room(
        self, kind: type[Kept], publisher: NodeId, size_bytes: int, gone: Collection[Kept] = ()
    ) -> None:
        """Check that one more of ``kind`` may be put once ``gone``, of that kind, is taken off.

        Raises:
            TooMany: ``publisher_quota``: its publisher has brought as much as anybody may;
                ``records_full``: so have all together.
        """
        quota = self._quotas[kind]
        own = self._brought[kind, publisher] - sum(each.publisher == publisher for each in gone)
        if own >= quota.most_a_publisher:
            raise TooMany(
                f"{own} records by one publisher are kept, at most {quota.most_a_publisher} may be",
                code="publisher_quota",
                hint="they run out within a day; store others at other nodes",
            )
        more_bytes = size_bytes - sum(each.size_bytes for each in gone)
        for what, amount, most in (
            ("records", self._count + 1 - len(gone), self._most),
            ("bytes of their kind", self._bytes[kind] + more_bytes, quota.most_bytes),
            ("bytes", self.size_bytes + more_bytes, self._most_bytes),
        ):
            if amount > most:
                raise TooMany(
                    f"{amount} {what} with this one, at most {most} are kept",
                    code="records_full",
                    hint="store it at other nodes",
                )

    def put(self, new: Kept) -> None:
        """Count ``new`` in until it runs out; ``check_room`` said that it may be."""
        self._count += 1
        self._bytes[type(new)] += new.size_bytes
        self._brought[type(new), new.publisher] += 1
        self._queue_up(new)

    def take_off(self, old: Kept) -> None:
        """Count ``old`` out."""
        self._count -= 1
        self._bytes[type(old)] -= old.size_bytes
        self._discharge(old)
        old.until_s = _TAKEN_OFF

    def renew(self, kept: Kept, publisher: NodeId, until_s: int) -> None:
        """Keep ``kept`` on, from now at the charge of ``publisher`` if its quota has room."""
        if until_s > kept.until_s:
            kept.until_s = until_s
            self._queue_up(kept)
        kind = type(kept)
        if self._brought[kind, publisher] < self._quotas[kind].most_a_publisher:
            self._discharge(kept)
            self._brought[kind, publisher] += 1
            kept.publisher = publisher

    def expire(self, now_s: float) -> list[Kept]:
        """Take off what has run out, and give it."""
        gone = []
        while self._queue and self._queue[0][0] <= now_s:
            until_s, _, kept = heappop(self._queue)
            if kept.until_s == until_s:
                self.take_off(kept)
                gone.append(kept)
        return gone

    def _discharge(self, kept: Kept) -> None:
        charged = type(kept), kept.publisher
        self._brought[charged] -= 1
        if not self._brought[charged]:
            del self._brought[charged]

    def _queue_up(self, kept: Kept) -> None:
        """Look at ``kept`` when it is due; earlier places in the queue say nothing any more."""
        heappush(self._queue, (kept.until_s, next(self._turns), kept))
        if len(self._queue) > 2 * self._count + _SLACK:
            self._queue = [each for each in self._queue if each[0] == each[2].until_s]
            heapify(self._queue)
