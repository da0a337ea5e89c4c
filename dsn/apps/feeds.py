"""Shards of one segment on their way in, band by band, from whichever nodes deliver."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from dsn.apps.nodes import Nodes
from dsn.core.merkle import ShardHasher
from dsn.core.placement import ShardPlace
from dsn.core.segment import bands
from dsn.errors import DsnError, NotEnoughShards, PeerError, ShardCorrupt, TimedOut
from dsn.ids import Commit, NodeId, format_node_id, short
from dsn.machines.download import Download
from dsn.rpc.line import ByteStream
from dsn.units import FRAME_BYTES
from dsn.v1 import node_pb2

HEDGE_S = 0.25
"""A read that waits this long also asks another node."""
GIVE_UP_S = 3.5
"""A read that waits this long with nobody left to ask has failed."""


class Feed:
    """Bytes ``[start, end)`` of one shard from one node, in order."""

    def __init__(
        self,
        nodes: Nodes,
        node: NodeId,
        commit: Commit,
        start: int,
        end: int,
        first: int = FRAME_BYTES,
    ) -> None:
        """Ask for the bytes; nothing is sent before the first ``take``."""
        self.node = node
        self._nodes = nodes
        self._stream: ByteStream | None = None
        self._request = node_pb2.GetShardRequest(
            commit=commit, start=start, end=end, first_frame=first
        )
        self._rest = b""

    async def take(self, size: int) -> bytes:
        """Exactly the next ``size`` bytes.

        Raises:
            DsnError: The node is gone, refuses, or sends something else.
        """
        if self._stream is None:
            self._stream = self._nodes.peer(self.node).get_shards()
            await self._stream.write(self._request.SerializeToString())
            await self._stream.done_writing()
        parts, have = ([self._rest], len(self._rest)) if self._rest else ([], 0)
        while have < size:
            frame = await self._stream.read()
            if not frame:
                name = format_node_id(self.node)
                raise PeerError(f"{name}: {have} bytes of a shard, {size} asked", peer=name)
            parts.append(frame)
            have += len(frame)
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        self._rest = whole[size:]
        return whole[:size] if self._rest else whole

    def close(self) -> None:
        """End the stream."""
        if self._stream is not None:
            self._stream.cancel()


async def read_whole(nodes: Nodes, node: NodeId, commit: Commit, length: int) -> bytes:
    """A whole shard from ``node``, checked against its commit.

    Raises:
        ShardCorrupt: The bytes have another commit; ``peer`` names the node.
    """
    feed, tree, parts = Feed(nodes, node, commit, 0, length), ShardHasher(), []
    try:
        for start, end in bands(0, length):
            async with asyncio.timeout(GIVE_UP_S):
                part = await feed.take(end - start)
            tree.update(part)
            parts.append(part)
    except TimeoutError:
        raise TimedOut(
            f"{short(node)}: a shard stopped coming", peer=format_node_id(node)
        ) from None
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
        segment: int,
        entries: Sequence[ShardPlace],
        holders: Sequence[NodeId],
        plan: Download,
        end: int,
        first: int = FRAME_BYTES,
    ) -> None:
        """Prepare to read shards up to byte ``end``.

        Args:
            nodes: Connections.
            segment: For messages.
            entries: The segment's shards, by index.
            holders: Their nodes, by index.
            plan: Which to read; see ``Download``.
            end: End of the last band.
            first: Size of the first frame.
        """
        self._nodes, self._segment, self._entries, self._holders = nodes, segment, entries, holders
        self._plan, self._end, self._first = plan, end, first
        self._feeds: dict[int, Feed] = {}
        self._tasks: dict[asyncio.Task[bytes], int] = {}
        self.indices = plan.start()

    async def band(self, start: int, end: int) -> dict[int, bytes]:
        """The band's masked bytes by index: all wanted ones, or ``required`` of them.

        Raises:
            NotEnoughShards: Too few nodes deliver.
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
                if not done:
                    self._read(self._plan.stall(), start, end)
                over = not self._tasks or idle_s > GIVE_UP_S
                if over and not self._plan.enough(have):
                    raise self._not_enough(have)
            self._nodes.late.update(self._holders[index] for index in self._tasks.values())
            best = self._best(have)
        finally:
            self._drop_pending()
        self._settle(best)
        return best

    def _read(self, indices: Collection[int], start: int, end: int) -> None:
        for index in indices:
            if index not in self._feeds:
                commit, node = self._entries[index].commit, self._holders[index]
                self._feeds[index] = Feed(self._nodes, node, commit, start, self._end, self._first)
            task = asyncio.create_task(self._feeds[index].take(end - start))
            self._tasks[task] = index

    def _take(
        self, task: asyncio.Task[bytes], have: dict[int, bytes], start: int, end: int
    ) -> None:
        index = self._tasks.pop(task)
        try:
            have[index] = task.result()
        except DsnError:
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
