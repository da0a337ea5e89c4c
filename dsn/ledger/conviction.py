"""What all evidence has in common: how a file of it begins, and what it comes to.

Spec: docs/spec/evidence.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.ledger.checkpoint import (
    MAX_NOTE_BYTES,
    NoteKey,
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
)
from dsn.ledger.trust import Trust

MAGIC: Final = b"dsn evidence 1\n"
"""How every file of evidence begins; the kind's byte follows."""
MAX_PATH: Final = 64
"""The way through a log of 2^63 leaves, and where it starts."""


class EvidenceKind(IntEnum):
    """What a file of evidence tells."""

    CONTRADICTION = 1
    BROKEN_PROMISE = 2
    FRAUD = 3


@dataclass(frozen=True, slots=True)
class Conviction:
    """Who did wrong, by the network file's keys.

    Attributes:
        accused: Whose signature it rests on.
        fault: A stable code.
        text: What was done, in one line.
    """

    accused: NoteKey
    fault: str
    text: str


def begin(kind: EvidenceKind) -> Writer:
    """Start a file of evidence."""
    return Writer().raw(MAGIC, len(MAGIC)).u8(kind)


def write_path(writer: Writer, path: Sequence[bytes]) -> None:
    """u8 count and the hashes."""
    writer.u8(len(path))
    for digest in path:
        writer.raw(digest, HASH_BYTES)


def read_path(reader: Reader) -> tuple[bytes, ...]:
    """Take a path out of ``reader`` (untrusted)."""
    count = reader.u8()
    if count > MAX_PATH:
        raise reader.refuse(f"a path of {count} hashes, at most {MAX_PATH} allowed")
    return tuple(reader.raw(HASH_BYTES) for _ in range(count))


def write_note(writer: Writer, signed: SignedCheckpoint) -> None:
    """u32 length and the note."""
    writer.var(format_checkpoint(signed))


def read_note(reader: Reader) -> SignedCheckpoint:
    """Take a signed checkpoint out of ``reader`` (untrusted)."""
    return parse_checkpoint(reader.var(MAX_NOTE_BYTES))


def by_operator(signed: SignedCheckpoint, trust: Trust) -> SignedCheckpoint:
    """``signed`` with no lines but those by the operator's two keys."""
    root = signed.root_signature(trust.params.operator)
    own = signed.signature_of(trust.operator)
    lines = (
        line
        for line in signed.signatures
        if line.name == trust.operator.name and line.signature in (own, root)
    )
    return replace(signed, signatures=tuple(lines))
