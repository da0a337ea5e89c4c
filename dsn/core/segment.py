"""One segment on its way to shards and back: seal, encode, mask, hash, and the reverse.

Both directions work in bands, byte ranges ``[start, end)`` that are the same in every shard,
so that memory does not grow with the file. Buffers come from the caller, who may reuse them.

Spec: docs/spec/data.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dsn.core.cipher import SegmentCipher, mask_stream
from dsn.core.erasure import Erasure
from dsn.core.layout import SegmentLayout
from dsn.core.merkle import ShardHasher
from dsn.errors import ShardCorrupt
from dsn.ids import Commit
from dsn.units import FRAME_BYTES, SYMBOL_BYTES, SYMBOL_PLAIN_BYTES


@dataclass(frozen=True, slots=True)
class SegmentKeys:
    """What seals and masks one segment.

    Attributes:
        content_key: 32 bytes; seals symbols. Empty when only shards are rebuilt.
        mask_key: 16 bytes; masks shards.
        number: The segment's place in the file, from 0.
        salt: 16 bytes, fresh for every sealing attempt.
        final: Whether this is the file's last segment.
    """

    content_key: bytes
    mask_key: bytes
    number: int
    salt: bytes
    final: bool


def bands(start: int, end: int, first: int = FRAME_BYTES) -> Iterator[tuple[int, int]]:
    """Cut ``[start, end)`` of a shard in bands: ``first`` bytes, then four times more, to 1 MiB.

    Bands end on multiples of their own size, so that whole rows stay together.
    """
    size = min(first, FRAME_BYTES)
    while start < end:
        stop = min(start + size - start % size, end)
        yield start, stop
        start, size = stop, min(size * 4, FRAME_BYTES)


class SegmentEncoder:
    """Plaintext of one segment in, masked shards out, band by band, in order.

    ``data`` keeps the sealed data shards until the caller lets go of the encoder, so that any
    row can be made again for another node under a higher generation.
    """

    def __init__(
        self,
        keys: SegmentKeys,
        layout: SegmentLayout,
        erasure: Erasure,
        data: memoryview,
        parity: memoryview,
    ) -> None:
        """Prepare to encode.

        Args:
            keys: What seals and masks.
            layout: The segment's arithmetic; its ``required`` is the erasure code's.
            erasure: The code.
            data: Writable, at least ``required * layout.shard_bytes`` bytes.
            parity: Writable scratch, at least ``(total - required) * FRAME_BYTES`` bytes.
        """
        self.keys, self.layout, self._erasure = keys, layout, erasure
        self._data, self._parity = data, parity
        self._cipher = SegmentCipher(keys.content_key, keys.number, keys.salt)
        self._hasher = self._cipher.segment_hasher()
        total = erasure.total
        self._masks = [
            mask_stream(keys.mask_key, keys.salt, keys.number, i, 0) for i in range(total)
        ]
        self._trees = [ShardHasher() for _ in range(total)]

    def plain_range(self, start: int, end: int) -> tuple[int, int]:
        """Where in the segment's plaintext the band ``[start, end)`` of its shards comes from."""
        row = self._erasure.required * SYMBOL_PLAIN_BYTES
        stop = (
            self.layout.plain_bytes if end == self.layout.shard_bytes else end // SYMBOL_BYTES * row
        )
        return start // SYMBOL_BYTES * row, stop

    def band(self, start: int, end: int, plain: memoryview) -> list[bytes]:
        """Seal ``plain`` and return the band's frame of every shard, by index."""
        self.seal(start, end, plain)
        required, width, length = self._erasure.required, end - start, self.layout.shard_bytes
        sources = [self._data[j * length + start : j * length + end] for j in range(required)]
        spare = self._erasure.total - required
        parity = [self._parity[i * width : (i + 1) * width] for i in range(spare)]
        self._erasure.parity(sources, parity)
        frames = []
        for view, mask, tree in zip([*sources, *parity], self._masks, self._trees, strict=True):
            frame = mask.update(view)
            tree.update(frame)
            frames.append(frame)
        return frames

    def seal(self, start: int, end: int, plain: memoryview) -> None:
        """Seal ``plain`` into the band's data shards and do nothing else.

        Sealing the same bytes under the same salt again gives the same boxes: compare
        ``digest`` with the first attempt's before anything of a second one leaves.
        """
        plain = self._seal_rows(start, end, plain)
        if end == self.layout.shard_bytes and self.layout.short:
            self._seal_short(plain)

    def _seal_rows(self, start: int, end: int, plain: memoryview) -> memoryview:
        """Seal the band's whole rows in place; returns the plaintext that is left."""
        required, length, at = self._erasure.required, self.layout.shard_bytes, 0
        seal, update, data = self._cipher.seal, self._hasher.update, self._data
        last = self.layout.symbols - 1 if self.keys.final else -1
        for row in range(start // SYMBOL_BYTES, min(end // SYMBOL_BYTES, self.layout.rows)):
            for j in range(required):
                symbol, place = row * required + j, j * length + row * SYMBOL_BYTES
                box = data[place : place + SYMBOL_BYTES]
                seal(symbol, symbol == last, plain[at : at + SYMBOL_PLAIN_BYTES], box)
                update(box)
                at += SYMBOL_PLAIN_BYTES
        return plain[at:]

    def _seal_short(self, plain: memoryview) -> None:
        """Seal the symbols beyond the whole rows and cut their boxes into the short stripe."""
        layout, required = self.layout, self._erasure.required
        boxes = memoryview(bytearray(required * layout.short))
        last = layout.symbols - 1 if self.keys.final else -1
        for i, symbol in enumerate(range(layout.rows * required, layout.symbols)):
            part = plain[i * SYMBOL_PLAIN_BYTES : (i + 1) * SYMBOL_PLAIN_BYTES]
            at = i * SYMBOL_BYTES
            self._cipher.seal(symbol, symbol == last, part, boxes[at : at + len(part) + 16])
        self._hasher.update(boxes[: layout.rest])
        for j in range(required):
            end = (j + 1) * layout.shard_bytes
            self._data[end - layout.short : end] = boxes[j * layout.short : (j + 1) * layout.short]

    def row(self, index: int, generation: int, tree: ShardHasher) -> Iterator[bytes]:
        """Make shard ``index`` again under ``generation``; hash its frames into ``tree``.

        Only after the last band was encoded.
        """
        keys, length = self.keys, self.layout.shard_bytes
        mask = mask_stream(keys.mask_key, keys.salt, keys.number, index, generation)
        for start, end in bands(0, length):
            out = memoryview(bytearray(end - start))
            required = self._erasure.required
            sources = [self._data[j * length + start : j * length + end] for j in range(required)]
            self._erasure.row(sources, index, out)
            frame = mask.update(out)
            tree.update(frame)
            yield frame

    def commits(self) -> list[Commit]:
        """Of the shards of generation 0, by index; only after the last band."""
        return [tree.commit() for tree in self._trees]

    def digest(self) -> bytes:
        """``segment_hash``: BLAKE3-256 of the ciphertext in box order; only after the last band."""
        return self._hasher.digest()


class SegmentDecoder:
    """Masked shards of one segment in, plaintext out, band by band, in order."""

    def __init__(
        self, keys: SegmentKeys, layout: SegmentLayout, erasure: Erasure, scratch: memoryview
    ) -> None:
        """Prepare to decode.

        Args:
            keys: What unmasks and opens.
            layout: The segment's arithmetic.
            erasure: The code.
            scratch: Writable, at least ``2 * required * FRAME_BYTES`` bytes.
        """
        self.keys, self.layout, self._erasure = keys, layout, erasure
        half = erasure.required * FRAME_BYTES
        self._rows, self._foreign = scratch[:half], scratch[half:]
        self._cipher = SegmentCipher(keys.content_key or bytes(32), keys.number, keys.salt)
        self._hasher = self._cipher.segment_hasher()
        self._start = self._end = 0
        self._short: memoryview | None = None

    def gather(
        self,
        start: int,
        end: int,
        frames: Mapping[int, bytes],
        generations: Sequence[int],
        wanted: Sequence[int],
    ) -> None:
        """Unmask a band's frames and rebuild the ``wanted`` data rows that are missing.

        Args:
            start: First byte of the band in every shard.
            end: End of the band.
            frames: Masked bytes by shard index (untrusted): all ``wanted``, or any ``required``.
            generations: Of the mask of each shard, by index.
            wanted: The data indices that will be opened.
        """
        width, keys = end - start, self.keys
        self._start, self._end, self._short = start, end, None
        views: dict[int, memoryview] = {}
        for slot, (index, frame) in enumerate(sorted(frames.items())):
            own = index < self._erasure.required
            place, at = (self._rows, index) if own else (self._foreign, slot)
            views[index] = place[at * width : (at + 1) * width]
            generation = generations[index]
            mask_stream(
                keys.mask_key, keys.salt, keys.number, index, generation, start
            ).update_into(frame, views[index])
        missing = tuple(j for j in wanted if j not in views)
        if missing:
            have = tuple(sorted(views))[: self._erasure.required]
            targets = [self._rows[j * width : (j + 1) * width] for j in missing]
            self._erasure.decode_plan(have, missing).run([views[i] for i in have], targets)

    def _row(self, index: int, start: int, end: int) -> memoryview:
        base = index * (self._end - self._start) - self._start
        return self._rows[base + start : base + end]

    def _short_boxes(self) -> memoryview:
        """The boxes of the short stripe, joined."""
        if self._short is None:
            start, end = self.layout.shard_bytes - self.layout.short, self.layout.shard_bytes
            rows = (self._row(j, start, end) for j in range(self._erasure.required))
            self._short = memoryview(b"".join(rows))[: self.layout.rest]
        return self._short

    def symbols(self) -> tuple[int, int]:
        """The symbols ``[first, end)`` that the gathered band holds whole."""
        required, layout = self._erasure.required, self.layout
        first = min(self._start // SYMBOL_BYTES, layout.rows) * required
        if self._end == layout.shard_bytes:
            return first, layout.symbols
        return first, min(self._end // SYMBOL_BYTES, layout.rows) * required

    def box(self, symbol: int) -> memoryview:
        """The sealed bytes of one symbol of the gathered band."""
        required = self._erasure.required
        row, index = divmod(symbol, required)
        if row < self.layout.rows:
            return self._row(index, row * SYMBOL_BYTES, (row + 1) * SYMBOL_BYTES)
        at = (symbol - self.layout.rows * required) * SYMBOL_BYTES
        return self._short_boxes()[at : at + SYMBOL_BYTES]

    def plain_bytes(self, first: int, end: int) -> int:
        """Plaintext of symbols ``[first, end)``."""
        return self.layout.plain(end - 1).end - first * SYMBOL_PLAIN_BYTES

    def open(self, first: int, end: int, out: memoryview) -> int:
        """Open symbols ``[first, end)`` of the gathered band into ``out``; returns the bytes.

        Raises:
            ShardCorrupt: A symbol is not what was sealed; some shard of the band is wrong.
        """
        at, last = 0, self.layout.symbols - 1 if self.keys.final else -1
        for symbol in range(first, end):
            box = self.box(symbol)
            size = len(box) - 16
            self._cipher.open(symbol, symbol == last, box, out[at : at + size])
            at += size
        return at

    def digest_band(self) -> None:
        """Add the gathered band to the segment's hash; every band, in order, once."""
        for symbol in range(*self.symbols()):
            self._hasher.update(self.box(symbol))

    def verify(self, segment_hash: bytes) -> None:
        """Compare the hash over all bands.

        Raises:
            ShardCorrupt: The ciphertext is not the one that the core names.
        """
        if self._hasher.digest() != segment_hash:
            raise ShardCorrupt(
                f"segment {self.keys.number} does not match its hash", code="segment_hash"
            )
