"""Links: what each gives, and what is said of a bad one."""

from __future__ import annotations

import hashlib

import pytest

from dsn.core.capability import (
    Capability,
    format_capability,
    is_capability,
    make_capability,
    parse_capability,
)
from dsn.core.keys import FileKeys, Kind
from dsn.errors import UsageError
from dsn.ids import FileId, format_base32

OWNER = FileKeys.owner(bytes(range(16)))
FILE_ID = FileId(bytes(range(32)))
LINKS = {
    kind: make_capability(OWNER, kind, FILE_ID) for kind in (Kind.READ, Kind.REPAIR, Kind.VERIFY)
}
READ = format_capability(LINKS[Kind.READ])


def refused(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_capability(text)
    assert caught.value.detail_code == "bad_capability"
    assert caught.value.exit_code == 2
    return caught.value


def test_a_link_is_written_as_the_design_says() -> None:
    key = b"dsn/cap/v1".ljust(16, b"\0") + b"read" + OWNER.read_key + FILE_ID
    check = format_base32(hashlib.sha256(key).digest())[:4]
    expected = f"dsn:read:{format_base32(OWNER.read_key)}:{format_base32(FILE_ID)}{check}"
    assert expected == READ


@pytest.mark.parametrize("kind", LINKS)
def test_a_link_reads_back(kind: Kind) -> None:
    text = format_capability(LINKS[kind])
    assert parse_capability(text) == LINKS[kind]
    assert text.startswith(f"dsn:{kind.value}:")


@pytest.mark.parametrize("kind", LINKS)
def test_every_mistyped_character_is_seen(kind: Kind) -> None:
    text = format_capability(LINKS[kind])
    start = len(f"dsn:{kind.value}:")
    for at in range(start, len(text)):
        for other in "a7":
            if text[at] != other:
                refused(text[:at] + other + text[at + 1 :])


def test_every_truncation_is_named_with_both_lengths() -> None:
    for size in range(len("dsn:read:"), len(READ)):
        error = refused(READ[:size])
        assert f"truncated: {size} characters, {len(READ)} expected" in error.message
    assert "truncated" in refused("dsn:").message
    assert "truncated" in refused("dsn:ver").message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (READ + "a", "too long: 93 characters, 92 expected"),
        (READ[:20] + "1" + READ[21:], "'1' at character 21"),
        (READ[:60] + "é" + READ[61:], "'é' at character 61"),
        (READ[:36] + "0" + READ[37:], "'0' at character 37"),
        (READ[:-1] + "9", "'9' at character 92"),
        (READ[:35] + "a" + READ[36:], "no colon at character 36"),
        (READ[:20] + ":" + READ[21:], "':' at character 21"),
        (READ.upper(), "upper-case"),
        ("dsn:write:x", "'write' is no kind of link"),
        ("dsn:owner:x", "'owner' is no kind of link"),
        ("dsn:reader", "'reader' is no kind of link"),
        ("photos", "not a link"),
        ("", "not a link"),
        (" " + READ, "not a link"),
    ],
)
def test_what_is_wrong_is_named(text: str, says: str) -> None:
    error = refused(text)
    assert says in error.message
    assert error.hint


def test_a_link_does_not_change_its_kind() -> None:
    assert "mistyped" in refused(READ.replace(":read:", ":verify:")).message


def test_spare_bits_must_be_zero() -> None:
    digits = "abcdefghijklmnopqrstuvwxyz234567"
    at = len("dsn:read:") + 25  # the key's last character carries 3 bits of 5
    value = digits.index(READ[at])
    assert value % 4 == 0
    assert "mistyped" in refused(READ[:at] + digits[value + 1] + READ[at + 1 :]).message


def test_no_message_repeats_a_key() -> None:
    key = format_base32(OWNER.read_key)
    for text in (READ[:-1], READ + "a", READ[:-1] + "1", READ.replace(":read:", ":verify:")):
        error = refused(text)
        assert key[:8] not in error.message + error.hint
    assert key not in repr(LINKS[Kind.READ])
    assert "\\x" not in repr(LINKS[Kind.READ]).split("file_id")[0]


ALLOWED = {
    Kind.READ: {Kind.READ, Kind.VERIFY},
    Kind.REPAIR: {Kind.REPAIR, Kind.VERIFY},
    Kind.VERIFY: {Kind.VERIFY},
}


@pytest.mark.parametrize("have", LINKS)
@pytest.mark.parametrize("want", LINKS)
def test_a_link_gives_weaker_ones_only(have: Kind, want: Kind) -> None:
    if want in ALLOWED[have]:
        assert LINKS[have].weaken(want) == LINKS[want]
    else:
        with pytest.raises(UsageError, match=f"this is a {have.value} link") as caught:
            LINKS[have].weaken(want)
        assert caught.value.detail_code == "bad_capability"


def test_a_links_keys_are_the_owners() -> None:
    assert LINKS[Kind.READ].keys().content_key == OWNER.content_key
    assert LINKS[Kind.REPAIR].keys().place_seed == OWNER.place_seed
    assert LINKS[Kind.REPAIR].keys().mask_key == OWNER.mask_key
    assert {link.keys().verify_key for link in LINKS.values()} == {OWNER.verify_key}


def test_owners_need_no_link() -> None:
    with pytest.raises(KeyError):
        Capability(Kind.OWNER, bytes(16), FILE_ID)
    with pytest.raises(AssertionError):
        Capability(Kind.REPAIR, bytes(16), FILE_ID)


def test_names_and_links_are_told_apart() -> None:
    assert is_capability(READ)
    assert is_capability("dsn:")
    assert is_capability("DSN:READ:")
    assert not is_capability("dsn")
    assert not is_capability("my:dsn:read")
