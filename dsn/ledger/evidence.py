"""Evidence that a key signed two checkpoints which cannot both be true.

Two notes and at most one Merkle path, which anyone can judge offline with the network file's keys
alone. It convicts a key and not a name: an operator that forks its log, and a witness that
cosigns both sides of a fork.

Spec: docs/spec/economy.md#evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidProof
from dsn.ledger.checkpoint import (
    MAX_NOTE_BYTES,
    KeyKind,
    NoteKey,
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
    unsigned,
    verify_checkpoint,
)
from dsn.ledger.cosignature import cosigned_at
from dsn.ledger.log import fold_prefix_proof

MAX_PATH: Final = 64
"""The way through a log of 2^63 leaves, and where it starts."""


class Fault(Enum):
    """Why two checkpoints cannot both be true."""

    FORK = "fork"
    """Of one size, and they say different things."""
    HISTORY = "history"
    """The larger log does not begin with the smaller one."""
    REWIND = "rewind"
    """The smaller log is the later one: by its epoch, or by the time of a cosignature."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Two checkpoints, each with one line, by the same key.

    ``smaller`` has fewer leaves, or as many and a body that sorts first, so one contradiction has
    one encoding. ``path`` is a prefix proof between the two, and empty but for ``Fault.HISTORY``.
    """

    smaller: SignedCheckpoint
    larger: SignedCheckpoint
    path: tuple[bytes, ...] = ()

    @property
    def accused(self) -> tuple[str, bytes]:
        """Name and key id to look the key up by; unchecked."""
        line = self.smaller.signatures[0]
        return line.name, line.key_id

    def encode(self) -> bytes:
        """The fixed encoding."""
        writer = Writer().var(format_checkpoint(self.smaller)).var(format_checkpoint(self.larger))
        writer.u8(len(self.path))
        for digest in self.path:
            writer.raw(digest, HASH_BYTES)
        return writer.done()

    @classmethod
    def decode(cls, raw: bytes) -> Evidence:
        """Read what ``encode`` wrote; it convicts nobody before ``judge``.

        Args:
            raw: Untrusted.

        Raises:
            MalformedMessage: It is no evidence, not in order, or has a line too many.
        """
        reader = Reader(raw, "evidence")
        smaller, larger = (parse_checkpoint(reader.var(MAX_NOTE_BYTES)) for _ in range(2))
        count = reader.u8()
        if count > MAX_PATH:
            raise reader.refuse(f"a path of {count} hashes, at most {MAX_PATH} allowed")
        path = tuple(reader.raw(HASH_BYTES) for _ in range(count))
        reader.end()
        if len(smaller.signatures) != 1 or len(larger.signatures) != 1:
            raise reader.refuse("one line a checkpoint needed")
        if _order(smaller) > _order(larger):
            raise reader.refuse("the smaller checkpoint comes first")
        return cls(smaller, larger, path)


def accuse(
    one: SignedCheckpoint, other: SignedCheckpoint, key: NoteKey, path: Sequence[bytes] = ()
) -> Evidence:
    """Make evidence against ``key`` out of two checkpoints, in any order.

    Args:
        one: As it was received.
        other: Another one of the same log.
        key: Who signed both.
        path: From ``build_prefix_proof`` over the larger log, if the sizes differ and the smaller
            one is not its beginning.

    Raises:
        InvalidProof: As ``judge``: this is no contradiction.
        InvalidSignature: As ``judge``.
    """
    smaller, larger = sorted((_only(one, key), _only(other, key)), key=_order)
    evidence = Evidence(smaller, larger, tuple(path))
    judge(evidence, key)
    return evidence


def judge(evidence: Evidence, accused: NoteKey) -> Fault:
    """What ``accused`` did, if it did anything wrong.

    Args:
        evidence: Untrusted.
        accused: From the network file; evidence brings no key of its own.

    Returns:
        The fault. There is no innocent value: whoever is not convicted, raises.

    Raises:
        InvalidSignature: ``unsigned_checkpoint`` or ``invalid_signature``: not both are signed by
            ``accused``.
        InvalidProof: ``other_log``: of two logs; ``no_fault``: both can be true; ``wrong_path``,
            ``short`` or ``trailing``: the path is not of the larger log.
    """
    smaller, larger = evidence.smaller.checkpoint, evidence.larger.checkpoint
    times = _signed_at(evidence.smaller, accused), _signed_at(evidence.larger, accused)
    if smaller.origin != larger.origin:
        raise InvalidProof(f"checkpoints of {smaller.origin} and {larger.origin}", code="other_log")
    if smaller.size == larger.size:
        if smaller != larger and not evidence.path:
            return Fault.FORK
    elif smaller.size and evidence.path:
        older, newer = fold_prefix_proof(evidence.path, smaller.size, larger.size)
        if newer != larger.root:
            raise InvalidProof(
                f"the path is not of the log of {larger.size} leaves", code="wrong_path"
            )
        if older != smaller.root:
            return Fault.HISTORY
    elif (smaller.epoch > larger.epoch or times[0] > times[1]) and not evidence.path:
        return Fault.REWIND
    raise InvalidProof(
        f"both checkpoints can be true, of {smaller.size} and {larger.size} leaves",
        code="no_fault",
    )


def _signed_at(signed: SignedCheckpoint, key: NoteKey) -> int:
    """Check the line by ``key``; its time, or 0 where a signature has none."""
    if key.kind is KeyKind.OPERATOR:
        verify_checkpoint(signed, key)
        return 0
    time_s = cosigned_at(signed, key)
    if time_s is None:
        raise unsigned(key.name)
    return time_s


def _only(signed: SignedCheckpoint, key: NoteKey) -> SignedCheckpoint:
    """``signed`` without anybody else's line."""
    lines = (s for s in signed.signatures if (s.name, s.key_id) == (key.name, key.key_id))
    return replace(signed, signatures=tuple(lines))


def _order(signed: SignedCheckpoint) -> tuple[int, str]:
    return signed.checkpoint.size, signed.checkpoint.body
