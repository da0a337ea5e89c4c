"""GetShard: ranges of shards, in the order they were asked for, to whoever asks and pays.

Requests are read ahead of the answers, because the voucher that an answer waits for comes behind
them on the same stream.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from dsn.apps.node.deals import Deals, tab_of
from dsn.apps.node.quota import FreeQuota
from dsn.apps.node.tabs import OpenTab
from dsn.errors import DsnError, UsageError
from dsn.ids import NO_DEAL, Commit
from dsn.ports import ShardStore
from dsn.rpc.server import ServerStream, decode
from dsn.rpc.tls import Caller
from dsn.units import FRAME_BYTES, LEAF_BYTES
from dsn.v1 import node_pb2
from dsn.wire.convert import commit_from_wire

GROWTH: Final = 4
"""A small first frame brings the first byte early, large later ones the throughput."""
MOST_AHEAD: Final = 64
"""Requests that are read before they are answered."""


@dataclass(frozen=True, slots=True)
class _Range:
    """What a request asks for, and on whose tab."""

    commit: Commit
    start: int
    end: int
    first_frame: int
    tab: OpenTab | None


class Outlet:
    """Reads shards for every caller."""

    def __init__(
        self, store: ShardStore, deals: Deals | None = None, quota: FreeQuota | None = None
    ) -> None:
        """Read from ``store``: for pay under ``deals``, and without one within ``quota``."""
        self.store, self.deals, self.quota = store, deals, quota

    async def get_shards(self, caller: Caller, stream: ServerStream) -> None:
        """Serve one stream until the caller ends it or a request is refused."""
        session = _Session(self, caller, stream)
        async with asyncio.TaskGroup() as group:
            group.create_task(session.listen())
            await session.answer()


class _Session:
    """One stream: a reader that takes vouchers and hands requests on, and a writer."""

    def __init__(self, outlet: Outlet, caller: Caller, stream: ServerStream) -> None:
        self._outlet, self._caller, self._stream = outlet, caller, stream
        self._asked: asyncio.Queue[_Range | None] = asyncio.Queue(MOST_AHEAD)
        self._tab: OpenTab | None = None
        self._waiting: OpenTab | None = None
        self._refusal: DsnError | None = None

    async def listen(self) -> None:
        """Read until the stream ends; a refusal waits its turn behind the answers."""
        try:
            while (raw := await self._stream.read()) is not None:
                asked = await self._take(decode(node_pb2.GetShardRequest, raw))
                if asked is not None:
                    await self._asked.put(asked)
        except DsnError as error:
            self._refusal = error
            if self._waiting is not None:
                self._waiting.wake()
        await self._asked.put(None)

    async def answer(self) -> None:
        """Send what is asked for, in order.

        Raises:
            DsnError: The first refusal; every answer before it is out.
        """
        while (asked := await self._asked.get()) is not None:
            await self._send(asked)
            self._stream.patience.idle()
        if self._refusal is not None:
            raise self._refusal

    async def _take(self, request: node_pb2.GetShardRequest) -> _Range | None:
        """Take the voucher of a request; gives what else it asks for."""
        deal = request.deal or NO_DEAL
        if self._tab is None or deal != self._tab.deal.deal:
            self._tab = await tab_of(self._outlet.deals, self._caller, deal)
        if self._tab is not None and request.HasField("voucher"):
            await self._tab.take(request.voucher)
            if not request.commit:
                return None
        commit, start, end = commit_from_wire(request.commit), request.start, request.end
        if not LEAF_BYTES <= request.first_frame <= FRAME_BYTES or start >= end:
            raise UsageError(
                f"bytes {start} to {end} in frames from {request.first_frame} bytes; frames of "
                f"{LEAF_BYTES} to {FRAME_BYTES} and a range that is not empty needed",
                code="bad_range",
            )
        return _Range(commit, start, end, request.first_frame, self._tab)

    async def _send(self, asked: _Range) -> None:
        at, size, stream = asked.start, asked.first_frame, self._stream
        while at < asked.end:
            frame = await self._read(asked, at, min(at + size, asked.end))
            stream.patience.transfer(len(frame))
            await stream.write(frame)
            at, size = at + len(frame), min(size * GROWTH, FRAME_BYTES)
            del frame

    async def _read(self, asked: _Range, start: int, end: int) -> bytes:
        """The next frame: at most ``[start, end)``, as far as it may be owed or is free."""
        store, tab, quota = self._outlet.store, asked.tab, self._outlet.quota
        if tab is None:
            if quota is not None:
                quota.charge(self._caller.node_id, end - start)
            return await store.read(asked.commit, start, end)
        size = await self._reserve(tab, end - start)
        try:
            frame = await store.read(asked.commit, start, start + size)
        except BaseException:
            tab.unread(size)
            raise
        await tab.keep()
        return frame

    async def _reserve(self, tab: OpenTab, most: int) -> int:
        """Bytes that may be sent now, at least 1; waits for a voucher if there is none."""
        while not (size := await tab.reserve(most)):
            if self._refusal is not None:
                raise self._refusal
            self._waiting = tab
            await tab.paid()
        return size
