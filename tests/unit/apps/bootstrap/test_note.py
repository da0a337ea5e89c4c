from __future__ import annotations

import random
from dataclasses import replace

import pytest
from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

from dsn.apps.bootstrap.note import (
    AHEAD_S,
    MOST_BYTES,
    TERM_S,
    Sighting,
    decode_note,
    encode_note,
    expand_seed,
    note_seed,
)
from dsn.core.keys import SigningKey, hkdf
from dsn.dht.contact import Contact
from dsn.errors import MalformedMessage
from dsn.ids import NetworkId

NOW_S = 1_700_000_000
LINE_BYTES = 32 + 8 + 4
"""A sighting without its address."""


def sighting(number: int, seen_s: int = NOW_S, address: str = "10.0.0.1:7077") -> Sighting:
    return Sighting(Contact(number.to_bytes(32, "big"), address), seen_s)


def read(*sightings: Sighting) -> list[Sighting]:
    return decode_note(encode_note(sightings), NOW_S)


def refusal(raw: bytes) -> str:
    with pytest.raises(MalformedMessage) as failure:
        decode_note(raw, NOW_S)
    return failure.value.message


def test_a_note_reads_back_newest_first() -> None:
    one, two, three = sighting(1, NOW_S - 9), sighting(2, NOW_S), sighting(3, NOW_S - 5)
    assert read(one, two, three) == [two, three, one]
    assert read() == []


def test_its_bytes_are_fixed() -> None:
    line = (1).to_bytes(32, "big") + NOW_S.to_bytes(8, "big") + b"\0\0\0\x0d10.0.0.1:7077"
    assert encode_note([sighting(1)]) == b"\x01" + line


def test_a_node_stands_in_it_once_where_it_was_last() -> None:
    moved = sighting(1, NOW_S, "10.0.0.2:1")
    assert read(sighting(1, NOW_S - 9), moved, sighting(2, NOW_S - 5)) == [
        moved,
        sighting(2, NOW_S - 5),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_it_never_outgrows_its_place_and_the_newest_stay(seed: int) -> None:
    draw = random.Random(seed)
    many = [
        sighting(number, NOW_S - draw.randrange(TERM_S), f"{'a' * draw.randrange(1, 250)}:1")
        for number in range(60)
    ]
    raw = encode_note(many)
    kept = decode_note(raw, NOW_S)
    assert MOST_BYTES - 300 < len(raw) <= MOST_BYTES, seed
    assert kept == sorted(kept, key=lambda each: -each.seen_s), seed
    assert kept[0] == max(many, key=lambda each: each.seen_s), seed


def test_a_long_address_does_not_keep_others_out() -> None:
    fitting = (MOST_BYTES - 1) // (LINE_BYTES + len("10.0.0.1:7077"))
    short = [sighting(number, NOW_S - number) for number in range(fitting)]
    assert read(*short) == short
    long = sighting(99, NOW_S - fitting, "a" * 200 + ":1")
    assert read(*short[:-1], long, short[-1]) == short


def test_dates_bound_how_long_a_sighting_stays() -> None:
    edges = {NOW_S + AHEAD_S: True, NOW_S + AHEAD_S + 1: False}
    edges |= {NOW_S - TERM_S + 1: True, NOW_S - TERM_S: False, 0: False, (1 << 64) - 1: False}
    for seen_s, stays in edges.items():
        assert (read(sighting(1, seen_s)) != []) is stays, seen_s


@pytest.mark.parametrize("seed", range(50))
def test_a_note_by_anybody_reads_or_is_refused(seed: int) -> None:
    draw = random.Random(seed)
    raw = bytearray(encode_note(sighting(number) for number in range(9)))
    for _ in range(draw.randrange(1, 6)):
        raw[draw.randrange(len(raw))] = draw.randrange(256)
    raw = raw[: draw.randrange(len(raw) + 1)]
    try:
        kept = decode_note(bytes(raw), NOW_S)
    except MalformedMessage:
        return
    assert read(*kept) == sorted(
        {s.contact.public_key: s for s in kept[::-1]}.values(), key=lambda each: -each.seen_s
    ), seed


def test_what_is_no_note_is_refused() -> None:
    good = encode_note([sighting(1)])
    assert refusal(b"") == "note: ends after 0 bytes, 1 needed"
    assert refusal(b"\x02") == "note: version 2, 1 needed"
    assert refusal(good[:-1]).startswith("note: ends after")
    assert refusal(good + b"\0").startswith("note: ends after")
    assert (
        refusal(bytes(MOST_BYTES + 1))
        == f"note: {MOST_BYTES + 1} bytes, at most {MOST_BYTES} allowed"
    )
    assert "is not host:port" in refusal(encode_note([replace_address(sighting(1), "nowhere")]))


def replace_address(each: Sighting, address: str) -> Sighting:
    return replace(each, contact=Contact(each.contact.public_key, address))


def test_the_place_follows_from_the_network_alone() -> None:
    one, two = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
    assert note_seed(one) == hkdf(one, b"dsn/meeting/v1\0\0")
    assert note_seed(one) != note_seed(two)


@pytest.mark.parametrize("seed", range(4))
def test_an_expanded_key_is_of_the_same_pair(seed: int) -> None:
    raw = random.Random(seed).randbytes(32)
    expanded = expand_seed(raw)
    assert len(expanded) == 64
    assert crypto_scalarmult_ed25519_base_noclamp(expanded[:32]) == SigningKey(raw).public
