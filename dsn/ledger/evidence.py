"""Evidence: what anyone can judge offline, with the network file's keys alone.

Three kinds share one file format: two checkpoints that cannot both be true, which convict an
operator that forks its log and a witness that cosigns both sides; a promise that was not kept; a
step that the rules do not allow. Evidence convicts a key and not a name.

Spec: docs/spec/evidence.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, assert_never

from dsn.core.codec import Reader
from dsn.errors import InvalidProof
from dsn.ledger.checkpoint import (
    KeyKind,
    NoteKey,
    SignedCheckpoint,
    unsigned,
    verify_checkpoint,
)
from dsn.ledger.conviction import (
    MAGIC,
    Conviction,
    EvidenceKind,
    begin,
    read_note,
    read_path,
    write_note,
    write_path,
)
from dsn.ledger.cosignature import cosigned_at
from dsn.ledger.fraud import Fraud, judge_fraud
from dsn.ledger.log import fold_prefix_proof
from dsn.ledger.promise import BrokenPromise, judge_promise
from dsn.ledger.trust import Trust


class Fault(Enum):
    """Why two checkpoints cannot both be true."""

    FORK = "fork"
    """Of one size, and they say different things."""
    HISTORY = "history"
    """The larger log does not begin with the smaller one."""
    REWIND = "rewind"
    """The smaller log is the later one: by its epoch, or by the time of a cosignature."""


@dataclass(frozen=True, slots=True)
class Contradiction:
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
        writer = begin(EvidenceKind.CONTRADICTION)
        write_note(writer, self.smaller)
        write_note(writer, self.larger)
        write_path(writer, self.path)
        return writer.done()

    @classmethod
    def read(cls, reader: Reader) -> Contradiction:
        """Take the fields out of ``reader`` (untrusted).

        Raises:
            MalformedMessage: Not in order, or a line too many.
        """
        smaller, larger, path = read_note(reader), read_note(reader), read_path(reader)
        if len(smaller.signatures) != 1 or len(larger.signatures) != 1:
            raise reader.refuse("one line a checkpoint needed")
        if _order(smaller) > _order(larger):
            raise reader.refuse("the smaller checkpoint comes first")
        return cls(smaller, larger, path)


Evidence = Contradiction | BrokenPromise | Fraud
_KINDS: Final[dict[EvidenceKind, type[Evidence]]] = {
    EvidenceKind.CONTRADICTION: Contradiction,
    EvidenceKind.BROKEN_PROMISE: BrokenPromise,
    EvidenceKind.FRAUD: Fraud,
}


def kind_of(evidence: Evidence) -> EvidenceKind:
    """Which kind it is."""
    return next(kind for kind, each in _KINDS.items() if isinstance(evidence, each))


def decode_evidence(raw: bytes) -> Evidence:
    """Read what any kind's ``encode`` wrote; it convicts nobody before ``convict``.

    Args:
        raw: Untrusted.

    Raises:
        MalformedMessage: It is no evidence, or of a kind that is not known.
    """
    reader = Reader(raw, "evidence")
    if reader.raw(min(len(MAGIC), reader.left)) != MAGIC:
        raise reader.refuse("it does not begin like one")
    kind = reader.u8()
    if kind not in _KINDS:
        raise reader.refuse(f"kind {kind} is not known")
    evidence = _KINDS[EvidenceKind(kind)].read(reader)
    reader.end()
    return evidence


def convict(evidence: Evidence, trust: Trust) -> Conviction:
    """Who did wrong, and what.

    Args:
        evidence: Untrusted.
        trust: From the network file; evidence brings no key of its own.

    Raises:
        InvalidProof: ``other_log``: of another network; ``unknown_key``: it accuses a key that is
            not this network's; else as the judge of its kind, ``no_fault`` if nothing is wrong.
        DsnError: As the judge of its kind.
    """
    match evidence:
        case BrokenPromise():
            return judge_promise(evidence, trust)
        case Fraud():
            return judge_fraud(evidence, trust)
        case Contradiction():
            accused = _accused(evidence, trust)
            fault = judge(evidence, accused)
            sizes = [each.checkpoint.size for each in (evidence.smaller, evidence.larger)]
            return Conviction(accused, fault.value, _SAID[fault].format(*sizes))
        case _:
            assert_never(evidence)


def accuse(
    one: SignedCheckpoint, other: SignedCheckpoint, key: NoteKey, path: Sequence[bytes] = ()
) -> Contradiction:
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
    evidence = Contradiction(smaller, larger, tuple(path))
    judge(evidence, key)
    return evidence


def judge(evidence: Contradiction, accused: NoteKey) -> Fault:
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


_SAID: Final = {
    Fault.FORK: "signed two different checkpoints of {} entries",
    Fault.HISTORY: "signed a log of {} entries, and one of {} that does not begin with it",
    Fault.REWIND: "signed a log of {} entries after one of {}",
}


def _accused(evidence: Contradiction, trust: Trust) -> NoteKey:
    for signed in (evidence.smaller, evidence.larger):
        if signed.checkpoint.origin != trust.operator.name:
            raise InvalidProof(
                f"checkpoints of {signed.checkpoint.origin}, {trust.operator.name} expected",
                code="other_log",
            )
    for key in (trust.operator, *trust.quorum.witnesses):
        if (key.name, key.key_id) == evidence.accused:
            return key
    raise InvalidProof(f"{evidence.accused[0]} is no key of this network", code="unknown_key")


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
