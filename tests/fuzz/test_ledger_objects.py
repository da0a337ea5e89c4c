"""Statements and signatures meet hostile bytes; what is accepted re-encodes to itself."""

from __future__ import annotations

import contextlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dsn.errors import InvalidSignature, MalformedMessage, PeerError, UsageError
from dsn.ledger.binding import KeyBinding, SignedBinding, sign_binding, verify_binding
from dsn.ledger.deal import Deal, check_deal
from dsn.ledger.pledge import Pledge, check_pledge
from dsn.ledger.settlement import format_address, parse_address, recover
from dsn.ledger.typed import digest, sign_typed, verify_typed
from tests.support.signing import (
    CLASSES,
    CLIENT,
    DOMAIN,
    IDENTITY,
    NETWORK,
    STATEMENTS,
    domains,
    statements,
)

BINDING = KeyBinding(IDENTITY.public, CLIENT.address, NETWORK, 1_700_000_000, 2)
SIGNED = sign_binding(BINDING, DOMAIN, IDENTITY.sign, CLIENT).encode()
sizes = sorted({cls.struct.size for cls in CLASSES})
anything = st.one_of(
    st.binary(max_size=400),
    st.sampled_from(sizes).flatmap(lambda size: st.binary(min_size=size, max_size=size)),
)
edits = st.tuples(st.integers(0, 1 << 10), st.integers(0, 40), st.binary(max_size=40))


def edited(raw: bytes, edit: tuple[int, int, bytes]) -> bytes:
    """``raw`` with some bytes in the middle replaced."""
    at, gone, new = edit
    at %= len(raw) + 1
    return raw[:at] + new + raw[at + gone :]


@given(st.sampled_from(CLASSES), anything)
def test_bytes_are_a_statement_or_malformed(cls: Any, raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        statement = cls.decode(raw)
        assert statement.encode() == raw
        assert len(digest(DOMAIN, statement)) == 32
    assert (len(raw) == cls.struct.size) == decodes(cls, raw)


def decodes(cls: Any, raw: bytes) -> bool:
    try:
        cls.decode(raw)
    except MalformedMessage:
        return False
    return True


@given(st.sampled_from(STATEMENTS), edits)
def test_a_changed_statement_is_not_signed(statement: Any, edit: tuple[int, int, bytes]) -> None:
    raw, signature = statement.encode(), sign_typed(statement, DOMAIN, CLIENT)
    bad = edited(raw, edit)
    try:
        verify_typed(type(statement).decode(bad), DOMAIN, signature, CLIENT.address)
    except PeerError:
        assert bad != raw
    else:
        assert bad == raw


@given(st.sampled_from(STATEMENTS), edits)
def test_a_statement_has_one_signature_by_a_key(
    statement: Any, edit: tuple[int, int, bytes]
) -> None:
    signature = sign_typed(statement, DOMAIN, CLIENT)
    bad = edited(signature, edit)
    try:
        verify_typed(statement, DOMAIN, bad, CLIENT.address)
    except InvalidSignature:
        assert bad != signature
    else:
        assert bad == signature


@given(
    st.binary(min_size=32, max_size=32),
    st.one_of(
        st.binary(max_size=130),
        st.binary(min_size=65, max_size=65),
        st.tuples(st.binary(min_size=64, max_size=64), st.sampled_from([b"\x1b", b"\x1c"])).map(
            b"".join
        ),
    ),
)
def test_bytes_recover_to_some_address_or_are_refused(over: bytes, signature: bytes) -> None:
    try:
        address = recover(over, signature)
    except InvalidSignature as error:
        assert error.detail_code in {"invalid_signature", "malleated_signature"}  # noqa: PT017
    else:
        assert len(address) == 20
        assert address != CLIENT.address


@given(domains, statements())
def test_what_one_signs_holds_where_it_was_signed(domain: Any, statement: Any) -> None:
    signature = sign_typed(statement, domain, CLIENT)
    verify_typed(statement, domain, signature, CLIENT.address)
    assert (recover(digest(DOMAIN, statement), signature) == CLIENT.address) == (domain == DOMAIN)


@given(statements())
def test_checks_refuse_by_code_or_pass(statement: Any) -> None:
    with contextlib.suppress(PeerError):
        if isinstance(statement, Deal):
            check_deal(statement)
            assert statement.miss_limit <= 700 and statement.end + statement.grace < 1 << 64
        if isinstance(statement, Pledge):
            check_pledge(statement)
            assert statement.leaves >= statement.shards


@given(st.one_of(anything, st.binary(min_size=len(SIGNED), max_size=len(SIGNED))))
def test_bytes_are_a_binding_or_refused(raw: bytes) -> None:
    with contextlib.suppress(PeerError):
        signed = SignedBinding.decode(raw)
        assert signed.encode() == raw
        verify_binding(signed, DOMAIN)
        raise AssertionError("accepted")


@given(edits)
def test_a_changed_binding_says_the_same_or_is_refused(edit: tuple[int, int, bytes]) -> None:
    bad = edited(SIGNED, edit)
    try:
        verify_binding(SignedBinding.decode(bad), DOMAIN)
    except PeerError:
        assert bad != SIGNED
    else:
        assert bad == SIGNED


@given(st.one_of(st.text(max_size=60), st.from_regex(r"\A0x[0-9A-Fa-f]{40}\Z")))
def test_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except UsageError as error:
        assert "\n" not in error.message  # noqa: PT017
    else:
        assert format_address(address) == text
