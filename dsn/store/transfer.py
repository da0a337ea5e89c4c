"""A client's own files: the source of a put, the output of a get."""

from __future__ import annotations

import bisect
import errno
import fcntl
import hashlib
import itertools
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from dsn.errors import DsnError, NoSpace, NotFound, UsageError

ALIGN = 4_096
"""What direct writes want: addresses, offsets and lengths in whole blocks."""
STAGE_BYTES = 4 << 20


class Source(Protocol):
    """Plaintext being stored; it can be read again until the put is safe."""

    @property
    def size(self) -> int:
        """Bytes."""
        ...

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill ``out`` from byte ``start`` on.

        Raises:
            UsageError: ``source_changed``: it is no longer what it was.
        """
        ...


class BytesSource:
    """Plaintext in memory."""

    def __init__(self, data: bytes) -> None:
        """Read from ``data``."""
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._data)

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill ``out`` from byte ``start`` on."""
        out[:] = self._data[start : start + len(out)]


class SpoolSource:
    """An unnamed file that holds what cannot be read twice, such as standard input."""

    def __init__(self, spool: IO[bytes]) -> None:
        """Read from ``spool``, which must stay open."""
        self._spool = spool
        self.size = os.fstat(spool.fileno()).st_size

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill ``out`` from byte ``start`` on."""
        if not _fill(self._spool.fileno(), start, out):
            raise _changed("standard input")


class FileSource:
    """A regular file; opened while it is read, and refused once it is another one."""

    def __init__(self, path: Path) -> None:
        """Look at ``path``.

        Raises:
            NotFound: It is not there.
            UsageError: It cannot be read.
        """
        self._path = path
        self._fd = self._open()
        self._stat = os.fstat(self._fd)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFound(f"{self._path}: no such file", hint="check the path") from None
        except OSError as error:
            raise UsageError(f"{self._path} cannot be read: {error.strerror}") from None

    @property
    def size(self) -> int:
        """Bytes, as it was at first."""
        return self._stat.st_size

    @property
    def mtime_us(self) -> int:
        """Last change, Unix microseconds."""
        return self._stat.st_mtime_ns // 1000

    @property
    def fingerprint(self) -> list[int]:
        """Size, mtime and inode: another value means another content."""
        return _fingerprint(self._stat)

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill ``out`` from byte ``start`` on.

        Raises:
            UsageError: ``source_changed``.
        """
        if self._fd < 0:
            self._fd = self._open()
            self.check_unchanged()
        if not _fill(self._fd, start, out):
            raise _changed(str(self._path))

    def check_unchanged(self) -> None:
        """Raise ``source_changed`` if the file is no longer what it was."""
        if self._fd >= 0 and _fingerprint(os.fstat(self._fd)) != self.fingerprint:
            raise _changed(str(self._path))

    def close(self) -> None:
        """Let go of the file; reading it again opens it again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class PackSource:
    """Small files end to end, as if they were one."""

    def __init__(self, members: Sequence[tuple[Path, int]]) -> None:
        """Read ``members``, each a path and its size in bytes."""
        self._members = members
        self._starts = [0, *itertools.accumulate(size for _, size in members)]

    @property
    def size(self) -> int:
        """Bytes of all members."""
        return self._starts[-1]

    def read_into(self, start: int, out: memoryview) -> None:
        """Fill ``out`` from byte ``start`` on.

        Raises:
            UsageError: ``source_changed``: a member has another size.
        """
        number = bisect.bisect_right(self._starts, start) - 1
        while out:
            path, size = self._members[number]
            inside = start - self._starts[number]
            part = out[: size - inside]
            source = FileSource(path)
            try:
                if source.size != size:
                    raise _changed(str(path))
                source.read_into(inside, part)
            finally:
                source.close()
            start, out, number = start + len(part), out[len(part) :], number + 1


def read_all(source: Source) -> bytes:
    """The whole of a small source."""
    data = bytearray(source.size)
    source.read_into(0, memoryview(data))
    return bytes(data)


def _fill(fd: int, start: int, out: memoryview) -> bool:
    """Whether ``out`` could be filled from byte ``start`` on."""
    while out:
        count = os.preadv(fd, [out], start)
        if count == 0:
            return False
        out, start = out[count:], start + count
    return True


def _fingerprint(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _changed(name: str) -> UsageError:
    return UsageError(
        f"{name} changed while it was read",
        code="source_changed",
        hint="put it again when nothing writes to it",
    )


class Sink(Protocol):
    """Where plaintext goes, in order, without a copy in between."""

    def room(self, size: int) -> memoryview:
        """Writable memory for the next ``size`` bytes."""
        ...

    def commit(self, size: int) -> None:
        """The first ``size`` bytes of the last ``room`` are there."""
        ...


class MemorySink:
    """Bytes in memory, for what is small."""

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[bytes] = []
        self._room = bytearray()

    def room(self, size: int) -> memoryview:
        """Writable memory for the next ``size`` bytes."""
        self._room = bytearray(size)
        return memoryview(self._room)

    def commit(self, size: int) -> None:
        """Take the first ``size`` bytes of the last ``room``."""
        self._parts.append(bytes(self._room[:size]))

    def data(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)


class StreamSink:
    """A pipe or terminal: written as it comes."""

    def __init__(self, fd: int) -> None:
        """Write to ``fd``."""
        self._fd, self._buffer = fd, bytearray()
        self.sha256 = hashlib.sha256()

    def room(self, size: int) -> memoryview:
        """Writable memory for the next ``size`` bytes."""
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        return memoryview(self._buffer)[:size]

    def commit(self, size: int) -> None:
        """Write the first ``size`` bytes of the last ``room``."""
        view = memoryview(self._buffer)[:size]
        self.sha256.update(view)
        while view:
            view = view[os.write(self._fd, view) :]


class FileSink:
    """A file, written past the page cache in whole blocks where the file system allows it.

    Memory that the page cache touches for the first time costs more CPU than decoding does.
    """

    def __init__(self, path: Path, start: int, *, digest: bool) -> None:
        """Go on writing ``path`` at byte ``start``; what lies beyond is cut off."""
        self.path, self._at, self._fill = path, start - start % ALIGN, start % ALIGN
        self._fd = _open_output(path)
        self._stage = memoryview(mmap.mmap(-1, STAGE_BYTES))
        if self._fill:
            _leave_direct(self._fd)
            os.preadv(self._fd, [self._stage[: self._fill]], self._at)
        os.ftruncate(self._fd, start)
        self.sha256 = hashlib.sha256() if digest else None
        if self.sha256 is not None and start:
            with path.open("rb") as file:
                while data := file.read(1 << 20):
                    self.sha256.update(data)

    def room(self, size: int) -> memoryview:
        """Writable memory for the next ``size`` bytes."""
        if self._fill + size > len(self._stage):
            bigger = memoryview(mmap.mmap(-1, -(-(self._fill + size) // ALIGN) * ALIGN))
            bigger[: self._fill] = self._stage[: self._fill]
            self._stage = bigger
        return self._stage[self._fill : self._fill + size]

    def commit(self, size: int) -> None:
        """Take the first ``size`` bytes of the last ``room``; whole blocks go to disk."""
        if self.sha256 is not None:
            self.sha256.update(self._stage[self._fill : self._fill + size])
        self._fill += size
        whole = self._fill - self._fill % ALIGN
        self._write(self._stage[:whole])
        self._stage[: self._fill - whole] = bytes(self._stage[whole : self._fill])
        self._at, self._fill = self._at + whole, self._fill - whole

    def _write(self, view: memoryview) -> None:
        at = self._at
        try:
            while view:
                try:
                    count = os.pwrite(self._fd, view, at)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    _leave_direct(self._fd)
                    count = os.pwrite(self._fd, view, at)
                view, at = view[count:], at + count
        except OSError as error:
            raise _write_error(self.path, error) from error

    def close(self) -> None:
        """Write the last partial block and close; what is there stays for a later attempt."""
        if self._fd < 0:
            return
        if self._fill:
            _leave_direct(self._fd)
            self._write(self._stage[: self._fill])
        os.close(self._fd)
        self._fd = -1


def _open_output(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags | getattr(os, "O_DIRECT", 0), 0o666)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            return os.open(path, flags, 0o666)
    except OSError as error:
        raise _write_error(path, error) from error


def _leave_direct(fd: int) -> None:
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~getattr(os, "O_DIRECT", 0))


def _write_error(path: Path, error: OSError) -> DsnError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{path}: the disk is full", hint="free space and run the same command")
    return UsageError(f"{path} cannot be written: {error.strerror}")
