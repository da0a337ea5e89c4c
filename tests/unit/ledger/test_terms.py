from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import InvalidSignature, MalformedMessage, PeerError
from dsn.ids import NetworkId
from dsn.ledger.settlement import Address
from dsn.ledger.terms import SignedTerms, Terms, sign_terms, verify_terms

KEY, OTHER = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
NETWORK, OTHER_NETWORK = NetworkId(b"\x03" * 32), NetworkId(b"\x04" * 32)
EXPIRES_S = 5_000
NUMBERS = [field.name for field in fields(Terms) if field.name != "settlement"]
TERMS = Terms(Address(b"\x05" * 20), **{name: n for n, name in enumerate(NUMBERS, 1)})
u64s = st.integers(0, (1 << 64) - 1)
all_terms = st.builds(Terms, st.binary(min_size=20, max_size=20), **dict.fromkeys(NUMBERS, u64s))


def signed(terms: Terms = TERMS) -> SignedTerms:
    node = node_id_of(KEY.public)
    return sign_terms(terms, EXPIRES_S, KEY.sign, network=NETWORK, node=node)


def check(terms: SignedTerms, network: NetworkId = NETWORK, now_s: float = EXPIRES_S - 1) -> None:
    verify_terms(terms, network=network, public_key=KEY.public, now_s=now_s)


@given(all_terms)
def test_terms_read_back_as_they_were(terms: Terms) -> None:
    raw = terms.encode()
    assert Terms.decode(raw) == terms
    assert len(raw) == 20 + 8 * len(NUMBERS)
    for wrong in (raw[:-1], raw + b"\0", b""):
        with pytest.raises(MalformedMessage):
            Terms.decode(wrong)


def test_every_field_is_in_the_encoding_and_in_the_digest() -> None:
    changed = [replace(TERMS, **{name: getattr(TERMS, name) + 1}) for name in NUMBERS]
    changed.append(replace(TERMS, settlement=Address(bytes(20))))
    assert len({each.encode() for each in (TERMS, *changed)}) == len(changed) + 1
    assert len({each.digest() for each in (TERMS, *changed)}) == len(changed) + 1


def test_a_node_stands_by_its_terms_until_they_expire() -> None:
    check(signed())
    with pytest.raises(PeerError) as error:
        check(signed(), now_s=EXPIRES_S)
    assert error.value.detail_code == "terms_expired"


def test_what_the_node_did_not_say() -> None:
    good = signed()
    by_other = sign_terms(
        TERMS, EXPIRES_S, OTHER.sign, network=NETWORK, node=node_id_of(KEY.public)
    )
    other_node = sign_terms(
        TERMS, EXPIRES_S, KEY.sign, network=NETWORK, node=node_id_of(OTHER.public)
    )
    forged = (
        replace(good, expires_s=EXPIRES_S + 1),
        replace(good, terms=replace(TERMS, egress_price=0)),
        replace(good, signature=bytes(64)),
        by_other,
        other_node,
    )
    for terms in forged:
        with pytest.raises(InvalidSignature):
            check(terms)
    with pytest.raises(InvalidSignature):
        check(good, network=OTHER_NETWORK)
