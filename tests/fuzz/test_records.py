"""Records and network files meet hostile bytes; what is accepted re-encodes to itself."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from dsn.core import tags
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import Genesis, format_network, parse_network, sign_network
from dsn.dht.record import PointerBody, parse_record, verify
from dsn.errors import ConfigError, MalformedMessage, PeerError
from dsn.ids import NetworkId

OPERATOR = SigningKey(b"\x01" * 32)
FILE = format_network(
    sign_network(
        Genesis("net", 1_700_000_000, OPERATOR.public, "node", True),
        [Contact(SigningKey(b"\x02" * 32).public, "127.0.0.1:4001")],
        OPERATOR.sign,
    )
)
u64s = st.integers(0, (1 << 64) - 1).map(lambda n: n.to_bytes(8, "big"))
bodies = st.binary(max_size=200).map(lambda body: len(body).to_bytes(4, "big") + body)
pointers = st.tuples(st.just(tags.POINTER), st.binary(min_size=96, max_size=96), u64s, u64s, bodies)
slots = st.tuples(st.just(tags.SLOT), st.binary(min_size=64, max_size=64), u64s, u64s, bodies)
records = st.tuples(st.one_of(pointers, slots), st.binary(min_size=64, max_size=64)).map(
    lambda parts: b"".join(parts[0]) + parts[1]
)
holders = st.integers(0, 50).flatmap(
    lambda n: st.binary(min_size=64 * n, max_size=64 * n).map(lambda raw: bytes([n]) + raw)
)


@given(st.one_of(st.binary(max_size=5000), st.binary(max_size=400).map(tags.POINTER.__add__)))
def test_bytes_are_a_record_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert parse_record(raw).encode() == raw


@given(records)
def test_a_record_that_nobody_signed_reads_back_and_is_refused(raw: bytes) -> None:
    record = parse_record(raw)
    assert record.encode() == raw
    try:
        verify(record, NetworkId(record.network), 0)
    except PeerError:
        return
    raise AssertionError("accepted")


@given(st.one_of(st.binary(max_size=300), st.tuples(u64s, holders).map(b"".join)))
def test_bytes_are_a_pointers_body_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert PointerBody.decode(raw).encode() == raw


@given(st.text(max_size=300))
def test_text_is_a_network_file_or_refused(text: str) -> None:
    try:
        parse_network(text)
    except ConfigError as error:
        assert "\n" not in error.message  # noqa: PT017
    else:
        raise AssertionError("accepted")


@given(st.integers(0, len(FILE)), st.integers(0, 12), st.text(max_size=12))
def test_a_changed_network_file_is_refused_or_says_the_same(at: int, gone: int, new: str) -> None:
    text = FILE[:at] + new + FILE[at + gone :]
    with contextlib.suppress(ConfigError):
        assert format_network(parse_network(text)) == FILE
