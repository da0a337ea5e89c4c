from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsn.core import tags
from dsn.core.hashing import sha256, tagged
from dsn.errors import InvalidProof, MalformedMessage, NotFound
from dsn.ledger.radix import (
    EMPTY_STATE,
    LeftOut,
    StateLeaf,
    StateStep,
    StateTree,
    verify_absence,
    verify_cell,
)
from tests.support.signing import refusal

near = st.binary(min_size=32, max_size=32) | st.integers(0, 40).map(lambda n: n.to_bytes(32, "big"))


def leaf(key: bytes) -> StateLeaf:
    return StateLeaf(key, sha256(b"digest" + key))


@dataclass
class Slow:
    """The definition: split at the first bit in which any two keys differ."""

    leaves: list[StateLeaf]

    def root(self) -> bytes:
        return self._root(sorted(self.leaves))

    def _root(self, leaves: list[StateLeaf]) -> bytes:
        if not leaves:
            return bytes(32)
        if len(leaves) == 1:
            return tagged(tags.CELL_LEAF, *leaves[0])
        bits = [f"{int.from_bytes(each.key, 'big'):0256b}" for each in leaves]
        bit = next(n for n in range(256) if bits[0][n] != bits[-1][n])
        left = [each for each, text in zip(leaves, bits, strict=True) if text[bit] == "0"]
        right = leaves[len(left) :]
        return tagged(tags.CELL_NODE, bytes([bit]), self._root(left), self._root(right))


@given(st.sets(near, max_size=12), st.randoms(use_true_random=False))
def test_the_root_is_as_defined_whatever_the_order(keys: set[bytes], rng: random.Random) -> None:
    leaves = [leaf(key) for key in sorted(keys)]
    expected = Slow(leaves).root()
    rng.shuffle(leaves)
    assert StateTree.build(leaves).root == expected
    tree = StateTree.build(StateLeaf(key, bytes(32)) for key in keys)
    assert StateTree.build(leaves).root == expected
    for each in leaves:
        tree = tree.put(*each)
    assert tree.root == expected


def test_nothing_has_the_zero_root() -> None:
    assert StateTree().root == EMPTY_STATE == bytes(32)
    with pytest.raises(NotFound):
        StateTree().build_proof(bytes(32))


def test_a_tree_is_not_changed_by_its_successors() -> None:
    first = StateTree.build([leaf(b"\1" * 32)])
    root = first.root
    assert first.put(*leaf(b"\2" * 32)).root != root
    assert first.put(b"\1" * 32, bytes(32)).root == tagged(tags.CELL_LEAF, b"\1" * 32, bytes(32))
    assert first.root == root


@given(st.sets(near, min_size=1, max_size=20), near)
def test_every_key_is_proven_there_or_absent(keys: set[bytes], key: bytes) -> None:
    tree = StateTree.build(map(leaf, keys))
    found, steps = tree.build_proof(key)
    verify_cell(tree.root, found, steps)
    if key in keys:
        assert found == leaf(key)
        assert refusal(lambda: verify_absence(tree.root, key, found, steps)) == "not_absent"
    else:
        verify_absence(tree.root, key, found, steps)


@given(st.sets(near, min_size=2, max_size=20), st.data())
def test_no_other_cell_is_proven(keys: set[bytes], data: st.DataObject) -> None:
    tree = StateTree.build(map(leaf, keys))
    key = data.draw(st.sampled_from(sorted(keys)))
    found, steps = tree.build_proof(key)
    at = data.draw(st.integers(0, len(steps) - 1))
    step = steps[at]
    bad = [
        (StateLeaf(key, sha256(b"richer")), steps),
        (found, steps[:at] + steps[at + 1 :]),
        (found, [*steps[:at], StateStep(step.bit, sha256(b"x")), *steps[at + 1 :]]),
        (found, [*steps[:at], StateStep(step.bit ^ 1, step.sibling), *steps[at + 1 :]]),
        (found, [*steps, steps[-1]]),
        (found, [*steps[:at], StateStep(step.bit, step.sibling[:-1]), *steps[at + 1 :]]),
    ]
    for wrong, way in bad:
        with pytest.raises(InvalidProof):
            verify_cell(tree.root, wrong, way)


@given(st.sets(near, min_size=2, max_size=20))
def test_a_key_that_is_there_cannot_be_denied(keys: set[bytes]) -> None:
    tree = StateTree.build(map(leaf, keys))
    proofs = [tree.build_proof(key) for key in keys]
    for key in keys:
        for found, steps in proofs:
            assert refusal(lambda f=found, s=steps, k=key: verify_absence(tree.root, k, f, s)) == (
                "not_absent"
            )


@given(st.sets(near, min_size=1, max_size=20), st.lists(near, max_size=4), st.data())
def test_a_partial_tree_knows_what_was_asked_for(
    keys: set[bytes], others: list[bytes], data: st.DataObject
) -> None:
    tree = StateTree.build(map(leaf, keys))
    asked = [*others, *data.draw(st.lists(st.sampled_from(sorted(keys)), max_size=3))]
    partial = StateTree.of_parts(tree.pruned(asked).parts())
    assert partial.root == tree.root
    for key in asked:
        assert partial.find(key) == (leaf(key).digest if key in keys else None)
    for key in asked:
        tree, partial = tree.put(key, sha256(key)), partial.put(key, sha256(key))
        assert partial.root == tree.root


@given(st.sets(near, min_size=2, max_size=20), near, near)
def test_a_partial_tree_says_nothing_of_the_rest(keys: set[bytes], key: bytes, it: bytes) -> None:
    tree = StateTree.build(map(leaf, keys))
    partial = tree.pruned([key])
    try:
        assert partial.find(it) == tree.find(it)
    except LeftOut:
        with pytest.raises(LeftOut):
            partial.put(it, bytes(32))
        with pytest.raises(LeftOut):
            partial.build_proof(it)
    nothing = tree.pruned([])
    assert list(nothing.parts()) == [nothing.root] == [tree.root]
    for each in keys:
        with pytest.raises(LeftOut):
            nothing.find(each)


def test_an_empty_tree_has_no_parts_and_no_cells() -> None:
    assert list(StateTree().pruned([bytes(32)]).parts()) == []
    assert StateTree().find(bytes(32)) is None


@pytest.mark.parametrize("bits", [(7, 7), (7, 3), (256,)])
def test_bits_that_do_not_rise_make_no_tree(bits: tuple[int, ...]) -> None:
    with pytest.raises(MalformedMessage):
        StateTree.of_parts(iter([*bits, bytes(32), bytes(32), bytes(32)]))


@given(st.sets(near, min_size=1, max_size=20), st.data())
def test_a_cell_never_passes_for_another_keys(keys: set[bytes], data: st.DataObject) -> None:
    """Neither to deny a cell, nor to show one where there is none."""
    tree = StateTree.build(map(leaf, keys))
    key = data.draw(st.sampled_from(sorted(keys)))
    found, steps = tree.build_proof(key)
    free = sorted(set(range(256)) - {step.bit for step in steps})
    bit = data.draw(st.sampled_from(free))
    other = (int.from_bytes(key, "big") ^ 1 << 255 - bit).to_bytes(32, "big")
    fake = StateLeaf(other, found.digest)
    assert refusal(lambda: verify_absence(tree.root, key, fake, steps)) == "state_root"
    assert refusal(lambda: verify_cell(tree.root, fake, steps)) == "state_root"
