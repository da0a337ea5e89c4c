"""Records, batches and files meet hostile bytes; what is accepted re-encodes to itself."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from dsn.core import tags
from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.dht.keeping import Keeper
from dsn.dht.network import Genesis, format_network, parse_network, sign_network
from dsn.dht.record import PointerBody, parse_record, verify
from dsn.dht.shards import parse_batch, verify_batch
from dsn.errors import ConfigError, DsnError, MalformedMessage, PeerError
from dsn.ids import NetworkId
from tests.support.records import NETWORK, NOW_S, batch, commits, node, node_record, pointer, slot

OPERATOR = SigningKey(b"\x01" * 32)
FILE = format_network(
    sign_network(
        Genesis("net", 1_700_000_000, OPERATOR.public, "node", True),
        [Contact(SigningKey(b"\x02" * 32).public, "127.0.0.1:4001")],
        OPERATOR.sign,
        ["seeds.example.org"],
    )
)
u64s = st.integers(0, (1 << 64) - 1).map(lambda n: n.to_bytes(8, "big"))
bodies = st.binary(max_size=200).map(lambda body: len(body).to_bytes(4, "big") + body)
pointers = st.tuples(st.just(tags.POINTER), st.binary(min_size=96, max_size=96), u64s, u64s, bodies)
slots = st.tuples(st.just(tags.SLOT), st.binary(min_size=64, max_size=64), u64s, u64s, bodies)
texts = (
    st.text(max_size=40)
    .map(lambda text: text.encode())
    .map(lambda raw: len(raw).to_bytes(4, "big") + raw)
)
some = st.integers(0, 5).flatmap(
    lambda n: st.lists(texts, min_size=n, max_size=n).map(lambda all: bytes([n]) + b"".join(all))
)
ids = st.integers(0, 4).flatmap(
    lambda n: st.binary(min_size=32 * n, max_size=32 * n).map(lambda raw: bytes([n]) + raw)
)
settlements = st.sampled_from([b"\0\0\0\0", b"\0\0\0\x14" + bytes(20), b"\0\0\0\1 "])
bytes_32 = st.binary(min_size=32, max_size=32)
small = st.integers(0, 255).map(lambda n: bytes([n]))
nodes = st.tuples(
    st.just(tags.NODE_RECORD),
    *(bytes_32, bytes_32, u64s, u64s, u64s, settlements),
    *(some, ids, small, bytes_32, small, texts, texts),
)
signatures = st.binary(min_size=64, max_size=64)
records = st.tuples(st.one_of(pointers, slots), signatures).map(
    lambda parts: b"".join(parts[0]) + parts[1]
)
node_records = st.tuples(nodes, signatures).map(lambda parts: b"".join(parts[0]) + parts[1])
MADE = batch(3, range(70))
VALID = [each.encode() for each in (pointer(), slot(), node_record())]
VALID += [MADE.record(MADE.commits[at]).encode() for at in (0, 69)]
holders = st.integers(0, 50).flatmap(
    lambda n: st.binary(min_size=64 * n, max_size=64 * n).map(lambda raw: bytes([n]) + raw)
)


def changed(raw: bytes, change: tuple[int, int, bytes]) -> bytes:
    """``raw`` with some bytes in the middle replaced."""
    at, gone, new = change
    at %= len(raw) + 1
    return raw[:at] + new + raw[at + gone :]


changes = st.tuples(st.integers(0, 1 << 20), st.integers(0, 40), st.binary(max_size=40))
kinds = st.sampled_from([tags.POINTER, tags.SLOT, tags.NODE_RECORD, tags.SHARD_RECORD])


@given(
    st.one_of(
        st.binary(max_size=5000),
        st.tuples(kinds, st.binary(max_size=600)).map(b"".join),
        node_records,
    )
)
def test_bytes_are_a_record_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert parse_record(raw).encode() == raw


@given(st.sampled_from(VALID), changes)
def test_a_changed_record_says_the_same_or_is_refused(
    raw: bytes, change: tuple[int, int, bytes]
) -> None:
    bad = changed(raw, change)
    try:
        record = parse_record(bad)
        assert record.encode() == bad
        verify(record, NETWORK, NOW_S)
    except PeerError:
        return
    assert bad == raw


@given(st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(tags.SHARDS.__add__)))
def test_bytes_are_a_batch_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert parse_batch(raw).encode() == raw


@given(changes)
def test_a_changed_batch_says_the_same_or_is_refused(change: tuple[int, int, bytes]) -> None:
    bad = changed(MADE.encode(), change)
    try:
        made = parse_batch(bad)
        assert made.encode() == bad
        verify_batch(made, NETWORK, NOW_S)
    except PeerError:
        return
    assert bad == MADE.encode()


KEPT = Keeper(NETWORK)
KEPT.accept(node(3), node_record().encode(), node(3), NOW_S)
KEPT.accept_batch(MADE.encode(), node(3), NOW_S)


@given(st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(tags.KEPT.__add__)))
def test_bytes_are_what_a_node_kept_or_malformed(raw: bytes) -> None:
    keeper = Keeper(NETWORK)
    with contextlib.suppress(MalformedMessage):
        keeper.load(raw, NOW_S)
    assert len(keeper) == 0


@given(changes, st.booleans())
def test_what_a_node_kept_reads_back_or_is_refused(
    change: tuple[int, int, bytes], sealed: bool
) -> None:
    """Even with a digest that fits: the file is a node's own, and may be of another version."""
    raw = changed(KEPT.encode(), change)
    if sealed:
        raw = changed(KEPT.encode()[:-32], change)
        raw += sha256(raw)
    keeper = Keeper(NETWORK)
    try:
        keeper.load(raw, NOW_S)
    except PeerError:
        assert len(keeper) == 0
    else:
        assert len(keeper) <= 2
        keeper.find(commits([3])[0], NOW_S)


@given(
    st.one_of(st.sampled_from([*VALID, MADE.encode()]), st.binary(max_size=300)),
    changes,
    st.sampled_from([node(3), bytes(32), b"", *commits(range(2))]),
)
def test_a_keeper_takes_anything_and_stays_what_it_is(
    raw: bytes, change: tuple[int, int, bytes], key: bytes
) -> None:
    keeper, brought = Keeper(NETWORK), changed(raw, change)
    for accept in (
        lambda: keeper.accept(key, brought, node(4), NOW_S),
        lambda: keeper.accept_batch(brought, node(4), NOW_S),
    ):
        with contextlib.suppress(DsnError):
            accept()
    assert len(keeper) + keeper.refused.total() == 2
    assert len(keeper) == 0 or brought == raw


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
