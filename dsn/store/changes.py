"""What the volume's log says: every change to the store as a value, and its encoding.

Replaying the changes in order gives the whole state, so the index may be lost at any time.
``SmallStored``, ``LargeStored`` and ``ClaimsSet`` say how things are from then on, not by how
much they differ; a change that is still true may therefore be written again later, which is
all that compaction does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, assert_never

from dsn.core.codec import Reader, Writer
from dsn.errors import MalformedMessage, TooMany
from dsn.ids import ID_BYTES, Commit
from dsn.units import MIB

PENDING = b""
"""Stands where a deal's id stands when only a receipt keeps a shard."""
MAX_HEAD_BYTES = 16 * MIB
"""Enough for a revision that names 500,000 shards."""
_MAX_LIST = 1 << 20
_SHARD = struct.Struct(">32s32sQ")


class Claim(NamedTuple):
    """One client's reason to keep a shard."""

    client: bytes
    deal: bytes
    keep_until_s: int


Claims: TypeAlias = tuple[Claim, ...]


@dataclass(frozen=True, slots=True)
class SmallStored:
    """A shard whose bytes stand in the log; no ``data`` means that they are lost."""

    commit: Commit
    root: bytes
    length: int
    claims: Claims
    data: bytes


@dataclass(frozen=True, slots=True)
class LargeStored:
    """A shard with a file of its own, which is durable before this is, or ``lost``."""

    commit: Commit
    root: bytes
    length: int
    claims: Claims
    lost: bool = False


@dataclass(frozen=True, slots=True)
class ClaimsSet:
    """These shards have exactly these claims; without any, they are gone."""

    commits: tuple[Commit, ...]
    claims: Claims


@dataclass(frozen=True, slots=True)
class Revised:
    """``add`` went from pending to ``deal``, ``drop`` out of ``deal``, under ``revision``.

    What ``deal`` does not hold is dropped out of pending; what it does may be pending for another.
    """

    client: bytes
    deal: bytes
    add: tuple[Commit, ...]
    drop: tuple[Commit, ...]
    revision: bytes

    @property
    def key(self) -> bytes:
        """Where the newest revision of this client and deal is found."""
        return self.client + self.deal


@dataclass(frozen=True, slots=True)
class RecordPut:
    """``value`` replaces whatever stood under ``key``."""

    key: bytes
    value: bytes


Change: TypeAlias = SmallStored | LargeStored | ClaimsSet | Revised | RecordPut


class Encoded(NamedTuple):
    """A change as the log keeps it: the head says all but a small shard's bytes."""

    kind: int
    head: bytes
    body: bytes


def encode(change: Change) -> Encoded:
    """The bytes of ``change``.

    Raises:
        TooMany: More commits than one change can name.
    """
    match change:
        case SmallStored(commit, root, length, claims, data):
            return Encoded(1, _shard(commit, root, length, claims), data)
        case LargeStored(commit, root, length, claims, lost):
            return Encoded(2, _shard(commit, root, length, claims) + bytes([lost]), b"")
        case ClaimsSet(commits, claims):
            return _bounded(3, Writer().var(b"".join(commits)), _claims(claims))
        case Revised(client, deal, add, drop, revision):
            lists = Writer().var(b"".join(add)).var(b"".join(drop))
            return _bounded(4, lists.raw(client, ID_BYTES).raw(deal, ID_BYTES).var(revision))
        case RecordPut(key, value):
            return _bounded(5, Writer().var(key).var(value))
        case _:
            assert_never(change)


def decode(encoded: Encoded) -> Change:
    """The change that ``encode`` wrote.

    Raises:
        MalformedMessage: A kind or a length that this version does not write.
    """
    reader = Reader(encoded.head, "log")
    change = _read(encoded.kind, reader, encoded.body)
    reader.end()
    return change


def _read(kind: int, reader: Reader, body: bytes) -> Change:
    match kind:
        case 1:
            return SmallStored(*_read_shard(reader), body)
        case 2:
            return LargeStored(*_read_shard(reader), reader.u8() == 1)
        case 3:
            return ClaimsSet(_read_commits(reader), _read_claims(reader))
        case 4:
            add, drop = _read_commits(reader), _read_commits(reader)
            client, deal = reader.raw(ID_BYTES), reader.raw(ID_BYTES)
            return Revised(client, deal, add, drop, reader.var(MAX_HEAD_BYTES))
        case 5:
            return RecordPut(reader.var(ID_BYTES), reader.var(MAX_HEAD_BYTES))
        case _:
            raise MalformedMessage(f"log: kind {kind} is not known")


def _bounded(kind: int, head: Writer, rest: bytes = b"") -> Encoded:
    raw = head.done() + rest
    if len(raw) > MAX_HEAD_BYTES:
        raise TooMany(
            f"a change of {len(raw)} bytes, at most {MAX_HEAD_BYTES} fit",
            hint="revise in smaller steps",
        )
    return Encoded(kind, raw, b"")


def _shard(commit: Commit, root: bytes, length: int, claims: Claims) -> bytes:
    return _SHARD.pack(commit, root, length) + _claims(claims)


def _claims(claims: Claims) -> bytes:
    parts = [len(claims).to_bytes(2, "big")]
    for client, deal, keep_until_s in claims:
        parts += (client, len(deal).to_bytes(1, "big"), deal, keep_until_s.to_bytes(8, "big"))
    return b"".join(parts)


def _read_claims(reader: Reader) -> Claims:
    return tuple(
        Claim(reader.raw(ID_BYTES), reader.raw(reader.u8()), reader.u64())
        for _ in range(reader.u16())
    )


def _read_commits(reader: Reader) -> tuple[Commit, ...]:
    joined = reader.var(_MAX_LIST * ID_BYTES)
    return tuple(Commit(joined[at : at + ID_BYTES]) for at in range(0, len(joined), ID_BYTES))


def _read_shard(reader: Reader) -> tuple[Commit, bytes, int, Claims]:
    commit, root = Commit(reader.raw(ID_BYTES)), reader.raw(ID_BYTES)
    return commit, root, reader.u64(), _read_claims(reader)
