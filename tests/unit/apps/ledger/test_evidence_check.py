"""``dsn ledger check --evidence``: what a file comes to, on one network or another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.apps.ledger.evidence_check import MAX_EVIDENCE_BYTES, check_evidence
from dsn.core.keys import node_id_of
from dsn.errors import InvalidProof, MalformedMessage
from dsn.ids import NetworkId, format_node_id
from dsn.ledger.checkpoint import format_note_key
from dsn.ledger.cosignature import cosign
from dsn.ledger.evidence import accuse
from dsn.ledger.trust import witness_key
from tests.support.fraud_world import LOG_KEY, SIGNED_PARAMS, TRUST, every_kind, sign
from tests.support.ledger_world import WITNESSES

WORLD = every_kind(True)
WITNESS = WITNESSES[0]
FRAUD = WORLD.lie(9, replace(WORLD.leaves[9], state_root=bytes(32))).encode()


def fork() -> bytes:
    """A witness cosigned two states after one log."""
    honest = WORLD.signed_checkpoint().checkpoint
    key = witness_key(WITNESS.public)
    one, other = (
        sign(each).signed(cosign(each, key, WITNESS.sign, 1_700_000_000))
        for each in (honest, replace(honest, state_root=bytes(32)))
    )
    return accuse(one, other, key).encode()


def test_an_operator_is_convicted_by_name_and_key() -> None:
    found = check_evidence(FRAUD, SIGNED_PARAMS)
    assert found.ok
    fields = found.fields()
    message = fields.pop("message")
    assert fields == {
        "ok": True,
        "kind": "fraud",
        "size": len(FRAUD),
        "accused": {
            "role": "operator",
            "name": TRUST.operator.name,
            "key": format_note_key(TRUST.operator),
        },
        "fault": "state_root_differs",
    }
    key = LOG_KEY.public.hex()
    assert found.line == (
        f"convicted: operator {TRUST.operator.name} (key {key}): {message} (state_root_differs)"
    )
    assert "\n" not in found.line


def test_a_witness_is_convicted_by_name_and_key() -> None:
    raw = fork()
    found = check_evidence(raw, SIGNED_PARAMS)
    accused = found.fields()["accused"]
    assert isinstance(accused, dict)
    assert (accused["role"], accused["name"]) == (
        "witness",
        format_node_id(node_id_of(WITNESS.public)),
    )
    assert found.fields()["fault"] == "fork"
    assert found.fields()["kind"] == "contradiction"


def test_an_honest_step_convicts_nobody() -> None:
    raw = WORLD.fraud(9, WORLD.signed_checkpoint()).encode()
    found = check_evidence(raw, SIGNED_PARAMS)
    assert not found.ok
    assert found.fields() == {
        "ok": False,
        "kind": "fraud",
        "size": len(raw),
        "code": "no_fault",
        "message": "entry 9 is as the rules have it",
    }
    assert found.line == "nobody is convicted: entry 9 is as the rules have it (no_fault)"


@pytest.mark.parametrize("raw", [FRAUD, fork()])
def test_evidence_of_another_network_is_not_judged(raw: bytes) -> None:
    domain = replace(SIGNED_PARAMS.domain, network=NetworkId(bytes(32)))
    with pytest.raises(InvalidProof) as refused:
        check_evidence(raw, replace(SIGNED_PARAMS, domain=domain))
    assert (refused.value.detail_code, refused.value.exit_code) == ("other_log", 4)


def test_a_key_that_is_not_the_networks_is_not_judged() -> None:
    with pytest.raises(InvalidProof) as refused:
        check_evidence(fork(), replace(SIGNED_PARAMS, witnesses=frozenset(), quorum=0))
    assert refused.value.detail_code == "unknown_key"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "malformed_message"),
        (b"# a text\n", "malformed_message"),
        (FRAUD[:-1], "malformed_message"),
        (bytes(MAX_EVIDENCE_BYTES + 1), "too_large"),
    ],
)
def test_anything_else_is_not_evidence(raw: bytes, code: str) -> None:
    with pytest.raises(MalformedMessage) as refused:
        check_evidence(raw, SIGNED_PARAMS)
    assert refused.value.detail_code == code
