"""Hostile bytes: a decoder refuses them as a peer's fault, or they are a spelling of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsn.core.capability import format_capability, parse_capability
from dsn.core.cipher import open_box, open_private
from dsn.core.layout import Scheme
from dsn.core.manifest import Head, verify_head
from dsn.core.phrase import parse_phrase
from dsn.errors import DsnError, MalformedMessage, PeerError
from tests.vectors.core_vectors import FILE_ID, data
from tests.vectors.test_core_vectors import DECODERS, FILES

Given = TypeVar("Given")
Read = TypeVar("Read")
GOLDEN = {
    decoder: [bytes.fromhex(raw) for raw in cases.values()]
    for vectors in FILES.values()
    for decoder, cases in vectors.get("encoded", {}).items()
}
BYTES = st.binary(max_size=300)
INTERESTING = st.sampled_from(
    [b"\0", b"\1", b"\x7f", b"\x80", b"\xff", b"\0\0", b"\xff\xff", b"\0\0\0\0", b"\xff" * 4,
     b"\xff" * 8, b"\0\0\0\1", b"/", b".."]
)  # fmt: skip


@st.composite
def mutations(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of ``originals`` with up to four wounds."""
    value = draw(st.sampled_from(originals))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(value)))
        new = draw(INTERESTING | st.binary(max_size=4))
        cut = draw(st.sampled_from([0, 1, len(new), len(new), 32, len(value)]))
        value = value[:at] + new + value[at + cut :]
    return value


def attempt(read: Callable[[Given], Read], given: Given) -> Read | DsnError:
    """What ``read`` makes of ``given``; any error but our own fails the test."""
    try:
        return read(given)
    except DsnError as error:
        return error


def check(decode: Callable[[bytes], bytes], raw: bytes) -> None:
    again = attempt(decode, raw)
    if isinstance(again, DsnError):
        assert isinstance(again, MalformedMessage)
        assert len(again.evidence) <= 4_096
    else:
        assert again == raw


@pytest.mark.parametrize("decoder", DECODERS)
@settings(max_examples=200)
@given(given_bytes=st.data())
def test_bytes_are_refused_or_their_own_encoding(decoder: str, given_bytes: st.DataObject) -> None:
    check(DECODERS[decoder], given_bytes.draw(BYTES | mutations(GOLDEN[decoder])))


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_prefix_and_every_flipped_bit(decoder: str) -> None:
    for golden in GOLDEN[decoder]:
        for at in range(len(golden)):
            check(DECODERS[decoder], golden[:at])
            for bit in (1, 128):
                check(DECODERS[decoder], golden[:at] + bytes([golden[at] ^ bit]) + golden[at + 1 :])


@given(mutations(GOLDEN["head"]))
def test_a_changed_head_never_verifies(raw: bytes) -> None:
    if raw in GOLDEN["head"]:
        return
    ids = FILES["manifest"]["head_file_id"].values()
    for file_id in ids:
        with pytest.raises(PeerError):
            verify_head(Head.decode(raw), bytes.fromhex(file_id))  # type: ignore[arg-type]


LINK_TEXTS = sorted(FILES["capability"]["links"].values())


@settings(max_examples=400)
@given(
    st.text(max_size=120)
    | mutations([text.encode() for text in LINK_TEXTS]).map(lambda raw: raw.decode("latin-1"))
)
def test_a_changed_link_never_reads(text: str) -> None:
    found = attempt(parse_capability, text)
    if isinstance(found, DsnError):
        assert found.detail_code == "bad_capability"
        assert found.hint
    else:
        assert format_capability(found) == text
        assert found.file_id == FILE_ID


@given(st.text(max_size=12))
def test_a_scheme_reads_or_is_bad(text: str) -> None:
    found = attempt(Scheme.parse, text)
    if isinstance(found, DsnError):
        assert found.detail_code == "bad_scheme"
    else:
        assert str(found) == text


WORDS = FILES["phrase"]["phrases"][3]["words"].split()


@given(st.text(max_size=200) | st.permutations(WORDS).map(" ".join))
def test_a_phrase_reads_or_is_bad(text: str) -> None:
    found = attempt(parse_phrase, text)
    if isinstance(found, DsnError):
        assert found.detail_code == "bad_phrase"
    else:
        assert len(found) == 32


BOX = bytes.fromhex(FILES["cipher"]["box"])
KEYS = {name: bytes.fromhex(key) for name, key in FILES["keys"]["file"].items()}


@given(BYTES | mutations([BOX]))
def test_a_changed_box_never_opens(box: bytes) -> None:
    if box == BOX:
        assert open_box(KEYS["head_key"], box) == data("plain", 100)
        return
    for key, opening in ((KEYS["head_key"], open_box), (KEYS["content_key"], open_private)):
        with pytest.raises(PeerError) as caught:
            opening(key, box)
        assert caught.value.detail_code == "sealed_box"
