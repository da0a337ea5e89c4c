"""A file of evidence judged: who did wrong by it, if anybody did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dsn.errors import DsnError, MalformedMessage
from dsn.ledger.checkpoint import format_note_key
from dsn.ledger.conviction import Conviction, EvidenceKind
from dsn.ledger.evidence import convict, decode_evidence, kind_of
from dsn.ledger.params import LedgerParams
from dsn.ledger.trust import Trust

MAX_EVIDENCE_BYTES: Final = 64 << 20
"""Enough for the inventory of a provider with half a million deals."""
_ELSEWHERE: Final = frozenset({"other_log", "unknown_key"})
"""What is judged to be about another network's ledger."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a file of evidence comes to: a conviction, or why there is none."""

    kind: EvidenceKind
    size_bytes: int
    outcome: Conviction | DsnError

    @property
    def ok(self) -> bool:
        """Whether it convicts."""
        return isinstance(self.outcome, Conviction)

    def fields(self) -> dict[str, object]:
        """For programs; ``accused`` only if somebody is convicted."""
        found: dict[str, object] = {
            "ok": self.ok,
            "kind": self.kind.name.lower(),
            "size": self.size_bytes,
        }
        if isinstance(self.outcome, Conviction):
            key = self.outcome.accused
            accused = {
                "role": key.kind.name.lower(),
                "name": key.name,
                "key": format_note_key(key),
            }
            return {
                **found,
                "accused": accused,
                "fault": self.outcome.fault,
                "message": self.outcome.text,
            }
        return {**found, "code": self.outcome.detail_code, "message": self.outcome.message}

    @property
    def line(self) -> str:
        """For people."""
        if isinstance(self.outcome, Conviction):
            key = self.outcome.accused
            who = f"{key.kind.name.lower()} {key.name} (key {key.public.hex()})"
            return f"convicted: {who}: {self.outcome.text} ({self.outcome.fault})"
        return f"nobody is convicted: {self.outcome.message} ({self.outcome.detail_code})"


def check_evidence(raw: bytes, params: LedgerParams) -> Finding:
    """Judge a file of evidence of any kind, by the keys of one network alone.

    Args:
        raw: The file, untrusted.
        params: Of the network whose keys count, from its file.

    Raises:
        MalformedMessage: It cannot be read: ``malformed_message``, or ``too_large``.
        InvalidProof: ``other_log``, ``unknown_key``: it is about another network's ledger.
    """
    if len(raw) > MAX_EVIDENCE_BYTES:
        raise MalformedMessage(
            f"evidence: more than {MAX_EVIDENCE_BYTES >> 20} MiB", code="too_large"
        )
    evidence = decode_evidence(raw)
    outcome: Conviction | DsnError
    try:
        outcome = convict(evidence, Trust.of(params))
    except DsnError as error:
        if error.detail_code in _ELSEWHERE:
            raise
        outcome = error
    return Finding(kind_of(evidence), len(raw), outcome)
