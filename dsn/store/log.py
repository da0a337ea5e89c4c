"""The append-only log of a volume: checksummed changes in segments of at most 64 MiB.

The checksums are keyed with a secret of the volume and cover the place, so that bytes which
a client stores can never be taken for a change, whatever else is damaged around them.

A segment starts with 8 bytes of magic, the key (32) and a checksum of both (16), padded to
64. A change is a header of 48 bytes, a head and a body::

    magic 4, kind 1, zero 3, u32 head size, u32 body size, body checksum 16, head checksum 16
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from dsn.errors import ShardCorrupt
from dsn.store.changes import Encoded
from dsn.store.files import PRIVATE_FILE, sync_directory, write_all
from dsn.store.state import Place, Position
from dsn.units import MIB

SEGMENT_BYTES = 64 * MIB
"""Large enough that compaction seldom runs, small enough to read whole when it does."""
KEY_BYTES = 32
_SEGMENT_MAGIC = b"dsnlog1\n"
_SEGMENT_HEADER = 64
_MAGIC = b"\xd5nL\x01"
_HEADER = struct.Struct(">4sB3xII16s16s")
_SIGNED = _HEADER.size - 16
_PLACE = struct.Struct(">IQ")
_SUFFIX = ".log"


class Found(NamedTuple):
    """A change in a segment; not ``sound`` when its body fails the checksum."""

    place: Place
    encoded: Encoded
    sound: bool


class Scan:
    """The changes of one segment, in order; what is damaged is skipped and counted."""

    def __init__(self, key: bytes, number: int, content: bytes, start: int) -> None:
        """Look through ``content`` from ``start`` on."""
        self._key, self._number, self._content = key, number, content
        self._at = max(start, _SEGMENT_HEADER)
        self._skipped_at: int | None = None
        self.end = self._at
        """Where the last change found so far ends; beyond it is a torn write."""
        self.damaged = 0
        """Stretches that were skipped between changes."""

    def again(self) -> Scan:
        """The same from the first change on."""
        return Scan(self._key, self._number, self._content, 0)

    def __iter__(self) -> Iterator[Found]:
        """Each whole change from here on."""
        while 0 <= self._at < len(self._content):
            found = _parse(self._key, self._number, self._content, self._at)
            if found is None:
                self._skip()
                continue
            self._passed(found)
            yield found

    def _skip(self) -> None:
        if self._skipped_at is None:
            self._skipped_at = self._at
        self._at = self._content.find(_MAGIC, self._at + 1)

    def _passed(self, found: Found) -> None:
        if self._skipped_at is not None:
            self.damaged += 1
            self._skipped_at = None
        self._at = self.end = found.place.end


class Log:
    """The segments in one directory; all methods but ``place`` block on the disk."""

    def __init__(self, directory: Path, key: bytes, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Continue the log in ``directory`` after its last segment.

        Args:
            directory: Holds nothing but segments.
            key: 32 secret bytes of the volume.
            segment_bytes: Where a new segment starts; a single change may be longer.
        """
        self._directory, self._key, self._segment_bytes = directory, key, segment_bytes
        self._active = self._durable = 0
        self._next = Position(0, 0)
        self._resume()

    def _resume(self) -> None:
        self._active = max(self.segments(), default=0)
        self._durable = self.size(self._active)
        self.forget()

    @property
    def active(self) -> int:
        """The number of the segment that changes go to; 0 before the first one."""
        return self._active

    @property
    def end(self) -> Position:
        """Where everything durable ends."""
        return Position(self._active, self._durable)

    def segments(self) -> list[int]:
        """The numbers of all segments, ascending."""
        names = self._directory.glob("*" + _SUFFIX)
        return sorted(int(name.stem) for name in names if name.stem.isdigit())

    def size(self, segment: int) -> int:
        """The size of a segment's file; 0 without one."""
        path = self._path(segment)
        return path.stat().st_size if path.exists() else 0

    def place(self, encoded: Encoded) -> Place:
        """Where ``encoded`` will stand if it is in the next ``write``."""
        size = _HEADER.size + len(encoded.head) + len(encoded.body)
        segment, offset = self._next
        if segment == 0 or (offset > _SEGMENT_HEADER and offset + size > self._segment_bytes):
            segment, offset = segment + 1, _SEGMENT_HEADER
        place = Place(segment, offset, size)
        self._next = Position(segment, place.end)
        return place

    def write(self, changes: Sequence[tuple[Place, Encoded]]) -> None:
        """Append ``changes``, placed in this order, and make them durable: all or none.

        Raises:
            OSError: The disk is full or fails; what was written is taken back.
        """
        try:
            for segment in dict.fromkeys(place.segment for place, _ in changes):
                self._append(segment, [each for each in changes if each[0].segment == segment])
        except OSError:
            self._take_back(changes[-1][0].segment)
            raise
        self._active, self._durable = changes[-1][0].segment, changes[-1][0].end

    def forget(self) -> None:
        """Give up the places that no ``write`` followed."""
        self._next = self.end

    def read(self, place: Place) -> Encoded:
        """The change at ``place``.

        Raises:
            FileNotFoundError: The segment is gone; the change may stand elsewhere by now.
            ShardCorrupt: A checksum fails.
        """
        handle = os.open(self._path(place.segment), os.O_RDONLY)
        try:
            raw = os.pread(handle, place.size, place.offset)
        finally:
            os.close(handle)
        found = _parse(self._key, place.segment, raw, 0, base=place.offset)
        if found is None or found.place != place or not found.sound:
            raise ShardCorrupt(
                f"log segment {place.segment}: {place.size} bytes at {place.offset} have rotted"
            )
        return found.encoded

    def scan(self, segment: int, start: int = 0) -> Scan:
        """All changes of ``segment`` from offset ``start`` on; holds the segment in memory."""
        return Scan(self._key, segment, self._path(segment).read_bytes(), start)

    def truncate(self, segment: int, end: int) -> None:
        """Cut a torn write off the last segment, or all of it if nothing else is in it."""
        path = self._path(segment)
        if end <= _SEGMENT_HEADER:
            path.unlink()
        else:
            with path.open("r+b") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        sync_directory(self._directory)
        self._resume()

    def remove(self, segment: int) -> None:
        """Delete a segment that nothing refers to."""
        self._path(segment).unlink()
        sync_directory(self._directory)

    def _path(self, segment: int) -> Path:
        return self._directory / f"{segment:08d}{_SUFFIX}"

    def _append(self, segment: int, changes: Sequence[tuple[Place, Encoded]]) -> None:
        path, start = self._path(segment), changes[0][0].offset
        data = b"".join(_format(self._key, place, encoded) for place, encoded in changes)
        if segment != self._active:
            data, start = segment_header(self._key) + data, 0
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            write_all(handle, data, start)
            os.fdatasync(handle)
        finally:
            os.close(handle)
        if segment != self._active:
            sync_directory(self._directory)

    def _take_back(self, last: int) -> None:
        if self._active:
            os.truncate(self._path(self._active), self._durable)
        for segment in range(self._active + 1, last + 1):
            self._path(segment).unlink(missing_ok=True)


def segment_header(key: bytes) -> bytes:
    """What every segment starts with."""
    known = _SEGMENT_MAGIC + key
    return (known + _sum(key, known)).ljust(_SEGMENT_HEADER, b"\0")


def key_of_segment(header: bytes) -> bytes | None:
    """The volume's key from a segment's first 64 bytes, unless they are damaged."""
    key = header[len(_SEGMENT_MAGIC) : len(_SEGMENT_MAGIC) + KEY_BYTES]
    whole = len(key) == KEY_BYTES and header[:_SEGMENT_HEADER] == segment_header(key)
    return key if whole else None


def _sum(key: bytes, *parts: bytes | memoryview) -> bytes:
    digest = blake3(key=key)
    for part in parts:
        digest.update(part)
    return digest.digest(length=16)


def _format(key: bytes, place: Place, encoded: Encoded) -> bytes:
    head, body = encoded.head, encoded.body
    header = _HEADER.pack(_MAGIC, encoded.kind, len(head), len(body), _sum(key, body), b"")
    signed = header[:_SIGNED]
    head_sum = _sum(key, _PLACE.pack(place.segment, place.offset), signed, head)
    return b"".join((signed, head_sum, head, body))


def _parse(key: bytes, segment: int, raw: bytes, at: int, base: int = 0) -> Found | None:
    """The change at ``raw[at:]``, which stands at offset ``base + at`` of its segment."""
    if len(raw) - at < _HEADER.size or raw[at : at + 4] != _MAGIC:
        return None
    _, kind, head_size, body_size, body_sum, head_sum = _HEADER.unpack_from(raw, at)
    place = Place(segment, base + at, _HEADER.size + head_size + body_size)
    if at + place.size > len(raw):
        return None
    body_at = at + _HEADER.size + head_size
    head, body = raw[at + _HEADER.size : body_at], raw[body_at : body_at + body_size]
    signed = raw[at : at + _SIGNED]
    if head_sum != _sum(key, _PLACE.pack(segment, place.offset), signed, head):
        return None
    sound = body_sum == _sum(key, body)
    return Found(place, Encoded(kind, head, body if sound else b""), sound)
