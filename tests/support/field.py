"""GF(2^8) the slow way, bit by bit: what the kernels are measured against."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache


@cache
def times(left: int, right: int) -> int:
    """Product of two polynomials over GF(2), reduced by x^8 + x^4 + x^3 + x^2 + 1."""
    product = 0
    for bit in range(8):
        if right >> bit & 1:
            product ^= left << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11D << (bit - 8)
    return product


def combine(row: bytes, columns: Sequence[bytes | memoryview]) -> bytes:
    """The sum of each column times its factor."""
    out = bytearray(len(columns[0]))
    for factor, column in zip(row, columns, strict=True):
        for at, value in enumerate(column):
            out[at] ^= times(factor, value)
    return bytes(out)


def product(left: bytes, right: bytes, size: int) -> bytes:
    """``left`` x ``right``, both row-major, ``right`` square."""
    rows = [right[at : at + size] for at in range(0, size * size, size)]
    return b"".join(combine(left[at : at + size], rows) for at in range(0, len(left), size))


def identity(size: int) -> bytes:
    """Ones on the diagonal."""
    return bytes(int(row == column) for row in range(size) for column in range(size))
