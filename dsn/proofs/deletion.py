"""Taking a shard out of holdings of which only the root is known.

``commit 32, leaf_count u64, first_leaf u64, steps``: the way to the shard's entry, as in an
opening. It proves that the shard is there, and the same way gives the root without it: the
entry's sibling takes their parent's place, and the sums above fall. So whoever keeps roots only,
as the ledger does, derives the next root by itself and believes nobody.

Spec: docs/spec/economy.md#entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ids import Commit
from dsn.proofs.inventory import (
    EMPTY_ROOT,
    MAX_LEVELS,
    Step,
    SumTree,
    holdings_leaf,
    sum_node,
)


class Deletion(NamedTuple):
    """What a proof shows: which shard goes, where it stood, and what remains."""

    commit: Commit
    leaf_count: int
    first_leaf: int
    root: bytes
    total: int


class _Turn(NamedTuple):
    """A step taken: the sum on arriving at the node, the step itself, and the side."""

    own: int
    step: Step
    right: bool


def build_deletion_proof(held: SumTree, commit: Commit) -> bytes:
    """Prove that ``commit`` is in ``held``, so that it can be taken out.

    Raises:
        NotFound: It is not.

    Cost: O(levels).
    """
    first, leaves = held.find(commit)
    writer = Writer().raw(commit, HASH_BYTES).u64(leaves).u64(first)
    for left_sum, sibling in held.locate(first).steps:
        writer.u64(left_sum).raw(sibling, HASH_BYTES)
    return writer.done()


def verify_deletion_proof(proof: bytes, *, root: bytes, total: int) -> Deletion:
    """Judge ``proof`` (untrusted) and derive the holdings without the shard.

    Args:
        proof: Untrusted.
        root: The holdings root that is believed.
        total: Leaves under it.

    Raises:
        InvalidProof: ``detail_code`` is the first reason that holds, in stream order: ``short``,
            ``index`` (outside the holdings, or not where the shard starts), ``sum``, ``deep``,
            ``trailing``, ``holdings``.

    Spec: docs/spec/economy.md#entries.
    Cost: two hashes a level.
    """
    reader = Reader(proof, "deletion proof")
    try:
        commit = Commit(reader.raw(HASH_BYTES))
        leaves, first = reader.u64(), reader.u64()
        if not (leaves >= 1 and first + leaves <= total):
            raise _invalid("index", f"leaves {first} to {first + leaves} of {total}")
        turns = _walk(reader, total, first, leaves)
    except MalformedMessage as error:
        raise InvalidProof(error.message, code="short", evidence=error.evidence) from error
    if reader.left:
        raise _invalid("trailing", f"{reader.left} bytes too many")
    believed, without = _climb(holdings_leaf(commit, leaves), leaves, turns)
    if believed != root:
        raise _invalid("holdings", "its shard is not under the holdings' root")
    return Deletion(commit, leaves, first, without, total - leaves)


def _walk(reader: Reader, own: int, index: int, weight: int) -> list[_Turn]:
    """Read steps until the sum is ``weight`` and the shard starts there."""
    turns: list[_Turn] = []
    while own != weight:
        step = Step(reader.u64(), reader.raw(HASH_BYTES))
        if not 1 <= step.left_sum < own:
            raise _invalid("sum", f"{step.left_sum} of {own} leaves to the left")
        right = index >= step.left_sum
        turns.append(_Turn(own, step, right))
        if right:
            index -= step.left_sum
        own = own - step.left_sum if right else step.left_sum
        if own < weight:
            raise _invalid("sum", f"an entry of {weight} leaves among {own}")
        if len(turns) > MAX_LEVELS:
            raise _invalid("deep", f"more than {MAX_LEVELS} levels")
    if index:
        raise _invalid("index", f"the shard starts {index} leaves earlier")
    return turns


def _climb(digest: bytes, weight: int, turns: Sequence[_Turn]) -> tuple[bytes, bytes]:
    """The root that the entry's ``digest`` leads to, and the root without the entry."""
    without = EMPTY_ROOT
    for own, (left_sum, sibling), right in reversed(turns):
        right_sum = own - left_sum
        if right:
            digest = sum_node(left_sum, sibling, right_sum, digest)
            without = _join(left_sum, sibling, right_sum - weight, without)
        else:
            digest = sum_node(left_sum, digest, right_sum, sibling)
            without = _join(left_sum - weight, without, right_sum, sibling)
    return digest, without


def _join(left_sum: int, left: bytes, right_sum: int, right: bytes) -> bytes:
    """The node over both sides; a side that became empty leaves its place to the other."""
    if not left_sum:
        return right
    return sum_node(left_sum, left, right_sum, right) if right_sum else left


def _invalid(code: str, reason: str) -> InvalidProof:
    return InvalidProof(f"deletion proof: {reason}", code=code)
