"""The manifest: an immutable core, and the signed head that leads to its placement.

The core says what a file is, the placement where its shards are. Every decoder here takes
hostile bytes, checks sizes before it allocates, and accepts one spelling only.

Spec: docs/spec/data.md#manifest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from dsn.core import cipher, tags
from dsn.core.codec import U64_MAX, Reader, Writer
from dsn.core.hashing import HASH_BYTES, tagged
from dsn.core.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, verify_signature
from dsn.core.layout import MAX_FILE_BYTES, FileLayout, Scheme
from dsn.core.names import MAX_FILE_NAME_BYTES, file_name_fault, text_fault
from dsn.core.placement import MAX_NODES, Copy, PageRef, page_count
from dsn.errors import MalformedMessage, UsageError
from dsn.ids import ID_BYTES, Commit, FileId, NodeId
from dsn.units import INLINE_BYTES

VERSION = 1
MAX_MEDIA_TYPE_BYTES = 255
MAX_META_ENTRIES = 64
MAX_META_KEY_BYTES = 255
MAX_META_VALUE_BYTES = 4_096
MAX_PRIVATE_BYTES = 64 << 10
"""The sealed private part: room for a name, inline data and some metadata."""
_TIME_BYTES = 8


class FileKind(Enum):
    """What a stored file's plaintext is."""

    FILE = 0
    DIRECTORY = 1


def read_kind(reader: Reader) -> FileKind:
    """Take a kind's byte, or refuse it."""
    value = reader.u8()
    try:
        return FileKind(value)
    except ValueError as error:
        raise reader.refuse(f"unknown kind {value}") from error


@dataclass(frozen=True, slots=True)
class Private:
    """What only readers learn of a file.

    Attributes:
        name: The file's own name, no path; empty if it has none.
        media_type: Such as ``text/plain``; empty if unknown.
        mtime_us: Unix microseconds, negative before 1970.
        meta: The user's own key-value pairs.
        kind: Whether the plaintext is a directory's listing.
        inline: The whole file if it is at most 4 KiB, else ``None``.

    Raises:
        UsageError: ``bad_name``, or ``bad_metadata`` for a field over its bound.
    """

    name: str
    media_type: str = ""
    mtime_us: int = 0
    meta: Mapping[str, str] = field(default_factory=dict)
    kind: FileKind = FileKind.FILE
    inline: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse what a decoder would refuse."""
        if fault := file_name_fault(self.name):
            raise UsageError(f"{self.name!r} cannot be a file's name: {fault}", code="bad_name")
        if fault := self._metadata_fault():
            raise UsageError(f"the metadata cannot be stored: {fault}", code="bad_metadata")

    def _metadata_fault(self) -> str:
        if len(self.meta) > MAX_META_ENTRIES:
            return f"{len(self.meta)} entries, at most {MAX_META_ENTRIES} allowed"
        texts = [("the media type", self.media_type, MAX_MEDIA_TYPE_BYTES)]
        for key, value in self.meta.items():
            texts += [("a key", key, MAX_META_KEY_BYTES), ("a value", value, MAX_META_VALUE_BYTES)]
        for what, text, most in texts:
            if fault := text_fault(text, most):
                return f"{what}: {fault}"
        size = len(self.encode())
        fits = size <= MAX_PRIVATE_BYTES
        return "" if fits else f"{size} bytes with the name, at most {MAX_PRIVATE_BYTES} allowed"

    def encode(self) -> bytes:
        """The fixed encoding; metadata sorted by key."""
        out = Writer().u8(self.kind.value).text(self.name).text(self.media_type)
        out.raw(self.mtime_us.to_bytes(_TIME_BYTES, "big", signed=True), _TIME_BYTES)
        out.u8(len(self.meta))
        for key in sorted(self.meta):
            out.text(key).text(self.meta[key])
        out.u8(self.inline is not None)
        return out.done() if self.inline is None else out.var(self.inline).done()

    @classmethod
    def decode(cls, data: bytes) -> Private:
        """Read what ``encode`` wrote (untrusted).

        Raises:
            MalformedMessage: Anything else.
        """
        reader = Reader(data, "private part")
        kind, name = read_kind(reader), reader.text(MAX_FILE_NAME_BYTES)
        media_type = reader.text(MAX_MEDIA_TYPE_BYTES)
        mtime_us = int.from_bytes(reader.raw(_TIME_BYTES), "big", signed=True)
        meta: dict[str, str] = {}
        for _ in range(reader.u8()):
            key, value = reader.text(MAX_META_KEY_BYTES), reader.text(MAX_META_VALUE_BYTES)
            if meta and key <= next(reversed(meta)):
                raise reader.refuse("metadata is not sorted")
            meta[key] = value
        present = reader.u8()
        if present > 1:
            raise reader.refuse(f"flag {present} for inline data, 0 or 1 allowed")
        inline = reader.var(INLINE_BYTES) if present else None
        reader.end()
        try:
            return cls(name, media_type, mtime_us, meta, kind, inline)
        except UsageError as error:
            raise reader.refuse(error.message) from error


class SegmentSeal(NamedTuple):
    """How one segment was sealed, and the BLAKE3-256 of what came out."""

    salt: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Core:
    """What a file is, for ever: ``file_id`` commits to every byte of it.

    Attributes:
        scheme: Any ``required`` of ``total`` shards of a segment give it back.
        size: Plaintext bytes.
        placement_public: The Ed25519 key that signs placements.
        segments: One seal a segment; their count and lengths follow from the size.
        sealed_private: A ``Private``, sealed under the content key.
    """

    scheme: Scheme
    size: int
    placement_public: bytes
    segments: tuple[SegmentSeal, ...]
    sealed_private: bytes

    @property
    def layout(self) -> FileLayout:
        """How the file is cut."""
        return FileLayout(self.size, self.scheme.required)

    def encode(self) -> bytes:
        """The fixed encoding."""
        out = Writer().u8(VERSION).u8(self.scheme.required).u8(self.scheme.total).u64(self.size)
        out.raw(self.placement_public, PUBLIC_KEY_BYTES)
        for seal in self.segments:
            out.raw(seal.salt, cipher.SALT_BYTES).raw(seal.hash, HASH_BYTES)
        return out.var(self.sealed_private).done()

    @classmethod
    def decode(cls, data: bytes) -> Core:
        """Read what ``encode`` wrote (untrusted).

        Raises:
            MalformedMessage: Anything else; ``unknown_version`` for a newer format.
        """
        reader = Reader(data, "core")
        core = cls.read(reader)
        reader.end()
        return core

    @classmethod
    def read(cls, reader: Reader) -> Core:
        """Take a core off the front of ``reader``."""
        version = reader.u8()
        if version != VERSION:
            raise MalformedMessage(
                f"manifest version {version}, {VERSION} known here",
                code="unknown_version",
                hint="update dsn",
            )
        scheme, size = read_scheme(reader), reader.u64()
        if size > MAX_FILE_BYTES:
            raise reader.refuse(f"a file of {size} bytes, at most {MAX_FILE_BYTES} allowed")
        public = reader.raw(PUBLIC_KEY_BYTES)
        count = FileLayout(size, scheme.required).segments
        seals = reader.raw(count * (cipher.SALT_BYTES + HASH_BYTES))
        segments = tuple(SegmentSeal(*pair) for pair in struct.iter_unpack(">16s32s", seals))
        return cls(scheme, size, public, segments, reader.var(MAX_PRIVATE_BYTES + 16))

    @property
    def hash(self) -> bytes:
        """H(``dsn/core/v1``, core)."""
        return tagged(tags.CORE, self.encode())

    @property
    def file_id(self) -> FileId:
        """What capabilities name."""
        return file_id_of(self.placement_public, self.hash)

    def open_private(self, content_key: bytes) -> Private:
        """Open and decode the private part.

        Raises:
            PeerError: ``sealed_box`` under another key; ``malformed_message`` when it does
                not decode, or its inline data is not the file's.
        """
        private = Private.decode(cipher.open_private(content_key, self.sealed_private))
        inline = None if private.inline is None else len(private.inline)
        if inline != (self.size if self.size <= INLINE_BYTES else None):
            raise MalformedMessage(f"inline data of {inline} bytes in a file of {self.size}")
        return private


def read_scheme(reader: Reader) -> Scheme:
    """Take a scheme's two bytes, or refuse them."""
    try:
        return Scheme(reader.u8(), reader.u8())
    except UsageError as error:
        raise reader.refuse(error.message) from error


def file_id_of(placement_public: bytes, core_hash: bytes) -> FileId:
    """The id that binds a file's core to the key that places it."""
    return FileId(tagged(tags.FILE, placement_public, core_hash))


@dataclass(frozen=True, slots=True)
class Head:
    """A file's core and the list of its pages, signed by the placement key.

    Attributes:
        core: What the file is.
        sequence: Unix microseconds; always above the last writer's.
        nodes: The table that node numbers point into; only ever appended to.
        pages: One a 256 segments.
        signature: Over everything before it.
    """

    core: Core
    sequence: int
    nodes: tuple[NodeId, ...]
    pages: tuple[PageRef, ...]
    signature: bytes

    def encode(self) -> bytes:
        """The fixed encoding; sealed with ``seal_box`` for each copy."""
        body = _encode_body(self.core, self.sequence, self.nodes, self.pages)
        return body + self.signature

    @classmethod
    def decode(cls, data: bytes) -> Head:
        """Read what ``encode`` wrote (untrusted); ``verify_head`` comes next.

        Raises:
            MalformedMessage: Anything else.
        """
        reader = Reader(data, "head")
        core, sequence = Core.read(reader), reader.u64()
        table = reader.raw(reader.u16() * ID_BYTES)
        nodes = tuple(NodeId(table[at : at + ID_BYTES]) for at in range(0, len(table), ID_BYTES))
        if len(set(nodes)) != len(nodes):
            raise reader.refuse("a node stands twice in the table")
        count = page_count(len(core.segments))
        if reader.left < count * HASH_BYTES:
            raise reader.refuse(f"{reader.left} bytes left for {count} pages")
        pages = tuple(_read_page_ref(reader, len(nodes)) for _ in range(count))
        signature = reader.raw(SIGNATURE_BYTES)
        reader.end()
        return cls(core, sequence, nodes, pages, signature)


def _read_page_ref(reader: Reader, nodes: int) -> PageRef:
    digest, copies = reader.raw(HASH_BYTES), []
    for _ in range(reader.u8()):
        copy = Copy(reader.u16(), Commit(reader.raw(ID_BYTES)))
        if copy.node >= nodes:
            raise reader.refuse(f"node number {copy.node} in a table of {nodes}")
        copies.append(copy)
    return PageRef(digest, tuple(copies))


def _encode_body(
    core: Core, sequence: int, nodes: Sequence[NodeId], pages: Sequence[PageRef]
) -> bytes:
    out = Writer().u64(sequence).u16(len(nodes))
    for node in nodes:
        out.raw(node, ID_BYTES)
    for page in pages:
        out.raw(page.hash, HASH_BYTES).u8(len(page.copies))
        for copy in page.copies:
            out.u16(copy.node).raw(copy.commit, ID_BYTES)
    return core.encode() + out.done()


def sign_head(
    core: Core,
    sequence: int,
    nodes: Sequence[NodeId],
    pages: Sequence[PageRef],
    sign: Callable[[bytes], bytes],
) -> Head:
    """Make a head.

    Args:
        core: What the file is.
        sequence: Unix microseconds, above the last head's.
        nodes: At most 65,535, each once.
        pages: One a 256 segments.
        sign: Signs with the placement key.
    """
    assert 0 <= sequence <= U64_MAX
    assert len(set(nodes)) == len(nodes) <= MAX_NODES
    assert len(pages) == page_count(len(core.segments))
    digest = tagged(tags.HEAD, _encode_body(core, sequence, nodes, pages))
    return Head(core, sequence, tuple(nodes), tuple(pages), sign(digest))


def verify_head(head: Head, file_id: FileId) -> None:
    """Check that ``head`` (untrusted) is of the file ``file_id`` and signed by its placement key.

    Raises:
        MalformedMessage: ``wrong_file``, it is another file's.
        InvalidSignature: The placement key did not sign it.
    """
    if head.core.file_id != file_id:
        raise MalformedMessage("a head of another file", code="wrong_file")
    body = _encode_body(head.core, head.sequence, head.nodes, head.pages)
    verify_signature(head.core.placement_public, tagged(tags.HEAD, body), head.signature)
