"""Tiles: the log as files that never change, for caches, mirrors and other people's tools.

A hash tile is 256 hashes of one height, a bundle 256 leaves; the last ones of a log are partial.
A store that keeps the hash tiles can give every proof.

Spec: docs/spec/economy.md#tiles, C2SP tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from dsn.core.codec import U16_MAX, Reader
from dsn.core.hashing import HASH_BYTES
from dsn.errors import MalformedMessage, NotFound
from dsn.ledger.log import MAX_LOG_SIZE, Frontier, Hashes, Subtree

TILE_HEIGHT: Final = 8
"""Levels of the tree between one level of tiles and the next."""
TILE_WIDTH: Final = 1 << TILE_HEIGHT
MAX_TILE_LEVEL: Final = MAX_LOG_SIZE.bit_length() // TILE_HEIGHT
_PATH: Final = re.compile(r"tile/(entries|[0-7])/((?:x\d{3}/){0,6}\d{3})(?:\.p/([1-9]\d{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """Hashes ``[256 index, 256 index + width)`` at height ``8 level`` of the tree."""

    level: int
    index: int
    width: int = TILE_WIDTH


@dataclass(frozen=True, slots=True)
class Bundle:
    """Leaves ``[256 index, 256 index + width)``."""

    index: int
    width: int = TILE_WIDTH


Resource = Tile | Bundle
ReadTile = Callable[[Tile], bytes]
"""Gives a tile's hashes, one after another."""


def format_path(resource: Resource) -> str:
    """Where a resource stands below the log's address: ``tile/0/x001/x234/067.p/12``."""
    level = resource.level if isinstance(resource, Tile) else "entries"
    digits = f"{resource.index:03}"
    digits = digits.rjust(-(-len(digits) // 3) * 3, "0")
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    partial = f".p/{resource.width}" if resource.width < TILE_WIDTH else ""
    return f"tile/{level}/{'/'.join(['x' + each for each in groups[:-1]] + groups[-1:])}{partial}"


def parse_path(path: str) -> Resource:
    """Read what ``format_path`` wrote, and nothing else.

    Args:
        path: Untrusted.

    Raises:
        MalformedMessage: ``bad_tile_path``.
    """
    if match := _PATH.fullmatch(path):
        level, digits, partial = match.groups()
        index, width = int(re.sub("[x/]", "", digits)), int(partial or TILE_WIDTH)
        resource = Bundle(index, width) if level == "entries" else Tile(int(level), index, width)
        if format_path(resource) == path:
            return resource
    raise MalformedMessage(f"{path[:100]!r} is no tile's path", code="bad_tile_path")


def check_exists(resource: Resource, size: int) -> None:
    """Check that a log of ``size`` leaves has this resource (untrusted), whole.

    Raises:
        NotFound: ``no_such_tile``.
    """
    level = resource.level if isinstance(resource, Tile) else 0
    held = size >> TILE_HEIGHT * level
    if not 0 < resource.width <= TILE_WIDTH or resource.index * TILE_WIDTH + resource.width > held:
        raise NotFound(
            f"{format_path(resource)} is not in a log of {size} leaves", code="no_such_tile"
        )


def grown_tiles(old_size: int, new_size: int) -> Iterator[Tile]:
    """The tiles that a log has at ``new_size`` leaves and had not at ``old_size``.

    Those of level 0 name the bundles too. A partial tile comes at the width it ends with.
    """
    for level in range(MAX_TILE_LEVEL + 1):
        old, new = (size >> TILE_HEIGHT * level for size in (old_size, new_size))
        start = old - old % TILE_WIDTH if new > old else new
        for first in range(start, new, TILE_WIDTH):
            yield Tile(level, first // TILE_WIDTH, min(TILE_WIDTH, new - first))


def build_tile(hashes: Hashes, tile: Tile) -> bytes:
    """A tile's bytes from the roots of complete subtrees."""
    first = tile.index * TILE_WIDTH
    level = tile.level * TILE_HEIGHT
    return b"".join(hashes(Subtree(level, first + at)) for at in range(tile.width))


def hashes_of_tiles(read: ReadTile, size: int) -> Hashes:
    """The roots of complete subtrees, from the tiles that a log of ``size`` leaves has.

    What lies between two levels of tiles is hashed again, at most 255 hashes a subtree; nothing
    is kept, so give a ``read`` that keeps what it read.
    """

    def subtree(wanted: Subtree) -> bytes:
        level, height = divmod(wanted.level, TILE_HEIGHT)
        index, at = divmod(wanted.number << height, TILE_WIDTH)
        width = min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH)
        raw = read(Tile(level, index, width))[HASH_BYTES * at : HASH_BYTES * (at + (1 << height))]
        digests = (raw[start : start + HASH_BYTES] for start in range(0, len(raw), HASH_BYTES))
        return Frontier().extend(digests)[0].head.root

    return subtree


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """Leaves one after another, each after its length in a u16."""
    assert 0 < len(leaves) <= TILE_WIDTH
    assert all(len(leaf) <= U16_MAX for leaf in leaves)
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


def decode_bundle(raw: bytes, width: int) -> list[bytes]:
    """The ``width`` leaves of a bundle.

    Args:
        raw: Untrusted; the leaves' hashes must be compared with a tile or a root.
        width: From the bundle's path.

    Raises:
        MalformedMessage: More or fewer leaves, or a length that leads beyond the end.
    """
    reader = Reader(raw, "bundle")
    leaves = [reader.raw(reader.u16()) for _ in range(width)]
    reader.end()
    return leaves
