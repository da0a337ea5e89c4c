"""What of a signed note goes to the vault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.errors import InvalidProof, InvalidSignature
from dsn.ids import NetworkId
from dsn.ledger.checkpoint import (
    Checkpoint,
    NoteSignature,
    SignedCheckpoint,
    log_origin,
    sign_root,
)
from dsn.ledger.onchain.anchor import anchor_call, equivocation_call
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.typed import Domain, digest
from tests.support.ledger_world import CHAIN_PARAMS, COSIGNERS, KEYS

PARAMS = replace(CHAIN_PARAMS, quorum=2)
DOMAIN = PARAMS.domain
POINT = Checkpoint(log_origin(DOMAIN.network), 9, b"\x01" * 32, b"\x02" * 32, 4)
SORTED = sorted(COSIGNERS, key=lambda key: key.address)
ROOT = (9, b"\x01" * 32, b"\x02" * 32, 4)


def note(*witnesses: int, operator: str = "operator", domain: Domain = DOMAIN) -> SignedCheckpoint:
    """Signed for a chain by ``operator`` and by the witnesses of these numbers, in this order."""
    signed = SignedCheckpoint(POINT).signed(sign_root(POINT, DOMAIN, KEYS[operator]))
    for number in witnesses:
        name = f"witness.{number}"
        signed = signed.signed(sign_root(POINT, domain, SORTED[number], name))
    return signed


def by(number: int) -> bytes:
    return SORTED[number].sign(digest(DOMAIN, POINT.ledger_root))


def test_the_root_goes_with_a_quorum_of_signatures_by_rising_addresses() -> None:
    operator = KEYS["operator"].sign(digest(DOMAIN, POINT.ledger_root))
    for order in ((0, 1), (1, 0)):
        call = anchor_call(note(*order), PARAMS)
        assert call == OnChain("Vault", "anchor", (ROOT, operator, [by(0), by(1)]))


def test_signatures_beyond_the_quorum_are_left_out() -> None:
    assert anchor_call(note(2, 1, 0), PARAMS).args[2] == [by(0), by(1)]
    assert anchor_call(note(2, 0), PARAMS).args[2] == [by(0), by(2)]
    assert anchor_call(note(1), replace(PARAMS, quorum=0)).args[2] == []


def test_lines_of_others_and_for_elsewhere_do_not_count() -> None:
    signed = note(0)
    stranger = sign_root(POINT, DOMAIN, KEYS["sam"], "sam")
    other = replace(POINT, size=10)
    spoiled = [
        stranger,
        sign_root(other, DOMAIN, SORTED[1], "witness.1"),
        sign_root(POINT, Domain(NetworkId(bytes(32)), 1, DOMAIN.vault), SORTED[1], "witness.1"),
        NoteSignature("witness.1", b"\x01\x02\x03\x04", bytes(72)),
        NoteSignature("witness.1", b"\x01\x02\x03\x04", bytes(65)),
        sign_root(POINT, DOMAIN, SORTED[0], "another name of witness.0".replace(" ", ".")),
    ]
    for line in spoiled:
        with pytest.raises(InvalidSignature) as caught:
            anchor_call(signed.signed(line), PARAMS)
        assert caught.value.detail_code == "no_quorum"
        assert "1 of 3 witnesses" in str(caught.value)
        full = anchor_call(
            signed.signed(line).signed(sign_root(POINT, DOMAIN, SORTED[2], "w")), PARAMS
        )
        assert full.args[2] == [by(0), by(2)]


def test_without_the_operators_line_there_is_nothing_to_anchor() -> None:
    unsigned = SignedCheckpoint(POINT).signed(sign_root(POINT, DOMAIN, SORTED[0], "w"))
    for signed, code in (
        (unsigned, "unsigned_checkpoint"),
        (note(0, 1, operator="sam"), "unsigned_checkpoint"),
        (spelled_again(note(0, 1)), "malleated_signature"),
        (replace(note(0, 1), checkpoint=replace(POINT, size=10)), "invalid_signature"),
    ):
        with pytest.raises(InvalidSignature) as caught:
            anchor_call(signed, PARAMS)
        assert caught.value.detail_code == code


def spelled_again(signed: SignedCheckpoint) -> SignedCheckpoint:
    """With a second spelling of the operator's signature."""
    line, *rest = signed.signatures
    spoiled = line.signature[:64] + bytes([line.signature[64] - 27])
    return replace(signed, signatures=(replace(line, signature=spoiled), *rest))


def test_two_notes_of_one_size_convict_the_operator() -> None:
    forked = replace(POINT, state_root=b"\x03" * 32)
    other = SignedCheckpoint(forked).signed(sign_root(forked, DOMAIN, KEYS["operator"]))
    call = equivocation_call(note(0), other, PARAMS)
    assert (call.contract, call.function) == ("Vault", "convict_equivocation")
    first = KEYS["operator"].sign(digest(DOMAIN, POINT.ledger_root))
    second = KEYS["operator"].sign(digest(DOMAIN, forked.ledger_root))
    assert call.args == (ROOT, first, (*ROOT[:2], b"\x03" * 32, 4), second)


@pytest.mark.parametrize("changes", [{}, {"size": 10}, {"size": 8, "state_root": b"\x03" * 32}])
def test_notes_that_can_both_be_true_convict_nobody(changes: dict[str, Any]) -> None:
    point = replace(POINT, **changes)
    other = SignedCheckpoint(point).signed(sign_root(point, DOMAIN, KEYS["operator"]))
    with pytest.raises(InvalidProof) as refused:
        equivocation_call(note(), other, PARAMS)
    assert refused.value.detail_code == "no_fault"


def test_a_note_that_the_operator_did_not_sign_convicts_nobody() -> None:
    forked = replace(POINT, root=b"\x03" * 32)
    forged = SignedCheckpoint(forked).signed(sign_root(forked, DOMAIN, KEYS["sam"]))
    with pytest.raises(InvalidSignature):
        equivocation_call(note(), forged, PARAMS)
