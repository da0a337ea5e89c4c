"""Matrices over GF(2^8), and the kernel that needs nothing but Python.

The field is that of ISA-L, polynomial 0x11d. A Cauchy matrix stays invertible whichever
rows are lost; ISA-L's Vandermonde matrix does not.

Spec: docs/spec/data.md#erasure-coding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

_POLYNOMIAL = 0x11D
_PORTABLE_TILE = 16 << 10  # integers of this size stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Tables:
    """A matrix made ready for ``multiply`` of the kernel that made it, and of no other."""

    required: int
    outputs: int
    expanded: bytes


class Galois(Protocol):
    """One way to do the arithmetic of erasure coding; all of them give identical bytes."""

    @property
    def name(self) -> str:
        """What ``doctor`` prints."""

    def cauchy(self, required: int, total: int) -> bytes:
        """The generator matrix, ``total`` x ``required``, row-major; on top the identity.

        As ISA-L's ``gf_gen_cauchy1_matrix``: from row ``required`` on, 1 / (row ^ column).
        """

    def invert(self, matrix: bytes, size: int) -> bytes:
        """The inverse of a ``size`` x ``size`` matrix, row-major.

        Raises:
            ValueError: It has none.
        """

    def tables(self, rows: bytes, required: int) -> Tables:
        """Prepare ``len(rows) / required`` matrix rows, one for each output."""

    def multiply(
        self, tables: Tables, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        """Fill each target with its row's combination of the sources.

        Args:
            tables: From this kernel's ``tables``.
            sources: One a column; contiguous bytes, of one length; may be read-only.
            targets: One a row; as long as the sources, writable, overlapping none of them.

        Raises:
            ValueError: Counts or lengths do not fit; nothing was written.
        """


def _powers() -> list[int]:
    powers = [1]
    while len(powers) < 255:
        double = powers[-1] << 1
        powers.append(double ^ _POLYNOMIAL if double > 255 else double)
    return powers


_EXP = _powers()
_LOG = {power: exponent for exponent, power in enumerate(_EXP)}


def inverse(value: int) -> int:
    """1 / ``value``, from 1 to 255."""
    return _EXP[-_LOG[value] % 255]


@functools.cache
def _times(factor: int) -> bytes:
    """The table for ``bytes.translate`` that multiplies by ``factor``, from 1 to 255."""
    return bytes([0, *(_EXP[(_LOG[factor] + _LOG[value]) % 255] for value in range(1, 256))])


def _subtract(row: bytes, factor: int, other: bytes) -> bytes:
    """``row`` - ``factor`` x ``other``."""
    scaled = int.from_bytes(other.translate(_times(factor)), "big")
    return (int.from_bytes(row, "big") ^ scaled).to_bytes(len(row), "big")


def check(tables: Tables, sources: Sequence[memoryview], targets: Sequence[memoryview]) -> int:
    """The common length of all buffers, before any address is handed to a library.

    Raises:
        ValueError: Counts or lengths do not fit.
    """
    if (len(sources), len(targets)) != (tables.required, tables.outputs):
        raise ValueError(
            f"{len(sources)} sources and {len(targets)} targets given, "
            f"{tables.required} and {tables.outputs} needed"
        )
    lengths = {view.nbytes for view in (*sources, *targets)}
    if len(lengths) > 1:
        raise ValueError(f"buffers of {min(lengths)} to {max(lengths)} bytes, one length needed")
    return lengths.pop() if lengths else 0


class Portable:
    """Arithmetic on whole tiles as integers: about 60 MB/s at 10/30, and no library."""

    name = "portable"

    def cauchy(self, required: int, total: int) -> bytes:
        """The generator matrix."""
        identity = [int(row == column) for row in range(required) for column in range(required)]
        parity = (
            inverse(row ^ column) for row in range(required, total) for column in range(required)
        )
        return bytes([*identity, *parity])

    def invert(self, matrix: bytes, size: int) -> bytes:
        """The inverse, by Gauss-Jordan on the matrix and the identity beside it."""
        rows = [
            matrix[at * size : (at + 1) * size] + bytes(at) + b"\1" + bytes(size - 1 - at)
            for at in range(size)
        ]
        for column in range(size):
            found = next((at for at in range(column, size) if rows[at][column]), None)
            if found is None:
                raise ValueError(f"a {size} x {size} matrix without an inverse")
            rows[column], rows[found] = rows[found], rows[column]
            pivot = rows[column] = rows[column].translate(_times(inverse(rows[column][column])))
            for at, row in enumerate(rows):
                if at != column and row[column]:
                    rows[at] = _subtract(row, row[column], pivot)
        return b"".join(row[size:] for row in rows)

    def tables(self, rows: bytes, required: int) -> Tables:
        """The rows as they are."""
        return Tables(required, len(rows) // required, rows)

    def multiply(
        self, tables: Tables, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        """Fill each target with its row's combination of the sources."""
        length, columns = check(tables, sources, targets), tables.required
        for start in range(0, length, _PORTABLE_TILE):
            part = slice(start, min(start + _PORTABLE_TILE, length))
            words = [int.from_bytes(source[part], "little") for source in sources]
            for at, target in enumerate(targets):
                row = tables.expanded[at * columns : (at + 1) * columns]
                size = part.stop - part.start
                target[part] = _combine(row, words, _high_bits(size)).to_bytes(size, "little")


@functools.lru_cache(16)
def _high_bits(size: int) -> int:
    return int.from_bytes(b"\x80" * size, "little")


def _combine(row: bytes, words: Sequence[int], high_bits: int) -> int:
    """The sum of ``row`` x ``words``, by Horner's rule over the factors' bits.

    All bytes of a word are doubled at once, so a factor costs a few integer operations
    and no table.
    """
    total = 0
    for bit in range(7, -1, -1):
        carry = total & high_bits
        total = ((total ^ carry) << 1) ^ ((carry >> 7) * (_POLYNOMIAL & 0xFF))
        for factor, word in zip(row, words, strict=True):
            if factor >> bit & 1:
                total ^= word
    return total
