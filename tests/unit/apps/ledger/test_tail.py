"""The end of a log grows as the whole log would, and is loaded from what a store keeps."""

from __future__ import annotations

from random import Random, SystemRandom

import pytest

from dsn.apps.ledger.tail import NO_LOG, LogTail, hashes_after
from dsn.core.hashing import HASH_BYTES
from dsn.ledger.log import Frontier
from dsn.ledger.tiles import Tile, build_tile, grown_tiles
from tests.support.ledger_stores import START, leaf

SIZE = 66_000
"""Beyond a full tile of level 1."""


class Kept:
    """The tiles of a log, as a store keeps them."""

    def __init__(self) -> None:
        self.tiles: dict[tuple[int, int], bytes] = {}

    def put(self, tiles: dict[Tile, bytes]) -> None:
        for tile, raw in tiles.items():
            assert len(raw) == tile.width * HASH_BYTES
            before = self.tiles.get((tile.level, tile.index), b"")
            assert raw.startswith(before) and len(raw) > len(before)
            self.tiles[tile.level, tile.index] = raw

    def read(self, tile: Tile) -> bytes:
        return self.tiles[tile.level, tile.index][: tile.width * HASH_BYTES]


def test_tiles_grow_as_the_whole_log_has_them() -> None:
    """In steps of any size, with a restart from the tiles after every other."""
    seed = SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    random, kept, tail = Random(seed), Kept(), NO_LOG
    leaves = [leaf(number) for number in range(SIZE)]
    batch = START.batch(SIZE)
    hashes = START.after(batch).hashes.__getitem__
    while tail.head.size < SIZE:
        size = tail.head.size
        step = random.choice([1, 2, 255, 256, 257, 5_000, 60_000])
        tail, tiles = tail.extend(leaves[size : size + step])
        assert set(tiles) == set(grown_tiles(size, tail.head.size))
        kept.put(tiles)
        assert tail.head == Frontier.at(hashes, tail.head.size).head
        if random.random() < 0.5:
            tail = LogTail.load(kept.read, tail.head.size)
    assert tail.head == batch.head
    for tile in grown_tiles(0, SIZE):
        assert kept.read(tile) == build_tile(hashes, tile)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537])
def test_a_loaded_tail_is_the_one_that_grew(size: int) -> None:
    kept = Kept()
    grown, tiles = NO_LOG.extend(leaf(number) for number in range(size))
    kept.put(tiles)
    loaded = LogTail.load(kept.read, size)
    assert loaded.head == grown.head
    more = [leaf(size + at) for at in range(300)]
    assert loaded.extend(more)[0].head == grown.extend(more)[0].head
    assert loaded.extend(more)[1] == grown.extend(more)[1]


@pytest.mark.parametrize(("before", "after"), [(0, 1), (200, 300), (256, 257), (511, 700)])
def test_earlier_sizes_are_known_while_a_batch_is_pending(before: int, after: int) -> None:
    kept = Kept()
    tail, tiles = NO_LOG.extend(leaf(number) for number in range(before))
    kept.put(tiles)
    _, grown = tail.extend(leaf(number) for number in range(before, after))
    hashes = hashes_after(kept.read, grown, after)
    whole = START.after(START.batch(after)).hashes.__getitem__
    for size in range(after + 1):
        assert Frontier.at(hashes, size) == Frontier.at(whole, size)
