"""Cosignatures: a witness says when it saw a log grow to a checkpoint, and to nothing else.

A reader demands a quorum of them. An operator that shows two histories to two readers then needs
witnesses that lie with it.

Spec: docs/spec/economy.md#log-checkpoints-cosignatures, C2SP tlog-cosignature (cosignature/v1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dsn.core.keys import SIGNATURE_BYTES, verify_signature
from dsn.errors import InvalidSignature, UsageError
from dsn.ledger.checkpoint import (
    MAX_SIGNATURES,
    Checkpoint,
    KeyKind,
    NoteKey,
    NoteSignature,
    SignedCheckpoint,
)

MAX_TIME_S: Final = (1 << 63) - 1
MAX_WITNESSES: Final = MAX_SIGNATURES // 2
"""So that their lines, the operator's and some strangers' fit under one note."""
AHEAD_S: Final = 300
"""How far a witness's clock may be ahead of a reader's."""
_TIME_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class Quorum:
    """``needed`` of these ``witnesses`` must have cosigned; 0 where a network has none."""

    witnesses: tuple[NoteKey, ...]
    needed: int

    def __post_init__(self) -> None:
        """Check the fields.

        A cosignature does not name its witness, so one key under two names would count twice.

        Raises:
            UsageError: ``bad_quorum``.
        """
        count = len(self.witnesses)
        if not 0 <= self.needed <= count <= MAX_WITNESSES:
            raise _bad(f"{self.needed} of {count} witnesses, at most {MAX_WITNESSES} allowed")
        if any(key.kind is not KeyKind.WITNESS for key in self.witnesses):
            raise _bad("a key that is no witness's")
        for what in ("public", "name"):
            if len({getattr(key, what) for key in self.witnesses}) < count:
                raise _bad(f"two witnesses with one {what}")


def cosign(
    checkpoint: Checkpoint, witness: NoteKey, sign: Callable[[bytes], bytes], now_s: int
) -> NoteSignature:
    """The line of a witness that has followed the log up to ``checkpoint``.

    Args:
        checkpoint: Signed by the operator, grown from what the witness cosigned before, and with
            the state root that it found itself.
        witness: Its key.
        sign: Uses that key.
        now_s: The witness's clock, in Unix seconds below 2^63; never earlier than in its last
            cosignature, or the two convict it (``Fault.REWIND``).
    """
    assert witness.kind is KeyKind.WITNESS
    signature = now_s.to_bytes(_TIME_BYTES, "big") + sign(_message(checkpoint, now_s))
    return NoteSignature(witness.name, witness.key_id, signature)


def cosigned_at(signed: SignedCheckpoint, witness: NoteKey) -> int | None:
    """When ``witness`` cosigned, in Unix seconds by its clock; nothing if it did not.

    Args:
        signed: Untrusted.
        witness: From the network file.

    Raises:
        InvalidSignature: The line under its name is not by it.
    """
    assert witness.kind is KeyKind.WITNESS
    line = signed.signature_of(witness)
    if line is None:
        return None
    time_s = int.from_bytes(line[:_TIME_BYTES], "big")
    if len(line) != _TIME_BYTES + SIGNATURE_BYTES or time_s > MAX_TIME_S:
        raise InvalidSignature(f"checkpoint: the line of {witness.name} is no cosignature")
    verify_signature(witness.public, _message(signed.checkpoint, time_s), line[_TIME_BYTES:])
    return time_s


def verify_quorum(signed: SignedCheckpoint, quorum: Quorum, now_s: int) -> None:
    """Check that enough witnesses cosigned.

    Args:
        signed: Untrusted; the operator's signature is checked apart.
        quorum: From the network file.
        now_s: The reader's clock, in Unix seconds; a cosignature more than ``AHEAD_S`` later does
            not count.

    Raises:
        InvalidSignature: ``no_quorum``: too few; ``invalid_signature``: a line that a witness did
            not write, which spoils the note however many others are good.

    Cost: about 60 us a cosignature.
    """
    times = [cosigned_at(signed, witness) for witness in quorum.witnesses]
    found = sum(1 for time_s in times if time_s is not None and time_s <= now_s + AHEAD_S)
    if found < quorum.needed:
        raise InvalidSignature(
            f"checkpoint: {found} of {len(quorum.witnesses)} witnesses cosigned, "
            f"{quorum.needed} needed",
            code="no_quorum",
            hint="ask for a newer checkpoint, or wait until the witnesses have followed",
        )


def _message(checkpoint: Checkpoint, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{checkpoint.body}".encode()


def _bad(reason: str) -> UsageError:
    return UsageError(f"quorum: {reason}", code="bad_quorum")
