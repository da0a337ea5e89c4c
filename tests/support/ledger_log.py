"""Logs in memory, and an operator and witnesses that sign what they are told to."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey
from dsn.ids import NetworkId
from dsn.ledger.checkpoint import (
    Checkpoint,
    KeyKind,
    NoteKey,
    SignedCheckpoint,
    log_origin,
    sign_checkpoint,
)
from dsn.ledger.cosignature import cosign
from dsn.ledger.log import Frontier, Hashes, TreeHead, leaf_hash

ORIGIN = log_origin(NetworkId(b"\x01" * 32))
NOW_S = 1_700_000_000
_SECRETS = {name: SigningKey(sha256(name.encode())) for name in (ORIGIN, "w1", "w2", "w3", "w4")}
OPERATOR = NoteKey(KeyKind.OPERATOR, ORIGIN, _SECRETS[ORIGIN].public)
WITNESSES = tuple(
    NoteKey(KeyKind.WITNESS, name, _SECRETS[name].public) for name in ("w1", "w2", "w3")
)
STRANGER = NoteKey(KeyKind.WITNESS, "w4", _SECRETS["w4"].public)


class MadeLog(NamedTuple):
    """A log all of whose hashes are at hand."""

    leaves: list[bytes]
    hashes: Hashes

    def head(self, size: int) -> TreeHead:
        """Size and root as they were at ``size`` leaves."""
        return Frontier.at(self.hashes, size).head


def log_of(leaves: Iterable[bytes]) -> MadeLog:
    """The log of these leaves."""
    all_leaves = list(leaves)
    _, hashes = Frontier().extend(map(leaf_hash, all_leaves))
    return MadeLog(all_leaves, hashes.__getitem__)


@cache
def counted(size: int, forked_at: int = 1 << 63) -> MadeLog:
    """A log of ``size`` different leaves; from ``forked_at`` they are others."""
    return log_of(b"leaf %d" % n if n < forked_at else b"other %d" % n for n in range(size))


def at(log: MadeLog, size: int, epoch: int | None = None) -> Checkpoint:
    """What an operator could say of ``log``; the epoch rises every ten leaves."""
    head = log.head(size)
    state_root = sha256(b"".join(log.leaves[:size]))
    return Checkpoint(ORIGIN, *head, state_root, size // 10 if epoch is None else epoch)


def signed(checkpoint: Checkpoint, *times: tuple[NoteKey, int]) -> SignedCheckpoint:
    """Signed by the operator, and cosigned by witnesses at those times."""
    note = SignedCheckpoint(checkpoint)
    note = note.signed(sign_checkpoint(checkpoint, OPERATOR, _SECRETS[OPERATOR.name].sign))
    for witness, time_s in times:
        note = note.signed(cosign(checkpoint, witness, _SECRETS[witness.name].sign, time_s))
    return note


def cosigned(checkpoint: Checkpoint, time_s: int = NOW_S) -> SignedCheckpoint:
    """Signed by the operator and cosigned by every witness."""
    return signed(checkpoint, *((witness, time_s) for witness in WITNESSES))


def private_key(key: NoteKey) -> str:
    """The text of an operator's private key as Go's note package reads it."""
    raw = key.kind.value + sha256(key.name.encode())
    return f"PRIVATE+KEY+{key.name}+{key.key_id.hex()}+{base64.b64encode(raw).decode()}"
