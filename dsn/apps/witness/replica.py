"""A copy of one's own of the ledger: the leaves of somebody else's log, judged one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from dsn.apps.ledger.batch import Accepted, Refused, Submission
from dsn.apps.ledger.engine import Sequencer, Turning
from dsn.errors import DsnError
from dsn.ledger.bodies import OpenEpoch, ShutEpoch
from dsn.ledger.cells import Cell
from dsn.ledger.checkpoint import Checkpoint
from dsn.ledger.log import Frontier, Hashes, LogLeaf, TreeHead, leaf_hash
from dsn.ledger.refusal import refuse
from dsn.ledger.state import State
from dsn.ledger.tiles import hashes_of_tiles
from dsn.ports import LedgerStore

Seen: TypeAlias = Callable[[int, Iterable[Cell]], None]


class Departure(Exception):
    """Leaf ``index`` does not follow from those before it."""

    def __init__(self, index: int, before: State, error: DsnError) -> None:
        """Keep what convicts: the state ``before``, and why."""
        super().__init__(error.message)
        self.index, self.before, self.error = index, before, error


class Replica(Sequencer):
    """A sequencer that orders nothing: it takes leaves as they are, or not at all."""

    def __init__(self, store: LedgerStore, seen: Seen | None = None) -> None:
        """Go on where ``store`` ends; raises as ``Sequencer``.

        Args:
            store: Open to sign.
            seen: Told of each entry's epoch and cells as it is replayed, before it is on disk.
        """
        super().__init__(store)
        self._seen = seen

    def head_with(self, leaves: Sequence[LogLeaf]) -> TreeHead:
        """Size and root of the log if ``leaves`` (untrusted) came next."""
        return self._tail.frontier.extend(leaf_hash(leaf.encode()) for leaf in leaves)[0].head

    def head_at(self, size: int) -> TreeHead:
        """The log as it was at ``size`` leaves, at most as many as it has."""
        return Frontier.at(self.hashes, size).head

    @property
    def hashes(self) -> Hashes:
        """Those of the log as it stands."""
        return hashes_of_tiles(self._store.tile, self.head.size)

    def follow(self, leaves: Sequence[LogLeaf], end: Checkpoint) -> list[Turning]:
        """Replay ``leaves``, which are in the log of ``end``, and keep them: all or none.

        Args:
            leaves: What comes next.
            end: What the operator says of the log, at these leaves' end or later.

        Returns:
            The epochs that began and ended among them.

        Raises:
            Departure: The operator put in its log what does not follow.
            DataLost: As ``LedgerStore.append``.
        """
        batch, turnings = self._begin(), list[Turning]()
        for leaf in leaves:
            before = batch.state
            outcome = batch.take(Submission(leaf.entry, leaf.signature))
            error = _fault(outcome, leaf) or _at_end(outcome, batch.state, end)
            if error is not None:
                raise Departure(outcome.index, before, error)
            assert isinstance(outcome, Accepted)
            if self._seen is not None:
                self._seen(batch.state.network.epoch, outcome.cells)
            if isinstance(body := outcome.signed.entry.body, OpenEpoch | ShutEpoch):
                turnings.append(Turning(outcome.index, body))
        self._keep(batch)
        return turnings

    def leaf(self, index: int) -> LogLeaf:
        """Leaf ``index`` of the log as it stands."""
        return next(self.leaves(index, index + 1))

    def leaves(self, start: int, end: int) -> Iterator[LogLeaf]:
        """The leaves from ``start`` to before ``end``."""
        return iter(self._store.leaves(start, end))


def _fault(outcome: Accepted | Refused, leaf: LogLeaf) -> DsnError | None:
    """What is wrong with a step, if anything is."""
    if isinstance(outcome, Refused):
        return outcome.error
    if outcome.leaf.state_root != leaf.state_root:
        return refuse("state_root_differs", "another state root follows from the entry")
    return None


def _at_end(outcome: Accepted | Refused, after: State, end: Checkpoint) -> DsnError | None:
    """What is wrong with the checkpoint, if the step is its last and anything is."""
    found = after.root, after.network.epoch
    if outcome.index + 1 == end.size and found != (end.state_root, end.epoch):
        return refuse("checkpoint_differs", "the checkpoint says another state root or epoch")
    return None
