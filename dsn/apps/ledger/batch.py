"""Entries on their way into a log: judged and applied, not stored yet."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsn.apps.ledger.memory import Overlay, store_cell
from dsn.apps.ledger.tail import LogTail, hashes_after
from dsn.errors import DsnError
from dsn.ledger.beacons import verify_beacon
from dsn.ledger.bodies import OpenEpoch, ShutEpoch
from dsn.ledger.cells import Cell, NetworkCell
from dsn.ledger.entry import Entry, SignedEntry
from dsn.ledger.log import Frontier, LogLeaf
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.moves import step
from dsn.ledger.settlement import Address, recover_all
from dsn.ledger.state import FIRST_EPOCH, State
from dsn.ledger.tiles import ReadTile
from dsn.ledger.typed import digest
from dsn.ports import LedgerBatch

_SHARE_HERE: Final = 4
"""Of so many entries the signer of one is found out here, as the others are elsewhere."""
_MOST_ON_TOP: Final = 32
"""Each entry copies the cells that were touched since they were last set aside."""
_WORTH_A_THREAD: Final = 32
"""Fewer entries are judged sooner than another thread has begun."""


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

    def __init__(self, state: State, tail: LogTail, read: ReadTile, shut_size: int) -> None:
        """Start with nothing taken.

        Args:
            state: After the last entry of the log.
            tail: That log's.
            read: Gives that log's tiles.
            shut_size: The log's size right after the last shut of an epoch; 0 before the first.
        """
        self._touched = Overlay(state.source)
        self.state = self._touched.absorb(state)
        self.leaves: list[LogLeaf] = []
        self.shut_size = shut_size
        self._tail, self._read = tail, read

    def take(self, submission: Submission) -> Outcome:
        """Judge one entry (untrusted) by all that came before it, and apply it if it is good."""
        return self._take(submission, _decode(submission))

    def take_all(self, submissions: Sequence[Submission], elsewhere: Executor) -> list[Outcome]:
        """As ``take`` of each in their order; ``elsewhere`` finds out who signed most of them.

        Whose a signature is does not hang on what came before, and it is a quarter of the work:
        another core does it while the first entries are judged here, signatures and all.

        Args:
            submissions: Untrusted.
            elsewhere: Other threads.
        """
        if len(submissions) < _WORTH_A_THREAD:
            return [self.take(each) for each in submissions]
        pairs = [(each, _decode(each)) for each in submissions]
        here = len(pairs) // _SHARE_HERE
        later = {
            at: signed
            for at, (_, signed) in enumerate(pairs)
            if at >= here and isinstance(signed, SignedEntry)
        }
        digests = [digest(self.state.params.domain, each.entry) for each in later.values()]
        signatures = [each.signature for each in later.values()]
        found = elsewhere.submit(recover_all, digests, signatures)
        outcomes = [self._take(*pair) for pair in pairs[:here]]
        signers = dict(zip(later, found.result(), strict=True))
        rest = enumerate(pairs[here:], here)
        return outcomes + [self._take(*pair, signers.get(at)) for at, pair in rest]

    def _take(
        self, submission: Submission, signed: SignedEntry | DsnError, found: Address | None = None
    ) -> Outcome:
        index = self._tail.frontier.size + len(self.leaves)
        if len(self.state.cells) > _MOST_ON_TOP:
            self.state = self._touched.absorb(self.state)
        if isinstance(signed, DsnError):
            return Refused(index, submission, signed)
        try:
            self.state, changes = step(self.state, signed, self._judge, found)
        except DsnError as error:
            return Refused(index, submission, error)
        leaf = LogLeaf(submission.entry, submission.signature, self.state.root)
        self.leaves.append(leaf)
        if isinstance(signed.entry.body, ShutEpoch):
            self.shut_size = index + 1
        return Accepted(index, signed, changes.cells, leaf)

    def finish(self) -> tuple[LogTail, LedgerBatch]:
        """The log's tail with all that was taken, and what a store has to keep of it."""
        tail, tiles = self._tail.extend(self.leaves)
        self.state = self._touched.whole(self.state)
        cells = [store_cell(cell) for cell in self.state.cells.values()]
        return tail, LedgerBatch(self._tail.head, tail.head, self.leaves, cells, tiles)

    def _judge(self, before: NetworkCell, body: OpenEpoch) -> None:
        """Check that the log was what the operator says right after the shut, where it closed.

        And that the beacon follows from it: whoever replays the log judges that too.

        Raises:
            EntryRefused: ``bad_closed_log``.
            InvalidProof: ``bad_beacon``.
        """
        closed = body.closed
        if body.epoch > FIRST_EPOCH:
            if closed.size != self.shut_size:
                raise refuse(
                    "bad_closed_log",
                    f"closed at {closed.size} entries, the shut is at {self.shut_size}",
                )
            tail, grown = self._tail.extend(self.leaves)
            hashes = hashes_after(self._read, grown, tail.frontier.size)
            if Frontier.at(hashes, closed.size).head != closed:
                raise refuse(
                    "bad_closed_log", f"at {closed.size} entries the log was not like that"
                )
        verify_beacon(self.state.params, before, body)


def _decode(submission: Submission) -> SignedEntry | DsnError:
    try:
        return SignedEntry(Entry.decode(submission.entry), submission.signature)
    except DsnError as error:
        return error
