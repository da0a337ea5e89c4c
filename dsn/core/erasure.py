"""Any ``required`` of ``total`` shards give back the data: Reed-Solomon over GF(2^8).

Systematic: shards 0 to ``required`` - 1 are the data itself. Shards are addressed by index
and come as equal ranges of bytes, so that a band of a segment can be coded as it lies.

Spec: docs/spec/data.md#erasure-coding.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from dsn.errors import NotEnoughShards, UsageError
from dsn.kernels.isal import Galois, Tables

MOST_SHARDS = 255
"""The field has 256 elements, and a generator row needs one of its own."""

_PLANS_KEPT = 64  # half a MiB each at worst


@dataclass(frozen=True, slots=True)
class Plan:
    """How to make wanted shards from those at hand; good for every segment of a scheme.

    What is wanted and at hand is copied; arithmetic is done for the rest only.
    """

    _galois: Galois
    _tables: Tables
    _made: tuple[int, ...]
    _copied: tuple[tuple[int, int], ...]

    def run(self, sources: Sequence[memoryview], targets: Sequence[memoryview]) -> None:
        """Fill ``targets`` from ``sources``.

        Args:
            sources: A range of bytes of each shard at hand, in the plan's order.
            targets: The same range of each wanted shard, in the plan's order; writable,
                overlapping no source.

        Raises:
            ValueError: Counts or lengths do not fit.
        """
        wanted = len(self._made) + len(self._copied)
        if len(targets) != wanted:
            raise ValueError(f"{len(targets)} targets given, {wanted} needed")
        self._galois.multiply(self._tables, sources, [targets[at] for at in self._made])
        for source, target in self._copied:
            targets[target][:] = sources[source]


class Erasure:
    """The code of one scheme; safe to use from several threads."""

    def __init__(self, required: int, total: int, galois: Galois) -> None:
        """Make the generator matrix for ``required`` of ``total`` (untrusted, 1 to 255).

        Raises:
            UsageError: ``bad_scheme``, out of range.
        """
        if not 1 <= required <= total <= MOST_SHARDS:
            raise UsageError(
                f"scheme {required}/{total} is out of range",
                hint=f"required and total run from 1 to {MOST_SHARDS}, required up to total",
                code="bad_scheme",
            )
        self.required, self.total = required, total
        self._galois = galois
        self._matrix = galois.cauchy(required, total)
        self._plan = functools.lru_cache(_PLANS_KEPT)(self._build)
        self._data = tuple(range(required))
        self._parity = self._build(self._data, tuple(range(required, total)))

    def parity(self, data: Sequence[memoryview], parity: Sequence[memoryview]) -> None:
        """Fill all ``total`` - ``required`` parity ranges from the data's, in index order.

        Raises:
            ValueError: Counts or lengths do not fit.
        """
        self._parity.run(data, parity)

    def row(self, data: Sequence[memoryview], index: int, out: memoryview) -> None:
        """Make the one shard ``index`` again from the data, for another holder.

        Raises:
            UsageError: ``bad_index``, out of range.
            ValueError: Counts or lengths do not fit.
        """
        self.decode_plan(self._data, (index,)).run(data, (out,))

    def decode_plan(self, have: tuple[int, ...], want: tuple[int, ...]) -> Plan:
        """How to make the shards ``want``, data or parity, from exactly those in ``have``.

        Cost: O(required^3) once, then cached; nothing to invert when nothing is lost.

        Raises:
            NotEnoughShards: Fewer than ``required`` shards in ``have``.
            UsageError: ``bad_index``, an index out of range or repeated, or too many.
        """
        return self._plan(have, want)

    def _check(self, have: tuple[int, ...], want: tuple[int, ...]) -> None:
        known = set(have)
        if len(known) < self.required:
            raise NotEnoughShards(f"{len(known)} shards found, {self.required} needed")
        if len(have) > self.required:
            raise UsageError(f"{len(have)} shards given, {self.required} needed", code="bad_index")
        for index in (*have, *want):
            if not 0 <= index < self.total:
                raise UsageError(
                    f"shard index {index} is out of range, the scheme has {self.total}",
                    code="bad_index",
                )

    def _build(self, have: tuple[int, ...], want: tuple[int, ...]) -> Plan:
        self._check(have, want)
        place = {index: at for at, index in enumerate(have)}
        copied = tuple((place[index], at) for at, index in enumerate(want) if index in place)
        made = tuple(at for at, index in enumerate(want) if index not in place)
        rows = self._rows([want[at] for at in made])
        if have != self._data and made:
            rows = self._product(rows, self._galois.invert(self._rows(have), self.required))
        return Plan(self._galois, self._galois.tables(rows, self.required), made, copied)

    def _rows(self, indices: Sequence[int]) -> bytes:
        size = self.required
        return b"".join(self._matrix[index * size : (index + 1) * size] for index in indices)

    def _product(self, rows: bytes, matrix: bytes) -> bytes:
        """``rows`` x ``matrix``: the kernel combines the matrix's rows as if they were shards."""
        size, out = self.required, bytearray(len(rows))
        sources = [memoryview(matrix)[at : at + size] for at in range(0, len(matrix), size)]
        targets = [memoryview(out)[at : at + size] for at in range(0, len(out), size)]
        self._galois.multiply(self._galois.tables(rows, size), sources, targets)
        return bytes(out)
