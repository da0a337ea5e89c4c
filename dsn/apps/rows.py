"""Making the rows of a file's segments from its source, one segment at a time in one buffer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from dsn.apps.stored import StoredFile
from dsn.core.erasure import Erasure
from dsn.core.layout import Scheme
from dsn.core.merkle import ShardHasher
from dsn.core.segment import SegmentEncoder, bands
from dsn.errors import UsageError
from dsn.kernels import isal
from dsn.machines.upload import Row
from dsn.runtime.kernel import Kernel
from dsn.units import FRAME_BYTES


class Rows:
    """Encodes in ``kernel``; a call makes what an earlier one returned worthless."""

    def __init__(self, kernel: Kernel) -> None:
        """Start with no buffer."""
        self._kernel = kernel
        self._buffer = bytearray()
        self._erasures: dict[Scheme, Erasure] = {}

    def encoder(self, file: StoredFile, segment: int, salt: bytes) -> SegmentEncoder:
        """What seals ``segment`` under ``salt``."""
        layout, scheme = file.layout.segment(segment), file.scheme
        need = scheme.required * layout.shard_bytes
        scratch = scheme.total * FRAME_BYTES  # parity, and the band's plaintext
        if len(self._buffer) < need + scratch:
            self._buffer = bytearray(need + scratch)
        view = memoryview(self._buffer)
        if scheme not in self._erasures:
            self._erasures[scheme] = Erasure(scheme.required, scheme.total, isal.load())
        erasure = self._erasures[scheme]
        keys = file.segment_keys(segment, salt)
        return SegmentEncoder(keys, layout, erasure, view[:need], view[need : need + scratch])

    async def bands(
        self, encoder: SegmentEncoder, file: StoredFile, segment: int
    ) -> AsyncIterator[tuple[int, list[bytes]]]:
        """Seal ``segment`` band by band: where each ends in it, and a frame a row."""
        for start, end in bands(0, encoder.layout.shard_bytes):
            yield end, await self._kernel.run(self._band, encoder, file, segment, start, end)

    async def again(self, file: StoredFile, segment: int) -> SegmentEncoder:
        """Seal a segment as it was sealed before, so that ``frames`` can give any of its rows.

        Raises:
            UsageError: ``source_changed``.
        """
        seal = file.seals[segment]
        encoder = self.encoder(file, segment, seal.salt)
        for start, end in bands(0, encoder.layout.shard_bytes):
            await self._kernel.run(self._reseal, encoder, file, segment, start, end)
        if encoder.digest() != seal.hash:
            raise UsageError(
                f"{file.name or 'a file'} changed while it was read",
                code="source_changed",
                hint="put it again when nothing writes to it",
            )
        return encoder

    async def frames(
        self, encoder: SegmentEncoder, row: Row, generation: int, tree: ShardHasher
    ) -> AsyncIterator[bytes]:
        """The frames of one row of a sealed segment; ``tree`` hashes them."""
        frames: Iterator[bytes] = encoder.row(row.index, generation, tree)
        while (frame := await self._kernel.run(next, frames, None)) is not None:
            yield frame

    def _plain(
        self, encoder: SegmentEncoder, file: StoredFile, segment: int, start: int, end: int
    ) -> memoryview:
        """Read a band's plaintext into the end of the scratch space."""
        assert file.source is not None
        first, stop = encoder.plain_range(start, end)
        base = file.layout.plain(segment).start
        plain = memoryview(self._buffer)[len(self._buffer) - (stop - first) :]
        file.source.read_into(base + first, plain)
        return plain

    def _band(
        self, encoder: SegmentEncoder, file: StoredFile, segment: int, start: int, end: int
    ) -> list[bytes]:
        return encoder.band(start, end, self._plain(encoder, file, segment, start, end))

    def _reseal(
        self, encoder: SegmentEncoder, file: StoredFile, segment: int, start: int, end: int
    ) -> None:
        encoder.seal(start, end, self._plain(encoder, file, segment, start, end))
