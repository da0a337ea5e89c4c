"""Challenge: open the leaves that a verifier's nonce draws, or say what is gone.

Spec: docs/spec/proofs.md#proof-of-retrievability
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from dsn.apps.node.terms import Self
from dsn.core import merkle
from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidProof, NotFound, ShardCorrupt, TooMany
from dsn.ids import Commit, NodeId
from dsn.kernels import leafhash
from dsn.ports import ShardState, ShardStore, StoredShard
from dsn.proofs.inventory import Located, SumTree, holdings
from dsn.proofs.opening import ShardLeaf, build_opening
from dsn.proofs.por import Challenge, draw, sign_answer
from dsn.rpc.limits import Budget
from dsn.rpc.tls import Caller
from dsn.units import GROUP_LEAVES, LEAF_BYTES, MIB
from dsn.v1 import node_pb2
from dsn.wire.convert import answer_to_wire, challenge_from_wire

MAX_REPLY_BYTES = MIB
_COMMITS_A_LEAF = 64
"""Looking so many shards up costs about what opening a leaf does."""
_Outcome = node_pb2.ChallengeReply


class Challenges:
    """Answers verifiers out of the store, within their budgets."""

    def __init__(self, me: Self, store: ShardStore, budget: Budget) -> None:
        """Sign as ``me``; charge strangers to ``budget``."""
        self._me, self._store, self._budget = me, store, budget

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
        openings, lost = await _Opener(self._store, shards).open_all(drawn)
        if lost:
            return _reply(_Outcome.OUTCOME_LOST, lost)
        size = sum(map(len, openings))
        if size > MAX_REPLY_BYTES:
            raise TooMany(f"openings of {size} bytes, {MAX_REPLY_BYTES} fit: ask for fewer leaves")
        answer = sign_answer(me.key.sign, challenge, openings, network=me.network, node=me.node_id)
        return answer_to_wire(answer)


class _Opener:
    """Openings for one challenge; each shard is read once, each 64-leaf group hashed once."""

    def __init__(self, store: ShardStore, shards: dict[Commit, StoredShard]) -> None:
        self._store, self._shards = store, shards
        self._trees: dict[Commit, merkle.KeptTree] = {}
        self._groups: dict[tuple[Commit, int], tuple[bytes, bytes]] = {}

    async def open_all(self, drawn: list[Located]) -> tuple[list[bytes], list[Commit]]:
        """Every opening in draw order, and the shards that cannot be opened any more."""
        wanted: dict[Commit, set[int]] = {}
        for at in drawn:
            wanted.setdefault(Commit(at.key), set()).add(at.offset // GROUP_LEAVES)
        lost: dict[Commit, None] = {}
        for commit, numbers in wanted.items():
            try:
                await self._read(commit, sorted(numbers))
            except (ShardCorrupt, NotFound):
                lost[commit] = None
        openings: list[bytes] = []
        for at in drawn:
            commit = Commit(at.key)
            try:
                if commit not in lost:
                    openings.append(build_opening(self._leaf(commit, at.offset), at.steps))
            except InvalidProof:
                lost[commit] = None
        return openings, list(lost)

    async def _read(self, commit: Commit, numbers: list[int]) -> None:
        kept, parts = await self._store.sample(commit, numbers)
        self._trees[commit] = merkle.KeptTree(kept, self._shards[commit].leaf_count)
        for number, part in zip(numbers, parts, strict=True):
            self._groups[commit, number] = (part, leafhash.leaves(part))

    def _leaf(self, commit: Commit, index: int) -> ShardLeaf:
        """One leaf with its path, checked as a verifier will.

        Raises:
            InvalidProof: Its group is not what it was: the disk rotted.
        """
        shard = self._shards[commit]
        data, hashes = self._groups[commit, index // GROUP_LEAVES]
        at = index % GROUP_LEAVES
        path = self._trees[commit].path(index, hashes)
        leaf_hash = hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]
        merkle.verify_path(shard.root, index, shard.leaf_count, leaf_hash, path)
        return ShardLeaf(
            shard.root, shard.length, data[at * LEAF_BYTES : (at + 1) * LEAF_BYTES], path
        )


def _reply(
    outcome: node_pb2.ChallengeReply.Outcome, shards: Iterable[Commit]
) -> node_pb2.ChallengeReply:
    return node_pb2.ChallengeReply(outcome=outcome, lost=shards)
