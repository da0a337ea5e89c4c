"""The state tree: one root over all cells, changed cell by cell.

A crit-bit tree (Bernstein) as the sum tree of ``proofs``, without sums: a node stands where two
keys first differ and commits to which bit that is. So the root depends on the cells alone, and
proves of any key that it is there or that it is not.

Spec: docs/spec/economy.md#state-root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from dsn.core import tags
from dsn.core.hashing import HASH_BYTES, sha256
from dsn.errors import InvalidProof, NotFound

EMPTY_STATE: Final = bytes(HASH_BYTES)
"""The root over nothing."""
_BITS: Final = 8 * HASH_BYTES


class StateStep(NamedTuple):
    """A node on the way down: the bit at which its sides differ, and the side not taken."""

    bit: int
    sibling: bytes


class StateLeaf(NamedTuple):
    """A cell's key and digest."""

    key: bytes
    digest: bytes


class _Leaf:
    __slots__ = ("digest", "key")
    bit: Final = _BITS

    def __init__(self, key: bytes, digest: bytes) -> None:
        assert len(key) == len(digest) == HASH_BYTES
        self.key = key
        self.digest = digest


class _Branch:
    """Two sides that first differ at ``bit``; hashed when first asked, then kept."""

    __slots__ = ("_digest", "bit", "left", "right")

    def __init__(self, bit: int, left: _Node, right: _Node) -> None:
        self.bit = bit
        self.left = left
        self.right = right
        self._digest = b""

    @property
    def digest(self) -> bytes:
        if not self._digest:
            self._digest = _node(self.bit, self.left.digest, self.right.digest)
        return self._digest


_Node = _Leaf | _Branch


def _node(bit: int, left: bytes, right: bytes) -> bytes:
    return sha256(tags.CELL_NODE + bytes((bit,)) + left + right)


def _side(key: bytes, bit: int) -> int:
    """Bit ``bit`` of ``key``, bit 0 being the highest of byte 0: 1 goes right."""
    return key[bit >> 3] >> (~bit & 7) & 1


def _split(key: bytes, other: bytes) -> int:
    """The first bit at which two keys differ; 256 when they are equal."""
    differing = int.from_bytes(key, "big") ^ int.from_bytes(other, "big")
    return _BITS - differing.bit_length()


def _nearest(node: _Node, key: bytes) -> _Leaf:
    """Where the bits of ``key`` lead: its own leaf, if there is one."""
    while isinstance(node, _Branch):
        node = node.right if _side(key, node.bit) else node.left
    return node


class StateTree:
    """An immutable radix tree; changing it gives another one that shares most nodes."""

    __slots__ = ("_top",)

    def __init__(self, top: _Node | None = None) -> None:
        """Wrap ``top``; outside this module start from ``StateTree()`` or ``build``."""
        self._top = top

    @classmethod
    def build(cls, leaves: Iterable[StateLeaf]) -> StateTree:
        """The tree over ``leaves``, in any order; of one key the last counts."""
        tree = cls()
        for leaf in leaves:
            tree = tree.put(*leaf)
        return tree

    @property
    def root(self) -> bytes:
        """32 bytes; all zero when empty. Cost: hashes what changed since it was last asked."""
        return EMPTY_STATE if self._top is None else self._top.digest

    def put(self, key: bytes, digest: bytes) -> StateTree:
        """The tree in which ``key`` has ``digest``.

        Cost: O(levels), no hashing until the root is asked.
        """
        leaf = _Leaf(key, digest)
        if self._top is None:
            return StateTree(leaf)
        bit = _split(_nearest(self._top, key).key, key)
        node, turns = self._top, list[tuple[_Branch, int]]()
        while isinstance(node, _Branch) and node.bit < bit:
            side = _side(key, node.bit)
            turns.append((node, side))
            node = node.right if side else node.left
        top: _Node = leaf
        if bit < _BITS:
            top = _Branch(bit, node, leaf) if _side(key, bit) else _Branch(bit, leaf, node)
        for branch, side in reversed(turns):
            left, right = (branch.left, top) if side else (top, branch.right)
            top = _Branch(branch.bit, left, right)
        return StateTree(top)

    def build_proof(self, key: bytes) -> tuple[StateLeaf, list[StateStep]]:
        """Where the bits of ``key`` lead, and the way there, root first.

        The leaf is the key's own if it is there; any other proves that it is not.

        Raises:
            NotFound: The tree is empty.
        """
        if self._top is None:
            raise NotFound("the state is empty", code="empty_state")
        node, steps = self._top, list[StateStep]()
        while isinstance(node, _Branch):
            taken, beside = node.left, node.right
            if _side(key, node.bit):
                taken, beside = beside, taken
            steps.append(StateStep(node.bit, beside.digest))
            node = taken
        return StateLeaf(node.key, node.digest), steps


def verify_cell(root: bytes, leaf: StateLeaf, steps: Sequence[StateStep]) -> None:
    """Check that the state at ``root`` has ``leaf``.

    Args:
        root: From a checkpoint that is believed.
        leaf: Untrusted; its digest is ``cell_digest`` of the cell one was given.
        steps: Untrusted, root first.

    Raises:
        InvalidProof: ``bad_step`` (bits that do not rise) or ``state_root``.
    """
    previous = -1
    for bit, sibling in steps:
        if not previous < bit < _BITS or len(sibling) != HASH_BYTES:
            raise InvalidProof(f"state proof: bit {bit} after {previous}", code="bad_step")
        previous = bit
    digest = leaf.digest
    for bit, sibling in reversed(steps):
        pair = (sibling, digest) if _side(leaf.key, bit) else (digest, sibling)
        digest = _node(bit, *pair)
    if digest != root:
        raise InvalidProof("state proof: the cell is not under the root", code="state_root")


def verify_absence(root: bytes, key: bytes, leaf: StateLeaf, steps: Sequence[StateStep]) -> None:
    """Check that the state at ``root`` has no cell under ``key``.

    A node commits to its bit, so the bits of a key lead to one place only; if another key's leaf
    stands there, this one has none.

    Args:
        root: From a checkpoint that is believed.
        key: Which cell is said not to be there.
        leaf: Untrusted: where the bits of ``key`` lead.
        steps: Untrusted, root first.

    Raises:
        InvalidProof: ``bad_step``, ``state_root``, or ``not_absent``: the leaf is the key's own,
            or its bits do not lead there.
    """
    verify_cell(root, leaf, steps)
    if leaf.key == key or any(_side(key, bit) != _side(leaf.key, bit) for bit, _ in steps):
        raise InvalidProof(
            "state proof: it does not show that the cell is absent", code="not_absent"
        )
