"""What this client saw go wrong, remembered across commands.

A shard once seen wrong or lost counts as bad until a deep check reads it whole and right:
a node that answers samples well can still hold rot that one ``get`` met.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dsn.apps.results import FileState, NoticeSink
from dsn.ids import Commit, FileId, NodeId, format_node_id, parse_node_id, short
from dsn.store.files import write_atomic


@dataclass(frozen=True, slots=True)
class Fault:
    """One bad shard: whose, ``wrong``, ``lost`` or ``declared_lost``, and what it was."""

    node: str
    kind: str
    what: str

    @property
    def node_id(self) -> NodeId:
        """Who holds the bad shard."""
        return parse_node_id(self.node)


class Faults:
    """Bad shards by commit, and the last seen state of every file, in one small JSON file."""

    def __init__(self, path: Path, notice: NoticeSink) -> None:
        """Load what is there; report new faults to ``notice``."""
        self._path, self._notice, self._changed = path, notice, False
        stored = json.loads(path.read_text()) if path.exists() else {}
        self._faults = {bytes.fromhex(k): Fault(**v) for k, v in stored.get("faults", {}).items()}
        self._states: dict[str, str] = stored.get("states", {})
        self.seen: list[Fault] = []

    def note(self, node: NodeId, commit: Commit, kind: str, what: str) -> None:
        """Remember a bad shard, and say so once a command."""
        fault = Fault(format_node_id(node), kind, what)
        if fault in self.seen and commit in self._faults:
            return
        self._faults[commit] = fault
        self.seen.append(fault)
        self._changed = True
        verb = "sent wrong bytes of" if kind == "wrong" else "has lost"
        self._notice(f"node {short(node)} {verb} {what}")

    def clear(self, commit: Commit) -> None:
        """Forget a fault: the shard was read whole and is right."""
        self._changed |= self._faults.pop(commit, None) is not None

    def get(self, commit: Commit) -> Fault | None:
        """The fault of a shard, if one was seen."""
        return self._faults.get(commit)

    def set_state(self, file_id: FileId, state: FileState) -> None:
        """Remember how a file was last seen."""
        self._changed |= self._states.get(file_id.hex()) != state.value
        self._states[file_id.hex()] = state.value

    def state(self, file_id: FileId) -> FileState:
        """How a file was last seen; ``unknown`` if never."""
        return FileState(self._states.get(file_id.hex(), FileState.UNKNOWN.value))

    def forget(self, file_id: FileId, commits: list[Commit]) -> None:
        """Drop what is remembered of a file that is gone."""
        self._changed |= self._states.pop(file_id.hex(), None) is not None
        for commit in commits:
            self.clear(commit)

    def save(self) -> None:
        """Write what changed."""
        if not self._changed:
            return
        faults = {commit.hex(): asdict(fault) for commit, fault in self._faults.items()}
        text = json.dumps({"faults": faults, "states": self._states})
        write_atomic(self._path, text.encode(), 0o600)
        self._changed = False
