"""Shard trees of any size: frames, groups and paths tell one story."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsn.core.cipher import mask_stream
from dsn.core.merkle import (
    ShardHasher,
    build_path,
    leaf_hash,
    root_of_groups,
    verify_path,
)
from dsn.errors import InvalidProof
from dsn.kernels import leafhash
from dsn.units import FRAME_BYTES, GROUP_LEAVES, LEAF_BYTES, leaf_count

NOISE = mask_stream(bytes(16), bytes(16), 0, 0, 0).update(bytes(3 * FRAME_BYTES))
SIZES = (
    st.integers(1, 70 * LEAF_BYTES)
    | st.builds(
        lambda n, d: max(1, n * GROUP_LEAVES * LEAF_BYTES + d),
        st.integers(0, 40),
        st.integers(-2, 2),
    )
    | st.integers(1, len(NOISE))
)


@settings(max_examples=40)
@given(SIZES, st.data())
def test_every_leaf_of_every_shard_opens(size: int, data: st.DataObject) -> None:
    shard = memoryview(NOISE)[:size]
    hasher, count = ShardHasher.over(shard), leaf_count(size)
    root = hasher.root()
    assert root_of_groups(hasher.groups(), count) == root
    index = data.draw(st.integers(0, count - 1))
    start = index // GROUP_LEAVES * GROUP_LEAVES * LEAF_BYTES
    group = leafhash.leaves(shard[start : start + GROUP_LEAVES * LEAF_BYTES])
    path = build_path(hasher.groups(), count, index, group)
    leaf = leaf_hash(shard[index * LEAF_BYTES : (index + 1) * LEAF_BYTES])
    verify_path(root, index, count, leaf, path)

    other = data.draw(st.integers(0, count - 1))
    changed = [bytes(32) if at == other % len(path) else step for at, step in enumerate(path)]
    if path:
        with pytest.raises(InvalidProof):
            verify_path(root, index, count, leaf, changed)
    if other != index:
        with pytest.raises(InvalidProof):
            verify_path(root, other, count, leaf, path)


@settings(max_examples=20)
@given(st.integers(1, len(NOISE)), st.integers(0, len(NOISE) - 1), st.integers(1, 255))
def test_every_byte_counts(size: int, at: int, flip: int) -> None:
    shard = bytearray(NOISE[:size])
    commit = ShardHasher.over(shard).commit()
    shard[at % size] ^= flip
    assert ShardHasher.over(shard).commit() != commit
    assert ShardHasher.over(shard + b"\0").commit() != commit
