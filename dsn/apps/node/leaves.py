"""PutLeaf: which leaves of a shard are rotten, and right ones in their place.

Whoever has rebuilt a leaf may give it back, and nobody is paid for it. The shard's commit judges.

Spec: docs/spec/store.md#rot
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from dsn.errors import MalformedMessage, NotFound
from dsn.ids import Commit
from dsn.ports import ShardStore
from dsn.rpc.limits import Budget, check_count
from dsn.rpc.tls import Caller
from dsn.units import GROUP_LEAVES
from dsn.v1 import node_pb2
from dsn.wire.convert import commit_from_wire

MOST_LEAVES: Final = 512
"""In one call: half a message."""
MOST_ROTTEN: Final = 4_096
"""Named in one reply."""


class Mending:
    """Takes leaves from anybody, within the budget of challenges."""

    def __init__(
        self, store: ShardStore, look: Callable[[Commit], Awaitable[list[int]]], budget: Budget
    ) -> None:
        """Mend in ``store`` and ``look`` what is rotten; charge strangers to ``budget``."""
        self._store, self._look, self._budget = store, look, budget

    async def put_leaves(
        self, caller: Caller, request: node_pb2.PutLeafRequest
    ) -> node_pb2.PutLeafReply:
        """Mend a shard with what came, and name the leaves that are rotten after that.

        Raises:
            NotFound: ``unknown_shard``.
            InvalidProof: ``bad_leaf``: nothing was written.
            ShardCorrupt: ``shard_lost``: store it again, its leaves are no use.
            TooMany: More leaves than one call or this caller's hour allows.
        """
        commit = commit_from_wire(request.commit)
        check_count("leaves", request.leaves, MOST_LEAVES)
        leaves = {each.index: each.data for each in request.leaves}
        if len(leaves) < len(request.leaves):
            raise MalformedMessage("a leaf is given twice")
        await self._charge(caller, commit)
        if leaves:
            await self._store.mend(commit, leaves)
        rotten = await self._look(commit)
        return node_pb2.PutLeafReply(rotten=rotten[:MOST_ROTTEN], more=len(rotten) > MOST_ROTTEN)

    async def _charge(self, caller: Caller, commit: Commit) -> None:
        """Reading 64 leaves in a row costs what opening one leaf does; an owner's are free."""
        shard = await self._store.stat(commit)
        if shard is None:
            raise NotFound(f"shard {commit.hex()[:10]} is not kept here", code="unknown_shard")
        if await self._store.stat(commit, caller.node_id) is None:
            self._budget.charge(caller.node_id, -(-shard.leaf_count // GROUP_LEAVES))
