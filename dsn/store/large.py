"""A large shard on its way in: hashed and written frame by frame, then put in its place."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from dsn.core.merkle import ShardHasher
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ids import Commit, DealId, NodeId
from dsn.ports import StoredShard
from dsn.store.direct import DirectWriter
from dsn.store.rules import Arrival
from dsn.units import FRAME_BYTES

Settle = Callable[[Arrival, Path, Callable[[], None]], Awaitable[StoredShard]]
"""Take over a durable file and store the shard that it holds; called back when it counts."""


class LargeWriter:
    """The ``ShardWriter`` of a shard that gets a file of its own."""

    def __init__(
        self,
        client: NodeId,
        deal: DealId,
        length: int,
        keep_until_s: int,
        *,
        file: DirectWriter,
        disk: Executor,
        settle: Settle,
        release: Callable[[], None],
    ) -> None:
        """Start an empty shard.

        Args:
            client: Whose shard.
            deal: Under which it is put.
            length: Bytes that will come.
            keep_until_s: For its claim.
            file: Its file, still empty.
            disk: Where hashing and writing run.
            settle: Called at the end; owns the file from then on.
            release: Called once: gives back what was set aside for it. A stored shard does so
                in the step in which it counts as stored: never is it counted twice, or not at all.
        """
        self._client, self._deal = client, deal
        self._length, self._keep_until_s = length, keep_until_s
        self._file, self._disk, self._settle = file, disk, settle
        self._give_back: Callable[[], None] | None = release
        self._hasher = ShardHasher()
        self._announced = 0
        self._busy: Future[Any] | None = None
        self._open = True

    async def write(self, frame: bytes) -> None:
        """See ``ShardWriter``."""
        self._check_open()
        due = min(FRAME_BYTES, self._length - self._announced)
        if len(frame) != due or not due:
            self.abort()
            raise MalformedMessage(
                f"a frame of {len(frame)} bytes, {due} expected", code="bad_frame"
            )
        self._announced += due
        await self._written()
        self._busy = self._disk.submit(self._take, frame)

    async def finish(self, commit: Commit) -> StoredShard:
        """See ``ShardWriter``."""
        self._check_open()
        if self._announced != self._length:
            self.abort()
            raise MalformedMessage(
                f"{self._announced} bytes came, {self._length} were announced", code="bad_frame"
            )
        await self._written()
        own = self._hasher.commit()
        if own != commit:
            self.abort()
            raise mismatch(own, commit)
        self._busy = self._disk.submit(self._close)
        await self._written()
        self._open = False
        try:
            root = self._hasher.root()
            arrival = Arrival(
                commit,
                root,
                self._length,
                self._client,
                self._deal,
                self._keep_until_s,
                data=None,
            )
            return await self._settle(arrival, self._file.path, self._release)
        finally:
            self._release()

    def abort(self) -> None:
        """See ``ShardWriter``."""
        if not self._open:
            return
        self._open = False
        self._release()
        if self._busy is None:
            self._discard()
        else:
            self._busy.add_done_callback(lambda _: self._file.discard())  # in its own thread

    def _release(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()

    def _check_open(self) -> None:
        if not self._open:
            raise MalformedMessage("this shard has ended already", code="bad_frame")

    async def _written(self) -> None:
        """Wait for the disk thread; if we are cancelled, the file goes only after it.

        A frame comes while the one before is written: mostly there is nothing to wait for.
        """
        try:
            if self._busy is not None and not self._busy.done():
                await asyncio.wrap_future(self._busy)
            elif self._busy is not None:
                self._busy.result()
        except BaseException:
            self.abort()
            raise

    def _take(self, frame: bytes) -> None:
        self._hasher.update(frame)
        self._file.write(frame)

    def _close(self) -> None:
        self._file.write(self._hasher.groups())
        self._file.close()

    def _discard(self) -> None:
        """Delete the file; the next start does it if the threads have ended already."""
        with contextlib.suppress(RuntimeError):
            self._disk.submit(self._file.discard)


def mismatch(own: Commit, claimed: Commit) -> InvalidProof:
    """The refusal of bytes whose commit is not the one claimed."""
    return InvalidProof(
        f"the bytes have commit {own.hex()[:10]}, {claimed.hex()[:10]} was claimed",
        code="commit_mismatch",
    )
