"""The sequencer: signed entries in, an answer for each out, and the log on disk in between.

Entries are taken in batches. One that the rules refuse gets its code and leaves no trace; the
others of a batch are stored in one transaction, and only then is any of them acknowledged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NamedTuple

from dsn.apps.ledger.memory import Memory, load_cell, store_cell
from dsn.apps.ledger.params import format_params, parse_params
from dsn.apps.ledger.tail import LogTail, hashes_after
from dsn.errors import DataLost, DsnError, MalformedMessage, NotFound
from dsn.ids import NetworkId
from dsn.ledger.bodies import OpenEpoch
from dsn.ledger.cells import Cell
from dsn.ledger.checkpoint import Checkpoint, log_origin
from dsn.ledger.entry import Entry, SignedEntry
from dsn.ledger.log import Frontier, LogLeaf, TreeHead
from dsn.ledger.params import LedgerParams
from dsn.ledger.refusal import refuse
from dsn.ledger.rules import apply, validate
from dsn.ledger.state import FIRST_EPOCH, State, genesis
from dsn.ledger.tiles import ReadTile
from dsn.ports import LedgerBatch, LedgerStore, StoredCell

BATCH: Final = 256
"""Entries a transaction at most."""


class Submission(NamedTuple):
    """An entry's bytes and its signature as they came; nothing about them is known."""

    entry: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """Entry number ``index`` of the log, which is on disk."""

    index: int
    signed: SignedEntry
    cells: tuple[Cell, ...]
    """What it touched, as it was after it."""
    state_root: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Not taken: the rules refuse it as number ``index``."""

    index: int
    submission: Submission
    code: str
    message: str


Outcome = Accepted | Refused


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger between two entries."""

    state: State
    tail: LogTail
    read: ReadTile
    """Gives the stored tiles, for what is asked of the log's past."""

    def take(self, submission: Submission, pending: Sequence[LogLeaf]) -> tuple[Outcome, State]:
        """Judge one entry, and apply it if it is good.

        Args:
            submission: Untrusted.
            pending: Leaves that are not in ``tail`` yet.
        """
        index = self.tail.frontier.size + len(pending)
        try:
            signed = SignedEntry(Entry.decode(submission.entry), submission.signature)
            validate(self.state, signed, self._judge(pending))
        except DsnError as error:
            refused = Refused(index, submission, error.detail_code, error.message)
            return refused, self.state
        state, changes = apply(self.state, signed.entry)
        return Accepted(index, signed, changes.cells, state.root), state

    def _judge(self, pending: Sequence[LogLeaf]) -> Callable[[NetworkId, OpenEpoch], None]:
        """Judges that the log was what the operator says that it was at an epoch's end."""

        def judge(network: NetworkId, body: OpenEpoch) -> None:
            if body.epoch == FIRST_EPOCH:
                return
            tail, grown = self.tail.extend(pending)
            size = tail.frontier.size
            hashes = hashes_after(self.read, grown, size)
            if body.closed.size > size or body.closed != Frontier.at(hashes, body.closed.size).head:
                raise refuse("bad_closed_log", f"the log was not so at {body.closed.size} entries")

        return judge
