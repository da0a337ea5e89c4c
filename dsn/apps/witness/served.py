"""The log that a checkpoint speaks of, as its ledger serves it: nothing of it is believed.

What is needed is asked for by its path, as C2SP tlog-tiles names it: a generator yields a path
and is sent the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from dsn.core.hashing import HASH_BYTES
from dsn.errors import PeerError
from dsn.ledger.log import Hashes, LogLeaf, TreeHead, build_prefix_proof, fold_prefix_proof
from dsn.ledger.tiles import (
    TILE_WIDTH,
    Bundle,
    Tile,
    decode_bundle,
    format_path,
    hashes_of_tiles,
)

_T = TypeVar("_T")
Course = Generator[str, bytes, _T]
"""Yields paths of what it needs, is sent the bytes (untrusted), and returns a result."""


class _WantedError(Exception):
    def __init__(self, tile: Tile) -> None:
        super().__init__(tile)
        self.tile = tile


class ServedLog:
    """A log of the size and root that somebody signed."""

    def __init__(self, head: TreeHead) -> None:
        """Speak of the log at ``head``, with one leaf at least."""
        self.head = head
        self._tiles: dict[Tile, bytes] = {}

    def leaves(self, start: int) -> Course[list[LogLeaf]]:
        """The leaves from ``start`` to the end of their bundle.

        Raises:
            MalformedMessage: It is no bundle, or something in it is no leaf.
        """
        index, known = divmod(start, TILE_WIDTH)
        bundle = Bundle(index, min(TILE_WIDTH, self.head.size - index * TILE_WIDTH))
        raw = yield format_path(bundle)
        return [LogLeaf.decode(each) for each in decode_bundle(raw, bundle.width)[known:]]

    def prefix(self, size: int) -> Course[tuple[bytes, list[bytes]]]:
        """The root that its first ``size`` leaves have, and the prefix proof of that.

        Raises:
            PeerError: ``wrong_leaves``.
        """
        path = yield from self.build(
            lambda hashes: build_prefix_proof(hashes, size, self.head.size)
        )
        root, whole = fold_prefix_proof(path, size, self.head.size)
        if whole != self.head.root:
            raise self.wrong()
        return root, path

    def build(self, make: Callable[[Hashes], _T]) -> Course[_T]:
        """What ``make`` makes of the log's hashes; it is called again as tiles come in."""
        hashes = hashes_of_tiles(self._read, self.head.size)
        while True:
            try:
                return make(hashes)
            except _WantedError as wanted:
                raw = yield format_path(wanted.tile)
                if len(raw) != wanted.tile.width * HASH_BYTES:
                    raise self.wrong() from wanted
                self._tiles[wanted.tile] = raw

    def wrong(self) -> PeerError:
        """The error for leaves or tiles that are of another log than this one."""
        return PeerError(
            f"the ledger serves other leaves than those of the log of {self.head.size} that it "
            "signed",
            code="wrong_leaves",
        )

    def _read(self, tile: Tile) -> bytes:
        if tile not in self._tiles:
            raise _WantedError(tile)
        return self._tiles[tile]
