"""The put streams of one session, and a watch that gives up nodes that owe progress.

A node that takes nothing may be waiting to be paid for bytes that only it counted, as a read that
broke off leaves them: it is asked once what it counted, before its patience or ours ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from dsn.apps.deals import Deals
from dsn.apps.lanes import Lane, LargeLane, ReceiptFuture, SmallLane
from dsn.apps.nodes import Nodes
from dsn.apps.paying import Payer
from dsn.errors import DsnError, TimedOut
from dsn.ids import Commit, NetworkId, NodeId, short
from dsn.machines.upload import stall_limit_s
from dsn.ports import Clock
from dsn.rpc.channel import NodePeer
from dsn.units import MIB, SMALL_SHARD_BYTES

WATCH_S = 0.1
QUIET_S = 0.5
"""A node under a deal that takes nothing for so long is asked what it counted."""
QUEUED_BYTES = 64 * MIB
"""Frames queued over all lanes; each lane gets one at least and two at most."""


class Group:
    """One shard on its way to one node: frames, then its commit.

    A small shard has one frame and travels in one message with its commit, and others.
    """

    def __init__(self, fleet: Fleet, node: NodeId, length: int) -> None:
        """A shard of ``length`` bytes for ``node``."""
        self._fleet, self._node, self._length = fleet, node, length
        self._small: bytes | None = None
        self._large: LargeLane | None = None

    async def send(self, frame: bytes) -> None:
        """The next frame."""
        if self._length <= SMALL_SHARD_BYTES:
            self._small = frame
            return
        if self._large is None:
            self._large = self._fleet.large(self._node)
            await self._large.begin(self._length)
        await self._large.send(frame)

    async def end(self, commit: Commit) -> ReceiptFuture:
        """End the shard; the receipt comes once the node holds it for good."""
        if self._small is not None:
            return self._fleet.small(self._node).put(self._small, commit)
        assert self._large is not None
        return await self._large.end(commit, self._length)


class Fleet:
    """Two lanes a node, one for large shards and one for small ones, opened when needed."""

    def __init__(
        self,
        nodes: Nodes,
        deals: Deals,
        on_failure: Callable[[NodeId, DsnError], None],
        has_spares: Callable[[], bool],
    ) -> None:
        """Open lanes to ``nodes``.

        Args:
            nodes: Connections.
            deals: Pay for what is sent.
            on_failure: Told once of every node that is given up.
            has_spares: Whether giving a node up costs no redundancy; patience depends on it.
        """
        self._nodes, self._deals = nodes, deals
        self._on_failure, self._has_spares = on_failure, has_spares
        self._large: dict[NodeId, LargeLane] = {}
        self._small: dict[NodeId, SmallLane] = {}
        self._evening: dict[NodeId, asyncio.Task[None]] = {}
        self._watch = asyncio.create_task(self._watch_lanes())
        self.failed: set[NodeId] = set()
        self.width = 1

    def group(self, node: NodeId, length: int) -> Group:
        """Start sending ``node`` a shard of ``length`` bytes.

        One large shard at a time may be on its way to a node; small ones do not mind.
        """
        return Group(self, node, length)

    def large(self, node: NodeId) -> LargeLane:
        """The lane for large shards."""
        if node not in self._large:
            depth = max(1, min(2, QUEUED_BYTES // MIB // self.width))
            self._large[node] = LargeLane(*self._line(node), depth)
            self._fail_new(node, self._large[node])
        return self._large[node]

    def small(self, node: NodeId) -> SmallLane:
        """The lane for small shards."""
        if node not in self._small:
            self._small[node] = SmallLane(*self._line(node))
            self._fail_new(node, self._small[node])
        return self._small[node]

    def _line(self, node: NodeId) -> tuple[NodePeer, Payer, NetworkId, Clock]:
        network = self._nodes.network.network_id
        return self._nodes.peer(node), Payer(self._deals, node), network, self._nodes.clock

    def _fail_new(self, node: NodeId, lane: Lane) -> None:
        if node in self.failed:
            lane.fail(TimedOut(f"{short(node)} was given up"))

    def _lanes(self) -> list[tuple[NodeId, Lane]]:
        return [*self._large.items(), *self._small.items()]

    def check(self) -> None:
        """Give up lanes that failed, or that owe progress for too long."""
        waits_s = [lane.slowest_s for _, lane in self._lanes()]
        limit_s = stall_limit_s(waits_s, self._has_spares())
        for node, lane in self._lanes():
            stalled_s = lane.stalled_s()
            if stalled_s > QUIET_S and node not in self._evening and self._deals.has_deal(node):
                self._evening[node] = asyncio.create_task(self._even(node))
            if stalled_s > limit_s:
                lane.fail(TimedOut(f"{short(node)} made no progress for {limit_s:.1f} s"))
            if lane.error is not None:
                self.fail(node, lane.error)

    async def each(
        self, nodes: Iterable[NodeId], call: Callable[[NodeId], Awaitable[object]]
    ) -> None:
        """``call`` every node side by side; those that fail are given up."""

        async def one(node: NodeId) -> None:
            try:
                await call(node)
            except DsnError as error:
                self.fail(node, error)

        await asyncio.gather(*map(one, nodes))

    def fail(self, node: NodeId, error: DsnError) -> None:
        """Give ``node`` up for the rest of the session."""
        if node in self.failed:
            return
        self.failed.add(node)
        self._nodes.late.add(node)
        for other, lane in self._lanes():
            if other == node:
                lane.fail(error)
        self._on_failure(node, error)

    async def close(self) -> None:
        """End all streams."""
        for task in (self._watch, *self._evening.values()):
            task.cancel()
        await asyncio.gather(*(lane.close() for _, lane in self._lanes()))

    async def _even(self, node: NodeId) -> None:
        """Settle with ``node`` what was moved; if that cannot be, it stalls."""
        with suppress(DsnError):
            await Payer(self._deals, node).settle(self._nodes.line(node))

    async def _watch_lanes(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            self.check()
