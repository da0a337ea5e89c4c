"""Verdicts made by hand."""

from __future__ import annotations

from typing import Any

from dsn.core.keys import SigningKey
from dsn.ids import NetworkId, NodeId
from dsn.proofs.verdict import NO_NONCE, Outcome, SignedVerdict, Verdict, sign_verdict

VERIFIER = SigningKey(b"\x71" * 32)
NODE = NodeId(b"\x72" * 32)
NOW_S = 1_700_000_000


def verdict(epoch: int, outcome: Outcome = Outcome.HELD, **changes: Any) -> Verdict:
    """On ``NODE``, given now."""
    held = outcome is Outcome.HELD
    usual = {
        "network": NetworkId(b"\x73" * 32),
        "verifier": VERIFIER.public,
        "node": NODE,
        "subject": bytes(32),
        "epoch": epoch,
        "nonce": NO_NONCE,
        "outcome": outcome,
        "reason": "" if held else "timed_out",
        "leaves": 4 if held else 0,
        "size_bytes": 4_096 if held else 0,
        "response_ms": 9,
        "at_s": NOW_S,
    }
    return Verdict(**(usual | changes))


def signed(epoch: int, outcome: Outcome = Outcome.HELD, **changes: Any) -> SignedVerdict:
    """The same, signed."""
    return sign_verdict(verdict(epoch, outcome, **changes), VERIFIER.sign)
