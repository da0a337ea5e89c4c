"""Proof of retrievability: a node shows on demand that it can still read what it took.

The verifier names shards; where in them it looks follows from its fresh nonce, so the node
cannot keep a chosen part. The node signs one root over all openings, so a wrong opening is
provably its own.

Spec: docs/spec/proofs.md#proof-of-retrievability.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsn.core import tags
from dsn.core.codec import U32_MAX, U64_MAX, Writer
from dsn.core.hashing import HASH_BYTES, tagged
from dsn.core.keys import node_id_of, verify_signature
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ids import ID_BYTES, Commit, NetworkId, NodeId
from dsn.proofs.challenge import indices, por_seed
from dsn.proofs.inventory import Located, SumTree, holdings
from dsn.proofs.opening import verify_opening

MAX_COMMITS: Final = 8_192
"""Shards in one challenge: 256 KiB of commits."""
NONCE_BYTES: Final = 32


class Target(NamedTuple):
    """A leaf that was asked for: number ``leaf`` of shard ``commit``."""

    commit: Commit
    leaf: int


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a verifier asks of one node.

    ``commits`` are sorted; ``root`` is the holdings tree's over them by the verifier's own leaf
    counts; ``leaves`` is how many are drawn (all, if there are fewer); ``deadline_ms`` is in Unix
    milliseconds.
    """

    nonce: bytes
    commits: tuple[Commit, ...]
    root: bytes
    leaves: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The openings in draw order, and the node's signature over the root of all of them."""

    openings: tuple[bytes, ...]
    answer_root: bytes
    signature: bytes


class WrongOpenings(InvalidProof):
    """A node signed openings that fail.

    ``wrong`` names every such leaf in draw order; ``detail_code`` and ``evidence`` are the first
    one's reason and opening.
    """

    def __init__(
        self, message: str, *, code: str, evidence: bytes, wrong: tuple[Target, ...]
    ) -> None:
        """Keep ``wrong``."""
        super().__init__(message, code=code, evidence=evidence)
        self.wrong = wrong


def build_challenge(
    pairs: Iterable[tuple[Commit, int]], *, nonce: bytes, leaves: int, deadline_ms: int
) -> Challenge:
    """Ask for ``leaves`` leaves of the shards ``(commit, leaf_count)``, in any order."""
    held = holdings(pairs)
    commits = tuple(Commit(key) for key, _ in held)
    return Challenge(nonce, commits, held.root, leaves, deadline_ms)


def validate_challenge(challenge: Challenge) -> None:
    """Check an untrusted challenge by itself, before anything is looked up for it.

    Raises:
        MalformedMessage: A size or range is wrong, or the commits are not sorted and unique.
    """
    commits = challenge.commits
    sized = (len(challenge.nonce), len(challenge.root)) == (NONCE_BYTES, HASH_BYTES)
    if not sized or any(len(commit) != ID_BYTES for commit in commits):
        raise MalformedMessage("challenge: nonce, root and commits are 32 bytes each")
    if not 1 <= len(commits) <= MAX_COMMITS:
        raise MalformedMessage(f"challenge: {len(commits)} commits, 1 to {MAX_COMMITS} allowed")
    if any(left >= right for left, right in itertools.pairwise(commits)):
        raise MalformedMessage("challenge: commits are not sorted, or repeat")
    if not 1 <= challenge.leaves <= U32_MAX or not 0 <= challenge.deadline_ms <= U64_MAX:
        raise MalformedMessage(f"challenge: {challenge.leaves} leaves, at least 1 needed")


def draw(challenge: Challenge, held: SumTree, *, network: NetworkId, node: NodeId) -> list[Located]:
    """The leaves that ``challenge`` asks ``node`` for, in draw order.

    Args:
        challenge: Checked.
        held: Holdings tree over its commits, by one's own leaf counts.
        network: The network's id.
        node: Whom the challenge is for.

    Raises:
        InvalidProof: ``held`` has another root than the challenge (``other_root``): the two sides
            do not speak of the same shards, and no leaf is drawn.
    """
    return [held.locate(index) for index in _drawn(challenge, held, network, node)]


def answer_root(openings: Sequence[bytes]) -> bytes:
    """Root over one or more openings in draw order; an odd node is carried up (RFC 6962)."""
    assert openings
    level = [tagged(tags.OPEN, j.to_bytes(4, "big"), each) for j, each in enumerate(openings)]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [tagged(tags.ANSWER, *pair) for pair in pairs] + level[len(level) & ~1 :]
    return level[0]


def sign_answer(
    sign: Callable[[bytes], bytes],
    challenge: Challenge,
    openings: Sequence[bytes],
    *,
    network: NetworkId,
    node: NodeId,
) -> Answer:
    """Sign the openings of all leaves that ``draw`` named, in its order."""
    root = answer_root(openings)
    return Answer(tuple(openings), root, sign(_preimage(challenge, root, network, node)))


def verify_answer(
    answer: Answer,
    challenge: Challenge,
    pairs: Iterable[tuple[Commit, int]],
    *,
    network: NetworkId,
    public_key: bytes,
) -> None:
    """Judge a node's answer; everything is recomputed from what the verifier knows.

    Args:
        answer: Untrusted.
        challenge: As it was sent.
        pairs: The challenged shards as ``(commit, leaf_count)``, in any order.
        network: The network's id.
        public_key: The node's Ed25519 identity key.

    Raises:
        InvalidProof: ``other_root`` (``pairs`` are not what the challenge asked), ``answer_count``
            or ``answer_root``: the bytes are no answer, and prove nothing against the node.
        InvalidSignature: Not signed by the node; nothing is proven against it either.
        WrongOpenings: The node signed openings that fail.

    Cost: one holdings tree over ``pairs``, then about 45 us an opening.
    """
    node = node_id_of(public_key)
    held = holdings(pairs)
    drawn = _drawn(challenge, held, network, node)
    if len(answer.openings) != len(drawn):
        raise InvalidProof(
            f"answer: {len(answer.openings)} openings, {len(drawn)} were asked for",
            code="answer_count",
        )
    if answer_root(answer.openings) != answer.answer_root:
        raise InvalidProof("answer: its root is not over its openings", code="answer_root")
    signed = _preimage(challenge, answer.answer_root, network, node)
    verify_signature(public_key, signed, answer.signature)
    _judge(answer.openings, drawn, held)


def _judge(openings: Sequence[bytes], drawn: Sequence[int], held: SumTree) -> None:
    wrong: list[Target] = []
    first: tuple[InvalidProof, bytes] | None = None
    for index, opening in zip(drawn, openings, strict=True):
        try:
            verify_opening(opening, root=held.root, total=held.total, index=index, inventory=False)
        except InvalidProof as error:
            at = held.locate(index)
            wrong.append(Target(Commit(at.key), at.offset))
            first = first or (error, opening)
    if first is None:
        return
    reason, evidence = first
    raise WrongOpenings(
        f"leaf {wrong[0].leaf} of shard {wrong[0].commit.hex()}: {reason.message} "
        f"({len(wrong)} of {len(drawn)} openings are wrong)",
        code=reason.detail_code,
        evidence=evidence,
        wrong=tuple(wrong),
    ) from reason


def _drawn(challenge: Challenge, held: SumTree, network: NetworkId, node: NodeId) -> list[int]:
    if held.root != challenge.root:
        raise InvalidProof("challenge: the holdings' roots differ", code="other_root")
    seed = por_seed(network, node, challenge.nonce, challenge.root)
    return indices(seed, held.total, challenge.leaves)


def _preimage(challenge: Challenge, root: bytes, network: NetworkId, node: NodeId) -> bytes:
    seed = por_seed(network, node, challenge.nonce, challenge.root)
    writer = Writer().raw(tags.POR_ANSWER, tags.TAG_BYTES).raw(seed, HASH_BYTES)
    return writer.u64(challenge.deadline_ms).raw(root, HASH_BYTES).done()
