"""Who holds which shard of a file while it is being stored, and who takes over.

A sans-I/O machine: it is told of receipts and of nodes that failed, and says which rows are
still to be sent where. A row is one shard: (segment, index).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dsn.ids import Commit, NodeId


@dataclass(slots=True)
class Row:
    """One shard's place: ``commit`` is set once its node gave a receipt."""

    segment: int
    index: int
    node: NodeId
    generation: int = 0
    commit: Commit | None = None
    length: int = 0


class Upload:
    """The rows of one file over its nodes.

    Slot s of the file is a node; index i of segment g goes to slot (i + g) mod total, so that
    data and parity shards spread evenly. A slot whose node fails passes to the next spare, and
    its rows move there under the next generation: a departed holder's bytes are worthless to
    its replacement.
    """

    def __init__(self, order: Sequence[NodeId], total: int) -> None:
        """Take the first ``total`` nodes of ``order`` as slots, the others as spares."""
        self.order = tuple(order)
        self._slots = list(order[:total])
        self._spares = list(order[total:])
        self._failed: set[NodeId] = set()
        self._rows: dict[tuple[int, int], Row] = {}
        self.total = total

    @property
    def nodes(self) -> list[NodeId]:
        """The slots' nodes now, failed ones without a spare left out."""
        return [node for node in self._slots if node not in self._failed]

    @property
    def has_spares(self) -> bool:
        """Whether another failure can be made good."""
        return any(node not in self._failed for node in self._spares)

    def assign(self, segment: int) -> list[Row]:
        """The rows of ``segment``, by index; made at the first call."""
        rows = []
        for index in range(self.total):
            key = (segment, index)
            node = self._slots[(index + segment) % self.total]
            rows.append(self._rows.setdefault(key, Row(segment, index, node)))
        return rows

    def restore(self, rows: Iterable[Row]) -> None:
        """Take up rows that an earlier, interrupted attempt stored."""
        for row in rows:
            self._rows[row.segment, row.index] = row

    def stored(self, row: Row, node: NodeId, generation: int, commit: Commit, length: int) -> bool:
        """Note a receipt; a late one for a row that has moved on changes nothing."""
        if row.node != node or row.generation != generation or row.commit is not None:
            return False
        row.commit, row.length = commit, length
        return True

    def fail(self, node: NodeId) -> bool:
        """Give ``node`` up: its slot and all its rows pass to the next spare, if there is one.

        Returns:
            Whether nothing of it is left without a node.
        """
        self._failed.add(node)
        if node in self._slots:
            self._pass_on(self._slots.index(node))
        return node not in self._slots

    def _pass_on(self, slot: int) -> None:
        left = self._slots[slot]
        while self._spares:
            spare = self._spares.pop(0)
            if spare not in self._failed:
                self._slots[slot] = spare
                break
        for row in self._rows.values():
            if row.node == left and self._slots[slot] != left:
                row.node, row.generation, row.commit = self._slots[slot], row.generation + 1, None

    def pending(self) -> list[Row]:
        """Rows without a receipt whose node is still worth sending to, in order."""
        rows = (r for r in self._rows.values() if r.commit is None and r.node not in self._failed)
        return sorted(rows, key=lambda r: (r.segment, r.index))

    def missing(self) -> list[Row]:
        """Rows that nobody holds for sure: no receipt, or a node that failed without a spare."""
        rows = (r for r in self._rows.values() if r.commit is None or r.node in self._failed)
        return sorted(rows, key=lambda r: (r.segment, r.index))

    def rows(self, segment: int) -> list[Row]:
        """All rows of ``segment``, by index."""
        return [self._rows[segment, index] for index in range(self.total)]

    def known(self) -> list[Row]:
        """All rows of all segments that were assigned so far."""
        return list(self._rows.values())

    def complete(self, segment: int) -> bool:
        """Whether every row of ``segment`` has a receipt."""
        return all(row.commit is not None for row in self.rows(segment))

    def placed(self, segments: int) -> int:
        """The least number of rows that any segment has for sure (``total`` without segments)."""
        short = [0] * segments
        for row in self.missing():
            short[row.segment] += 1
        return self.total - max(short, default=0)


def stall_limit_s(waits_s: Sequence[float], has_spares: bool) -> float:
    """How long a node may make no progress before it is given up.

    Four times what the slowest quarter of the nodes took, at least 1 s; ten times as patient
    when there is no spare, since then giving up can only lose redundancy.
    """
    ranked = sorted(waits_s)
    quarter = ranked[-(-len(ranked) * 3 // 4) - 1] if ranked else 0.0
    return max(1.0, 4 * quarter) * (1.0 if has_spares else 10.0)
