"""Asking one node to prove that it holds shards, by leaves that nobody could foresee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dsn.errors import InvalidProof, ShardCorrupt
from dsn.ids import Commit, NetworkId, short
from dsn.ports import Clock, Entropy
from dsn.proofs.por import (
    NONCE_BYTES,
    Answer,
    Challenge,
    WrongOpenings,
    build_challenge,
    verify_answer,
)
from dsn.rpc.channel import NodePeer
from dsn.v1.node_pb2 import ChallengeReply
from dsn.wire.convert import answer_from_wire, challenge_to_wire

LEAVES_EACH = 4
"""Leaves a shard that a put reads back, on average."""
MOST_LEAVES = 256
"""Leaves of one challenge: its answer fits one message."""
MOST_COMMITS = 4_096
DEADLINE_S = 10.0
WRONG, LOST = "wrong", "lost"
"""What is the matter with a shard: the node signed bytes that fail, or says that it has none."""
DECLARED_LOST, UNKNOWN_SHARD, OTHER_ROOT = "declared_lost", "unknown_shard", "other_root"


@dataclass(frozen=True, slots=True)
class Shown:
    """What a node showed when it was challenged.

    Attributes:
        answer: What it signed; ``None`` if it named shards it cannot show instead.
        bad: Those shards, and those whose openings fail: ``wrong`` or ``lost``.
        reason: Of the first failure: ``declared_lost``, ``unknown_shard``, or the code of the
            first opening that fails; empty if there is none.
        bytes: Of the reply.
        response_ms: From the question to the answer.
    """

    answer: Answer | None
    bad: Mapping[Commit, str]
    reason: str
    bytes: int
    response_ms: int


def fresh_challenge(
    leaves: Mapping[Commit, int],
    count: int,
    *,
    clock: Clock,
    entropy: Entropy,
    deadline_s: float = DEADLINE_S,
) -> Challenge:
    """Ask for ``count`` of ``leaves`` (leaf count by commit), drawn by a nonce never used."""
    deadline_ms = int((clock.now_s() + deadline_s) * 1000)
    nonce = entropy(NONCE_BYTES)
    return build_challenge(leaves.items(), nonce=nonce, leaves=count, deadline_ms=deadline_ms)


async def challenge_node(
    peer: NodePeer,
    challenge: Challenge,
    leaves: Mapping[Commit, int],
    *,
    network: NetworkId,
    clock: Clock,
) -> Shown:
    """Put ``challenge`` over ``leaves`` to ``peer`` and judge what it shows until the deadline.

    Raises:
        InvalidProof: ``other_root``: the node counts other leaves, so nothing is proven either
            way; ``answer_count``, ``answer_root``, ``no_answer``: it proves nothing.
        InvalidSignature: The answer is not signed by the node for this challenge.
        DsnError: The node is away, too late, or refuses.
    """
    began_s, timeout_s = clock.monotonic_s(), challenge.deadline_ms / 1000 - clock.now_s()
    reply = await peer.challenge(challenge_to_wire(challenge), timeout_s=timeout_s)
    took = reply.ByteSize(), int((clock.monotonic_s() - began_s) * 1000)
    if reply.outcome != ChallengeReply.OUTCOME_ANSWERED:
        return Shown(None, *_declared(reply, leaves, short(peer.contact.node_id)), *took)
    answer, public_key = answer_from_wire(reply), peer.contact.public_key
    try:
        verify_answer(answer, challenge, leaves.items(), network=network, public_key=public_key)
    except WrongOpenings as error:
        bad = dict.fromkeys((target.commit for target in error.wrong), WRONG)
        return Shown(answer, bad, error.detail_code, *took)
    return Shown(answer, {}, "", *took)


def _declared(
    reply: ChallengeReply, leaves: Mapping[Commit, int], name: str
) -> tuple[dict[Commit, str], str]:
    """The shards that a node says it cannot show, and in which way."""
    gone = {Commit(each): LOST for each in reply.lost if each in leaves}
    if gone and reply.outcome == ChallengeReply.OUTCOME_LOST:
        return gone, DECLARED_LOST
    if gone and reply.outcome == ChallengeReply.OUTCOME_UNKNOWN:
        return gone, UNKNOWN_SHARD
    if reply.outcome == ChallengeReply.OUTCOME_UNKNOWN and not reply.lost:
        raise InvalidProof(f"{name} counts the leaves of the shards otherwise", code=OTHER_ROOT)
    raise InvalidProof(f"{name} neither answers nor names a loss", code="no_answer")


@dataclass(slots=True)
class Sampled:
    """What a node could show, and what it could not.

    ``leaves`` counts openings that verified, ``bytes`` what they weighed; ``bad`` names shards
    that are wrong or lost, by kind.
    """

    leaves: int = 0
    bytes: int = 0
    bad: dict[Commit, str] = field(default_factory=dict)


async def sample(
    peer: NodePeer,
    leaves: Mapping[Commit, int],
    count: int,
    *,
    network: NetworkId,
    clock: Clock,
    entropy: Entropy,
) -> Sampled:
    """Challenge ``peer`` on ``count`` leaves of the shards in ``leaves`` (leaf count by commit).

    Shards that fail are set aside and the others are asked again, so that one rotten shard
    hides no other.

    Raises:
        DsnError: The node is away, or its answer proves nothing.
    """
    result, everything = Sampled(), sum(leaves.values())
    ordered = sorted(leaves.items())
    for at in range(0, len(ordered), MOST_COMMITS):
        rest, got = dict(ordered[at : at + MOST_COMMITS]), 0
        quota = -(-count * sum(rest.values()) // everything)
        while rest and got < min(quota, sum(rest.values())):
            wanted = min(MOST_LEAVES, quota - got, sum(rest.values()))
            challenge = fresh_challenge(rest, wanted, clock=clock, entropy=entropy)
            shown = await challenge_node(peer, challenge, rest, network=network, clock=clock)
            result.bytes += shown.bytes
            result.bad.update(shown.bad)
            rest = {commit: n for commit, n in rest.items() if commit not in shown.bad}
            if not shown.bad:
                got += wanted
                result.leaves += wanted
    return result


async def read_back(
    peer: NodePeer,
    leaves: Mapping[Commit, int],
    *,
    network: NetworkId,
    clock: Clock,
    entropy: Entropy,
) -> None:
    """Check that ``peer`` can show samples of shards it gave receipts for.

    Raises:
        ShardCorrupt: It cannot.
        DsnError: It is away.
    """
    count = LEAVES_EACH * len(leaves)
    result = await sample(peer, leaves, count, network=network, clock=clock, entropy=entropy)
    if result.bad:
        raise ShardCorrupt(
            f"{short(peer.contact.node_id)} cannot show {len(result.bad)} of {len(leaves)} shards "
            "it gave receipts for",
            peer=peer.name,
        )
