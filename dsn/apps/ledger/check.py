"""A ledger checked from its beginning: every signature, rule, state root and hash, once more.

Nothing that was stored is believed. The first entry after which something is there that does not
follow from the entries up to it is where the fault is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dsn.apps.ledger.batch import Accepted, Batch, Refused, Submission
from dsn.apps.ledger.lines import format_outcome, parse_submission
from dsn.apps.ledger.memory import Memory, store_cell
from dsn.apps.ledger.tail import NO_LOG
from dsn.core.hashing import HASH_BYTES
from dsn.errors import DataLost, DsnError, NotFound
from dsn.ledger.cells import Cell
from dsn.ledger.checkpoint import Checkpoint, log_origin
from dsn.ledger.log import TreeHead
from dsn.ledger.params import LedgerParams
from dsn.ledger.params_text import parse_params
from dsn.ledger.state import State, genesis
from dsn.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, Tile
from dsn.ports import LedgerStore

_PENDING: Final = 256
"""Entries applied between two times that the log grows."""


class LedgerFault(DsnError):
    """What a ledger says does not follow from its entries; ``index`` is the entry concerned."""

    code = "ledger_fault"
    exit_code = 1

    def __init__(self, index: int, message: str, *, code: str = "") -> None:
        """Keep the number of the entry."""
        super().__init__(f"entry {index}: {message}", code=code)
        self.index = index


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    entries: int
    """Those before the fault, or all."""
    head: TreeHead
    """What the ledger says of itself, or, of a file, what its entries come to."""
    fault: LedgerFault | None


class Replay:
    """A ledger that grows in memory, from nothing but its parameters and entries."""

    def __init__(self, params: LedgerParams) -> None:
        """Start before the first entry."""
        self.touched: dict[bytes, int] = {}
        """By cell key, the newest entry that touched it."""
        self.tiles: dict[tuple[int, int], bytes] = {}
        """By level and index, up to date once ``head`` was asked."""
        self._memory = Memory(genesis(params).cells.values())
        self._tail = NO_LOG
        self._batch = self._after(self._memory.state(params), 0)

    @property
    def size(self) -> int:
        """Entries so far."""
        return self._tail.frontier.size + len(self._batch.leaves)

    def head(self) -> TreeHead:
        """Size and root of the log, which grows by what was followed since the last call."""
        if self._batch.leaves:
            self._tail, grown = self._batch.finish()
            self.tiles |= {(tile.level, tile.index): raw for tile, raw in grown.tiles.items()}
            state, shut_size = self._memory.absorb(self._batch.state), self._batch.shut_size
            self._batch = self._after(state, shut_size)
        return self._tail.head

    @property
    def state(self) -> State:
        """What holds after the last entry."""
        return self._batch.state

    def checkpoint(self) -> Checkpoint:
        """What an honest operator signs of it."""
        network = self.state.network
        return Checkpoint(log_origin(network.network), *self.head(), self.state.root, network.epoch)

    def take(self, submission: Submission) -> Accepted:
        """Follow one entry (untrusted).

        Raises:
            LedgerFault: With the code with which it is refused.
        """
        outcome = self._batch.take(submission)
        if isinstance(outcome, Refused):
            error = outcome.error
            raise LedgerFault(outcome.index, error.message, code=error.detail_code)
        self.touched.update((cell.key, outcome.index) for cell in outcome.cells)
        if len(self._batch.leaves) == _PENDING:
            self.head()
        return outcome

    def meet(self, expected: Sequence[Checkpoint | TreeHead]) -> None:
        """Compare with those of ``expected`` that speak of this size.

        Raises:
            LedgerFault: ``root_differs``.
        """
        for each in expected:
            if each.size == self.size:
                found = self.checkpoint() if isinstance(each, Checkpoint) else self.head()
                if found != each:
                    raise LedgerFault(
                        max(self.size - 1, 0), "another root was recorded", code="root_differs"
                    )

    def cells(self) -> Iterable[Cell]:
        """All of them, as they are after the last entry."""
        self.head()
        return self._memory.cells()

    def _after(self, state: State, shut_size: int) -> Batch:
        return Batch(state, self._tail, self._read, shut_size)

    def _read(self, tile: Tile) -> bytes:
        return self.tiles[tile.level, tile.index][: tile.width * HASH_BYTES]


def check_store(store: LedgerStore, checkpoint: Checkpoint | None = None) -> Report:
    """Replay a stored ledger and compare leaves, tiles, cells and roots with what came out.

    Args:
        store: Untrusted but for the parameters it was created with.
        checkpoint: Must be of this ledger too; whoever has it checked its signatures.
    """
    head = store.head()
    expected: list[Checkpoint | TreeHead] = [head, store.fenced()]
    if checkpoint:
        expected.append(checkpoint)
    replay = Replay(parse_params(store.genesis))
    try:
        replay.meet(expected)
        for _ in _follow_leaves(replay, store, head.size):
            replay.meet(expected)
        _check_length(replay, expected)
        _check_tiles(replay, store)
        _check_cells(replay, store)
    except LedgerFault as fault:
        return Report(fault.index, head, fault)
    return Report(replay.size, head, None)


def check_lines(
    params: LedgerParams, lines: Iterable[str], checkpoint: Checkpoint | None = None
) -> Report:
    """Replay an exported ledger; every line must be, to the byte, what would be exported now.

    Args:
        params: The network's.
        lines: Untrusted; with their ends.
        checkpoint: As for ``check_store``.
    """
    expected = [checkpoint] if checkpoint else []
    replay = Replay(params)
    try:
        replay.meet(expected)
        for line in lines:
            _follow_line(replay, line)
            replay.meet(expected)
        _check_length(replay, expected)
    except LedgerFault as fault:
        return Report(fault.index, replay.head(), fault)
    return Report(replay.size, replay.head(), None)


def export_lines(store: LedgerStore) -> Iterator[str]:
    """One line an entry, with its end; they are replayed to know which cells each touched.

    Raises:
        LedgerFault: As ``check_store`` finds it while it follows the leaves.
    """
    replay = Replay(parse_params(store.genesis))
    for outcome in _follow_leaves(replay, store, store.head().size):
        yield format_outcome(outcome) + "\n"


def _follow_leaves(replay: Replay, store: LedgerStore, size: int) -> Iterator[Accepted]:
    try:
        for leaf in store.leaves(0, size):
            outcome = replay.take(Submission(leaf.entry, leaf.signature))
            if outcome.leaf.state_root != leaf.state_root:
                raise LedgerFault(
                    outcome.index, "another state root was recorded", code="state_root_differs"
                )
            yield outcome
    except DataLost as error:
        raise LedgerFault(replay.size, error.message, code=error.detail_code) from error


def _follow_line(replay: Replay, line: str) -> None:
    index = replay.size
    try:
        submission = parse_submission(line.strip(), index + 1)
    except DsnError as error:
        raise LedgerFault(index, error.message, code=error.detail_code) from error
    if format_outcome(replay.take(submission)) + "\n" != line:
        raise LedgerFault(index, "the line says something else", code="line_differs")


def _check_length(replay: Replay, expected: Sequence[Checkpoint | TreeHead]) -> None:
    longest = max((each.size for each in expected), default=0)
    if longest > replay.size:
        raise LedgerFault(
            replay.size, f"the log ends, {longest} entries were recorded", code="log_too_short"
        )


def _check_tiles(replay: Replay, store: LedgerStore) -> None:
    for (level, index), right in sorted(replay.tiles.items()):
        try:
            found = store.tile(Tile(level, index, len(right) // HASH_BYTES))
        except NotFound:
            found = b""
        if found != right:
            at = next(
                at for at in range(0, len(right), HASH_BYTES)
                if found[at : at + HASH_BYTES] != right[at : at + HASH_BYTES]
            )  # fmt: skip
            first = index * TILE_WIDTH + at // HASH_BYTES << TILE_HEIGHT * level
            raise LedgerFault(first, f"another hash stands at level {level}", code="hash_differs")


def _check_cells(replay: Replay, store: LedgerStore) -> None:
    """A cell that no entry touched is one of genesis, or one too many: then it is entry 0."""
    right = {cell.key: store_cell(cell) for cell in replay.cells()}
    found = {cell.key: cell for cell in store.all_cells()}
    wrong = [key for key in right if found.get(key) != right[key]]
    if wrong or found.keys() > right.keys():
        index = min((replay.touched.get(key, 0) for key in wrong), default=0)
        raise LedgerFault(index, "a cell is not as it was left", code="cell_differs")
