"""Erasure coding's arithmetic by ISA-L, found where it may be, or by what stands in for it.

pyeclib's wheel ships ISA-L under a private path, and its own API copies and holds the
interpreter's lock; so the library is called directly. Whatever is found has to agree with
the portable kernel before it is used.

Spec: docs/spec/data.md#erasure-coding.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import struct
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata

from dsn.kernels.galois import Galois, Portable, Tables, check

__all__ = ["Galois", "Tables", "agrees", "kernels", "load"]

_TABLE_BYTES = 32  # ISA-L expands each factor to this
_TILE_BYTES = 512 << 10  # of all sources together: they stay in the second-level cache
_LINE_BYTES = 64  # of the cache; a tile that ends within one costs a tenth
_PYECLIB_HEADER_BYTES = 80
_PYECLIB_TYPE = "isa_l_rs_cauchy"
_SYSTEM_LIBRARY = "libisal.so.2"


class _PyBuffer(ctypes.Structure):
    """CPython's ``Py_buffer``; of its fields only the first is of interest."""

    _fields_ = (("address", ctypes.c_void_p), ("rest", ctypes.c_void_p * 9))


def _address(view: memoryview) -> int:
    """Where ``view`` lies; valid for as long as the caller keeps it."""
    if not view.readonly:
        return _writable_address(view)
    buffer = _PyBuffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(buffer), 0)
    address: int = buffer.address
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return address


def _writable_address(view: memoryview) -> int:
    """As ``_address``, but a ``TypeError`` for what nobody may write to."""
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


class Isal(Portable):
    """ISA-L by ctypes, which lets other threads run; 5 GB/s a core at 10/30."""

    def __init__(self, name: str, library: ctypes.CDLL) -> None:
        """Bind the two calls of ``library`` that do the work.

        Raises:
            AttributeError: ``library`` is not ISA-L.
        """
        self.name = name
        self._init_tables, self._encode = library.ec_init_tables, library.ec_encode_data
        self._init_tables.argtypes = [ctypes.c_int] * 2 + [ctypes.c_void_p] * 2
        self._encode.argtypes = [ctypes.c_int] * 3 + [ctypes.c_void_p] * 3
        self._init_tables.restype = self._encode.restype = None

    def tables(self, rows: bytes, required: int) -> Tables:
        """The rows expanded as ISA-L's code for this processor wants them."""
        outputs = len(rows) // required
        expanded = ctypes.create_string_buffer(_TABLE_BYTES * len(rows))
        self._init_tables(required, outputs, rows, expanded)
        return Tables(required, outputs, expanded.raw)

    def multiply(
        self, tables: Tables, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        """Fill each target with its row's combination of the sources, tile by tile."""
        length = check(tables, sources, targets)
        if not length or not targets:
            return
        required, outputs = tables.required, tables.outputs
        read = [_address(view) for view in sources]
        write = [_writable_address(view) for view in targets]
        tile = _TILE_BYTES // required // _LINE_BYTES * _LINE_BYTES
        for start in range(0, length, tile):
            self._encode(
                min(tile, length - start),
                required,
                outputs,
                tables.expanded,
                struct.pack(f"{required}P", *[address + start for address in read]),
                struct.pack(f"{outputs}P", *[address + start for address in write]),
            )


class Pyeclib(Portable):
    """pyeclib's own API: it only encodes, so that losses are made good by the portable kernel."""

    name = "pyeclib"

    def __init__(self) -> None:
        """Find pyeclib.

        Raises:
            ImportError: It is not installed, or lacks ISA-L.
        """
        api = importlib.import_module("pyeclib.ec_iface")
        if not api.check_backend_available(_PYECLIB_TYPE):
            raise ImportError(f"pyeclib without {_PYECLIB_TYPE}")
        self._driver = functools.lru_cache(4)(
            functools.partial(api.ECDriver, ec_type=_PYECLIB_TYPE)
        )

    def tables(self, rows: bytes, required: int) -> Tables:
        """The rows as they are, or none of them: then pyeclib makes all parity."""
        outputs = len(rows) // required
        total = min(required + outputs, 255)
        is_parity = rows == self.cauchy(required, total)[required * required :]
        return Tables(required, outputs, b"" if is_parity else rows)

    def multiply(
        self, tables: Tables, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        """Fill each target with its row's combination of the sources."""
        length = check(tables, sources, targets)
        if tables.expanded:
            super().multiply(tables, sources, targets)
        elif length and targets:
            driver = self._driver(k=tables.required, m=tables.outputs)
            fragments = driver.encode(b"".join(sources))[tables.required :]
            for target, fragment in zip(targets, fragments, strict=True):
                target[:] = fragment[_PYECLIB_HEADER_BYTES:][:length]


def _wheel_library() -> str:
    """The path of the ISA-L that pyeclib's wheel ships."""
    for file in metadata.files("pyeclib") or ():
        if file.name.startswith("libisal"):
            return str(file.locate())
    raise OSError("pyeclib is installed without ISA-L")


_MAKERS: tuple[Callable[[], Galois], ...] = (
    lambda: Isal("isa-l (pyeclib's)", ctypes.CDLL(_wheel_library())),
    lambda: Isal("isa-l (system's)", ctypes.CDLL(_SYSTEM_LIBRARY)),
    Pyeclib,
    Portable,
)


def agrees(kernel: Galois, reference: Galois) -> bool:
    """Whether ``kernel`` gives the bytes of ``reference`` for telling shapes and lengths."""
    return all(
        _sample(kernel, required, total, length) == _sample(reference, required, total, length)
        for required, total in ((1, 3), (4, 6), (10, 30))
        for length in (1, 63, 200, 1_025)
    )


def _sample(kernel: Galois, required: int, total: int, length: int) -> list[bytes]:
    """All parity over sample data, then one row of mixed factors as decoding has them."""
    noise = hashlib.shake_128(b"isal").digest(required * (length + 1))
    data = [memoryview(noise)[at * length :][:length] for at in range(required)]
    results = []
    for rows in (kernel.cauchy(required, total)[required * required :], noise[-required:]):
        out = [bytearray(length) for _ in range(len(rows) // required)]
        kernel.multiply(kernel.tables(rows, required), data, [memoryview(one) for one in out])
        results += [bytes(one) for one in out]
    return results


def _usable() -> Iterator[Galois]:
    portable = Portable()
    for make in _MAKERS:
        try:
            kernel = make()
        except (ImportError, OSError, AttributeError):
            continue
        if agrees(kernel, portable):
            yield kernel


@functools.cache
def load() -> Galois:
    """The best kernel that works here."""
    return next(_usable())


@functools.cache
def kernels() -> tuple[Galois, ...]:
    """Every kernel that works here, the best first; for tests, benches and ``doctor``."""
    return tuple(_usable())
