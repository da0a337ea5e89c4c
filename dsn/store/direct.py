"""Large shard files, written and read past the page cache where the file system allows it.

A page that the cache touches first costs far more processor time than the disk transfer it
saves, and a shard is read too seldom to be worth caching. Direct transfers need aligned
memory, offsets and sizes, so they go through one aligned buffer a thread.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path

from dsn.errors import NoSpace, ShardCorrupt
from dsn.store.files import PRIVATE_FILE
from dsn.units import FRAME_BYTES, format_size

_ALIGN = 4_096
_BUFFER_BYTES = FRAME_BYTES + 2 * _ALIGN
"""A frame that starts and ends between two aligned offsets."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_local = threading.local()


def _buffer() -> memoryview:
    """This thread's aligned buffer; anonymous maps start at a page."""
    if not hasattr(_local, "buffer"):
        _local.buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES))
    buffer: memoryview = _local.buffer
    return buffer


def _down(offset: int) -> int:
    return offset - offset % _ALIGN


def _up(offset: int) -> int:
    return _down(offset + _ALIGN - 1)


def is_full(error: OSError) -> bool:
    """Whether ``error`` says that the disk or a quota is used up."""
    return error.errno in _FULL


def no_space(size_bytes: int, free_bytes: int | None = None) -> NoSpace:
    """The refusal of ``size_bytes``."""
    left = "the disk is full" if free_bytes is None else f"{format_size(free_bytes)} are free"
    return NoSpace(f"no room for {format_size(size_bytes)}: {left}", hint="try another node")


def direct_flag(directory: Path) -> int:
    """``O_DIRECT`` if files in ``directory`` can be written with it, else 0."""
    flag: int = getattr(os, "O_DIRECT", 0)
    probe = directory / "direct"
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | flag, PRIVATE_FILE)
        try:
            os.pwrite(handle, _buffer()[:_ALIGN], 0)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return 0
        raise
    finally:
        probe.unlink(missing_ok=True)
    return flag


class DirectWriter:
    """A new file, written from start to end."""

    def __init__(self, path: Path, size_bytes: int, flag: int) -> None:
        """Create ``path`` and make the disk set ``size_bytes`` aside for it.

        Args:
            path: A file that does not exist.
            size_bytes: What will be written in all.
            flag: From ``direct_flag``.

        Raises:
            NoSpace: The disk is full; nothing is left behind.
        """
        self.path, self._offset, self._tail = path, 0, b""
        mode = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | flag
        self._handle: int | None = os.open(path, mode, PRIVATE_FILE)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._handle, 0, size_bytes)
        except OSError as error:
            self.discard()
            raise (no_space(size_bytes) if is_full(error) else error) from error

    def write(self, data: bytes) -> None:
        """Append ``data``; up to 4 KiB of it wait for more.

        Raises:
            NoSpace: The disk is full.
        """
        view = memoryview(self._tail + data if self._tail else data)
        whole = _down(len(view))
        self._put(view[:whole])
        self._tail = bytes(view[whole:])

    def close(self) -> None:
        """Write what waits, cut the file to its length and make its bytes durable.

        Raises:
            NoSpace: The disk is full.
        """
        assert self._handle is not None
        length = self._offset + len(self._tail)
        if self._tail:
            self._put(memoryview(self._tail.ljust(_ALIGN, b"\0")))
        os.ftruncate(self._handle, length)
        os.fdatasync(self._handle)
        self._close()

    def discard(self) -> None:
        """Close and delete the file; does nothing the second time or after a rename."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def _put(self, view: memoryview) -> None:
        assert self._handle is not None
        buffer = _buffer()
        while view:
            size = min(len(view), FRAME_BYTES)
            buffer[:size] = view[:size]
            done = self._pwrite(buffer[:size])
            view = view[done:]

    def _pwrite(self, aligned: memoryview) -> int:
        """Write what the system takes of ``aligned``, in whole blocks."""
        assert self._handle is not None
        try:
            done = _down(os.pwrite(self._handle, aligned, self._offset))
        except OSError as error:
            raise (no_space(len(aligned)) if is_full(error) else error) from error
        if not done:
            raise no_space(len(aligned))
        self._offset += done
        return done


def read_range(path: Path, start: int, end: int, flag: int) -> bytes:
    """Bytes ``[start, end)`` of a file, at most 1 MiB.

    Raises:
        FileNotFoundError: No such file.
        ShardCorrupt: The file is shorter, or the disk cannot read it.
    """
    first = _down(start)
    view = _buffer()[: _up(end) - first]
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flag)
        try:
            got = _read_into(handle, view, first)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ShardCorrupt(f"{path.name[:10]}: {error.strerror}", code="disk_error") from error
    if first + got < end:
        raise ShardCorrupt(f"{path.name[:10]}: {first + got} bytes on disk, {end} expected")
    return bytes(view[start - first : end - first])


def read_holes(path: Path, start: int, end: int, flag: int) -> tuple[bytes, list[range]]:
    """As ``read_range``, but with zeros where the disk cannot read, and which ranges those are.

    Raises:
        FileNotFoundError: No such file.
        ShardCorrupt: The file is shorter.
    """
    try:
        return read_range(path, start, end, flag), []
    except ShardCorrupt as error:
        if error.detail_code != "disk_error":
            raise
    parts, holes = list[bytes](), list[range]()
    for first in range(_down(start), end, _ALIGN):
        part = range(max(start, first), min(end, first + _ALIGN))
        try:
            parts.append(read_range(path, part.start, part.stop, flag))
        except ShardCorrupt as error:
            if error.detail_code != "disk_error":
                raise
            parts.append(bytes(len(part)))
            holes.append(part)
    return b"".join(parts), holes


def overwrite(path: Path, start: int, data: bytes, flag: int) -> None:
    """Replace bytes of a file where they stand; durable on return.

    A crash leaves some of the new bytes, in whole blocks: so write only what is right by then.

    Args:
        path: A file that is there, as long as it ought to be.
        start: A multiple of 4 KiB.
        data: The new bytes, up to another multiple or up to the file's end.
        flag: From ``direct_flag``.

    Raises:
        FileNotFoundError: No such file.
        ShardCorrupt: ``disk_error``: the disk cannot write it.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flag)
        try:
            _write_over(handle, start, data)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ShardCorrupt(f"{path.name[:10]}: {error.strerror}", code="disk_error") from error


def _write_over(handle: int, start: int, data: bytes) -> None:
    length, view, buffer = os.fstat(handle).st_size, memoryview(data), _buffer()
    while view:
        size = min(len(view), FRAME_BYTES)
        buffer[:size] = view[:size]
        buffer[size : _up(size)] = bytes(_up(size) - size)
        done = os.pwrite(handle, buffer[: _up(size)], start)
        if done != _up(size):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        start, view = start + done, view[done:]
    if start > length:
        os.ftruncate(handle, length)
    os.fdatasync(handle)


def _read_into(handle: int, view: memoryview, offset: int) -> int:
    """Fill ``view`` from ``offset`` on; less only at the end of the file."""
    got = 0
    while got < len(view):
        done = os.preadv(handle, [view[got:]], offset + got)
        got += done
        if not done or done % _ALIGN:
            break
    return got
