from __future__ import annotations

import hashlib
import random

import pytest
from eth_account import Account
from eth_keys import keys
from hypothesis import given
from hypothesis import strategies as st

from dsn.errors import InvalidSignature, UsageError
from dsn.ledger.settlement import (
    NO_ADDRESS,
    Address,
    SettlementKey,
    format_address,
    parse_address,
    recover,
    recover_all,
)
from tests.support.signing import CLIENT, ORDER, OTHER, mirrored, refusal, spoiled

DIGEST = hashlib.sha256(b"what is signed").digest()
SIGNATURE = CLIENT.sign(DIGEST)
seeds = st.integers(1, ORDER - 1).map(lambda n: n.to_bytes(32, "big"))
digests = st.binary(min_size=32, max_size=32)


@given(seeds, digests)
def test_ethereums_own_library_makes_the_same_address_and_signature(
    seed: bytes, digest: bytes
) -> None:
    key, theirs = SettlementKey(seed), Account.from_key(seed)
    assert format_address(key.address) == theirs.address
    assert key.sign(digest) == theirs.unsafe_sign_hash(digest).signature


@given(seeds, digests)
def test_a_signature_names_its_signer_and_is_in_the_lower_half(seed: bytes, digest: bytes) -> None:
    key = SettlementKey(seed)
    signature = key.sign(digest)
    assert recover(digest, signature) == key.address
    assert int.from_bytes(signature[32:64], "big") <= ORDER // 2
    assert signature[64] in (27, 28)


def test_a_known_signature_of_rfc_6979() -> None:
    one = SettlementKey((1).to_bytes(32, "big"))
    assert format_address(one.address) == "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf"
    signature = one.sign(hashlib.sha256(b"Satoshi Nakamoto").digest())
    assert signature[:64].hex() == (
        "934b1ea10a4b3c1757e2b0c017d0b6143ce3c9a7e6a4a49860d7a6ab210ee3d8"
        "2442ce9d2b916064108014783e923ec36b49743e2ffa1c4496f01a512aafd9e5"
    )


@pytest.mark.parametrize("secret", [0, ORDER, ORDER + 1, (1 << 256) - 1])
def test_a_seed_that_is_no_key(secret: int) -> None:
    with pytest.raises(UsageError) as failure:
        SettlementKey(secret.to_bytes(32, "big"))
    assert failure.value.detail_code == "bad_settlement_key"


def test_the_key_of_a_phrase_follows_from_its_root() -> None:
    key = SettlementKey.derive(b"\x07" * 32)
    assert format_address(key.address) == "0xE52D41ce7490FDcA2D2703fcbC7fe3AD210b0e82"
    assert key.address == SettlementKey.derive(b"\x07" * 32).address
    assert key.address != SettlementKey(b"\x07" * 32).address


def test_a_key_is_not_printed() -> None:
    assert (b"\x07" * 32).hex() not in repr(SettlementKey(b"\x07" * 32))


@pytest.mark.parametrize(
    ("bad", "code"), [pytest.param(*case[1:], id=case[0]) for case in spoiled(SIGNATURE)]
)
def test_a_spoiled_signature_is_refused_by_its_code(bad: bytes, code: str) -> None:
    with pytest.raises(InvalidSignature) as failure:
        recover(DIGEST, bad)
    assert failure.value.detail_code == code


def test_the_mirrored_signature_would_pass_elsewhere() -> None:
    bad = mirrored(SIGNATURE)
    loose = keys.Signature(bad[:64] + bytes([bad[64] - 27]))
    found = loose.recover_public_key_from_msg_hash(DIGEST).to_canonical_address()
    assert found == CLIENT.address
    assert refusal(lambda: recover(DIGEST, bad)) == "malleated_signature"


def test_the_highest_s_of_the_lower_half_is_no_second_spelling() -> None:
    for s, code in ((ORDER // 2, None), (ORDER // 2 + 1, "malleated_signature")):
        signature = SIGNATURE[:32] + s.to_bytes(32, "big") + SIGNATURE[64:]
        if code:
            assert refusal(lambda: recover(DIGEST, signature)) == code  # noqa: B023
        else:
            assert recover(DIGEST, signature) != CLIENT.address


def test_many_at_once_name_whom_each_alone_names() -> None:
    """The spoiled ones nobody, whatever is wrong with them, and they spoil no other."""
    bad = [signature for _, signature, _ in spoiled(SIGNATURE)]
    signatures = [OTHER.sign(DIGEST), *bad, SIGNATURE]
    found = recover_all([DIGEST] * len(signatures), signatures)
    assert found == [OTHER.address, *[None] * len(bad), CLIENT.address]
    assert recover_all([], []) == []


def test_a_signature_over_something_else_names_somebody_else() -> None:
    seed = 11
    draw = random.Random(seed)
    for _ in range(200):
        digest = draw.randbytes(32)
        assert recover(digest, SIGNATURE) not in (CLIENT.address, OTHER.address), f"seed {seed}"


EIP_55 = """
0x52908400098527886E0F7030069857D2E4169EE7 0x8617E340B3D01FA5F11F306F4090FD50E238070D
0xde709f2102306220921060314715629080e2fb77 0x27b1fdb04752bbc536007a920d24acb045561c26
0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed 0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359
0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB 0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb
""".split()


@pytest.mark.parametrize("text", EIP_55)
def test_the_addresses_of_eip_55(text: str) -> None:
    assert format_address(Address(bytes.fromhex(text[2:]))) == text
    assert parse_address(text) == bytes.fromhex(text[2:])


@given(st.binary(min_size=20, max_size=20).map(Address))
def test_an_address_reads_back_in_its_own_spelling_only(address: Address) -> None:
    text = format_address(address)
    assert parse_address(text) == address
    for other in {"0x" + text[2:].lower(), "0x" + text[2:].upper(), "0x" + text[2:].swapcase()}:
        if other != text:
            assert refusal(lambda: parse_address(other)) == "bad_settlement_address"  # noqa: B023


GOOD = EIP_55[0]
NO_ADDRESSES = ["", "0x", GOOD[2:], "0X" + GOOD[2:], GOOD + "0", GOOD[:-1], GOOD[:-1] + "g"]
NO_ADDRESSES += [GOOD + "\n", " " + GOOD, GOOD[:-1] + "\u0667", "n" * 999]


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_other_text_is_no_address(text: str) -> None:
    with pytest.raises(UsageError) as failure:
        parse_address(text)
    assert failure.value.detail_code == "bad_settlement_address"
    assert len(failure.value.message) < 120


def test_nobody_has_the_zero_address() -> None:
    assert parse_address("0x" + "0" * 40) == NO_ADDRESS
