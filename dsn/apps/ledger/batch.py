"""Entries on their way into a log: judged and applied, not stored yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dsn.apps.ledger.memory import store_cell
from dsn.apps.ledger.tail import LogTail, hashes_after
from dsn.errors import DsnError
from dsn.ids import NetworkId
from dsn.ledger.bodies import OpenEpoch
from dsn.ledger.cells import Cell
from dsn.ledger.entry import Entry, SignedEntry
from dsn.ledger.log import Frontier, LogLeaf
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.moves import step
from dsn.ledger.state import FIRST_EPOCH, State
from dsn.ledger.tiles import ReadTile
from dsn.ports import LedgerBatch


class Submission(NamedTuple):
    """An entry's bytes and its signature as they came; nothing about them is known."""

    entry: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """Entry number ``index`` of the log."""

    index: int
    signed: SignedEntry
    cells: tuple[Cell, ...]
    """What it touched, as it was after it."""
    leaf: LogLeaf


@dataclass(frozen=True, slots=True)
class Refused:
    """Not taken: as number ``index`` the rules refuse it."""

    index: int
    submission: Submission
    error: DsnError


Outcome = Accepted | Refused


class Batch:
    """Entries that follow one another; all of them count, or none does."""

    def __init__(self, state: State, tail: LogTail, read: ReadTile) -> None:
        """Start with nothing taken.

        Args:
            state: After the last entry of the log.
            tail: That log's.
            read: Gives that log's tiles.
        """
        self.state = state
        self.leaves: list[LogLeaf] = []
        self._tail, self._read = tail, read

    def take(self, submission: Submission) -> Outcome:
        """Judge one entry (untrusted) by all that came before it, and apply it if it is good."""
        index = self._tail.frontier.size + len(self.leaves)
        try:
            signed = SignedEntry(Entry.decode(submission.entry), submission.signature)
            self.state, changes = step(self.state, signed, self._judge)
        except DsnError as error:
            return Refused(index, submission, error)
        leaf = LogLeaf(submission.entry, submission.signature, self.state.root)
        self.leaves.append(leaf)
        return Accepted(index, signed, changes.cells, leaf)

    def finish(self) -> tuple[LogTail, LedgerBatch]:
        """The log's tail with all that was taken, and what a store has to keep of it."""
        tail, tiles = self._tail.extend(self.leaves)
        cells = [store_cell(cell) for cell in self.state.cells.values()]
        return tail, LedgerBatch(self._tail.head, tail.head, self.leaves, cells, tiles)

    def _judge(self, _: NetworkId, body: OpenEpoch) -> None:
        """Check that the log was what the operator says that it was when the epoch's input closed.

        Raises:
            EntryRefused: ``bad_closed_log``.
        """
        if body.epoch == FIRST_EPOCH:
            return
        tail, grown = self._tail.extend(self.leaves)
        hashes = hashes_after(self._read, grown, tail.frontier.size)
        closed = body.closed
        if closed.size > tail.frontier.size or Frontier.at(hashes, closed.size).head != closed:
            raise refuse("bad_closed_log", f"at {closed.size} entries the log was not like that")
