"""Shards on their way in, band by band, from whichever nodes deliver, and paid as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from dsn.apps.deals import Deals
from dsn.apps.nodes import Nodes
from dsn.apps.paying import Payer, make_good
from dsn.core.merkle import ShardHasher
from dsn.core.placement import ShardPlace
from dsn.core.segment import bands
from dsn.errors import (
    DsnError,
    LimitReached,
    NotEnoughShards,
    PeerError,
    ShardCorrupt,
    TimedOut,
    TooMany,
    TransportError,
)
from dsn.ids import Commit, NodeId, format_node_id, short
from dsn.machines.download import Download
from dsn.rpc.line import ByteStream
from dsn.units import FRAME_BYTES
from dsn.v1 import node_pb2

HEDGE_S = 0.25
"""A read that waits this long also asks another node."""
GIVE_UP_S = 3.5
"""A read that waits this long with nobody left to ask has failed."""
QUIET_S = 0.1
"""A read under a deal that waits this long may be held up by bytes that only the node counted."""
PAYING_S = 3.0
"""Longest wait for a payment before another node is asked instead."""


class Feed:
    """Bytes ``[start, end)`` of one shard from one node, in order, paid if they have to be."""

    def __init__(
        self,
        nodes: Nodes,
        deals: Deals,
        node: NodeId,
        commit: Commit,
        start: int,
        end: int,
        *,
        first: int = FRAME_BYTES,
        ahead: int = 0,
    ) -> None:
        """Ask for the bytes; nothing is sent before the first ``take``.

        Args:
            nodes: Connections.
            deals: Pays.
            node: Who has the shard.
            commit: Its name.
            start: Of the bytes.
            end: Of the bytes.
            first: Size of the first frame.
            ahead: Bytes that will be read from ``node`` in all, if that is known to be more.
        """
        self.node, self.paying = node, False
        self._nodes, self._deals = nodes, deals
        self._commit, self._at, self._end = commit, start, end
        self._first, self._ahead = first, ahead
        self._payer = Payer(deals, node)
        self._stream: ByteStream | None = None
        self._rest = b""
        self._refused: set[str] = set()
        self._quiet_s = QUIET_S

    async def take(self, size: int, *, within_s: float | None = None) -> bytes:
        """Exactly the next ``size`` bytes.

        Args:
            size: How many.
            within_s: How long the node may take; what paying it takes does not count.

        Raises:
            TimedOut: It took longer.
            LimitReached: It wants more than can be paid.
            DsnError: The node is gone, refuses, or sends something else.
        """
        parts, have = ([self._rest], len(self._rest)) if self._rest else ([], 0)
        try:
            async with asyncio.timeout(within_s) as limit:
                while have < size:
                    frame = await self._next(limit)
                    parts.append(frame)
                    have += len(frame)
        except TimeoutError:
            name = format_node_id(self.node)
            raise TimedOut(f"{short(self.node)}: a shard stopped coming", peer=name) from None
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        self._rest = whole[size:]
        return whole[:size] if self._rest else whole

    async def _next(self, limit: asyncio.Timeout) -> bytes:
        """The next frame, of whatever size; a node that wants to be paid first is, once."""
        while True:
            try:
                stream = self._stream or await self._open()
                frame = await self._read(stream)
                break
            except DsnError as refusal:
                await self._make_good(refusal, limit)
        if not frame or len(frame) > self._end - self._at:
            name = format_node_id(self.node)
            raise PeerError(
                f"{name}: a frame of {len(frame or b'')} bytes of a shard, "
                f"{self._end - self._at} left",
                peer=name,
            )
        self._at += len(frame)
        self._refused.clear()
        voucher = self._payer.received(len(frame))
        if voucher is not None:
            with suppress(DsnError):  # on a stream that has ended; the next read tells why
                await stream.write(self._payer.only(voucher))
        if self._payer.pays and self._at == self._end:
            await stream.done_writing()
        return frame

    async def _open(self) -> ByteStream:
        self._stream = self._nodes.peer(self.node).get_shards()
        request = node_pb2.GetShardRequest(
            commit=self._commit, start=self._at, end=self._end, first_frame=self._first
        )
        self._payer.ask(request)
        await self._stream.write(request.SerializeToString())
        if not self._payer.pays:
            await self._stream.done_writing()
        return self._stream

    async def _read(self, stream: ByteStream) -> bytes | None:
        """The next message; under a deal, one that is long in coming may wait to be paid for."""
        if not self._payer.pays:
            return await stream.read()
        reading = asyncio.ensure_future(stream.read())
        try:
            await asyncio.wait([reading], timeout=self._quiet_s)
            if not reading.done():
                self._quiet_s *= 2
                with suppress(TransportError, TooMany):
                    await self._payer.even(self._nodes.line(self.node))
            return await reading
        finally:
            reading.cancel()

    async def _make_good(self, refusal: DsnError, limit: asyncio.Timeout) -> None:
        """Pay what ``refusal`` asks for; the next read begins a new stream.

        Raises:
            DsnError: It does not, or did so before and nothing came since.
        """
        if refusal.detail_code in self._refused:
            raise refusal
        self._refused.add(refusal.detail_code)
        self.close(refused=not isinstance(refusal, TransportError))
        ends_s, loop = limit.when(), asyncio.get_running_loop()
        began_s, self.paying = loop.time(), True
        limit.reschedule(None)
        try:
            ahead = max(self._ahead, self._end - self._at)
            await make_good(self._deals, self.node, refusal, ahead)
        finally:
            self.paying = False
            limit.reschedule(None if ends_s is None else ends_s + loop.time() - began_s)
        self._payer = Payer(self._deals, self.node)

    def close(self, *, refused: bool = False) -> None:
        """End the stream; unless the node ``refused`` to go on, it may have sent more than came."""
        if self._stream is not None:
            self._stream.cancel()
            self._payer.forgone(self._end - self._at, refused=refused)
            self._stream = None


async def read_whole(
    nodes: Nodes, deals: Deals, node: NodeId, commit: Commit, length: int
) -> bytes:
    """A whole shard from ``node``, checked against its commit.

    Raises:
        ShardCorrupt: The bytes have another commit; ``peer`` names the node.
    """
    feed, tree, parts = Feed(nodes, deals, node, commit, 0, length), ShardHasher(), []
    try:
        for start, end in bands(0, length):
            part = await feed.take(end - start, within_s=GIVE_UP_S)
            tree.update(part)
            parts.append(part)
    finally:
        feed.close()
    if tree.commit() != commit:
        raise ShardCorrupt(
            f"{short(node)} sent wrong bytes of shard {commit.hex()[:16]}",
            peer=format_node_id(node),
        )
    return b"".join(parts)


class SegmentFetch:
    """One segment's shards, read in bands from enough nodes at once.

    A band that waits longer than ``HEDGE_S`` is also asked of another node; a node that lost
    such a race is remembered as late.
    """

    def __init__(
        self,
        nodes: Nodes,
        deals: Deals,
        segment: int,
        entries: Sequence[ShardPlace],
        holders: Sequence[NodeId],
        plan: Download,
        end: int,
        *,
        first: int = FRAME_BYTES,
        ahead: int = 0,
    ) -> None:
        """Prepare to read shards up to byte ``end``.

        Args:
            nodes: Connections.
            deals: Pays.
            segment: For messages.
            entries: The segment's shards, by index.
            holders: Their nodes, by index.
            plan: Which to read; see ``Download``.
            end: End of the last band.
            first: Size of the first frame.
            ahead: Bytes that will be read from each node in all.
        """
        self._nodes, self._deals, self._segment = nodes, deals, segment
        self._entries, self._holders, self._plan, self._end = entries, holders, plan, end
        self._first, self._ahead = first, ahead
        self._unpaid: LimitReached | None = None
        self._feeds: dict[int, Feed] = {}
        self._tasks: dict[asyncio.Task[bytes], int] = {}
        self.indices = plan.start()

    async def band(self, start: int, end: int) -> dict[int, bytes]:
        """The band's masked bytes by index: all wanted ones, or ``required`` of them.

        Raises:
            NotEnoughShards: Too few nodes deliver.
            LimitReached: And one of the others wants more than can be paid.
        """
        have: dict[int, bytes] = {}
        self._read(self.indices, start, end)
        idle_s, loop = 0.0, asyncio.get_running_loop()
        try:
            while not self._plan.enough(have):
                began_s = loop.time()
                done, _ = await asyncio.wait(
                    self._tasks, timeout=HEDGE_S, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    self._take(task, have, start, end)
                idle_s = 0.0 if done else idle_s + loop.time() - began_s
                paying = any(self._feeds[index].paying for index in self._tasks.values())
                if not done and (not paying or idle_s > PAYING_S):
                    self._read(self._plan.stall(), start, end)
                over = not self._tasks or (idle_s > GIVE_UP_S and not paying)
                if over and not self._plan.enough(have):
                    raise self._unpaid or self._not_enough(have)
            slow = (index for index in self._tasks.values() if not self._feeds[index].paying)
            self._nodes.late.update(self._holders[index] for index in slow)
            best = self._best(have)
        finally:
            self._drop_pending()
        self._settle(best)
        return best

    def _read(self, indices: Collection[int], start: int, end: int) -> None:
        for index in indices:
            if index not in self._feeds:
                commit, node = self._entries[index].commit, self._holders[index]
                self._feeds[index] = Feed(
                    self._nodes,
                    self._deals,
                    node,
                    commit,
                    start,
                    self._end,
                    first=self._first,
                    ahead=self._ahead,
                )
            task = asyncio.create_task(self._feeds[index].take(end - start))
            self._tasks[task] = index

    def _take(
        self, task: asyncio.Task[bytes], have: dict[int, bytes], start: int, end: int
    ) -> None:
        index = self._tasks.pop(task)
        try:
            have[index] = task.result()
        except DsnError as error:
            if isinstance(error, LimitReached) and not isinstance(error, TooMany):
                self._unpaid = error
            self._nodes.late.add(self._holders[index])
            self._feeds.pop(index).close()
            self._read(self._plan.fail(index), start, end)

    def _drop_pending(self) -> None:
        for task, index in self._tasks.items():
            task.cancel()
            self._feeds.pop(index).close()
        self._tasks.clear()

    def _settle(self, best: Mapping[int, bytes]) -> None:
        """Go on with the feeds in ``best`` only."""
        for index in self._feeds.keys() - best.keys():
            self._feeds.pop(index).close()
        self._plan.settle(best)
        self.indices = sorted(best)

    def _best(self, have: dict[int, bytes]) -> dict[int, bytes]:
        """The wanted ones if they are all there, else ``required``; data first."""
        if self._plan.wanted <= have.keys():
            return {index: have[index] for index in self._plan.wanted}
        return {index: have[index] for index in sorted(have)[: self._plan.required]}

    def _not_enough(self, have: Collection[int]) -> NotEnoughShards:
        return NotEnoughShards(
            f"segment {self._segment}: {len(have)} shards found, {self._plan.required} needed",
            hint="start the missing nodes and try again",
        )

    def close(self) -> None:
        """End all streams."""
        for task in self._tasks:
            task.cancel()
        for feed in self._feeds.values():
            feed.close()
