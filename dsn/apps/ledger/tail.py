"""The end of a log: what appending to it needs, and its last, partial tiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from dsn.core.hashing import HASH_BYTES
from dsn.ledger.log import Frontier, Hashes, LogLeaf, Subtree, TreeHead, leaf_hash
from dsn.ledger.tiles import TILE_HEIGHT, TILE_WIDTH, ReadTile, Tile, grown_tiles, hashes_of_tiles


@dataclass(frozen=True, slots=True)
class LogTail:
    """A log at some size; appending gives another one, and the tiles that a store keeps."""

    frontier: Frontier
    partial: Mapping[int, bytes]
    """The hashes of the last tile of each level, where it is not full."""

    @classmethod
    def load(cls, read: ReadTile, size: int) -> LogTail:
        """The tail of a log of ``size`` leaves, of which ``read`` gives the tiles."""
        frontier = Frontier.at(hashes_of_tiles(read, size), size)
        partial = {}
        for level in range(-(-size.bit_length() // TILE_HEIGHT)):
            index, width = divmod(size >> TILE_HEIGHT * level, TILE_WIDTH)
            if width:
                partial[level] = read(Tile(level, index, width))
        return cls(frontier, partial)

    @property
    def head(self) -> TreeHead:
        """Size and root."""
        return self.frontier.head

    def extend(self, leaves: Iterable[LogLeaf]) -> tuple[LogTail, dict[Tile, bytes]]:
        """Append ``leaves``: the tail after them, and each tile that grew, whole."""
        frontier, completed = self.frontier.extend(leaf_hash(leaf.encode()) for leaf in leaves)
        tiles = {
            tile: self._grown(tile, completed)
            for tile in grown_tiles(self.frontier.size, frontier.size)
        }
        partial = dict(self.partial)
        for tile, hashes in tiles.items():
            partial[tile.level] = hashes if tile.width < TILE_WIDTH else b""
        return LogTail(frontier, partial), tiles

    def _grown(self, tile: Tile, completed: Mapping[Subtree, bytes]) -> bytes:
        first, level = tile.index * TILE_WIDTH, tile.level * TILE_HEIGHT
        had = self.frontier.size >> level
        before = self.partial.get(tile.level, b"") if had > first else b""
        start = first + len(before) // HASH_BYTES
        new = (completed[Subtree(level, at)] for at in range(start, first + tile.width))
        return before + b"".join(new)


def hashes_after(read: ReadTile, grown: Mapping[Tile, bytes], size: int) -> Hashes:
    """The hashes of a log of ``size`` leaves: ``grown`` tiles as they are now, others ``read``."""
    return hashes_of_tiles(lambda tile: grown.get(tile) or read(tile), size)


NO_LOG: Final = LogTail(Frontier(), {})
