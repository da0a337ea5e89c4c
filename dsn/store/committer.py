"""The one task that changes the store: it decides, writes and publishes batch by batch.

While one batch is on its way to the disk the next one gathers, so many small changes share
one write and one fdatasync (group commit), and no two changes ever see half of each other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from dsn.errors import DataLost, DsnError
from dsn.ids import Commit
from dsn.store.changes import Change, Encoded, encode
from dsn.store.direct import is_full, no_space
from dsn.store.files import sync_directory
from dsn.store.index import Index
from dsn.store.log import Log
from dsn.store.state import Draft, Place
from dsn.units import MIB

T = TypeVar("T")
_BATCH = 1_024
_BATCH_BYTES = 8 * MIB

Decision: TypeAlias = tuple[Sequence[Change], T]
"""What is to change (all of it or nothing), and what the proposer gets once it is durable."""
Decide: TypeAlias = Callable[[Draft], Decision[T]]
Move: TypeAlias = tuple[Path, Path]
"""A file that is complete, and the name it gets."""


class OnDisk(Protocol):
    """Run a blocking call in one of the disk threads."""

    def __call__(self, call: Callable[..., T], *arguments: Any) -> Awaitable[T]:
        """What ``call`` returns or raises."""
        ...


@dataclass(slots=True)
class _Proposal:
    commits: Sequence[Commit]
    keys: Sequence[bytes]
    decide: Decide[Any]
    move: Move | None
    outcome: asyncio.Future[Any]
    size: int
    effective: Callable[[], None] | None


@dataclass(slots=True)
class _Batch:
    """What one turn will write, and to whom it answers."""

    writes: list[tuple[Place, Encoded]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    refused: list[Path] = field(default_factory=list)
    answers: list[tuple[_Proposal, Any]] = field(default_factory=list)

    def answer(self) -> None:
        for proposal, result in self.answers:
            if proposal.effective is not None:
                proposal.effective()
            if not proposal.outcome.done():
                proposal.outcome.set_result(result)


class Committer:
    """Takes proposals from many tasks and makes them durable in one order."""

    def __init__(
        self,
        log: Log,
        index: Index,
        on_disk: OnDisk,
        room: Callable[[], int],
        file_of: Callable[[Commit], Path],
    ) -> None:
        """Start with nothing proposed.

        Args:
            log: Where changes are written; nobody else writes there.
            index: What is told of them once they are durable; nobody else changes it.
            on_disk: Runs what blocks.
            room: Bytes that may be stored now.
            file_of: Where a large shard's file is.
        """
        self._log, self._index, self._on_disk = log, index, on_disk
        self._room, self._file_of = room, file_of
        self._proposals: list[_Proposal] = []
        self._wake = asyncio.Event()
        self._closing = False

    async def propose(
        self,
        decide: Decide[T],
        *,
        commits: Sequence[Commit] = (),
        keys: Sequence[bytes] = (),
        move: Move | None = None,
        size: int = 0,
        effective: Callable[[], None] | None = None,
    ) -> T:
        """Have ``decide`` run on the state as all earlier changes leave it.

        Args:
            decide: Looks at a draft and names changes, or raises.
            commits: The shards it may look at and touch.
            keys: The records it may look at and touch.
            move: A shard's file to be put in place before its change is written; it is
                deleted if ``decide`` or the disk refuses.
            size: About how many bytes it will write.
            effective: Called once its changes are durable, in the step in which others see them.

        Returns:
            What ``decide`` said, once its changes are durable.

        Raises:
            DsnError: What ``decide`` raised, or ``NoSpace``.
        """
        if self._closing:
            raise DataLost("the store is closed", code="store_closed")
        outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._proposals.append(_Proposal(commits, keys, decide, move, outcome, size, effective))
        self._wake.set()
        return await outcome

    def close(self) -> None:
        """Take no more proposals; ``run`` ends after those it has."""
        self._closing = True
        self._wake.set()

    async def run(self) -> None:
        """Serve proposals until ``close``.

        Raises:
            DataLost: The disk or the index fails; a restart finds what is durable.
        """
        taken: list[_Proposal] = []
        try:
            while not (self._closing and not self._proposals):
                await self._wake.wait()
                self._wake.clear()
                while self._proposals:
                    taken = self._take()
                    await self._turn(taken)
        except OSError as error:
            raise _disk_failed() from error
        finally:
            self._closing = True
            _fail(taken + self._proposals, _disk_failed())

    def _take(self) -> list[_Proposal]:
        """The next proposals, at least one, until a batch is full."""
        size = taken = 0
        for proposal in self._proposals[:_BATCH]:
            size += proposal.size
            if taken and size > _BATCH_BYTES:
                break
            taken += 1
        proposals, self._proposals = self._proposals[:taken], self._proposals[taken:]
        return proposals

    async def _turn(self, proposals: Sequence[_Proposal]) -> None:
        commits = [commit for each in proposals for commit in each.commits]
        keys = [key for each in proposals for key in each.keys]
        draft = await self._index.draft(commits, keys, self._room())
        before = {self._file_of(c): draft.rows[c] for p in proposals if p.move for c in p.commits}
        batch = self._decide(draft, proposals)
        try:
            if batch.writes or batch.moves:
                await self._on_disk(self._store, batch)
        except OSError as error:
            self._log.forget()
            if not is_full(error):
                raise
            strays = [source for source, _ in batch.moves]
            strays += [target for target, row in before.items() if row is None]
            await self._on_disk(_unlink, batch.refused + strays)
            _fail(proposals, no_space(sum(place.size for place, _ in batch.writes)))
            return
        self._index.commit(draft, self._log.end)
        batch.answer()
        gone = [self._file_of(commit) for commit in draft.files_to_delete()]
        if batch.refused or gone:
            await self._on_disk(_unlink, batch.refused + gone)

    def _decide(self, draft: Draft, proposals: Sequence[_Proposal]) -> _Batch:
        batch = _Batch()
        for each in proposals:
            try:
                changes, result = each.decide(draft)
                encoded = [encode(change) for change in changes]
            except DsnError as error:
                _fail([each], error)
                batch.refused += each.move[:1] if each.move else ()
                continue
            for change, written in zip(changes, encoded, strict=True):
                place = self._log.place(written)
                draft.apply(change, place)
                batch.writes.append((place, written))
            if each.move:
                batch.moves.append(each.move)
            batch.answers.append((each, result))
        return batch

    def _store(self, batch: _Batch) -> None:
        """Files first: a change must never name a file that a crash could take away."""
        for source, target in batch.moves:
            source.replace(target)
        for directory in {target.parent for _, target in batch.moves}:
            sync_directory(directory)
        if batch.writes:
            self._log.write(batch.writes)


def _fail(proposals: Iterable[_Proposal], error: DsnError) -> None:
    for proposal in proposals:
        if not proposal.outcome.done():
            proposal.outcome.set_exception(error)


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _disk_failed() -> DataLost:
    return DataLost(
        "the disk of this volume fails", hint="check the disk, then restart", code="disk_failed"
    )
