"""Challenge: open the leaves that a verifier's nonce draws, or say what is gone.

Spec: docs/spec/proofs.md#proof-of-retrievability
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dsn.apps.node.openings import Asked, Opener
from dsn.apps.node.terms import Self
from dsn.errors import InvalidProof, TooMany
from dsn.ids import Commit, NodeId
from dsn.ports import ShardState, ShardStore, StoredShard
from dsn.proofs.inventory import SumTree, holdings
from dsn.proofs.por import Challenge, draw, sign_answer
from dsn.rpc.limits import Budget
from dsn.rpc.tls import Caller
from dsn.units import MIB
from dsn.v1 import node_pb2
from dsn.wire.convert import answer_to_wire, challenge_from_wire

MAX_REPLY_BYTES = MIB
_COMMITS_A_LEAF = 64
"""Looking so many shards up costs about what opening a leaf does."""
_Outcome = node_pb2.ChallengeReply


class Challenges:
    """Answers verifiers out of the store, within their budgets."""

    def __init__(self, me: Self, store: ShardStore, opener: Opener, budget: Budget) -> None:
        """Sign as ``me`` what ``opener`` opens; charge strangers to ``budget``."""
        self._me, self._store, self._opener, self._budget = me, store, opener, budget

    async def answer(
        self, caller: Caller, request: node_pb2.ChallengeRequest
    ) -> node_pb2.ChallengeReply:
        """Prove what is asked for, or name the shards that are unknown or lost.

        Raises:
            TooMany: More leaves than one call or this verifier's hour allows.
        """
        challenge = challenge_from_wire(request)
        most = self._me.terms.max_challenge_leaves
        if challenge.leaves > most:
            raise TooMany(f"{challenge.leaves} leaves in one challenge, {most} at most")
        shards = await self._store.stats(challenge.commits)
        if unknown := [each for each in challenge.commits if each not in shards]:
            return _reply(_Outcome.OUTCOME_UNKNOWN, unknown)
        self._charge(caller.node_id, challenge, shards.values())
        if lost := [each.commit for each in shards.values() if each.state is ShardState.LOST]:
            return _reply(_Outcome.OUTCOME_LOST, lost)
        pairs = [(each.commit, each.leaf_count) for each in shards.values()]
        held = await asyncio.to_thread(holdings, pairs)
        return await self._open(challenge, held, shards)

    def _charge(self, caller: NodeId, challenge: Challenge, shards: Iterable[StoredShard]) -> None:
        """A client may check what it stored as often as it likes."""
        if any(each.client != caller for each in shards):
            looked_up = len(challenge.commits) // _COMMITS_A_LEAF
            self._budget.charge(caller, challenge.leaves + looked_up)

    async def _open(
        self, challenge: Challenge, held: SumTree, shards: dict[Commit, StoredShard]
    ) -> node_pb2.ChallengeReply:
        me = self._me
        try:
            drawn = draw(challenge, held, network=me.network, node=me.node_id)
        except InvalidProof:
            return _reply(_Outcome.OUTCOME_UNKNOWN, ())
        openings, lost = await self._opener.open_all([Asked(at) for at in drawn], shards)
        if lost:
            return _reply(_Outcome.OUTCOME_LOST, lost)
        size = sum(map(len, openings))
        if size > MAX_REPLY_BYTES:
            raise TooMany(f"openings of {size} bytes, {MAX_REPLY_BYTES} fit: ask for fewer leaves")
        answer = sign_answer(me.key.sign, challenge, openings, network=me.network, node=me.node_id)
        return answer_to_wire(answer)


def _reply(
    outcome: node_pb2.ChallengeReply.Outcome, shards: Iterable[Commit]
) -> node_pb2.ChallengeReply:
    return node_pb2.ChallengeReply(outcome=outcome, lost=shards)
