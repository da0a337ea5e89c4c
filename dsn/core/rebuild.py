"""Lost shards and rotten leaves made again from others: no key that opens content is needed.

What was decoded is compared with the segment's hash, so that bytes which only look right, under
a commit that somebody chose for them, are never passed on.

Spec: docs/spec/data.md#repair.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from dsn.core.cipher import mask_stream
from dsn.core.erasure import Erasure
from dsn.core.layout import SegmentLayout
from dsn.core.merkle import ShardHasher
from dsn.core.segment import SegmentDecoder, SegmentKeys
from dsn.ids import Commit
from dsn.units import FRAME_BYTES

MOST_SUBSETS: Final = 64
"""Sets of shards that a leaf is decoded from before they count as contradictory."""


def rebuild_scratch_bytes(required: int, wanted: int) -> int:
    """Scratch space to make ``wanted`` shards out of ``required`` others."""
    return (2 * required + wanted) * FRAME_BYTES


class SegmentRebuilder(SegmentDecoder):
    """Masked shards of one segment in, its lost ones out under new generations, band by band."""

    def __init__(
        self,
        keys: SegmentKeys,
        layout: SegmentLayout,
        erasure: Erasure,
        scratch: memoryview,
        wanted: Mapping[int, int],
    ) -> None:
        """Prepare to make the shards ``wanted``.

        Args:
            keys: What masks; its content key is not used.
            layout: The segment's arithmetic.
            erasure: The code.
            scratch: Writable, at least ``rebuild_scratch_bytes(required, len(wanted))`` bytes.
            wanted: The generation to mask each lost shard for, by index.
        """
        half = 2 * erasure.required * FRAME_BYTES
        super().__init__(keys, layout, erasure, scratch[:half])
        self._made = scratch[half:]
        self._wanted = tuple(sorted(wanted))
        self._parity = tuple(index for index in self._wanted if index >= erasure.required)
        self._masks = [
            mask_stream(keys.mask_key, keys.salt, keys.number, index, wanted[index])
            for index in self._wanted
        ]
        self._trees = [ShardHasher() for _ in self._wanted]

    def band(
        self, start: int, end: int, frames: Mapping[int, bytes], generations: Sequence[int]
    ) -> list[bytes]:
        """The band's frame of every wanted shard, by index; every band, in order, once.

        Args:
            start: First byte of the band in every shard.
            end: End of the band.
            frames: Masked bytes by shard index (untrusted): all data shards, or any ``required``.
            generations: Of the mask of each shard at hand, by index.
        """
        required, width = self._erasure.required, end - start
        self.gather(start, end, frames, generations, range(required))
        self.digest_band()
        data = [self._row(j, start, end) for j in range(required)]
        made = [self._made[i * width : (i + 1) * width] for i in range(len(self._parity))]
        self._erasure.decode_plan(tuple(range(required)), self._parity).run(data, made)
        rows = dict(zip(self._parity, made, strict=True))
        out = []
        for index, mask, tree in zip(self._wanted, self._masks, self._trees, strict=True):
            frame = mask.update(rows[index] if index in rows else data[index])
            tree.update(frame)
            out.append(frame)
        return out

    def commits(self) -> dict[int, Commit]:
        """Of the wanted shards, by index; only after the last band."""
        return {index: tree.commit() for index, tree in zip(self._wanted, self._trees, strict=True)}


def restore_range(
    keys: SegmentKeys,
    erasure: Erasure,
    ranges: Mapping[int, bytes],
    generations: Sequence[int],
    index: int,
    start: int,
) -> bytes | None:
    """The masked bytes of shard ``index``, as others' same bytes give them.

    Any one of ``ranges`` may be rotten, too: what is decoded has to agree with one more shard
    than it was decoded from, as far as there is one.

    Args:
        keys: What masks.
        erasure: The code.
        ranges: Masked bytes by shard index (untrusted), equally many, at least ``required``.
        generations: Of the mask of each shard, by index.
        index: The shard to restore; not in ``ranges``.
        start: Where the bytes lie in every shard, a multiple of 16.

    Returns:
        ``None`` if no ``required`` of them agree with another.
    """

    def masked(shard: int, data: bytes | memoryview) -> bytes:
        generation = generations[shard]
        return mask_stream(keys.mask_key, keys.salt, keys.number, shard, generation, start).update(
            data
        )

    plain = {shard: masked(shard, data) for shard, data in ranges.items()}
    for have in _subsets(sorted(plain), erasure.required):
        others = tuple(shard for shard in plain if shard not in have)
        made = [memoryview(bytearray(len(plain[have[0]]))) for _ in (index, *others)]
        sources = [memoryview(plain[shard]) for shard in have]
        erasure.decode_plan(have, (index, *others)).run(sources, made)
        agreed = [made[1:][at] == plain[shard] for at, shard in enumerate(others)]
        if any(agreed) or not others:
            return masked(index, made[0])
    return None


def _subsets(indices: Sequence[int], required: int) -> Iterator[tuple[int, ...]]:
    return itertools.islice(itertools.combinations(indices, required), MOST_SUBSETS)
