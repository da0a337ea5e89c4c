"""The log's changes encode to fixed bytes and come back from them."""

from __future__ import annotations

import hashlib

import pytest

from dsn.errors import MalformedMessage, TooMany
from dsn.ids import Commit
from dsn.store.changes import (
    PENDING,
    Change,
    Claim,
    ClaimsSet,
    Encoded,
    LargeStored,
    RecordPut,
    Revised,
    SmallStored,
    decode,
    encode,
)

ONE, TWO = Commit(b"1" * 32), Commit(b"2" * 32)
ROOT, CLIENT, DEAL = b"r" * 32, b"c" * 32, b"d" * 32
CLAIMS = (Claim(CLIENT, PENDING, 1_800_000_000), Claim(CLIENT, DEAL, 0))
CHANGES: dict[str, tuple[Change, str]] = {
    "small": (SmallStored(ONE, ROOT, 5, CLAIMS, b"hello"), "0ce20b786b214e18"),
    "small lost": (SmallStored(ONE, ROOT, 5, (), b""), "2176ffa067856a94"),
    "large": (LargeStored(ONE, ROOT, 1 << 30, CLAIMS[:1]), "d831ac101f6c4c58"),
    "large lost": (LargeStored(ONE, ROOT, 1 << 30, CLAIMS[1:], True), "780da59403366b44"),
    "claims": (ClaimsSet((ONE, TWO), CLAIMS), "4864b3ac81c25f7b"),
    "gone": (ClaimsSet((TWO,), ()), "f2f61ffa7ecc1755"),
    "revised": (Revised(CLIENT, DEAL, (ONE,), (TWO, ONE), b"revision"), "97698eaf3c1949f9"),
    "record": (RecordPut(b"k" * 32, b"value"), "c404fe205c266757"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_comes_back_from_its_bytes(name: str) -> None:
    change, _ = CHANGES[name]
    assert decode(encode(change)) == change


@pytest.mark.parametrize("name", CHANGES)
def test_the_bytes_on_disk_never_change(name: str) -> None:
    change, digest = CHANGES[name]
    kind, head, body = encode(change)
    assert hashlib.sha256(bytes([kind]) + head + body).hexdigest()[:16] == digest


@pytest.mark.parametrize("name", CHANGES)
def test_a_short_or_long_head_is_refused(name: str) -> None:
    kind, head, body = encode(CHANGES[name][0])
    with pytest.raises(MalformedMessage):
        decode(Encoded(kind, head + b"\0", body))
    with pytest.raises(MalformedMessage):
        decode(Encoded(kind, head[:-1], body))


@pytest.mark.parametrize("kind", [0, 6, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(MalformedMessage):
        decode(Encoded(kind, b"", b""))


def test_a_change_may_not_name_too_many_shards() -> None:
    with pytest.raises(TooMany):
        encode(Revised(CLIENT, DEAL, (ONE,) * 600_000, (), b""))
