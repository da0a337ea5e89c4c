from __future__ import annotations

import itertools
from hashlib import sha256

import pytest

from dsn.errors import MalformedMessage, NotFound
from dsn.ledger.log import Frontier, Subtree, build_consistency_proof, build_inclusion_proof
from dsn.ledger.tiles import (
    TILE_WIDTH,
    Bundle,
    Resource,
    Tile,
    build_tile,
    check_exists,
    decode_bundle,
    encode_bundle,
    format_path,
    grown_tiles,
    hashes_of_tiles,
    parse_path,
)
from tests.support.ledger_log import counted

SIZE = 70_000
LOG = counted(SIZE)
TILES = {tile: build_tile(LOG.hashes, tile) for tile in grown_tiles(0, SIZE)}
PATHS = [
    (Tile(0, 0), "tile/0/000"),
    (Tile(0, 0, 1), "tile/0/000.p/1"),
    (Tile(1, 999, 255), "tile/1/999.p/255"),
    (Tile(7, 1000), "tile/7/x001/000"),
    (Tile(0, 1234067), "tile/0/x001/x234/067"),
    (Bundle(0), "tile/entries/000"),
    (Bundle(1234067, 12), "tile/entries/x001/x234/067.p/12"),
    (Tile(0, (1 << 63) - 1 >> 8), "tile/0/x036/x028/x797/x018/x963/967"),
]


@pytest.mark.parametrize(("resource", "path"), PATHS)
def test_paths_are_the_standards(resource: Resource, path: str) -> None:
    assert format_path(resource) == path
    assert parse_path(path) == resource


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile/0",
        "/tile/0/000",
        "tile/0/000/",
        "tile/8/000",
        "tile/00/000",
        "tile/-1/000",
        "tile/data/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000/000",
        "tile/0/x001",
        "tile/0/001/000",
        "tile/0/x001/x000",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/999",
        "tile/0/000.p/",
        "tile/0/000.p/1/",
        "tile/0/000\n",
        "tile/0/../checkpoint",
        "tile/0/" + "x001/" * 7 + "000",
        "tile/0/\N{ARABIC-INDIC DIGIT ZERO}00",
    ],
)
def test_any_other_path_is_refused(path: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        parse_path(path)
    assert refused.value.detail_code == "bad_tile_path"


def test_a_log_of_seventy_thousand_has_the_tiles_of_the_standards_example() -> None:
    found = [(t.level, t.width) for t in TILES]
    assert found == [(0, 256)] * 273 + [(0, 112), (1, 256), (1, 17), (2, 1)]


def test_a_log_of_a_full_tile_has_a_partial_one_above() -> None:
    assert list(grown_tiles(0, 256)) == [Tile(0, 0), Tile(1, 0, 1)]


@pytest.mark.parametrize(
    ("old", "new", "tiles"),
    [
        (0, 0, []),
        (5, 5, []),
        (0, 1, [Tile(0, 0, 1)]),
        (5, 9, [Tile(0, 0, 9)]),
        (250, 256, [Tile(0, 0), Tile(1, 0, 1)]),
        (256, 257, [Tile(0, 1, 1)]),
        (250, 520, [Tile(0, 0), Tile(0, 1), Tile(0, 2, 8), Tile(1, 0, 2)]),
    ],
)
def test_growth_names_what_is_new(old: int, new: int, tiles: list[Tile]) -> None:
    assert list(grown_tiles(old, new)) == tiles


def test_growing_step_by_step_leaves_the_same_tiles() -> None:
    sizes = [0, 1, 255, 256, 257, 5_000, 65_535, 65_536, 65_537, SIZE]
    kept: dict[tuple[int, int], Tile] = {}
    for old, new in itertools.pairwise(sizes):
        kept |= {(tile.level, tile.index): tile for tile in grown_tiles(old, new)}
    assert set(kept.values()) == set(TILES)


def test_the_largest_log_has_tiles_on_eight_levels() -> None:
    size = (1 << 63) - 1
    assert {tile.level for tile in grown_tiles(size - 1, size)} == {0}
    assert next(grown_tiles(size - 1, size)) == Tile(0, size >> 8, 255)
    check_exists(Tile(7, 0, 127), size)


@pytest.mark.parametrize(
    "resource",
    [
        Tile(0, 274),
        Tile(0, 273),
        Tile(0, 273, 113),
        Tile(1, 1, 18),
        Tile(2, 0, 2),
        Tile(3, 0, 1),
        Bundle(273),
        Bundle(274, 1),
        Tile(0, 0, 0),
        Tile(0, 0, 257),
    ],
)
def test_a_tile_beyond_the_log_is_not_there(resource: Resource) -> None:
    with pytest.raises(NotFound) as refused:
        check_exists(resource, SIZE)
    assert refused.value.detail_code == "no_such_tile"


def test_every_tile_of_the_log_and_every_narrower_one_is_there() -> None:
    for tile in TILES:
        check_exists(tile, SIZE)
    for resource in (Tile(0, 273, 1), Tile(0, 0, 7), Bundle(273, 112), Bundle(0), Tile(2, 0, 1)):
        check_exists(resource, SIZE)


def test_a_tile_is_the_hashes_of_its_height() -> None:
    assert TILES[Tile(0, 273, 112)][-32:] == LOG.hashes(Subtree(0, SIZE - 1))
    assert TILES[Tile(1, 1, 17)][:32] == LOG.hashes(Subtree(8, 256))
    assert TILES[Tile(2, 0, 1)] == LOG.hashes(Subtree(16, 0))


def test_every_subtree_comes_back_out_of_the_tiles() -> None:
    hashes = hashes_of_tiles(TILES.__getitem__, SIZE)
    for level in range(17):
        last = (SIZE >> level) - 1
        for number in {0, 1, last // 2, last - 1, last} & set(range(last + 1)):
            assert hashes(Subtree(level, number)) == LOG.hashes(Subtree(level, number))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 65_536, 65_537, SIZE])
def test_tiles_give_roots_and_proofs_of_every_earlier_size(size: int) -> None:
    hashes = hashes_of_tiles(TILES.__getitem__, SIZE)
    assert Frontier.at(hashes, size).head == LOG.head(size)
    for index in {0, size // 3, size - 1}:
        expected = build_inclusion_proof(LOG.hashes, index, size)
        assert build_inclusion_proof(hashes, index, size) == expected
    expected = build_consistency_proof(LOG.hashes, size, SIZE)
    assert build_consistency_proof(hashes, size, SIZE) == expected


def test_a_bundle_byte_by_byte() -> None:
    raw = encode_bundle([b"", b"ab", bytes(300)])
    assert raw == b"\0\0" + b"\0\2ab" + b"\1\x2c" + bytes(300)
    assert decode_bundle(raw, 3) == [b"", b"ab", bytes(300)]


def test_a_full_bundle_reads_back() -> None:
    leaves = [sha256(b"%d" % n).digest()[: n % 33] for n in range(TILE_WIDTH)]
    assert decode_bundle(encode_bundle(leaves), TILE_WIDTH) == leaves


@pytest.mark.parametrize(
    ("raw", "width"), [(b"", 1), (b"\0", 1), (b"\0\2a", 1), (b"\0\1a", 2), (b"\0\1a\0\0", 1)]
)
def test_a_bundle_of_more_or_less_is_malformed(raw: bytes, width: int) -> None:
    with pytest.raises(MalformedMessage):
        decode_bundle(raw, width)
