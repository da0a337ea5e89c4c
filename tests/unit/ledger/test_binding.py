from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey
from dsn.errors import InvalidSignature, MalformedMessage, PeerError
from dsn.ledger.binding import KeyBinding, SignedBinding, sign_binding, verify_binding
from dsn.ledger.typed import Domain
from tests.support.signing import (
    CLIENT,
    DOMAIN,
    IDENTITY,
    NETWORK,
    OTHER,
    OTHER_DOMAINS,
    OTHER_NETWORK,
    refusal,
    spoiled,
)

BINDING = KeyBinding(IDENTITY.public, CLIENT.address, NETWORK, 1_700_000_000, 2)
SIGNED = sign_binding(BINDING, DOMAIN, IDENTITY.sign, CLIENT)
STRANGER = SigningKey(b"\x09" * 32)


def test_both_keys_bind_each_other() -> None:
    verify_binding(SIGNED, DOMAIN)


def test_the_preimage_field_by_field() -> None:
    numbers = b"".join(n.to_bytes(8, "big") for n in (1_700_000_000, 2))
    tag = b"dsn/binding/v1".ljust(16, b"\0")
    assert BINDING.preimage() == tag + IDENTITY.public + CLIENT.address + NETWORK + numbers


def test_a_binding_reads_back() -> None:
    assert SignedBinding.decode(SIGNED.encode()) == SIGNED
    assert len(SIGNED.encode()) == 32 + 20 + 32 + 16 + 64 + 65


def test_cut_or_lengthened_bytes_are_malformed() -> None:
    raw = SIGNED.encode()
    for bad in (*(raw[:size] for size in range(len(raw))), raw + b"\0"):
        with pytest.raises(MalformedMessage):
            SignedBinding.decode(bad)


@pytest.mark.parametrize(
    "change",
    [
        {"identity": STRANGER.public},
        {"settlement": OTHER.address},
        {"not_before_s": 1},
        {"serial": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_binding_is_not_signed(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSignature):
        verify_binding(replace(SIGNED, binding=replace(BINDING, **change)), DOMAIN)


def test_neither_key_can_be_claimed_without_its_owner() -> None:
    claimed = replace(BINDING, settlement=OTHER.address)
    by_identity = sign_binding(claimed, DOMAIN, IDENTITY.sign, CLIENT)
    assert refusal(lambda: verify_binding(by_identity, DOMAIN)) == "invalid_signature"
    claimed = replace(BINDING, identity=STRANGER.public)
    by_settlement = sign_binding(claimed, DOMAIN, IDENTITY.sign, CLIENT)
    assert refusal(lambda: verify_binding(by_settlement, DOMAIN)) == "invalid_signature"


def test_a_binding_of_another_network() -> None:
    elsewhere = sign_binding(
        replace(BINDING, network=OTHER_NETWORK), OTHER_DOMAINS["network"], IDENTITY.sign, CLIENT
    )
    verify_binding(elsewhere, OTHER_DOMAINS["network"])
    with pytest.raises(PeerError) as failure:
        verify_binding(elsewhere, DOMAIN)
    assert failure.value.detail_code == "other_network"


@pytest.mark.parametrize("other", ["chain", "vault"])
def test_a_binding_for_another_chain_or_vault(other: str) -> None:
    domain: Domain = OTHER_DOMAINS[other]
    assert refusal(lambda: verify_binding(SIGNED, domain)) == "invalid_signature"


@pytest.mark.parametrize(
    ("bad", "code"),
    [pytest.param(*case[1:], id=case[0]) for case in spoiled(SIGNED.settlement_signature)],
)
def test_a_spoiled_settlement_signature(bad: bytes, code: str) -> None:
    spoilt = replace(SIGNED, settlement_signature=bad)
    assert refusal(lambda: verify_binding(spoilt, DOMAIN)) == code


@pytest.mark.parametrize("bad", [bytes(64), b"\xff" * 64, b"", bytes(63), bytes(65)])
def test_a_spoiled_identity_signature(bad: bytes) -> None:
    spoilt = replace(SIGNED, identity_signature=bad)
    assert refusal(lambda: verify_binding(spoilt, DOMAIN)) == "invalid_signature"
