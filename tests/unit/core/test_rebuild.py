"""Shards and leaves made again from others, without a key that opens content."""

from __future__ import annotations

import itertools
import random

import pytest

from dsn.core.cipher import mask_stream
from dsn.core.erasure import Erasure
from dsn.core.layout import SegmentLayout
from dsn.core.merkle import ShardHasher
from dsn.core.rebuild import SegmentRebuilder, rebuild_scratch_bytes, restore_range
from dsn.core.segment import SegmentEncoder, SegmentKeys, bands
from dsn.errors import ShardCorrupt
from dsn.kernels import isal
from dsn.units import FRAME_BYTES, LEAF_BYTES

SALT, MASK = b"s" * 16, b"m" * 16
SEALING = SegmentKeys(b"c" * 32, MASK, 3, SALT, True)
PLACING = SegmentKeys(b"", MASK, 3, SALT, False)


class Sealed:
    """A segment as its nodes hold it."""

    def __init__(self, required: int, total: int, size: int, seed: int) -> None:
        plain = random.Random(seed).randbytes(size)
        self.erasure = Erasure(required, total, isal.load())
        self.layout = SegmentLayout(required, size)
        data = memoryview(bytearray(required * self.layout.shard_bytes))
        parity = memoryview(bytearray((total - required) * FRAME_BYTES))
        encoder = SegmentEncoder(SEALING, self.layout, self.erasure, data, parity)
        parts: list[list[bytes]] = [[] for _ in range(total)]
        for start, end in self.bands:
            first, stop = encoder.plain_range(start, end)
            for part, frame in zip(
                parts, encoder.band(start, end, memoryview(plain)[first:stop]), strict=True
            ):
                part.append(frame)
        self.shards, self.hash = [b"".join(part) for part in parts], encoder.digest()

    @property
    def bands(self) -> list[tuple[int, int]]:
        return list(bands(0, self.layout.shard_bytes))

    def remasked(self, index: int, generation: int) -> bytes:
        """A shard as its next holder has to have it."""
        old = mask_stream(MASK, SALT, 3, index, 0).update(self.shards[index])
        return mask_stream(MASK, SALT, 3, index, generation).update(old)

    def rebuild(
        self, have: dict[int, bytes], wanted: dict[int, int]
    ) -> tuple[SegmentRebuilder, dict[int, bytes]]:
        need = rebuild_scratch_bytes(self.erasure.required, len(wanted))
        rebuilder = SegmentRebuilder(
            PLACING, self.layout, self.erasure, memoryview(bytearray(need)), wanted
        )
        made: dict[int, bytes] = dict.fromkeys(sorted(wanted), b"")
        for start, end in self.bands:
            frames = {index: shard[start:end] for index, shard in have.items()}
            out = rebuilder.band(start, end, frames, [0] * self.erasure.total)
            made = {i: made[i] + frame for i, frame in zip(made, out, strict=True)}
        return rebuilder, made


SIZES = (1, 65_520, 65_521, 700_000, 3_333_333)


@pytest.mark.parametrize("size", SIZES)
def test_any_lost_shards_come_back_from_any_others(size: int) -> None:
    sealed = Sealed(2, 4, size, seed=size)
    for have in itertools.combinations(range(4), 2):
        wanted = {index: index + 5 for index in range(4) if index not in have}
        rebuilder, made = sealed.rebuild({i: sealed.shards[i] for i in have}, wanted)
        rebuilder.verify(sealed.hash)
        assert made == {i: sealed.remasked(i, g) for i, g in wanted.items()}, f"from {have}"
        assert rebuilder.commits() == {i: ShardHasher.over(d).commit() for i, d in made.items()}


@pytest.mark.parametrize("index", [0, 1, 2, 3])
def test_one_wrong_byte_is_seen_before_anything_is_signed_for(index: int) -> None:
    sealed = Sealed(2, 4, 700_000, seed=7)
    other = (index + 1) % 4
    bad = bytearray(sealed.shards[index])
    bad[len(bad) // 2] ^= 1
    lost = next(i for i in range(4) if i not in (index, other))
    rebuilder, _ = sealed.rebuild({index: bytes(bad), other: sealed.shards[other]}, {lost: 1})
    with pytest.raises(ShardCorrupt):
        rebuilder.verify(sealed.hash)


def restored(sealed: Sealed, ranges: dict[int, bytes], index: int, leaf: int) -> bytes | None:
    generations = [0] * sealed.erasure.total
    return restore_range(PLACING, sealed.erasure, ranges, generations, index, leaf * LEAF_BYTES)


def leaf_of(sealed: Sealed, index: int, leaf: int) -> bytes:
    return sealed.shards[index][leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]


@pytest.mark.parametrize("seed", range(8))
def test_a_leaf_comes_back_from_the_same_leaves_of_others(seed: int) -> None:
    rng, sealed = random.Random(seed), Sealed(3, 6, 900_000, seed)
    index, leaf = rng.randrange(6), rng.randrange(sealed.layout.leaf_count)
    others = rng.sample([i for i in range(6) if i != index], rng.randint(3, 5))
    ranges = {i: leaf_of(sealed, i, leaf) for i in others}
    assert restored(sealed, ranges, index, leaf) == leaf_of(sealed, index, leaf), f"seed {seed}"


@pytest.mark.parametrize("rotten", range(5))
def test_one_rotten_leaf_among_the_others_does_not_matter(rotten: int) -> None:
    sealed = Sealed(3, 6, 900_000, seed=1)
    ranges = {i: leaf_of(sealed, i, 4) for i in range(5)}
    ranges[rotten] = bytes(LEAF_BYTES)
    assert restored(sealed, ranges, 5, 4) == leaf_of(sealed, 5, 4)


def test_leaves_that_contradict_each_other_give_none() -> None:
    sealed = Sealed(3, 6, 900_000, seed=2)
    ranges = {i: leaf_of(sealed, i, 0) for i in range(4)}
    ranges[2] = bytes(LEAF_BYTES)
    assert restored(sealed, ranges, 5, 0) is None
    assert restored(sealed, dict(list(ranges.items())[:2]), 5, 0) is None, "too few"
