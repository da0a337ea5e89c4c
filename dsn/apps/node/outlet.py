"""GetShard: ranges of shards, in the order they were asked for, to whoever asks."""

from __future__ import annotations

from typing import Final

from dsn.errors import UsageError
from dsn.ports import ShardStore
from dsn.rpc.server import ServerStream, decode
from dsn.rpc.tls import Caller
from dsn.units import FRAME_BYTES, LEAF_BYTES
from dsn.v1 import node_pb2
from dsn.wire.convert import commit_from_wire

GROWTH: Final = 4
"""A small first frame brings the first byte early, large later ones the throughput."""


class Outlet:
    """Reads shards for every caller."""

    def __init__(self, store: ShardStore) -> None:
        """Read from ``store``."""
        self._store = store

    async def get_shards(self, caller: Caller, stream: ServerStream) -> None:
        """Serve one stream until the caller ends it or a request is refused."""
        while (raw := await stream.read()) is not None:
            await self._send(decode(node_pb2.GetShardRequest, raw), stream)
            stream.patience.idle()

    async def _send(self, request: node_pb2.GetShardRequest, stream: ServerStream) -> None:
        commit, at, end = commit_from_wire(request.commit), request.start, request.end
        size = request.first_frame
        if not LEAF_BYTES <= size <= FRAME_BYTES or at >= end:
            raise UsageError(
                f"bytes {at} to {end} in frames from {size} bytes; frames of {LEAF_BYTES} to "
                f"{FRAME_BYTES} and a range that is not empty needed",
                code="bad_range",
            )
        while at < end:
            frame = await self._store.read(commit, at, min(at + size, end))
            stream.patience.transfer(len(frame))
            await stream.write(frame)
            at, size = at + len(frame), min(size * GROWTH, FRAME_BYTES)
