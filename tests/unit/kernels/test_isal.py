"""Every kernel that runs here multiplies alike; none is used that does not."""

from __future__ import annotations

import ctypes
import random
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsn.kernels import isal
from dsn.kernels.galois import Portable, Tables, inverse
from dsn.kernels.isal import Galois, Isal
from tests.support import field
from tests.support.lock import lets_others_run

KERNELS = {kernel.name: kernel for kernel in isal.kernels()}
LIBRARY = [kernel for kernel in KERNELS.values() if isinstance(kernel, Isal)]
NOISE = random.Random(5).randbytes(1 << 20)
PORTABLE = Portable()


@pytest.fixture(params=KERNELS.values(), ids=list(KERNELS))
def kernel(request: pytest.FixtureRequest) -> Galois:
    found: Galois = request.param
    return found


def cut(count: int, length: int) -> list[memoryview]:
    """``count`` views of ``length`` bytes that start anywhere, aligned or not."""
    step = (len(NOISE) - length) // count
    return [memoryview(NOISE)[at * step :][:length] for at in range(count)]


def run(kernel: Galois, rows: bytes, sources: Sequence[memoryview]) -> list[bytes]:
    """Each row's result, with a look at the bytes around each target."""
    length = len(sources[0])
    out = [bytearray(b"\xa5" * (length + 128)) for _ in range(len(rows) // len(sources))]
    targets = [memoryview(one)[64:-64] for one in out]
    kernel.multiply(kernel.tables(rows, len(sources)), sources, targets)
    assert {bytes(one[:64] + one[-64:]) for one in out} <= {b"\xa5" * 128}
    return [bytes(target) for target in targets]


def parity_rows(required: int, total: int) -> bytes:
    return PORTABLE.cauchy(required, total)[required * required :]


def test_the_field_is_a_field() -> None:
    assert sorted(inverse(value) for value in range(1, 256)) == list(range(1, 256))
    assert all(field.times(value, inverse(value)) == 1 for value in range(1, 256))


@pytest.mark.parametrize(("required", "total"), [(1, 1), (1, 255), (4, 6), (29, 80), (254, 255)])
def test_cauchy_is_the_identity_and_one_over_row_xor_column(
    kernel: Galois, required: int, total: int
) -> None:
    matrix = kernel.cauchy(required, total)
    assert len(matrix) == total * required
    assert matrix[: required * required] == field.identity(required)
    for at in range(required * required, len(matrix)):
        assert field.times(matrix[at], at // required ^ at % required) == 1


@pytest.mark.skipif("isa-l (pyeclib's)" not in KERNELS, reason="needs pyeclib's wheel")
def test_cauchy_is_that_of_isa_l() -> None:
    library = ctypes.CDLL(isal._wheel_library())
    for required, total in ((1, 1), (1, 2), (3, 10), (10, 30), (29, 80), (200, 255)):
        matrix = ctypes.create_string_buffer(required * total)
        library.gf_gen_cauchy1_matrix(matrix, total, required)
        assert PORTABLE.cauchy(required, total) == matrix.raw


@pytest.mark.parametrize("size", [1, 2, 5, 29])
def test_inverse_times_matrix_is_the_identity(kernel: Galois, size: int) -> None:
    for seed in range(5):
        matrix = random.Random(seed).randbytes(size * size)
        assert field.product(kernel.invert(matrix, size), matrix, size) == field.identity(size)


def test_inverting_needs_rows_swapped_when_a_pivot_is_nought(kernel: Galois) -> None:
    assert kernel.invert(b"\0\1\1\0", 2) == b"\0\1\1\0"
    assert kernel.invert(b"\0\2\0\3\0\0\0\0\4", 3) == bytes(
        [0, inverse(3), 0, inverse(2), 0, 0, 0, 0, inverse(4)]
    )


@pytest.mark.parametrize("matrix", [b"\0", b"\1\2\1\2", b"\1\2\2\4", b"\0\1\0\2", bytes(9)])
def test_a_singular_matrix_has_no_inverse(kernel: Galois, matrix: bytes) -> None:
    size = {1: 1, 4: 2, 9: 3}[len(matrix)]
    with pytest.raises(ValueError, match="without an inverse"):
        kernel.invert(matrix, size)


@pytest.mark.parametrize("length", [1, 7, 31, 32, 63, 64, 65, 127, 129, 300])
@pytest.mark.parametrize(("required", "outputs"), [(1, 1), (3, 7), (4, 2), (7, 1)])
def test_multiply_is_the_sum_of_products(
    kernel: Galois, required: int, outputs: int, length: int
) -> None:
    rows, sources = NOISE[-required * outputs :], cut(required, length)
    expected = [
        field.combine(rows[at : at + required], sources) for at in range(0, len(rows), required)
    ]
    assert run(kernel, rows, sources) == expected


@pytest.mark.parametrize("factor", [0, 1, 2, 0x80, 0xFF])
def test_single_factors(kernel: Galois, factor: int) -> None:
    everything = memoryview(bytes(range(256)))
    assert run(kernel, bytes([factor]), [everything]) == [
        field.combine(bytes([factor]), [everything])
    ]


@pytest.mark.parametrize(
    ("required", "total", "length"),
    [
        (1, 2, isal._TILE_BYTES + 1),
        (3, 10, isal._TILE_BYTES // 3),
        (4, 6, 2 * isal._TILE_BYTES // 4 + 63),
        (10, 30, isal._TILE_BYTES // 10 - 1),
        (29, 80, isal._TILE_BYTES // 29 + 1000),
        (200, 255, isal._TILE_BYTES // 200 + 77),
    ],
)
def test_kernels_are_byte_identical_across_tiles(
    kernel: Galois, required: int, total: int, length: int
) -> None:
    rows, sources = parity_rows(required, total), cut(required, length)
    assert run(kernel, rows, sources) == run(PORTABLE, rows, sources)


def test_rows_of_mixed_kinds_are_not_taken_for_parity(kernel: Galois) -> None:
    rows, sources = parity_rows(4, 8), cut(4, 100)
    swapped = rows[4:8] + rows[:4] + rows[8:]
    first, second, *rest = run(PORTABLE, rows, sources)
    assert run(kernel, swapped, sources) == [second, first, *rest]
    assert run(kernel, NOISE[: 200 * 200], cut(200, 5)) == run(
        PORTABLE, NOISE[:40_000], cut(200, 5)
    )


def test_sources_may_be_writable_or_not_and_stay_as_they_are(kernel: Galois) -> None:
    rows, sources = parity_rows(4, 6), cut(4, 1000)
    copies = [bytearray(source) for source in sources]
    assert run(kernel, rows, [memoryview(copy) for copy in copies]) == run(kernel, rows, sources)
    assert copies == sources
    for copy in copies:
        copy.append(0)  # a bytearray that somebody still looks at refuses


def test_no_view_is_kept(kernel: Galois) -> None:
    sources = cut(4, 100)
    run(kernel, parity_rows(4, 6), sources)
    for source in sources:
        source.release()  # a view that somebody still looks through refuses


def test_nothing_to_do_is_done(kernel: Galois) -> None:
    kernel.multiply(kernel.tables(b"", 4), cut(4, 100), [])
    empty = [memoryview(bytearray()) for _ in range(6)]
    kernel.multiply(kernel.tables(parity_rows(4, 6), 4), empty[:4], empty[4:])


@pytest.mark.parametrize(
    ("sources", "targets", "text"),
    [
        ([8] * 3, [8] * 2, "3 sources and 2 targets given, 4 and 2 needed"),
        ([8] * 4, [8] * 3, "4 sources and 3 targets given, 4 and 2 needed"),
        ([8] * 4, [8], "4 sources and 1 targets given"),
        ([8, 8, 8, 9], [8] * 2, "buffers of 8 to 9 bytes"),
        ([8] * 4, [8, 7], "buffers of 7 to 8 bytes"),
        ([0] * 4, [0, 1], "buffers of 0 to 1 bytes"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_byte_is_written(
    kernel: Galois, sources: list[int], targets: list[int], text: str
) -> None:
    tables = kernel.tables(parity_rows(4, 6), 4)
    out = [bytearray(length) for length in targets]
    with pytest.raises(ValueError, match=text):
        kernel.multiply(
            tables, [memoryview(NOISE)[:length] for length in sources], [memoryview(o) for o in out]
        )
    assert not any(map(any, out))


def test_read_only_targets_are_refused(kernel: Galois) -> None:
    tables = kernel.tables(parity_rows(4, 6), 4)
    frozen = bytes(100)
    with pytest.raises(TypeError):
        kernel.multiply(tables, cut(4, 100), [memoryview(frozen)] * 2)
    assert frozen == bytes(100)


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("library", LIBRARY, ids=lambda found: found.name)
def test_no_address_is_taken_of_bytes_that_do_not_lie_together(library: Isal, at: int) -> None:
    tables = library.tables(parity_rows(2, 3), 2)
    views = [memoryview(bytearray(64)) for _ in range(3)]
    views[at] = memoryview(bytearray(128))[::2]
    with pytest.raises((TypeError, BufferError)):
        library.multiply(tables, views[:2], views[2:])
    views[at] = memoryview(bytes(128))[::2]
    with pytest.raises((TypeError, BufferError)):
        library.multiply(tables, views[:2], views[2:])


def test_threads_do_not_disturb_one_another(kernel: Galois) -> None:
    rows = parity_rows(4, 6)
    parts = [cut(4, length) for length in range(20_000, 20_016)]
    expected = [run(PORTABLE, rows, part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda part: run(kernel, rows, part), parts)) == expected


@pytest.mark.parametrize("library", LIBRARY, ids=lambda found: found.name)
def test_other_threads_run_while_isa_l_multiplies(library: Isal) -> None:
    tables, sources = library.tables(parity_rows(10, 30), 10), cut(10, 900_000)
    targets = [memoryview(bytearray(900_000)) for _ in range(20)]
    assert lets_others_run(lambda: library.multiply(tables, sources, targets))


def test_the_best_is_loaded_and_python_alone_is_always_there() -> None:
    assert isal.load().name == next(iter(KERNELS))
    assert list(KERNELS)[-1] == "portable"


def test_all_of_pyeclib_is_right_where_it_is_installed() -> None:
    pytest.importorskip("pyeclib")
    assert {"isa-l (pyeclib's)", "pyeclib"} <= KERNELS.keys()


def test_python_alone_serves_where_nothing_was_installed(repository: Path) -> None:
    script = (
        "from dsn.kernels import isal; print(*(kernel.name for kernel in isal.kernels()), sep=';')"
    )
    run = [sys.executable, "-S", "-c", script]
    out = subprocess.run(run, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert [name for name in out.strip().split(";") if name != "isa-l (system's)"] == ["portable"]


def test_another_library_is_not_taken_for_isa_l() -> None:
    with pytest.raises(AttributeError):
        Isal("the process itself", ctypes.CDLL(None))


class Vandermonde(Portable):
    def cauchy(self, required: int, total: int) -> bytes:
        powers = bytes(
            pow(at // required + 1, at % required, 256) for at in range(required * total)
        )
        return field.identity(required) + powers[required * required :]


class ShortTail(Portable):
    """Leaves what is beyond whole vectors alone, as a careless tile loop would."""

    def multiply(
        self, tables: Tables, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        whole = len(sources[0]) // 64 * 64
        super().multiply(tables, [s[:whole] for s in sources], [t[:whole] for t in targets])


class OneTable(Portable):
    def tables(self, rows: bytes, required: int) -> Tables:
        return super().tables(rows[:-1] + bytes([rows[-1] ^ 1]), required)


@pytest.mark.parametrize("wrong", [Vandermonde, ShortTail, OneTable])
def test_a_kernel_that_is_wrong_is_found_out(wrong: type[Portable]) -> None:
    assert isal.agrees(Portable(), PORTABLE)
    assert not isal.agrees(wrong(), PORTABLE)
