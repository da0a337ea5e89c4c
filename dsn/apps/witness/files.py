"""What one that replays remembers beside its replica; each file is on disk before anything is said.

The newest checkpoint that it follows, so that two of the operator's that contradict each other
convict it even if the first was never cosigned. A witness also remembers the newest that it
cosigned, with its own line, so that its time never goes back.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from dsn.apps.witness.watch import Watch
from dsn.errors import DataLost, MalformedMessage
from dsn.ledger.checkpoint import SignedCheckpoint, format_checkpoint, parse_checkpoint
from dsn.store.files import PRIVATE_DIRECTORY, write_atomic

EVIDENCE: Final = "evidence"
_FOLLOWED, _COSIGNED, _WATCH = "witness.followed", "witness.cosigned", "witness.watch"
_T = TypeVar("_T")


class ReplayFiles:
    """The files of one that follows a log; whoever holds the home's lock has them alone."""

    def __init__(self, state: Path, evidence: Path) -> None:
        """Read what is there.

        Args:
            state: A directory, made if it is not there.
            evidence: Where faults are kept, made when there is one.

        Raises:
            DataLost: ``witness_damaged``: a file is not what was written.
        """
        self._state, self._evidence = state, evidence
        state.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        self.followed = self._load(_FOLLOWED, parse_checkpoint)

    def follow(self, signed: SignedCheckpoint) -> None:
        """Remember the checkpoint up to which the log is replayed."""
        write_atomic(self._state / _FOLLOWED, format_checkpoint(signed))
        self.followed = signed

    def keep_evidence(self, code: str, size: int, evidence: bytes) -> Path:
        """Keep what convicts, under the code it is refused with and the log's size."""
        self._evidence.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        file = self._evidence / f"{code}-{size}.evidence"
        write_atomic(file, evidence)
        return file

    def _load(self, name: str, decode: Callable[[bytes], _T]) -> _T | None:
        file = self._state / name
        try:
            return decode(file.read_bytes())
        except FileNotFoundError:
            return None
        except MalformedMessage as error:
            raise DataLost(
                f"{file} is damaged: {error.message}",
                code="witness_damaged",
                hint="never restore it from a copy: make a new witness",
            ) from error


class WitnessFiles(ReplayFiles):
    """The files of one witness."""

    def __init__(self, state: Path, evidence: Path) -> None:
        """Read what is there; as ``ReplayFiles``."""
        super().__init__(state, evidence)
        self.cosigned = self._load(_COSIGNED, parse_checkpoint)
        self.watch = self._load(_WATCH, Watch.decode) or Watch()

    def cosign(self, signed: SignedCheckpoint) -> None:
        """Remember a checkpoint with the line that is about to be given out."""
        write_atomic(self._state / _COSIGNED, format_checkpoint(signed))
        self.cosigned = signed

    def set_watch(self, watch: Watch) -> None:
        """Remember the time; does nothing if it is as it was."""
        if watch != self.watch:
            write_atomic(self._state / _WATCH, watch.encode())
            self.watch = watch
