from __future__ import annotations

import random

import pytest

from dsn.errors import InvalidProof
from dsn.ids import NetworkId
from dsn.proofs.drand import (
    QUICKNET,
    drand_evidence,
    drand_value,
    fixed_round,
    is_signed,
    salt_for,
    verify_drand,
)
from tests.support.drand_chain import own_chain, sign_round

NETWORK = NetworkId(b"\x21" * 32)
RECORDED = {
    1: "b55e7cb2d5c613ee0b2e28d6750aabbb78c39dcc96bd9d38"
    "c2c2e12198df95571de8e8e402a0cc48871c7089a2b3af4b",
    100: "a4a4ff2320c23471a4bf9540ee5fc68e4c6a750dc89fd8bb"
    "eb9ba56e0708673b2d285461388f14537332492726efd282",
    657_413: "b713718a38ae728dfd477991af2822e08d2f305e47718cef"
    "9f7848ce4050e7be41076862b98fad56e91a6b85b89cd97b",
}
"""Rounds that quicknet's signers published."""


@pytest.mark.parametrize("number", RECORDED)
def test_rounds_of_quicknet_are_believed_and_no_others(number: int) -> None:
    signature = bytes.fromhex(RECORDED[number])
    assert is_signed(QUICKNET.key, number, signature)
    assert not is_signed(QUICKNET.key, number + 1, signature)
    assert not is_signed(own_chain(0, 1).key, number, signature)


def test_quicknet_s_clock() -> None:
    assert QUICKNET.due_ms(1) == 1_692_803_367_000
    for number in (1, 2, 1_000):
        due_ms = QUICKNET.due_ms(number)
        assert QUICKNET.after(due_ms - 1) == number
        assert QUICKNET.after(due_ms) == number + 1
    assert QUICKNET.after(0) == 1


def _verify(value: bytes, evidence: bytes, number: int, epoch: int = 9) -> None:
    verify_drand(NETWORK, epoch, value, evidence, key=QUICKNET.key, number=number)


def test_the_value_is_the_one_of_the_round_that_was_fixed() -> None:
    evidence = drand_evidence(100, bytes.fromhex(RECORDED[100]))
    value = drand_value(NETWORK, 9, evidence)
    _verify(value, evidence, 100)
    assert value != drand_value(NETWORK, 10, evidence)
    assert value != drand_value(NetworkId(b"\x22" * 32), 9, evidence)
    other = drand_evidence(1, bytes.fromhex(RECORDED[1]))
    for forged in (
        (value, evidence, 99),
        (value, evidence, 101),
        (value, evidence, 100, 10),
        (drand_value(NETWORK, 9, other), other, 100),
        (value, evidence[:-1], 100),
        (bytes(32), evidence, 100),
        (b"", b"", 100),
    ):
        with pytest.raises(InvalidProof) as refused:
            _verify(*forged)
        assert refused.value.detail_code == "bad_beacon"


def test_no_other_spelling_of_a_signature_is_believed() -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    for _ in range(200):
        signature = bytearray.fromhex(RECORDED[1])
        signature[rng.randrange(48)] ^= 1 << rng.randrange(8)
        assert not is_signed(QUICKNET.key, 1, bytes(signature)), f"seed {seed}"
    infinity = bytes([0xC0]) + bytes(47)
    for odd in (b"", infinity, bytes(48), b"\xff" * 48, bytes.fromhex(RECORDED[1]) + b"\0"):
        assert not is_signed(QUICKNET.key, 1, odd)
    assert not is_signed(bytes([0xC0]) + bytes(95), 1, infinity)
    assert not is_signed(b"\xff" * 96, 1, bytes.fromhex(RECORDED[1]))


def test_a_minority_of_witnesses_fixes_no_round() -> None:
    def fixed(*rounds: int) -> int:
        return fixed_round([salt_for(number, bytes(24)) for number in rounds])

    assert fixed(7) == 7
    assert fixed(7, 9) == fixed(9, 7) == 7
    assert fixed(1, 50, 51) == 50
    assert fixed(50, 51, (1 << 64) - 1) == 51


def test_a_chain_of_our_own_is_a_chain() -> None:
    chain = own_chain(1_000, 2)
    assert is_signed(chain.key, 5, sign_round(5))
    assert not is_signed(chain.key, 6, sign_round(5))
