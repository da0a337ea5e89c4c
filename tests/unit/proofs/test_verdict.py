"""Verdicts: one spelling, no contradictions, and nobody else's signature."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey
from dsn.errors import InvalidSignature, MalformedMessage, UsageError
from dsn.ids import NetworkId, NodeId
from dsn.proofs.verdict import (
    NO_NONCE,
    Outcome,
    SignedVerdict,
    Verdict,
    account_subject,
    sign_verdict,
    verify_verdict,
)

KEY = SigningKey(b"\x07" * 32)
HELD = Verdict(
    network=NetworkId(b"\x01" * 32),
    verifier=KEY.public,
    node=NodeId(b"\x02" * 32),
    subject=b"\x03" * 32,
    epoch=0,
    nonce=b"\x04" * 32,
    outcome=Outcome.HELD,
    reason="",
    leaves=20,
    size_bytes=1 << 40,
    response_ms=38,
    at_s=1_800_000_000,
    evidence=b"\x05" * 32,
    appeal=b"\x06" * 32,
)
WRONG = replace(HELD, epoch=7, nonce=NO_NONCE, outcome=Outcome.WRONG, reason="shard", leaves=0)


@pytest.mark.parametrize("verdict", [HELD, WRONG], ids=["held", "wrong"])
def test_a_verdict_is_read_as_it_was_written(verdict: Verdict) -> None:
    assert Verdict.decode(verdict.encode()) == verdict
    signed = sign_verdict(verdict, KEY.sign)
    assert SignedVerdict.decode(signed.encode()) == signed
    verify_verdict(signed)


CONTRADICTIONS: dict[str, dict[str, Any]] = {
    "an epoch and a nonce": {"epoch": 7},
    "neither": {"nonce": NO_NONCE},
    "held for a reason": {"reason": "shard"},
    "wrong for none": {"outcome": Outcome.WRONG},
    "a reason in capitals": {"outcome": Outcome.SILENT, "reason": "Timed out"},
    "a long reason": {"outcome": Outcome.SILENT, "reason": "x" * 65},
    "a short subject": {"subject": b"\x03" * 20},
    "a long appeal": {"appeal": bytes(33)},
}


@pytest.mark.parametrize("changes", CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_verdict_does_not_contradict_itself(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as refused:
        replace(HELD, **changes)
    assert refused.value.detail_code == "bad_verdict"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (lambda raw: raw[:-1], "ends after"),
        (lambda raw: raw + b"\0", "1 bytes too many"),
        (lambda raw: raw[:168] + b"\x04" + raw[169:], "outcome 4"),
        (lambda raw: raw[:168] + b"\x00" + raw[169:], "outcome 0"),
        (lambda raw: raw[:168] + b"\x02" + raw[169:], "a reason"),
        (lambda raw: raw[:128] + (9).to_bytes(8, "big") + raw[136:], "not both"),
        (lambda raw: raw[:169] + (65).to_bytes(4, "big") + raw[173:], "at most 64"),
    ],
)
def test_other_bytes_are_no_verdict(changed: Any, why: str) -> None:
    with pytest.raises(MalformedMessage, match=why):
        Verdict.decode(changed(HELD.encode()))


def test_bytes_without_room_for_a_signature_are_no_signed_verdict() -> None:
    with pytest.raises(MalformedMessage):
        SignedVerdict.decode(bytes(63))


def test_only_the_verifier_signs() -> None:
    signed = sign_verdict(HELD, SigningKey(b"\x08" * 32).sign)
    with pytest.raises(InvalidSignature):
        verify_verdict(signed)
    moved = replace(sign_verdict(HELD, KEY.sign), verdict=replace(HELD, leaves=21))
    with pytest.raises(InvalidSignature):
        verify_verdict(moved)


def test_every_field_is_in_the_hash() -> None:
    other: dict[str, Any] = {
        "network": NetworkId(bytes(32)),
        "verifier": bytes(32),
        "node": NodeId(bytes(32)),
        "subject": bytes(32),
        "nonce": b"\x09" * 32,
        "leaves": 0,
        "size_bytes": 0,
        "response_ms": 0,
        "at_s": 0,
        "evidence": bytes(32),
        "appeal": bytes(32),
    }
    hashes = {replace(HELD, **{name: value}).hash for name, value in other.items()}
    hashes |= {HELD.hash, WRONG.hash, replace(WRONG, epoch=8).hash}
    hashes |= {replace(WRONG, outcome=Outcome.SILENT).hash, replace(WRONG, reason="deep").hash}
    assert len(hashes) == len(other) + 5


def test_an_account_as_a_subject() -> None:
    assert account_subject(b"\xaa" * 20) == bytes(12) + b"\xaa" * 20
