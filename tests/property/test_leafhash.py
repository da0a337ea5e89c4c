"""Every kernel gives the same tree over any bytes, and a changed byte changes it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsn.kernels import leafhash
from dsn.kernels.leafhash import Subtree
from tests.support import shard_tree

KERNELS = leafhash.implementations()
EVERY_KERNEL = pytest.mark.parametrize("name", KERNELS)


@settings(max_examples=60)
@given(st.integers(1, 300_000), st.integers(0, 15), st.integers(0, 9))
def test_kernels_agree_wherever_the_bytes_lie(length: int, offset: int, seed: int) -> None:
    data = memoryview(random.Random(seed).randbytes(offset + length))[offset:]
    hashes = shard_tree.leaf_hashes(bytes(data))
    expected = Subtree(shard_tree.root(hashes), shard_tree.groups(hashes))
    for kernel in KERNELS.values():
        assert kernel.leaves(data) == b"".join(hashes)
        assert kernel.subtree(data) == expected


@EVERY_KERNEL
@settings(max_examples=40)
@given(st.data())
def test_every_bit_counts_and_only_where_it_lies(name: str, choice: st.DataObject) -> None:
    length = choice.draw(st.integers(1, 150_000))
    bit = choice.draw(st.integers(0, 8 * length - 1))
    data = bytearray(random.Random(length).randbytes(length))
    before, leaves = KERNELS[name].subtree(data), KERNELS[name].leaves(data)
    data[bit // 8] ^= 1 << bit % 8
    after, changed = KERNELS[name].subtree(data), KERNELS[name].leaves(data)
    assert after.root != before.root
    assert differing(before.groups, after.groups) == [bit // 8 // 65_536]
    assert differing(leaves, changed) == [bit // 8 // 1_024]


def differing(left: bytes, right: bytes) -> list[int]:
    assert len(left) == len(right)
    return [at // 32 for at in range(0, len(left), 32) if left[at : at + 32] != right[at : at + 32]]


@EVERY_KERNEL
@given(st.binary(min_size=1, max_size=4_000))
def test_padding_with_zeros_to_a_whole_leaf_changes_nothing(name: str, data: bytes) -> None:
    padded = data.ljust(-(-len(data) // 1_024) * 1_024, b"\0")
    assert KERNELS[name].subtree(data) == KERNELS[name].subtree(padded)
