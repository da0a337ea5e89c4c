"""Where a byte of a file lies: segment, symbol, stripe, shard. Arithmetic only.

Spec: docs/spec/data.md#units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from dsn.errors import UsageError
from dsn.units import (
    INLINE_BYTES,
    LEAF_BYTES,
    SYMBOL_BYTES,
    SYMBOL_PLAIN_BYTES,
    TAG_BYTES,
    leaf_count,
)

MAX_SHARDS = 255
"""Shards a segment: the field of 256 elements leaves room for no more."""
SEGMENT_SYMBOLS = 512
"""Symbols a segment, rounded down to whole stripes: at most 32 MiB of ciphertext."""
TAIL_SYMBOLS = 64
"""A remainder below this joins the segment before it, so that no tail segment is tiny."""
MAX_FILE_BYTES = 1 << 46
"""64 TiB: beyond it a manifest's head would not fit in memory."""
_SCHEME_TEXT = re.compile(r"([1-9][0-9]{0,2})/([1-9][0-9]{0,2})", re.ASCII)
_REPAIR_AT = {(3, 10): 6, (4, 6): 4}
_DEFAULTS = ((30, 10), (10, 3), (6, 4))
_MIN_MANIFEST_COPIES = 8


@dataclass(frozen=True, slots=True, order=True)
class Scheme:
    """Any ``required`` of a segment's ``total`` shards give the segment back."""

    required: int
    total: int

    def __post_init__(self) -> None:
        """Refuse what cannot be encoded."""
        if not 1 <= self.required <= self.total <= MAX_SHARDS:
            raise _bad_scheme(f"{self.required}/{self.total}")

    @classmethod
    def parse(cls, text: str) -> Scheme:
        """Read ``4/6`` (untrusted).

        Raises:
            UsageError: ``bad_scheme``.
        """
        match = _SCHEME_TEXT.fullmatch(text)
        if match is None:
            raise _bad_scheme(text)
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        """As ``parse`` reads it."""
        return f"{self.required}/{self.total}"

    @property
    def repair_at(self) -> int:
        """Shards left at which a segment is at risk and must be repaired."""
        halfway = self.required + -(-(self.total - self.required) // 2)
        return _REPAIR_AT.get((self.required, self.total), halfway)

    @property
    def manifest_copies(self) -> int:
        """Copies of head and pages: the data dies before the last of them."""
        return min(self.total, max(_MIN_MANIFEST_COPIES, self.total - self.required + 1))

    def check_fits(self, groups: int) -> None:
        """Check that each shard of a segment gets a placement group of its own.

        Raises:
            UsageError: ``bad_scheme``; the hint names the largest scheme that fits.
        """
        if self.total > groups:
            raise _does_not_fit(f"{self} needs {self.total} placement groups", groups)


def default_scheme(groups: int) -> Scheme:
    """The scheme for a network of ``groups`` placement groups.

    Raises:
        UsageError: ``bad_scheme`` below 6 groups; the hint names the largest that fits.
    """
    for total, required in _DEFAULTS:
        if groups >= total:
            return Scheme(required, total)
    smallest = _DEFAULTS[-1][0]
    raise _does_not_fit(f"the smallest default scheme needs {smallest} placement groups", groups)


def _bad_scheme(text: str) -> UsageError:
    return UsageError(
        f"{text!r} is not a scheme",
        code="bad_scheme",
        hint=f"write REQUIRED/TOTAL with 1 <= REQUIRED <= TOTAL <= {MAX_SHARDS}, such as 4/6",
    )


def _does_not_fit(need: str, groups: int) -> UsageError:
    total = min(groups, MAX_SHARDS)
    fits = f"--scheme {(total + 1) // 2}/{total} fits" if total else "join a network with nodes"
    return UsageError(f"{need}, {groups} known", code="bad_scheme", hint=fits)


class Span(NamedTuple):
    """A byte range ``[start, end)``."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes in it."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How a file of ``size`` bytes is cut into segments; none if it lives in its manifest."""

    size: int
    required: int

    @property
    def symbols(self) -> int:
        """Symbols of the whole file."""
        return 0 if self.size <= INLINE_BYTES else -(-self.size // SYMBOL_PLAIN_BYTES)

    @property
    def segment_symbols(self) -> int:
        """Symbols of every segment but the last: whole stripes."""
        return SEGMENT_SYMBOLS // self.required * self.required

    @property
    def segment_bytes(self) -> int:
        """Plaintext of every segment but the last."""
        return self.segment_symbols * SYMBOL_PLAIN_BYTES

    @property
    def segments(self) -> int:
        """How many segments the file has."""
        whole, rest = divmod(self.symbols, self.segment_symbols)
        return whole + (rest >= TAIL_SYMBOLS or (rest > 0 and whole == 0))

    def plain(self, segment: int) -> Span:
        """The plaintext of ``segment`` within the file."""
        assert 0 <= segment < self.segments
        start = segment * self.segment_bytes
        last = segment == self.segments - 1
        return Span(start, self.size if last else start + self.segment_bytes)

    def segment(self, segment: int) -> SegmentLayout:
        """The layout of ``segment``."""
        return SegmentLayout(self.required, self.plain(segment).size)

    def is_last(self, segment: int, symbol: int) -> bool:
        """Whether ``symbol`` of ``segment`` is the file's last one."""
        return segment * self.segment_symbols + symbol == self.symbols - 1

    def segments_for(self, start: int, end: int) -> range:
        """The segments that the file's plaintext range ``[start, end)`` touches."""
        if start >= end or not self.segments:
            return range(0)
        final = self.segments - 1
        first = min(start // self.segment_bytes, final)
        return range(first, min((end - 1) // self.segment_bytes, final) + 1)


@dataclass(frozen=True, slots=True)
class SegmentLayout:
    """How a segment of ``plain_bytes`` lies in symbols, stripes and shards."""

    required: int
    plain_bytes: int

    @property
    def symbols(self) -> int:
        """Boxes in the segment."""
        return -(-self.plain_bytes // SYMBOL_PLAIN_BYTES)

    @property
    def cipher_bytes(self) -> int:
        """All boxes, unpadded."""
        return self.plain_bytes + TAG_BYTES * self.symbols

    @property
    def rows(self) -> int:
        """Whole stripes: ``required`` symbols of 65,536 bytes."""
        return self.cipher_bytes // (self.required * SYMBOL_BYTES)

    @property
    def rest(self) -> int:
        """Ciphertext beyond the whole stripes."""
        return self.cipher_bytes - self.rows * self.required * SYMBOL_BYTES

    @property
    def short(self) -> int:
        """Bytes of the short stripe in every shard: whole leaves, 0 if there is none."""
        return leaf_count(-(-self.rest // self.required)) * LEAF_BYTES

    @property
    def shard_bytes(self) -> int:
        """Length of each of the segment's shards."""
        return self.rows * SYMBOL_BYTES + self.short

    @property
    def leaf_count(self) -> int:
        """Leaves of each shard."""
        return leaf_count(self.shard_bytes)

    @property
    def row_symbols(self) -> int:
        """Symbols in whole stripes; the ones from here on lie in the short stripe."""
        return self.rows * self.required

    def place(self, symbol: int) -> tuple[int, int]:
        """The (row, shard index) of a ``symbol`` below ``row_symbols``."""
        assert 0 <= symbol < self.row_symbols
        return divmod(symbol, self.required)

    def plain(self, symbol: int) -> Span:
        """The plaintext of ``symbol`` within the segment."""
        start = symbol * SYMBOL_PLAIN_BYTES
        return Span(start, min(start + SYMBOL_PLAIN_BYTES, self.plain_bytes))

    def box(self, symbol: int) -> Span:
        """The box of ``symbol`` within the segment's ciphertext."""
        start = symbol * SYMBOL_BYTES
        return Span(start, min(start + SYMBOL_BYTES, self.cipher_bytes))

    def short_part(self, index: int) -> Span:
        """What data shard ``index`` holds of the short stripe, within the segment's ciphertext.

        It may be shorter than ``short``, even empty; the shard pads it with zeros.
        """
        base = self.row_symbols * SYMBOL_BYTES
        start = min(index * self.short, self.rest)
        return Span(base + start, base + min(start + self.short, self.rest))

    def symbols_for(self, start: int, end: int) -> range:
        """The symbols that the segment's plaintext range ``[start, end)`` touches."""
        assert 0 <= start <= end <= self.plain_bytes
        if start == end:
            return range(0)
        return range(start // SYMBOL_PLAIN_BYTES, (end - 1) // SYMBOL_PLAIN_BYTES + 1)

    def stripes_for(self, symbols: range) -> Span:
        """The shard bytes whose stripes hold ``symbols``: any ``required`` shards give them."""
        if not symbols:
            return Span(0, 0)
        start = symbols[0] // self.required * SYMBOL_BYTES
        end = (symbols[-1] // self.required + 1) * SYMBOL_BYTES
        return Span(start, min(end, self.shard_bytes))

    def shards_for(self, symbols: range) -> dict[int, Span]:
        """The data shards, and bytes of each, that hold ``symbols`` while none is missing.

        A symbol of a whole stripe lies in one shard; one of the short stripe needs the
        short stripe of every data shard.
        """
        spans: dict[int, Span] = {}
        for symbol in symbols[: max(0, self.row_symbols - symbols.start)]:
            row, index = self.place(symbol)
            start = spans[index].start if index in spans else row * SYMBOL_BYTES
            spans[index] = Span(start, (row + 1) * SYMBOL_BYTES)
        if symbols and symbols[-1] >= self.row_symbols:
            tail = Span(self.rows * SYMBOL_BYTES, self.shard_bytes)
            for index in range(self.required):
                spans[index] = Span(spans.get(index, tail).start, tail.end)
        return spans
