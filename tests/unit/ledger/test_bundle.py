"""A bundle's text: one spelling, bounded, and a changed place is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey
from dsn.errors import ConfigError, DsnError, LimitReached, MalformedMessage
from dsn.ledger.bundle import (
    MAX_BUNDLE_BYTES,
    EpochBundle,
    LiveBundle,
    bundle_body_hash,
    evidence_hash,
    format_bundle,
    parse_bundle,
    shard_paths,
    verify_bundle,
)
from dsn.ledger.bundle_text import MAX_VALUES
from dsn.proofs.verdict import verify_verdict
from tests.support.bundle_world import NETWORK, VERIFIER, epoch, live, network, signed

BUNDLES = {"live": live(), "epoch": epoch()}
both = pytest.mark.parametrize("name", BUNDLES)


@both
def test_a_bundle_is_read_as_it_was_written(name: str) -> None:
    raw = signed(BUNDLES[name])
    bundle = parse_bundle(raw)
    assert signed(bundle) == raw
    assert verify_bundle(bundle, NETWORK).held
    assert json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":")).encode() == raw


@both
def test_verdicts_name_all_of_the_bundle_but_themselves(name: str) -> None:
    draft, raw = BUNDLES[name], signed(BUNDLES[name])
    bundle = parse_bundle(raw)
    assert evidence_hash(raw) == bundle_body_hash(draft) == bundle_body_hash(bundle)
    for part in bundle.parts:
        assert part.verdict.verdict.evidence == evidence_hash(raw)
        verify_verdict(part.verdict)
    assert bundle_body_hash(replace(draft, at_s=draft.at_s + 1)) != evidence_hash(raw)


@both
def test_a_bundle_holds_no_capability(name: str) -> None:
    assert b"dsn:" not in signed(BUNDLES[name])


ID_TEXT = NETWORK.network_id.hex().encode()
SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "a blank": lambda raw: raw.replace(b",", b", ", 1),
    "a newline": lambda raw: raw + b"\n",
    "an escape": lambda raw: raw.replace(b'"kind"', b'"\\u006bind"'),
    "a key twice": lambda raw: b'{"at_s":"0",' + raw[1:],
    "capitals": lambda raw: raw.replace(ID_TEXT, ID_TEXT.upper(), 1),
    "a leading zero": lambda raw: raw.replace(b'"at_s":"', b'"at_s":"0'),
    "another order": lambda raw: (
        b"{" + raw[1:].replace(b'"kind":', b'"a":', 1).replace(b'"at_s"', b'"kind"', 1)
    ),
}


@both
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
def test_another_spelling_is_refused(name: str, spelling: Callable[[bytes], bytes]) -> None:
    raw = signed(BUNDLES[name])
    assert spelling(raw) != raw
    with pytest.raises(MalformedMessage):
        parse_bundle(spelling(raw))


NO_BUNDLES = {
    "nothing": b"",
    "no JSON": b"dsn evidence 1\n",
    "no object": b"[]",
    "a number": b'{"format":1}',
    "a float": b"1.5",
    "not a number": b"NaN",
    "a huge number": b"9" * 5_000,
    "letters beyond ASCII": '{"format":"é"}'.encode(),
    "deep": b"[" * 100_000,
    "deep behind a closed string": b'["]",' * 50_000,
    "half a surrogate": b'{"format":"\\ud800"}',
    "another format": b'{"format":"dsnproof/2"}',
    "another kind": b'{"format":"dsnproof/1","kind":"dead"}',
}


@pytest.mark.parametrize("raw", NO_BUNDLES.values(), ids=NO_BUNDLES)
def test_what_is_no_bundle_is_refused(raw: bytes) -> None:
    with pytest.raises(MalformedMessage) as refused:
        parse_bundle(raw)
    assert refused.value.detail_code == "malformed_message"


def test_a_bundle_has_a_number_of_values() -> None:
    """Else 3 MiB of text would be 200 MiB of objects before anything is known of them."""
    with pytest.raises(MalformedMessage, match=f"more than {MAX_VALUES} values"):
        parse_bundle(b'{"a":[' + b"{}," * MAX_VALUES + b"{}]}")


def test_a_bundle_has_a_size() -> None:
    with pytest.raises(MalformedMessage) as refused:
        parse_bundle(bytes(MAX_BUNDLE_BYTES + 1))
    assert refused.value.detail_code == "too_large"
    fat = replace(live(), pages=(bytes(MAX_BUNDLE_BYTES),))
    with pytest.raises(LimitReached) as over:
        format_bundle(fat, VERIFIER.sign)
    assert over.value.detail_code == "bundle_too_large"


@both
def test_a_bundle_of_another_network_is_not_judged(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        verify_bundle(parse_bundle(signed(BUNDLES[name])), network("elsewhere"))
    assert (refused.value.detail_code, refused.value.exit_code) == ("unknown_network", 2)


@both
def test_nobody_signs_for_a_verifier(name: str) -> None:
    forged = format_bundle(BUNDLES[name], SigningKey(b"\x63" * 32).sign)
    with pytest.raises(DsnError, match=r"parts\[0\].verdict: .*not signed") as refused:
        verify_bundle(parse_bundle(forged), NETWORK)
    assert refused.value.detail_code == "invalid_signature"


@both
def test_what_the_verifier_did_not_sign_is_refused(name: str) -> None:
    bundle = parse_bundle(signed(BUNDLES[name]))
    unsigned: LiveBundle | EpochBundle = replace(bundle, signature=bytes(64))
    with pytest.raises(DsnError, match=r"^signature: "):
        verify_bundle(unsigned, NETWORK)


def places(tree: Any, way: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every string of a tree."""
    if isinstance(tree, str):
        return [way]
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree or ())
    return [each for key, value in inner for each in places(value, (*way, key))]


def spelled(way: tuple[str | int, ...]) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in way).lstrip(".")


def changed(text: str) -> str:
    """With its middle character changed to another one of the same alphabet."""
    at = len(text) // 2
    return text[:at] + ("1" if text[at : at + 1] != "1" else "2") + text[at + 1 :]


@both
def test_a_change_anywhere_is_refused_and_named(name: str) -> None:
    """By the place itself, or by one that encloses it, or by what it says of another place."""
    raw = signed(BUNDLES[name])
    named = 0
    every = places(json.loads(raw))
    for way in every:
        tree = json.loads(raw)
        holder = tree
        for key in way[:-1]:
            holder = holder[key]
        holder[way[-1]] = changed(holder[way[-1]])
        text = json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()
        with pytest.raises(DsnError) as refused:
            verify_bundle(parse_bundle(text), NETWORK)
        message = refused.value.message.removeprefix("bundle: ")
        top = spelled(way[:2]) if isinstance(way[-1], int) or len(way) > 1 else str(way[0])
        named += message.startswith(top.split(".")[0])
    assert named >= len(every) * 9 // 10, f"{named} of {len(every)} places named"


@both
def test_shard_paths_are_those_of_merkletools(name: str) -> None:
    tools = pytest.importorskip("merkletools", reason="needs the extra second-opinion")
    judge = tools.MerkleTools(hash_type="sha256")
    bundle, count = BUNDLES[name], 0
    for place, path in shard_paths(bundle):
        assert judge.validate_proof(path["proof"], path["leaf"], path["root"]), place
        assert not judge.validate_proof(path["proof"], path["leaf"], "00" * 32)
        count += 1
    parts = [getattr(part, "places", None) or part.answer.openings for part in bundle.parts]
    assert count == sum(map(len, parts))
