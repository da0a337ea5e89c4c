"""Notes, keys, evidence, tiles' paths and bundles meet hostile bytes."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dsn.errors import InvalidProof, MalformedMessage, NotFound, PeerError, UsageError
from dsn.ledger.checkpoint import (
    format_checkpoint,
    format_note_key,
    parse_checkpoint,
    parse_note_key,
    verify_checkpoint,
)
from dsn.ledger.conviction import MAGIC
from dsn.ledger.cosignature import Quorum, verify_quorum
from dsn.ledger.evidence import Contradiction, accuse, decode_evidence, judge
from dsn.ledger.log import (
    LogLeaf,
    TreeHead,
    build_prefix_proof,
    verify_consistency_proof,
    verify_inclusion_proof,
)
from dsn.ledger.tiles import check_exists, decode_bundle, encode_bundle, format_path, parse_path
from tests.support.ledger_log import NOW_S, OPERATOR, WITNESSES, at, cosigned, counted

LOG = counted(100)
NOTE = cosigned(at(LOG, 61))
RAW = format_checkpoint(NOTE)
QUORUM = Quorum(WITNESSES, len(WITNESSES))
EVIDENCE = accuse(
    cosigned(at(counted(100, 60), 61)),
    cosigned(at(LOG, 100)),
    OPERATOR,
    build_prefix_proof(LOG.hashes, 61, 100),
)
KEYS = [format_note_key(key) for key in (OPERATOR, *WITNESSES)]
PATH = r"tile/\w+/(x\d\d\d/){0,7}\d{1,4}(\.p/\d{1,3})?"
numbers = st.integers(-1, 1 << 64) | st.integers(0, 200)
paths = st.lists(st.binary(min_size=31, max_size=33) | st.binary(min_size=32, max_size=32))
changes = st.tuples(st.integers(0, 1 << 16), st.integers(0, 3), st.binary(max_size=3))
lines = st.lists(st.sampled_from([*RAW.decode().splitlines(), "", "\N{EM DASH} a AAAAAAA="]))


def changed(raw: bytes, change: tuple[int, int, bytes]) -> bytes:
    """``raw`` with some bytes in the middle replaced."""
    at, gone, new = change
    at %= len(raw) + 1
    return raw[:at] + new + raw[at + gone :]


@given(
    st.binary(max_size=600)
    | st.text(max_size=300).map(str.encode)
    | lines.map(lambda all_lines: "\n".join([*all_lines, ""]).encode())
)
def test_bytes_are_a_checkpoint_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert format_checkpoint(parse_checkpoint(raw)) == raw


@given(changes)
def test_a_changed_note_is_refused_or_the_same(change: tuple[int, int, bytes]) -> None:
    raw = changed(RAW, change)
    try:
        note = parse_checkpoint(raw)
        assert format_checkpoint(note) == raw
        verify_checkpoint(note, OPERATOR)
        verify_quorum(note, QUORUM, NOW_S)
    except PeerError:
        assert raw != RAW
    else:
        assert raw == RAW


@given(st.text(max_size=120))
def test_text_is_a_key_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert format_note_key(parse_note_key(text)) == text


@given(st.sampled_from(KEYS), changes)
def test_a_changed_key_is_refused_or_the_same(text: str, change: tuple[int, int, bytes]) -> None:
    raw = changed(text.encode(), change).decode("utf-8", "replace")
    try:
        parse_note_key(raw)
    except UsageError:
        assert raw != text
    else:
        assert raw == text


@given(st.binary(max_size=400) | st.binary(max_size=400).map(MAGIC.__add__))
def test_bytes_are_evidence_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert decode_evidence(raw).encode() == raw


@given(changes)
def test_changed_evidence_convicts_nobody(change: tuple[int, int, bytes]) -> None:
    raw = changed(EVIDENCE.encode(), change)
    try:
        evidence = decode_evidence(raw)
        assert evidence.encode() == raw
        assert isinstance(evidence, Contradiction)
        judge(evidence, OPERATOR)
    except PeerError:
        assert raw != EVIDENCE.encode()
    else:
        assert raw == EVIDENCE.encode()


@given(
    st.text(max_size=40)
    | st.from_regex(r"tile/\w+/(x\d\d\d/){0,7}\d{1,4}(\.p/\d{1,3})?", fullmatch=True)
)
def test_text_is_a_tiles_path_or_refused(path: str) -> None:
    with contextlib.suppress(MalformedMessage):
        assert format_path(parse_path(path)) == path


@given(st.from_regex(r"tile/(entries|[0-7])/x\d\d\d(/x\d\d\d){0,5}/\d\d\d", fullmatch=True))
def test_no_path_leads_beyond_the_log(path: str) -> None:
    with contextlib.suppress(MalformedMessage), pytest.raises(NotFound):
        check_exists(parse_path(path), 1000)


@given(st.binary(max_size=2000), st.integers(0, 256))
def test_bytes_are_a_bundle_or_malformed(raw: bytes, width: int) -> None:
    with contextlib.suppress(MalformedMessage):
        leaves = decode_bundle(raw, width)
        assert len(leaves) == width
        assert (encode_bundle(leaves) if leaves else b"") == raw


@given(st.binary(max_size=300))
def test_bytes_are_a_leaf_or_malformed(raw: bytes) -> None:
    with contextlib.suppress(MalformedMessage):
        assert LogLeaf.decode(raw).encode() == raw


@given(st.integers(0, 1 << 63), numbers, st.binary(min_size=32, max_size=32), paths)
def test_random_paths_prove_nothing(
    size: int, index: int, digest: bytes, path: list[bytes]
) -> None:
    head = TreeHead(size, bytes(32))
    assume(digest != head.root)
    with pytest.raises((InvalidProof, MalformedMessage)):
        verify_inclusion_proof(head, index, digest, path)
    with pytest.raises((InvalidProof, MalformedMessage)):
        verify_consistency_proof(TreeHead(abs(index), digest), head, path)
