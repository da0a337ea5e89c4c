"""The sum tree against a sorted dictionary and the design's own recursive definition."""

from __future__ import annotations

import hashlib
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dsn.errors import MalformedMessage, NotFound
from dsn.proofs.inventory import EMPTY, Located, SumTree

Entries = dict[bytes, tuple[bytes, int]]

BASE = int.from_bytes(hashlib.sha256(b"base").digest(), "big")
keys = st.one_of(
    st.integers(0, 255).map(lambda bit: (BASE ^ 1 << bit).to_bytes(32, "big")),
    st.integers(0, 15).map(lambda low: low.to_bytes(32, "big")),
    st.binary(min_size=32, max_size=32),
)
leaves = st.integers(0, 255).map(lambda n: hashlib.sha256(bytes([n])).digest())
weights = st.one_of(st.integers(1, 4), st.integers(1, 1 << 55))


def defined(entries: Entries) -> tuple[bytes, int]:
    """Root and total, word by word as the design says."""

    def split(some: list[bytes], bit: int) -> tuple[bytes, int]:
        if len(some) == 1:
            return entries[some[0]]
        left = [key for key in some if not key[bit // 8] >> (7 - bit % 8) & 1]
        right = [key for key in some if key not in left]
        if not left or not right:
            return split(some, bit + 1)
        (a, a_sum), (b, b_sum) = split(left, bit + 1), split(right, bit + 1)
        body = a_sum.to_bytes(8, "big") + a + b_sum.to_bytes(8, "big") + b
        return hashlib.sha256(b"dsn/sum/v1".ljust(16, b"\0") + body).digest(), a_sum + b_sum

    return split(sorted(entries), 0) if entries else (bytes(32), 0)


def climbed(found: Located, entries: Entries, total: int, index: int) -> bytes:
    """The root that the steps lead to, sides and sums derived as a verifier does."""
    sides = []
    for left_sum, sibling in found.steps:
        right = index >= left_sum
        sides.append((right, left_sum, total - left_sum, sibling))
        total, index = (total - left_sum, index - left_sum) if right else (left_sum, index)
    digest, weight = entries[found.key]
    assert (total, index) == (weight, found.offset)
    for right, left_sum, right_sum, sibling in reversed(sides):
        left, other = (sibling, digest) if right else (digest, sibling)
        body = left_sum.to_bytes(8, "big") + left + right_sum.to_bytes(8, "big") + other
        digest = hashlib.sha256(b"dsn/sum/v1".ljust(16, b"\0") + body).digest()
    return digest


class SumTrees(RuleBasedStateMachine):
    """Grow and shrink one tree beside its model; older trees must not change under it."""

    known = Bundle("known")

    @initialize()
    def start(self) -> None:
        self.tree = EMPTY
        self.model: Entries = {}
        self.older: list[tuple[SumTree, Entries]] = []

    @rule(target=known, key=keys, leaf=leaves, weight=weights)
    def put(self, key: bytes, leaf: bytes, weight: int) -> bytes:
        self.older.append((self.tree, dict(self.model)))
        if self.model.get(key, (leaf, weight)) != (leaf, weight):
            with pytest.raises(MalformedMessage):
                self.tree.insert(key, leaf, weight)
        else:
            self.tree = self.tree.insert(key, leaf, weight)
            self.model[key] = (leaf, weight)
        return key

    @rule(key=known, leaf=leaves, weight=weights)
    def replace(self, key: bytes, leaf: bytes, weight: int) -> None:
        self.older.append((self.tree, dict(self.model)))
        self.tree = self.tree.replace(key, leaf, weight)
        self.model[key] = (leaf, weight)

    @rule(key=st.one_of(known, keys))
    def remove(self, key: bytes) -> None:
        self.older.append((self.tree, dict(self.model)))
        if key in self.model:
            self.tree = self.tree.remove(key)
            del self.model[key]
        else:
            with pytest.raises(NotFound):
                self.tree.remove(key)

    @rule(fraction=st.floats(0, 1, exclude_max=True))
    def locate(self, fraction: float) -> None:
        total = self.tree.total
        if total:
            index = int(fraction * total)
            found = self.tree.locate(index)
            before = sum(w for key, (_, w) in self.model.items() if key < found.key)
            assert index == before + found.offset < before + self.model[found.key][1]
            assert climbed(found, self.model, total, index) == self.tree.root

    @invariant()
    def agree(self) -> None:
        assert (self.tree.root, self.tree.total) == defined(self.model)
        assert self.tree.count == len(self.model)
        assert list(self.tree) == [(key, self.model[key][1]) for key in sorted(self.model)]

    def teardown(self) -> None:
        for tree, model in self.older:
            assert (tree.root, tree.total) == defined(model)


def test_the_tree_is_its_model_and_never_changes() -> None:
    run_state_machine_as_test(
        SumTrees, settings=settings(max_examples=40, stateful_step_count=25, deadline=None)
    )


@settings(max_examples=60)
@given(st.dictionaries(keys, st.tuples(leaves, weights), max_size=40), st.randoms())
def test_built_at_once_and_grown_in_any_order_are_one_tree(
    entries: Entries, random: Random
) -> None:
    listed = [(key, leaf, weight) for key, (leaf, weight) in entries.items()]
    random.shuffle(listed)
    grown = EMPTY
    for entry in listed:
        grown = grown.insert(*entry)
    built = SumTree.build(listed + listed[: len(listed) // 2])
    assert (built.root, built.total) == (grown.root, grown.total) == defined(entries)
