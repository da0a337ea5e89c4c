"""The radix sum tree: which leaf of which shard a number in ``[0, total)`` names.

A deal's holdings (key = commit) and a provider's inventory (key = deal id) are the same
tree with different leaves. It is a crit-bit tree (Bernstein) whose nodes are hashed with
the sums of both sides, so the root alone fixes every entry's share of the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final, NamedTuple

from dsn.core import tags
from dsn.core.hashing import HASH_BYTES, tagged
from dsn.errors import LimitReached, MalformedMessage, NotFound
from dsn.ids import Commit, DealId

MAX_LEVELS: Final = 8 * HASH_BYTES
"""Two 256-bit keys differ after at most this many shared splits."""
MAX_TOTAL: Final = (1 << 63) - 1
"""Sums stay inside a signed 64-bit word, so no verifier anywhere can overflow."""
EMPTY_ROOT: Final = bytes(HASH_BYTES)


class Step(NamedTuple):
    """A node on the way down: the sum to its left, and the side not taken."""

    left_sum: int
    sibling: bytes


class Located(NamedTuple):
    """Where a number falls: an entry's ``key``, the ``offset`` in it, and the way, root first."""

    key: bytes
    offset: int
    steps: tuple[Step, ...]


class InventoryEntry(NamedTuple):
    """What a deal's newest installed revision says of it."""

    deal: DealId
    number: int
    holdings_root: bytes
    leaves: int


def sum_node(left_sum: int, left: bytes, right_sum: int, right: bytes) -> bytes:
    """Hash of the node over two sides and their sums."""
    return tagged(
        tags.SUM, left_sum.to_bytes(8, "big") + left + right_sum.to_bytes(8, "big") + right
    )


def holdings_leaf(commit: Commit, leaf_count: int) -> bytes:
    """Hash of a shard's entry; its tag keeps a node's preimage from posing as one."""
    return tagged(tags.HELD, commit + leaf_count.to_bytes(8, "big"))


def inventory_leaf(deal: DealId, number: int, holdings_root: bytes, leaves: int) -> bytes:
    """Hash of a deal's entry: 96 bytes like a node's, so only the tag tells them apart."""
    return tagged(
        tags.INVENTORY,
        deal + number.to_bytes(8, "big") + holdings_root + leaves.to_bytes(8, "big"),
    )


class _Leaf:
    """One entry; ``bit`` lies below every split, so a descent ends here by itself."""

    __slots__ = ("digest", "key", "total")
    bit: Final = MAX_LEVELS
    count: Final = 1

    def __init__(self, key: bytes, digest: bytes, weight: int) -> None:
        if len(key) != HASH_BYTES or weight < 1:
            raise MalformedMessage(
                f"an entry of {weight} leaves under a key of {len(key)} bytes, "
                f"at least 1 under {HASH_BYTES} needed",
                code="bad_entry",
            )
        self.key = key
        self.digest = digest
        self.total = weight


class _Branch:
    """Two sides that first differ at ``bit``; hashed when first asked, then kept.

    Hashing late makes a batch of inserts hash each changed node once.
    """

    __slots__ = ("_digest", "bit", "count", "left", "right", "total")

    def __init__(self, bit: int, left: _Node, right: _Node) -> None:
        self.bit = bit
        self.left = left
        self.right = right
        self.total: int = left.total + right.total
        self.count: int = left.count + right.count
        self._digest = b""

    @property
    def digest(self) -> bytes:
        if not self._digest:
            left, right = self.left, self.right
            self._digest = sum_node(left.total, left.digest, right.total, right.digest)
        return self._digest


_Node = _Leaf | _Branch
_Turn = tuple[_Branch, int]


def _side(key: bytes, bit: int) -> int:
    """Bit ``bit`` of ``key``, bit 0 being the highest of byte 0: 1 goes right."""
    return key[bit >> 3] >> (~bit & 7) & 1


def _split(key: bytes, other: bytes) -> int:
    """The first bit at which two keys differ; ``MAX_LEVELS`` when they are equal."""
    differing = int.from_bytes(key, "big") ^ int.from_bytes(other, "big")
    return MAX_LEVELS - differing.bit_length()


def _descend(top: _Node, key: bytes, bit: int) -> tuple[list[_Turn], _Node]:
    """Follow ``key`` through the splits above ``bit``; the turns taken and where it ends."""
    turns: list[_Turn] = []
    node = top
    while node.bit < bit:
        assert isinstance(node, _Branch)
        side = _side(key, node.bit)
        turns.append((node, side))
        node = node.right if side else node.left
    return turns, node


def _rebuild(turns: list[_Turn], node: _Node) -> SumTree:
    """Copy the way back up over ``node``; everything beside it is shared."""
    for branch, side in reversed(turns):
        left, right = (branch.left, node) if side else (node, branch.right)
        node = _Branch(branch.bit, left, right)
    return SumTree(node)


class SumTree:
    """An immutable radix sum tree; changing it gives another one that shares most nodes.

    The root depends on the entries alone, not on the order in which they came.

    Spec: docs/spec/proofs.md#sum-tree
    """

    __slots__ = ("_top",)

    def __init__(self, top: _Node | None = None) -> None:
        """Wrap ``top``; outside this module start from ``EMPTY`` or ``SumTree.build``."""
        if top is not None and top.total > MAX_TOTAL:
            raise LimitReached(
                f"a total of {top.total} leaves, at most {MAX_TOTAL} allowed",
                code="total_too_large",
            )
        self._top = top

    @classmethod
    def build(cls, entries: Iterable[tuple[bytes, bytes, int]]) -> SumTree:
        """The tree over ``(key, leaf, weight)`` entries in any order; repeats count once.

        Raises:
            MalformedMessage: A key with two different leaves, a wrong size, a weight below 1.
            LimitReached: The weights sum to 2^63 or more.

        Cost: one sort (linear when sorted already), then O(n).
        """
        leaves = (_Leaf(*entry) for entry in sorted(entries, key=itemgetter(0)))
        spine: list[tuple[int, _Node]] = []
        node: _Node | None = None
        last: _Leaf | None = None
        for leaf in leaves:
            if last is not None and node is not None:
                bit = _split(last.key, leaf.key)
                if bit == MAX_LEVELS:
                    _refuse_conflict(last, leaf)
                    continue
                spine.append((bit, _fold(spine, node, bit)))
            node = last = leaf
        return cls(None if node is None else _fold(spine, node, -1))

    @property
    def root(self) -> bytes:
        """32 bytes; all zero when empty. Cost: hashes what changed since it was last asked."""
        return EMPTY_ROOT if self._top is None else self._top.digest

    @property
    def total(self) -> int:
        """The sum of all weights, below 2^63."""
        return 0 if self._top is None else self._top.total

    @property
    def count(self) -> int:
        """Number of entries."""
        return 0 if self._top is None else self._top.count

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """``(key, weight)`` of every entry, by key."""
        stack: list[_Node] = [] if self._top is None else [self._top]
        while stack:
            node = stack.pop()
            if isinstance(node, _Leaf):
                yield node.key, node.total
            else:
                stack += (node.right, node.left)

    def insert(self, key: bytes, leaf: bytes, weight: int) -> SumTree:
        """The tree with this entry too; the same tree if it stands there already.

        Args:
            key: 32 bytes.
            leaf: The entry's hash.
            weight: Leaves it stands for, from 1.

        Raises:
            MalformedMessage: The key stands there with another leaf (``entry_conflict``).
            LimitReached: The total would reach 2^63.

        Cost: O(levels), no hashing until the root is asked.
        """
        return self._put(_Leaf(key, leaf, weight), replace=False)

    def replace(self, key: bytes, leaf: bytes, weight: int) -> SumTree:
        """As ``insert``, but a newer leaf takes the place of an older one of the same key."""
        return self._put(_Leaf(key, leaf, weight), replace=True)

    def _put(self, leaf: _Leaf, *, replace: bool) -> SumTree:
        if self._top is None:
            return SumTree(leaf)
        _, nearest = _descend(self._top, leaf.key, MAX_LEVELS)
        assert isinstance(nearest, _Leaf)
        bit = _split(nearest.key, leaf.key)
        if bit == MAX_LEVELS:
            if (nearest.digest, nearest.total) == (leaf.digest, leaf.total):
                return self
            if not replace:
                _refuse_conflict(nearest, leaf)
        turns, beside = _descend(self._top, leaf.key, bit)
        if bit == MAX_LEVELS:
            return _rebuild(turns, leaf)
        left, right = (beside, leaf) if _side(leaf.key, bit) else (leaf, beside)
        return _rebuild(turns, _Branch(bit, left, right))

    def remove(self, key: bytes) -> SumTree:
        """The tree without ``key``: its sibling takes its parent's place.

        Raises:
            NotFound: No such entry.
        """
        if self._top is not None and len(key) == HASH_BYTES:
            turns, found = _descend(self._top, key, MAX_LEVELS)
            if isinstance(found, _Leaf) and found.key == key:
                if not turns:
                    return EMPTY
                parent, side = turns.pop()
                return _rebuild(turns, parent.left if side else parent.right)
        raise NotFound(f"no entry {key.hex()}", code="no_such_entry")

    def find(self, key: bytes) -> tuple[int, int]:
        """The first number of the entry under ``key``, and how many numbers it has.

        Raises:
            NotFound: No such entry.

        Cost: O(levels).
        """
        if self._top is not None and len(key) == HASH_BYTES:
            turns, found = _descend(self._top, key, MAX_LEVELS)
            if isinstance(found, _Leaf) and found.key == key:
                first = sum(branch.left.total for branch, side in turns if side)
                return first, found.total
        raise NotFound(f"no entry {key.hex()}", code="no_such_entry")

    def locate(self, index: int) -> Located:
        """Name the entry that number ``index`` of ``[0, total)`` falls into, and the way to it.

        Raises:
            NotFound: ``index`` is outside the range.

        Cost: O(levels).
        """
        if self._top is None or not 0 <= index < self._top.total:
            raise NotFound(f"leaf {index} of {self.total}", code="no_such_leaf")
        node, steps = self._top, list[Step]()
        while isinstance(node, _Branch):
            left, right = node.left, node.right
            if index < left.total:
                steps.append(Step(left.total, right.digest))
                node = left
            else:
                steps.append(Step(left.total, left.digest))
                index -= left.total
                node = right
        return Located(node.key, index, tuple(steps))


def _refuse_conflict(old: _Leaf, new: _Leaf) -> None:
    if (old.digest, old.total) != (new.digest, new.total):
        raise MalformedMessage(
            f"entry {new.key.hex()} stands for {old.total} and for {new.total} leaves",
            code="entry_conflict",
        )


def _fold(spine: list[tuple[int, _Node]], node: _Node, bit: int) -> _Node:
    """Close every open split of ``spine`` that lies below ``bit`` over ``node``."""
    while spine and spine[-1][0] > bit:
        split, left = spine.pop()
        node = _Branch(split, left, node)
    return node


EMPTY: Final = SumTree()


def holdings(pairs: Iterable[tuple[Commit, int]]) -> SumTree:
    """The tree over shards as ``(commit, leaf_count)``, in any order.

    Raises:
        MalformedMessage: One commit with two leaf counts, or a leaf count below 1.
        LimitReached: 2^63 leaves or more.
    """
    return SumTree.build((commit, holdings_leaf(commit, count), count) for commit, count in pairs)
