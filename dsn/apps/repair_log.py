"""What this home stored of a file that it repaired: a line of JSON a shard, and no key.

An interrupted repair goes on from it, and what no manifest names any more is let go by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dsn.ids import Commit, FileId, NodeId, format_base32
from dsn.machines.upload import Row
from dsn.ports import Clock
from dsn.store.files import write_atomic

FOLDER: Final = "repairs"
KEEP_S: Final = 20 * 3_600
"""Nodes keep unsigned shards for 24 hours; older ones that nobody names are let go."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One shard, or manifest copy, that this home stored.

    Attributes:
        node: Where.
        commit: Its name.
        at_s: When, in Unix seconds.
        place: Segment, index, generation and length; ``None`` for a copy.
    """

    node: NodeId
    commit: Commit
    at_s: int
    place: tuple[int, int, int, int] | None = None

    def row(self) -> Row | None:
        """As the repair knows it; ``None`` for a copy."""
        if self.place is None:
            return None
        segment, index, generation, length = self.place
        return Row(segment, index, self.node, generation, self.commit, length)

    def encode(self) -> str:
        """One line."""
        where = None if self.place is None else list(self.place)
        fields = {"node": self.node.hex(), "commit": self.commit.hex(), "at_s": self.at_s}
        return json.dumps(fields | {"place": where}) + "\n"

    @classmethod
    def decode(cls, line: str) -> Kept:
        """Read what ``encode`` wrote."""
        fields: dict[str, Any] = json.loads(line)
        place = fields["place"]
        node, commit = bytes.fromhex(fields["node"]), bytes.fromhex(fields["commit"])
        where = None if place is None else (place[0], place[1], place[2], place[3])
        return cls(NodeId(node), Commit(commit), fields["at_s"], where)


class RepairLog:
    """The file of one repaired file."""

    def __init__(self, state: Path, file_id: FileId, clock: Clock) -> None:
        """Keep it below the home's ``state``."""
        self._path = state / FOLDER / f"{format_base32(file_id)}.jsonl"
        self._clock = clock
        self.kept = self._read()

    def _read(self) -> list[Kept]:
        try:
            lines = self._path.read_text().splitlines()
        except FileNotFoundError:
            return []
        whole = (line for line in lines if line.endswith("}"))  # a crash may cut the last one
        return [Kept.decode(line) for line in whole]

    def fresh(self, kept: Kept) -> bool:
        """Whether a node still has ``kept``, though nobody signed for it yet."""
        return self._clock.now_s() - kept.at_s < KEEP_S

    def note(self, node: NodeId, commit: Commit, row: Row | None = None) -> None:
        """A shard was stored: ``row``, or a copy of the manifest."""
        place = None if row is None else (row.segment, row.index, row.generation, row.length)
        kept = Kept(node, commit, int(self._clock.now_s()), place)
        self.kept.append(kept)
        self._path.parent.mkdir(exist_ok=True, mode=0o700)
        with self._path.open("a") as file:
            file.write(kept.encode())

    def keep_only(self, kept: Iterable[Kept]) -> None:
        """Forget all but ``kept``."""
        self.kept = list(kept)
        if self.kept:
            write_atomic(self._path, "".join(each.encode() for each in self.kept).encode())
        else:
            self._path.unlink(missing_ok=True)
