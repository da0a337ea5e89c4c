"""Publishing pointer and slot records: to every listed node, many records a message."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection

from dsn.apps.nodes import ANSWER_S, Nodes, ask
from dsn.dht.record import Record
from dsn.errors import DsnError, PeerError, TimedOut, Unreachable
from dsn.ids import NodeId, short
from dsn.v1 import node_pb2

MOST_RECORDS = 128
"""Records in one request."""


class PointerLane:
    """One PutPointer stream to one node; records queued meanwhile share the next request."""

    def __init__(self, nodes: Nodes, node: NodeId) -> None:
        """Nothing is sent before the first record."""
        self._node = node
        self._stream = nodes.peer(node).put_pointers()
        self._queue: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._pump: asyncio.Task[None] | None = None
        self.error: DsnError | None = None

    async def put(self, record: bytes) -> None:
        """Send ``record``; returns once the node has it, or one as new, for good."""
        if self.error is not None:
            raise self.error
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((record, stored))
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._run())
        await stored

    async def _run(self) -> None:
        while self._queue:
            count = min(MOST_RECORDS, len(self._queue))
            batch = [self._queue.popleft() for _ in range(count)]
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._exchange(batch)
            except (DsnError, TimeoutError) as error:
                self._fail(error, batch)
                return

    async def _exchange(self, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        records = [record for record, _ in batch]
        await self._stream.write(node_pb2.PutPointerRequest(records=records))
        reply = await self._stream.read()
        if reply is None:
            raise PeerError(f"{short(self._node)} ended the pointer stream")
        refused = {refusal.index: refusal.code for refusal in reply.refusals}
        for index, (_, stored) in enumerate(batch):
            if stored.done():
                continue
            if index in refused:
                stored.set_exception(
                    PeerError(f"{short(self._node)} refuses a record", code=refused[index])
                )
            else:
                stored.set_result(None)

    def _fail(self, error: Exception, batch: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        self.error = (
            error
            if isinstance(error, DsnError)
            else TimedOut(f"{short(self._node)}: no answer to a record in {ANSWER_S:g} s")
        )
        for _, stored in (*batch, *self._queue):
            if not stored.done():
                stored.set_exception(self.error)
        self._queue.clear()

    def close(self) -> None:
        """End the stream."""
        self._stream.cancel()
        if self._pump is not None:
            self._pump.cancel()


class Pointers:
    """All pointer lanes of one session."""

    def __init__(self, nodes: Nodes) -> None:
        """Open lanes as they are needed."""
        self._nodes = nodes
        self._lanes: dict[NodeId, PointerLane] = {}

    async def publish(self, record: Record, told: Collection[NodeId] = ()) -> None:
        """Have every node that is not known to be late keep ``record``.

        Args:
            record: Signed.
            told: Nodes that have it already.

        Raises:
            Unreachable: Not one took it.
        """
        raw = record.encode()
        nodes = [node for node in self._nodes.ids if node not in self._nodes.late]
        chosen = [node for node in nodes or self._nodes.ids if node not in told]
        if not chosen:
            return
        calls = {node: self._lane(node).put(raw) for node in chosen}
        answers = await ask(calls, enough=-(-len(chosen) * 2 // 3))
        self._nodes.late.update(answers.failed)
        if not answers and not told:
            reasons = {error.message for error in answers.failed.values()}
            raise Unreachable(f"no node took the pointer record: {'; '.join(sorted(reasons))}")

    def _lane(self, node: NodeId) -> PointerLane:
        lane = self._lanes.get(node)
        if lane is None or lane.error is not None:
            lane = self._lanes[node] = PointerLane(self._nodes, node)
        return lane

    def close(self) -> None:
        """End all streams."""
        for lane in self._lanes.values():
            lane.close()
