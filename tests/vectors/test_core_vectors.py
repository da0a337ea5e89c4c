"""Golden bytes: what was written once is written and read the same for ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dsn.core.capability import format_capability, parse_capability
from dsn.core.catalogue import SlotBody, decode_run, encode_run
from dsn.core.directory import Listing
from dsn.core.keys import FileKeys
from dsn.core.layout import Scheme
from dsn.core.manifest import Core, Head, Private, verify_head
from dsn.core.phrase import format_phrase, parse_phrase
from dsn.core.placement import decode_page, encode_page
from dsn.errors import DsnError, MalformedMessage, UsageError
from dsn.ids import FileId
from tests.vectors.core_vectors import FOLDER, MAKERS

FILES: dict[str, Any] = {
    name: json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in MAKERS
}


def again_page(raw: bytes) -> bytes:
    return encode_page(decode_page(raw, segments=2, total=2, nodes=3))


DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "private": lambda raw: Private.decode(raw).encode(),
    "core": lambda raw: Core.decode(raw).encode(),
    "page": again_page,
    "head": lambda raw: Head.decode(raw).encode(),
    "run": lambda raw: encode_run(decode_run(raw)),
    "slot": lambda raw: SlotBody.decode(raw).encode(),
    "listing": lambda raw: Listing.decode(raw).encode(),
}
PARSERS: dict[str, Callable[[str], object]] = {
    "scheme": Scheme.parse,
    "capability": parse_capability,
    "phrase": parse_phrase,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_code_still_makes_the_golden_bytes(name: str) -> None:
    assert MAKERS[name]() == FILES[name]


GOLDEN = [
    pytest.param(decoder, bytes.fromhex(raw), id=f"{decoder}: {case}")
    for vectors in FILES.values()
    for decoder, cases in vectors.get("encoded", {}).items()
    for case, raw in cases.items()
]
REFUSED = [
    pytest.param(case, id=f"{case['decoder']}: {case.get('fault', case.get('text'))}")
    for vectors in FILES.values()
    for case in vectors.get("refused", ())
]


@pytest.mark.parametrize(("decoder", "raw"), GOLDEN)
def test_golden_bytes_read_back(decoder: str, raw: bytes) -> None:
    assert DECODERS[decoder](raw) == raw


def read(case: dict[str, str]) -> object:
    if "bytes" in case:
        return DECODERS[case["decoder"]](bytes.fromhex(case["bytes"]))
    return PARSERS[case["decoder"]](case["text"])


@pytest.mark.parametrize("case", REFUSED)
def test_bad_bytes_are_refused_with_their_code(case: dict[str, str]) -> None:
    with pytest.raises(DsnError) as caught:
        read(case)
    assert caught.value.detail_code == case["code"]
    assert isinstance(caught.value, MalformedMessage if "bytes" in case else UsageError)


def test_every_decoder_has_golden_and_bad_bytes() -> None:
    refused = {case.values[0]["decoder"] for case in REFUSED}  # type: ignore[index,call-overload]
    assert refused == DECODERS.keys() | PARSERS.keys()
    assert {case.values[0] for case in GOLDEN} == DECODERS.keys()


def test_golden_heads_verify_and_give_the_plaintext_back() -> None:
    keys = FileKeys.owner(bytes.fromhex(FILES["keys"]["file"]["owner_key"]))
    for name, raw in FILES["manifest"]["encoded"]["head"].items():
        head = Head.decode(bytes.fromhex(raw))
        verify_head(head, FileId(bytes.fromhex(FILES["manifest"]["head_file_id"][name])))
        private = head.core.open_private(keys.content_key)
        assert private.inline == (b"hello" if name == "inline" else None)


def test_golden_links_and_phrases_read_back() -> None:
    for text in FILES["capability"]["links"].values():
        assert format_capability(parse_capability(text)) == text
    for case in FILES["phrase"]["phrases"]:
        assert format_phrase(parse_phrase(case["words"])) == case["words"]
        assert parse_phrase(case["words"]).hex() == case["root"]


def test_the_standards_own_phrases_are_among_them() -> None:
    words = [case["words"] for case in FILES["phrase"]["phrases"]]
    assert words[0] == " ".join(["abandon"] * 23 + ["art"])
    winner = "legal winner thank year wave sausage worth useful"
    assert words[1] == f"{winner} {winner} {winner.replace('useful', 'title')}"
    assert words[2] == " ".join(["zoo"] * 23 + ["vote"])
