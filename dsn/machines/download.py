"""Which shards of a segment to read, and what to try next when one fails or stalls.

A sans-I/O machine for one segment: the driver reads the indices it is given and reports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


class Download:
    """The shards of one segment, best first.

    The ``wanted`` data shards alone are enough, and cost no arithmetic; so are any
    ``required`` shards. Indices in ``late`` (slow or doubtful holders) are used last.
    """

    def __init__(
        self,
        required: int,
        total: int,
        wanted: Collection[int],
        late: Collection[int] = (),
        gone: Collection[int] = (),
    ) -> None:
        """Rank the indices: wanted data first, other data, parity; late ones behind, none gone."""
        self.required, self.wanted = required, frozenset(wanted)
        there = (i for i in range(total) if i not in gone)
        self._ranked = sorted(there, key=lambda i: (i in late, i not in self.wanted, i))
        self.chosen: set[int] = set()
        self.failed: set[int] = set()
        self._extra = 0

    def start(self) -> list[int]:
        """The indices to read first."""
        first = self._ranked[: len(self.wanted)]
        if self.wanted != set(first):  # a wanted shard is late or gone: decode
            first = self._ranked[: self.required]
        self.chosen.update(first)
        return first

    def enough(self, have: Collection[int]) -> bool:
        """Whether the indices in ``have`` give the wanted rows."""
        return len(have) >= self.required or self.wanted <= set(have)

    def fail(self, index: int) -> list[int]:
        """Drop ``index``; returns the indices to read instead, empty when none is left."""
        self.chosen.discard(index)
        self.failed.add(index)
        return [] if self.wanted <= self.chosen else self._top_up()

    def stall(self) -> list[int]:
        """Nothing came for a while: read more indices, so that one late shard does not matter."""
        self._extra += 1
        return self._top_up()

    def settle(self, have: Iterable[int]) -> None:
        """Go on with the indices in ``have`` only; the others lost the race."""
        self.chosen, self._extra = set(have), 0

    def _top_up(self) -> list[int]:
        free = [i for i in self._ranked if i not in self.chosen and i not in self.failed]
        picked = free[: max(0, self.required + self._extra - len(self.chosen))]
        self.chosen.update(picked)
        return picked

    @property
    def found(self) -> int:
        """Shards that may still be had."""
        return len(self._ranked) - len(self.failed)
