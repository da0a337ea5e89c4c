"""The state tree: one root over all cells, changed cell by cell.

A crit-bit tree (Bernstein) as the sum tree of ``proofs``, without sums: a node stands where two
keys first differ and commits to which bit that is. So the root depends on the cells alone, and
proves of any key that it is there or that it is not. A tree may be partial: what nobody asks for
is then left out, all but its hash, and the root is the whole tree's.

Spec: docs/spec/economy.md#state-root.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from dsn.core import tags
from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidProof, MalformedMessage, NotFound

EMPTY_STATE: Final = bytes(HASH_BYTES)
"""The root over nothing."""
_BITS: Final = 8 * HASH_BYTES
_PREFIXES: Final = tuple(tags.CELL_NODE + bytes((bit,)) for bit in range(_BITS))
"""What the hash of a node is over before its two sides, by its bit."""


class StateStep(NamedTuple):
    """A node on the way down: the bit at which its sides differ, and the side not taken."""

    bit: int
    sibling: bytes


class StateLeaf(NamedTuple):
    """A cell's key and digest."""

    key: bytes
    digest: bytes


StatePart = int | StateLeaf | bytes
"""Of a tree, node by node: the bit at which one's sides differ, a leaf, or what is left out.

After a bit come the parts of the left side, then those of the right one.
"""


class LeftOut(NotFound):
    """A partial tree says nothing of a key; the whole one does."""

    code = "left_out"


class _Leaf:
    """A cell's key and digest; its hash binds both, so no cell passes for another key's."""

    __slots__ = ("_digest", "cell", "key")
    bit: Final = _BITS

    def __init__(self, key: bytes, cell: bytes) -> None:
        assert len(key) == len(cell) == HASH_BYTES
        self.key = key
        self.cell = cell
        self._digest = b""

    @property
    def digest(self) -> bytes:
        if not self._digest:
            self._digest = _leaf(self.key, self.cell)
        return self._digest


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


class _Stub:
    """What is left out of a partial tree: a leaf or a branch, nobody can say which."""

    __slots__ = ("digest",)

    def __init__(self, digest: bytes) -> None:
        assert len(digest) == HASH_BYTES
        self.digest = digest


_Node = _Leaf | _Branch | _Stub


def _leaf(key: bytes, cell: bytes) -> bytes:
    return sha256(tags.CELL_LEAF + key + cell).digest()


def _node(bit: int, left: bytes, right: bytes) -> bytes:
    return sha256(_PREFIXES[bit] + left + right).digest()


def _side(key: bytes, bit: int) -> int:
    """Bit ``bit`` of ``key``, bit 0 being the highest of byte 0: 1 goes right."""
    return key[bit >> 3] >> (~bit & 7) & 1


def _split(key: bytes, other: bytes) -> int:
    """The first bit at which two keys differ; 256 when they are equal."""
    differing = int.from_bytes(key, "big") ^ int.from_bytes(other, "big")
    return _BITS - differing.bit_length()


def _way(node: _Node, key: bytes) -> tuple[list[_Branch], _Leaf]:
    """The branches that the bits of ``key`` pass, and its own leaf if it has one, or another."""
    passed = list[_Branch]()
    while isinstance(node, _Branch):
        passed.append(node)
        node = node.right if _side(key, node.bit) else node.left
    if isinstance(node, _Stub):
        raise LeftOut("a partial state leaves out what was asked for")
    return passed, node


def _nearest(node: _Node, key: bytes) -> _Leaf:
    """Where the bits of ``key`` lead: its own leaf, if there is one."""
    return _way(node, key)[1]


def _prune(node: _Node, keys: Sequence[bytes]) -> _Node:
    if not keys:
        return _Stub(node.digest)
    if not isinstance(node, _Branch):
        return node
    sides: tuple[list[bytes], list[bytes]] = [], []
    for key in keys:
        sides[_side(key, node.bit)].append(key)
    return _Branch(node.bit, _prune(node.left, sides[0]), _prune(node.right, sides[1]))


def _parts(node: _Node) -> Iterator[StatePart]:
    match node:
        case _Branch():
            yield node.bit
            yield from _parts(node.left)
            yield from _parts(node.right)
        case _Leaf():
            yield StateLeaf(node.key, node.cell)
        case _Stub():
            yield node.digest


def _grow(parts: Iterator[StatePart], above: int) -> _Node:
    """The node that ``parts`` begin with; bits rise, so it is at most 256 levels deep."""
    match next(parts):
        case StateLeaf(key, digest):
            return _Leaf(key, digest)
        case bytes(digest):
            return _Stub(digest)
        case bit:
            if not above < bit < _BITS:
                raise MalformedMessage(f"state tree: bit {bit} below bit {above}")
            return _Branch(bit, _grow(parts, bit), _grow(parts, bit))


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

    @classmethod
    def of_parts(cls, parts: Iterator[StatePart]) -> StateTree:
        """The tree that ``parts`` (untrusted) began with; takes no more of them than it needs.

        Raises:
            MalformedMessage: A bit that is not below the one over it.
        """
        return cls(_grow(parts, -1))

    @property
    def root(self) -> bytes:
        """32 bytes; all zero when empty. Cost: hashes what changed since it was last asked."""
        return EMPTY_STATE if self._top is None else self._top.digest

    def put(self, key: bytes, digest: bytes) -> StateTree:
        """The tree in which ``key`` has ``digest``.

        Raises:
            LeftOut: The tree is partial.

        Cost: O(levels), no hashing until the root is asked.
        """
        leaf = _Leaf(key, digest)
        if self._top is None:
            return StateTree(leaf)
        passed, met = _way(self._top, key)
        bit = _split(met.key, key)
        old: _Node = met
        while passed and passed[-1].bit > bit:
            old = passed.pop()
        new: _Node = leaf
        if bit < _BITS:
            new = _Branch(bit, old, leaf) if _side(key, bit) else _Branch(bit, leaf, old)
        for branch in reversed(passed):
            left, right = (new, branch.right) if branch.left is old else (branch.left, new)
            old, new = branch, _Branch(branch.bit, left, right)
        return StateTree(new)

    def find(self, key: bytes) -> bytes | None:
        """The digest of the cell under ``key``, or ``None`` if it has none.

        Raises:
            LeftOut: The tree is partial.
        """
        if self._top is None:
            return None
        leaf = _nearest(self._top, key)
        return leaf.cell if leaf.key == key else None

    def pruned(self, keys: Iterable[bytes]) -> StateTree:
        """Only what finding and putting ``keys`` needs, under the same root."""
        return self if self._top is None else StateTree(_prune(self._top, list(keys)))

    def parts(self) -> Iterator[StatePart]:
        """The tree node by node, as ``of_parts`` takes it; nothing if it is empty."""
        return iter(()) if self._top is None else _parts(self._top)

    def build_proof(self, key: bytes) -> tuple[StateLeaf, list[StateStep]]:
        """Where the bits of ``key`` lead, and the way there, root first.

        The leaf is the key's own if it is there; any other proves that it is not.

        Raises:
            NotFound: ``empty_state``: the tree is; ``left_out``: it is partial.
        """
        if self._top is None:
            raise NotFound("the state is empty", code="empty_state")
        leaf, node, steps = _nearest(self._top, key), self._top, list[StateStep]()
        while isinstance(node, _Branch):
            taken, beside = node.left, node.right
            if _side(key, node.bit):
                taken, beside = beside, taken
            steps.append(StateStep(node.bit, beside.digest))
            node = taken
        return StateLeaf(leaf.key, leaf.cell), steps


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
    digest = _leaf(*leaf)
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
