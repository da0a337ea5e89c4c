"""A segment goes out and comes back, whatever its size, whichever shards are lost."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsn.core.erasure import Erasure
from dsn.core.layout import Scheme, SegmentLayout
from dsn.core.merkle import ShardHasher
from dsn.core.segment import SegmentDecoder, SegmentEncoder, SegmentKeys, bands
from dsn.errors import ShardCorrupt
from dsn.kernels import isal
from dsn.units import FRAME_BYTES, MIB, SYMBOL_BYTES, SYMBOL_PLAIN_BYTES

SCHEMES = (Scheme(1, 1), Scheme(1, 3), Scheme(2, 3), Scheme(4, 6), Scheme(3, 10))
SIZES = st.one_of(
    st.integers(1, 5_000),
    st.integers(60_000, 400_000),
    st.sampled_from([SYMBOL_PLAIN_BYTES * k + d for k in (1, 2, 3, 4, 8, 48) for d in (-1, 0, 1)]),
    st.integers(3 * MIB, 5 * MIB),
)


def _keys(final: bool = True) -> SegmentKeys:
    return SegmentKeys(b"c" * 32, b"m" * 16, 3, b"s" * 16, final)


def encode(
    scheme: Scheme, plain: bytes, keys: SegmentKeys
) -> tuple[SegmentEncoder, SegmentLayout, list[bytes]]:
    layout = SegmentLayout(scheme.required, len(plain))
    erasure = Erasure(scheme.required, scheme.total, isal.load())
    data = memoryview(bytearray(scheme.required * layout.shard_bytes))
    parity = memoryview(bytearray(scheme.total * FRAME_BYTES))
    encoder = SegmentEncoder(keys, layout, erasure, data, parity)
    shards: list[list[bytes]] = [[] for _ in range(scheme.total)]
    for start, end in bands(0, layout.shard_bytes):
        a, b = encoder.plain_range(start, end)
        for shard, frame in zip(
            shards, encoder.band(start, end, memoryview(plain)[a:b]), strict=True
        ):
            shard.append(frame)
    return encoder, layout, [b"".join(parts) for parts in shards]


def decode(
    scheme: Scheme,
    layout: SegmentLayout,
    keys: SegmentKeys,
    shards: dict[int, bytes],
    digest: bytes,
    generations: list[int],
    first: int = FRAME_BYTES,
) -> bytes:
    erasure = Erasure(scheme.required, scheme.total, isal.load())
    scratch = memoryview(bytearray(2 * scheme.required * FRAME_BYTES))
    decoder = SegmentDecoder(keys, layout, erasure, scratch)
    out = bytearray(layout.plain_bytes)
    at = 0
    for start, end in bands(0, layout.shard_bytes, first):
        frames = {index: shard[start:end] for index, shard in shards.items()}
        decoder.gather(start, end, frames, generations, range(scheme.required))
        decoder.digest_band()
        at += decoder.open(*decoder.symbols(), memoryview(out)[at:])
    decoder.verify(digest)
    assert at == len(out)
    return bytes(out)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(SCHEMES),
    SIZES,
    st.integers(0, 2**32),
    st.booleans(),
    st.sampled_from([SYMBOL_BYTES, FRAME_BYTES]),
)
def test_any_required_shards_give_the_segment_back(
    scheme: Scheme, size: int, seed: int, final: bool, first: int
) -> None:
    rng, keys = random.Random(seed), _keys(final)
    plain = rng.randbytes(size)
    encoder, layout, shards = encode(scheme, plain, keys)
    assert all(len(shard) == layout.shard_bytes for shard in shards)
    assert [ShardHasher.over(shard).commit() for shard in shards] == encoder.commits()
    kept = {i: shards[i] for i in rng.sample(range(scheme.total), scheme.required)}
    generations = [0] * scheme.total
    assert decode(scheme, layout, keys, kept, encoder.digest(), generations, first) == plain


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SCHEMES), SIZES, st.integers(0, 2**32))
def test_a_row_made_again_is_the_same_shard_under_another_mask(
    scheme: Scheme, size: int, seed: int
) -> None:
    rng, keys = random.Random(seed), _keys()
    plain = rng.randbytes(size)
    encoder, layout, shards = encode(scheme, plain, keys)
    index = rng.randrange(scheme.total)
    same, other = ShardHasher(), ShardHasher()
    assert b"".join(encoder.row(index, 0, same)) == shards[index]
    moved = b"".join(encoder.row(index, 1, other))
    assert moved != shards[index]
    assert same.commit() == encoder.commits()[index] != other.commit()
    kept = {i: shards[i] for i in range(scheme.total) if i != index}
    chosen = dict(rng.sample(sorted(kept.items()), scheme.required - 1)) | {index: moved}
    generations = [int(i == index) for i in range(scheme.total)]
    assert decode(scheme, layout, keys, chosen, encoder.digest(), generations) == plain


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SCHEMES), SIZES, st.integers(0, 2**32))
def test_sealing_again_under_the_same_salt_gives_the_same_digest(
    scheme: Scheme, size: int, seed: int
) -> None:
    plain = random.Random(seed).randbytes(size)
    encoder, layout, _ = encode(scheme, plain, _keys())
    erasure = Erasure(scheme.required, scheme.total, isal.load())
    data = memoryview(bytearray(scheme.required * layout.shard_bytes))
    again = SegmentEncoder(_keys(), layout, erasure, data, memoryview(b""))
    for start, end in bands(0, layout.shard_bytes):
        a, b = again.plain_range(start, end)
        again.seal(start, end, memoryview(plain)[a:b])
    assert again.digest() == encoder.digest()


@settings(max_examples=25, deadline=None)
@given(SIZES, st.integers(0, 2**32))
def test_a_flipped_bit_never_passes(size: int, seed: int) -> None:
    scheme, rng, keys = Scheme(2, 3), random.Random(seed), _keys()
    encoder, layout, shards = encode(scheme, rng.randbytes(size), keys)
    at = rng.randrange(min(layout.shard_bytes, -(-layout.cipher_bytes // scheme.required)))
    flipped = bytearray(shards[0])
    flipped[at] ^= 1 << rng.randrange(8)
    kept = {0: bytes(flipped), 2: shards[2]}
    with pytest.raises(ShardCorrupt):
        decode(scheme, layout, keys, kept, encoder.digest(), [0, 0, 0])


def test_another_last_flag_does_not_open() -> None:
    """A truncated file's new last symbol was not sealed as one."""
    scheme = Scheme(1, 1)
    encoder, layout, shards = encode(scheme, b"x" * 1000, _keys(final=False))
    with pytest.raises(ShardCorrupt):
        decode(scheme, layout, _keys(final=True), {0: shards[0]}, encoder.digest(), [0])


@given(st.integers(0, 64), st.integers(0, 40), st.sampled_from([65_536, 262_144, 1_048_576]))
def test_bands_cover_everything_once_and_keep_rows_whole(
    start: int, length: int, first: int
) -> None:
    begin, end = start * SYMBOL_BYTES, start * SYMBOL_BYTES + length * 50_000
    cut = list(bands(begin, end, first))
    assert [a for a, _ in cut] == [begin, *(b for _, b in cut[:-1])][: len(cut)]
    assert (cut[-1][1] if cut else begin) == max(begin, end)
    assert all(b - a <= FRAME_BYTES and b % SYMBOL_BYTES == 0 for a, b in cut[:-1])
