"""What an interrupted put already stored, so that the same command goes on from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from dsn.apps.holdings import Holdings
from dsn.apps.stored import StoredFile
from dsn.core.manifest import SegmentSeal
from dsn.ids import Commit, NodeId
from dsn.machines.upload import Row, Upload
from dsn.ports import Clock
from dsn.units import leaf_count

KEEP_S = 20 * 3_600
"""Nodes keep unsigned shards for 24 hours; older journals are worthless."""


class Journal:
    """One put's journal: a line of JSON for the file, then one for every finished segment.

    It holds the file's owner key and lies in the home, readable by its owner only.
    """

    def __init__(self, path: Path, about: dict[str, object], clock: Clock) -> None:
        """Keep the journal at ``path``; it counts only while ``about`` is the same."""
        self._path, self._about, self._clock = path, about, clock
        self._lines = self._read()

    @classmethod
    def open(
        cls, folder: Path, path: Path, name: str, fingerprint: list[int], clock: Clock
    ) -> Journal:
        """The journal of storing ``path`` as ``name``; it starts over if the source changed."""
        folder.mkdir(exist_ok=True, mode=0o700)
        key = hashlib.sha256(f"{path}\0{name}".encode()).hexdigest()[:32]
        about: dict[str, object] = {"source": fingerprint}
        return cls(folder / f"{key}.jsonl", about, clock)

    def _read(self) -> list[dict[str, object]]:
        try:
            lines = [json.loads(line) for line in self._path.read_text().splitlines()]
        except (OSError, ValueError):
            return []
        fresh = lines and self._clock.now_s() - lines[0].get("at_s", 0) < KEEP_S
        same = fresh and all(lines[0].get(key) == value for key, value in self._about.items())
        return lines if same else []

    @property
    def owner_key(self) -> bytes | None:
        """Of the interrupted put, if there is one to go on with."""
        return bytes.fromhex(str(self._lines[0]["owner_key"])) if self._lines else None

    def begin(self, file: StoredFile, alive: Collection[NodeId], holdings: Holdings) -> None:
        """Give ``file`` the segments that are stored already, and note each one that follows."""
        if self._lines and self._lines[0].get("scheme") == str(file.scheme):
            self._restore(file, alive, holdings)
        else:
            self._lines = []
            self._path.touch(0o600)
            self._path.write_text("")
            self._append(
                {
                    **self._about,
                    "at_s": int(self._clock.now_s()),
                    "scheme": str(file.scheme),
                    "owner_key": file.owner_key.hex(),
                }
            )
        file.journal = lambda segment: self._note(file, segment)

    def _restore(self, file: StoredFile, alive: Collection[NodeId], holdings: Holdings) -> None:
        rows = []
        for line in self._lines[1:]:
            segment = int(str(line["segment"]))
            seal = SegmentSeal(bytes.fromhex(str(line["salt"])), bytes.fromhex(str(line["hash"])))
            file.seals[segment] = seal
            length = file.layout.segment(segment).shard_bytes
            listed: list[list[object]] = line["rows"]  # type: ignore[assignment]
            for index, (node, generation, commit) in enumerate(listed):
                row = Row(
                    segment,
                    index,
                    NodeId(bytes.fromhex(str(node))),
                    int(str(generation)),
                    Commit(bytes.fromhex(str(commit))),
                    length,
                )
                rows.append(row)
        file.upload = resumed(file.upload, rows)
        for row in rows:
            if row.node in alive:
                holdings.add(row.node, Commit(row.commit or b""), leaf_count(row.length))
        for node in {row.node for row in rows} - set(alive):
            file.upload.fail(node)

    def _note(self, file: StoredFile, segment: int) -> None:
        seal = file.seals[segment]
        rows = [
            [row.node.hex(), row.generation, (row.commit or b"").hex()]
            for row in file.upload.rows(segment)
        ]
        self._append(
            {"segment": segment, "salt": seal.salt.hex(), "hash": seal.hash.hex(), "rows": rows}
        )

    def _append(self, line: dict[str, object]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def remove(self) -> None:
        """The put ended, well or not."""
        self._path.unlink(missing_ok=True)


def resumed(upload: Upload, rows: list[Row]) -> Upload:
    """``upload`` with the slots that an earlier attempt used, and its rows."""
    used = list(dict.fromkeys(row.node for row in sorted(rows, key=lambda r: (r.segment, r.index))))
    rest = [node for node in upload.order if node not in used]
    again = Upload([*used, *rest], upload.total)
    again.restore(rows)
    return again
