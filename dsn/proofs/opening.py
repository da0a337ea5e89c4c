"""One opening: a leaf's bytes and the way to it from a root that is already believed.

``[deal 32, number u64, holdings root 32, leaves u64, steps] shard root 32, length u64, steps,
data, shard path``; the bracket stands iff the anchor is an inventory. Nothing that a statement
already says (anchor, root, total, index) or implies (depths, sides, the other sum, leaf count,
path length) is sent, so nothing of it can be lied about.

Spec: docs/spec/proofs.md#opening.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dsn.core import merkle
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ids import Commit, DealId
from dsn.proofs.inventory import (
    MAX_LEVELS,
    MAX_TOTAL,
    InventoryEntry,
    Step,
    holdings_leaf,
    inventory_leaf,
    sum_node,
)
from dsn.units import LEAF_BYTES, leaf_count

MAX_SHARD_BYTES: Final = 1 << 40
"""Longest shard an opening can speak of: its path has at most 30 hashes."""


class ShardLeaf(NamedTuple):
    """A stored leaf: its shard's root and length, its bytes unpadded, its path bottom up."""

    root: bytes
    length: int
    data: bytes
    path: Sequence[bytes]


class DealPart(NamedTuple):
    """The bracket: a deal's entry and the way to it in the inventory, root first."""

    entry: InventoryEntry
    steps: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Opened:
    """What an opening proves, once judged.

    ``deal`` is ``None`` under a holdings anchor; ``leaf`` counts within the shard; ``data`` is
    unpadded.
    """

    deal: InventoryEntry | None
    commit: Commit
    leaf: int
    length: int
    data: bytes


def build_opening(shard: ShardLeaf, steps: Iterable[Step], deal: DealPart | None = None) -> bytes:
    """Encode the opening of one leaf.

    Args:
        shard: The leaf as it is stored.
        steps: The way to its shard in the holdings, as ``SumTree.locate`` gives it.
        deal: The way to the holdings in the inventory, or ``None`` to anchor at the holdings.
    """
    writer = Writer()
    if deal is not None:
        entry = deal.entry
        writer.raw(entry.deal, HASH_BYTES).u64(entry.number)
        writer.raw(entry.holdings_root, HASH_BYTES).u64(entry.leaves)
        _write_steps(writer, deal.steps)
    writer.raw(shard.root, HASH_BYTES).u64(shard.length)
    _write_steps(writer, steps)
    writer.raw(shard.data, len(shard.data))
    for sibling in shard.path:
        writer.raw(sibling, HASH_BYTES)
    return writer.done()


def verify_opening(opening: bytes, *, root: bytes, total: int, index: int, inventory: bool) -> None:
    """Judge an opening alone; the same verifier serves every proof there is.

    Args:
        opening: Untrusted.
        root: The anchor, 32 bytes, from the statement.
        total: Leaves under the anchor, from the statement.
        index: The global leaf number, from the statement.
        inventory: Whether the anchor is an inventory root; else it is a holdings root.

    Raises:
        InvalidProof: ``detail_code`` is the first reason that holds, in stream order: ``index``,
            ``short``, ``sum``, ``deep``, ``inventory``, ``length``, ``holdings``, ``trailing``,
            ``shard``.

    Spec: docs/spec/proofs.md#opening.
    Cost: one hash a level.
    """
    read_opening(opening, root=root, total=total, index=index, inventory=inventory)


def read_opening(opening: bytes, *, root: bytes, total: int, index: int, inventory: bool) -> Opened:
    """As ``verify_opening``, and give back what the opening proves."""
    _check_index(index, total)
    reader = Reader(opening, "opening")
    try:
        entry = None
        if inventory:
            entry, index = _read_deal(reader, root, total, index)
            root, total = entry.holdings_root, entry.leaves
        return _read_shard(reader, root, total, index, entry)
    except MalformedMessage as error:
        raise _short(error) from error


def proven_deal(opening: bytes, *, root: bytes, total: int, index: int) -> InventoryEntry:
    """Judge the bracket alone and name the deal that ``index`` falls in.

    A deal is proven even if the rest of the opening fails: that is what makes a wrong answer
    somebody's.

    Raises:
        InvalidProof: As ``verify_opening``, up to ``inventory``.
    """
    _check_index(index, total)
    try:
        entry, _ = _read_deal(Reader(opening, "opening"), root, total, index)
    except MalformedMessage as error:
        raise _short(error) from error
    return entry


class _Turn(NamedTuple):
    """A step taken: the sum on arriving at the node, the step itself, and the side."""

    own: int
    step: Step
    right: bool


def _write_steps(writer: Writer, steps: Iterable[Step]) -> None:
    for left_sum, sibling in steps:
        writer.u64(left_sum).raw(sibling, HASH_BYTES)


def _short(error: MalformedMessage) -> InvalidProof:
    return InvalidProof(error.message, code="short", evidence=error.evidence)


def _check_index(index: int, total: int) -> None:
    if not 0 <= index < total <= MAX_TOTAL:
        raise InvalidProof(f"opening: leaf {index} of {total}", code="index")


def _read_deal(reader: Reader, root: bytes, total: int, index: int) -> tuple[InventoryEntry, int]:
    """The deal's entry, proven under ``root``, and the leaf's number within the deal."""
    entry = InventoryEntry(
        DealId(reader.raw(HASH_BYTES)), reader.u64(), reader.raw(HASH_BYTES), reader.u64()
    )
    index, turns = _descend(reader, total, index, entry.leaves)
    if _climb(inventory_leaf(*entry), turns) != root:
        raise InvalidProof("opening: its deal is not under the inventory's root", code="inventory")
    return entry, index


def _read_shard(
    reader: Reader, root: bytes, total: int, index: int, entry: InventoryEntry | None
) -> Opened:
    """Everything from the shard root on, judged under the holdings ``root``."""
    shard_root, length = reader.raw(HASH_BYTES), reader.u64()
    if not 1 <= length <= MAX_SHARD_BYTES:
        raise InvalidProof(
            f"opening: a shard of {length} bytes, 1 to {MAX_SHARD_BYTES} allowed", code="length"
        )
    leaves = leaf_count(length)
    commit = merkle.shard_commit(shard_root, leaves, length)
    index, turns = _descend(reader, total, index, leaves)
    if _climb(holdings_leaf(commit, leaves), turns) != root:
        raise InvalidProof("opening: its shard is not under the holdings' root", code="holdings")
    data = reader.raw(min(LEAF_BYTES, length - LEAF_BYTES * index))
    path = [reader.raw(HASH_BYTES) for _ in range(merkle.path_length(index, leaves))]
    if reader.left:
        raise InvalidProof(f"opening: {reader.left} bytes too many", code="trailing")
    merkle.verify_path(shard_root, index, leaves, merkle.leaf_hash(data), path)
    return Opened(entry, commit, index, length, data)


def _descend(reader: Reader, own: int, index: int, weight: int) -> tuple[int, list[_Turn]]:
    """Read steps until the sum is an entry's ``weight``; ``index`` within it, and the turns."""
    turns: list[_Turn] = []
    while own != weight:
        step = Step(reader.u64(), reader.raw(HASH_BYTES))
        if not 1 <= step.left_sum < own:
            raise InvalidProof(f"opening: {step.left_sum} of {own} leaves to the left", code="sum")
        right = index >= step.left_sum
        turns.append(_Turn(own, step, right))
        if right:
            index -= step.left_sum
        own = own - step.left_sum if right else step.left_sum
        if own < weight:
            raise InvalidProof(f"opening: an entry of {weight} leaves among {own}", code="sum")
        if len(turns) > MAX_LEVELS:
            raise InvalidProof(f"opening: more than {MAX_LEVELS} levels", code="deep")
    return index, turns


def _climb(digest: bytes, turns: Sequence[_Turn]) -> bytes:
    """The root that an entry's ``digest`` leads to."""
    for own, (left_sum, sibling), right in reversed(turns):
        left, other = (sibling, digest) if right else (digest, sibling)
        digest = sum_node(left_sum, left, own - left_sum, other)
    return digest
