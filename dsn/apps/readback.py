"""Asking one node to prove that it holds shards, by leaves that nobody could foresee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dsn.errors import InvalidProof, ShardCorrupt
from dsn.ids import Commit, NetworkId, short
from dsn.ports import Clock, Entropy
from dsn.proofs.por import (
    NONCE_BYTES,
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
DEADLINE_S = 10


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
            bad = await _challenge(peer, rest, wanted, result, network, clock, entropy)
            result.bad.update(bad)
            rest = {commit: n for commit, n in rest.items() if commit not in bad}
            got += 0 if bad else wanted
    return result


async def _challenge(
    peer: NodePeer,
    leaves: Mapping[Commit, int],
    count: int,
    result: Sampled,
    network: NetworkId,
    clock: Clock,
    entropy: Entropy,
) -> dict[Commit, str]:
    """One challenge; the shards that fail, by kind."""
    deadline_ms = int((clock.now_s() + DEADLINE_S) * 1000)
    challenge = build_challenge(
        leaves.items(), nonce=entropy(NONCE_BYTES), leaves=count, deadline_ms=deadline_ms
    )
    reply = await peer.challenge(challenge_to_wire(challenge))
    result.bytes += reply.ByteSize()
    if reply.outcome != ChallengeReply.OUTCOME_ANSWERED:
        lost = {Commit(c): "lost" for c in reply.lost if c in leaves}
        if not lost:
            raise InvalidProof(f"{short(peer.contact.node_id)} neither answers nor names a loss")
        return lost
    answer = answer_from_wire(reply)
    try:
        verify_answer(
            answer,
            challenge,
            leaves.items(),
            network=network,
            public_key=peer.contact.public_key,
        )
    except WrongOpenings as error:
        return {target.commit: "wrong" for target in error.wrong}
    result.leaves += len(answer.openings)
    return {}


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
