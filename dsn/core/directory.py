"""A directory's listing, and which small files share one stored file.

A directory is a file whose plaintext is a listing. Small files are packed, many to one
stored file, so that 60,000 photos do not become 2 million shards. Every parent of a path
is itself listed as a directory and paths are relative, so no listing can write outside
the folder it is read into, not even through a link it brings.

Spec: docs/spec/data.md#directories-and-the-catalogue.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from dsn.core import tags
from dsn.core.capability import Capability
from dsn.core.codec import Reader, Writer
from dsn.core.keys import LINK_KEY_BYTES, Kind
from dsn.core.names import MAX_PATH_BYTES, link_fault, path_fault
from dsn.errors import UsageError
from dsn.ids import ID_BYTES, FileId
from dsn.units import MIB

PACK_BELOW_BYTES = MIB
"""Files from this size on are stored on their own."""
PACK_BYTES = 31 * MIB
"""Most plaintext a pack holds: about one segment."""
MODE_MASK = 0o7777
_TIME_BYTES = 8
_LEAST_ITEM_BYTES = 16
_LINK_BYTES = LINK_KEY_BYTES + ID_BYTES


class ItemKind(Enum):
    """What a path is."""

    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2


class Packed(NamedTuple):
    """A range of a pack's plaintext; it is as long as the file."""

    pack: int
    start: int


@dataclass(frozen=True, slots=True)
class Item:
    """One path of a directory.

    Attributes:
        path: Relative to the directory's top, parts joined by ``/``.
        kind: What it is.
        mode: Permission bits.
        mtime_us: Unix microseconds.
        size: Bytes of a file, else 0.
        target: A file's own read link or its place in a pack; ``None`` if it is empty.
        link: Where a symlink points, else empty.
    """

    path: str
    kind: ItemKind
    mode: int
    mtime_us: int
    size: int = 0
    target: Capability | Packed | None = None
    link: str = ""

    def __post_init__(self) -> None:
        """Refuse what a decoder would refuse."""
        if fault := path_fault(self.path):
            raise UsageError(f"{self.path[:80]!r} cannot be stored: {fault}", code="bad_name")
        if self.kind is ItemKind.SYMLINK and (fault := link_fault(self.link)):
            raise UsageError(f"the link {self.path[:80]!r}: {fault}", code="bad_name")
        assert 0 <= self.mode <= MODE_MASK
        assert (self.target is None) == (self.size == 0)
        assert self.size == 0 or self.kind is ItemKind.FILE
        assert self.kind is ItemKind.SYMLINK or not self.link

    @property
    def escapes(self) -> bool:
        """Whether a symlink's text leads outside of the directory."""
        if self.kind is not ItemKind.SYMLINK:
            return False
        reached = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), self.link))
        return reached.startswith("/") or reached.split("/")[0] == ".."


@dataclass(frozen=True, slots=True)
class Listing:
    """All paths below a directory, sorted, with the packs they lie in.

    Attributes:
        items: Sorted by path; every parent is among them.
        packs: Read links; ``Packed.pack`` counts them from 0.
    """

    items: tuple[Item, ...]
    packs: tuple[Capability, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what a decoder would refuse."""
        if fault := _listing_fault(self.items, len(self.packs)):
            raise UsageError(f"this directory cannot be stored: {fault}", code="bad_name")
        assert all(pack.kind is Kind.READ for pack in self.packs)

    def encode(self) -> bytes:
        """The fixed encoding."""
        out = Writer().raw(tags.DIRECTORY, tags.TAG_BYTES).u32(len(self.packs))
        for pack in self.packs:
            _write_link(out, pack)
        out.u32(len(self.items))
        for item in self.items:
            _write_item(out, item)
        return out.done()

    @classmethod
    def decode(cls, data: bytes) -> Listing:
        """Read what ``encode`` wrote (untrusted).

        Raises:
            MalformedMessage: Anything else, and any path that could leave the directory.
        """
        reader = Reader(data, "directory listing")
        if reader.raw(tags.TAG_BYTES) != tags.DIRECTORY:
            raise reader.refuse("it starts with another tag")
        packs = tuple(_read_link(reader) for _ in range(_read_count(reader, _LINK_BYTES)))
        items = [_read_item(reader) for _ in range(_read_count(reader, _LEAST_ITEM_BYTES))]
        reader.end()
        try:
            return cls(tuple(items), packs)
        except UsageError as error:
            raise reader.refuse(error.message) from error


def _listing_fault(items: tuple[Item, ...], packs: int) -> str:
    folders, last = {""}, ""
    for item in items:
        if item.path <= last:
            return f"{item.path[:80]!r} is not sorted, or stands twice"
        if posixpath.dirname(item.path) not in folders:
            return f"the folder of {item.path[:80]!r} is not listed"
        if isinstance(item.target, Packed) and item.target.pack >= packs:
            return f"{item.path[:80]!r} lies in pack {item.target.pack} of {packs}"
        if item.kind is ItemKind.DIRECTORY:
            folders.add(item.path)
        last = item.path
    return ""


def _read_count(reader: Reader, least: int) -> int:
    count = reader.u32()
    if count * least > reader.left:
        raise reader.refuse(f"{reader.left} bytes left for {count} items")
    return count


def _write_link(out: Writer, capability: Capability) -> None:
    assert capability.kind is Kind.READ
    out.raw(capability.key, LINK_KEY_BYTES).raw(capability.file_id, ID_BYTES)


def _read_link(reader: Reader) -> Capability:
    return Capability(Kind.READ, reader.raw(LINK_KEY_BYTES), FileId(reader.raw(ID_BYTES)))


def _write_item(out: Writer, item: Item) -> None:
    out.u8(item.kind.value).text(item.path).u16(item.mode)
    out.raw(item.mtime_us.to_bytes(_TIME_BYTES, "big", signed=True), _TIME_BYTES)
    if item.kind is ItemKind.SYMLINK:
        out.text(item.link)
    elif item.kind is ItemKind.FILE:
        _write_target(out.u64(item.size), item.target)


def _write_target(out: Writer, target: Capability | Packed | None) -> None:
    match target:
        case None:
            pass
        case Packed(pack, start):
            out.u8(0).u32(pack).u64(start)
        case Capability():
            _write_link(out.u8(1), target)


def _read_target(reader: Reader) -> Capability | Packed:
    match reader.u8():
        case 0:
            return Packed(reader.u32(), reader.u64())
        case 1:
            return _read_link(reader)
        case other:
            raise reader.refuse(f"unknown target {other}")


def _read_item(reader: Reader) -> Item:
    value = reader.u8()
    try:
        kind = ItemKind(value)
    except ValueError as error:
        raise reader.refuse(f"unknown kind {value}") from error
    path, mode = reader.text(MAX_PATH_BYTES), reader.u16()
    if mode > MODE_MASK:
        raise reader.refuse(f"mode {mode:o}, at most {MODE_MASK:o} allowed")
    mtime_us = int.from_bytes(reader.raw(_TIME_BYTES), "big", signed=True)
    link = reader.text(MAX_PATH_BYTES) if kind is ItemKind.SYMLINK else ""
    size = reader.u64() if kind is ItemKind.FILE else 0
    target = _read_target(reader) if size else None
    try:
        return Item(path, kind, mode, mtime_us, size, target, link)
    except UsageError as error:
        raise reader.refuse(error.message) from error


class Member(NamedTuple):
    """A file's place in a pack: bytes ``[start, end)``."""

    path: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Pack:
    """Files that are stored as one, end to end, in this order."""

    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        """Plaintext bytes."""
        return self.members[-1].end


def plan_packs(files: Iterable[tuple[str, int]]) -> tuple[Pack, ...]:
    """Group small files into packs, neighbours together.

    Args:
        files: (path, size in bytes); empty ones and those from 1 MiB on are left out.
    """
    packs: list[list[Member]] = []
    for path, size in files:
        if not 0 < size < PACK_BELOW_BYTES:
            continue
        start = packs[-1][-1].end if packs else PACK_BYTES
        if start + size > PACK_BYTES:
            packs.append([])
            start = 0
        packs[-1].append(Member(path, start, start + size))
    return tuple(Pack(tuple(members)) for members in packs)
