"""Core, head and private part: what they commit to, and whose they are."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from dsn.core.cipher import seal_private
from dsn.core.keys import FileKeys, SigningKey
from dsn.core.layout import MAX_FILE_BYTES, FileLayout, Scheme
from dsn.core.manifest import (
    MAX_META_ENTRIES,
    MAX_PRIVATE_BYTES,
    Core,
    FileKind,
    Head,
    Private,
    SegmentSeal,
    sign_head,
    verify_head,
)
from dsn.core.placement import Copy, PageRef, page_count, page_segments
from dsn.errors import InvalidSignature, MalformedMessage, PeerError, UsageError
from dsn.ids import Commit, FileId, NodeId
from dsn.units import INLINE_BYTES, MIB

KEYS = FileKeys.owner(bytes(16))
SIGNER = SigningKey(KEYS.place_seed)
NODES = tuple(NodeId(bytes([at]) * 32) for at in range(3))


def core(size: int = 5, inline: bytes | None = b"hello", scheme: str = "4/6") -> Core:
    parsed = Scheme.parse(scheme)
    count = FileLayout(size, parsed.required).segments
    seals = tuple(SegmentSeal(bytes([at % 256]) * 16, bytes([at % 7]) * 32) for at in range(count))
    private = seal_private(KEYS.content_key, Private("n", inline=inline).encode())
    return Core(parsed, size, SIGNER.public, seals, private)


def head(of: Core, sequence: int = 9) -> Head:
    refs = tuple(
        PageRef(bytes([at]) * 32, (Copy(at % 3, Commit(bytes(32))),))
        for at in range(page_count(len(of.segments)))
    )
    return sign_head(of, sequence, NODES, refs, SIGNER.sign)


def test_ids_hash_what_the_design_says() -> None:
    value = core()
    core_hash = hashlib.sha256(b"dsn/core/v1".ljust(16, b"\0") + value.encode()).digest()
    preimage = b"dsn/file/v1".ljust(16, b"\0") + SIGNER.public + core_hash
    assert value.hash == core_hash
    assert value.file_id == hashlib.sha256(preimage).digest()


def test_every_field_of_a_core_changes_the_file_id() -> None:
    value = core(10 * MIB, None)
    seal = SegmentSeal(bytes([9]) * 16, value.segments[0].hash)
    others = [
        replace(value, scheme=Scheme(4, 7)),
        replace(value, size=value.size - 1),
        replace(value, placement_public=bytes(32)),
        replace(value, segments=(seal,)),
        replace(value, segments=(seal._replace(hash=bytes([7]) * 32),)),
        replace(value, sealed_private=value.sealed_private + b"x"),
    ]
    assert len({each.file_id for each in [value, *others]}) == len(others) + 1


@pytest.mark.parametrize("size", [4_097, 40 * MIB, 300 * 32 * MIB])
def test_a_head_reads_back_and_verifies(size: int) -> None:
    made = head(core(size, None))
    again = Head.decode(made.encode())
    assert again == made
    verify_head(again, made.core.file_id)


def test_a_head_is_for_one_file() -> None:
    made = head(core())
    with pytest.raises(MalformedMessage) as caught:
        verify_head(made, FileId(bytes(32)))
    assert caught.value.detail_code == "wrong_file"


def test_every_byte_of_a_head_is_signed() -> None:
    made = head(core(5_000, None))
    raw, file_id = made.encode(), made.core.file_id
    for at in range(len(raw)):
        with pytest.raises(PeerError):
            verify_head(Head.decode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]), file_id)


def test_only_the_placement_key_signs_a_head() -> None:
    forged = sign_head(core(), 10, NODES, (), SigningKey(bytes(32)).sign)
    with pytest.raises(InvalidSignature):
        verify_head(forged, core().file_id)


def test_our_own_heads_are_held_to_the_format() -> None:
    for nodes, refs in [((NODES[0],) * 2, ()), (NODES, (PageRef(bytes(32), ()),))]:
        with pytest.raises(AssertionError):
            sign_head(core(), 1, nodes, refs, SIGNER.sign)


def test_pages_hold_256_segments() -> None:
    assert [page_count(count) for count in (0, 1, 256, 257, 512)] == [0, 1, 1, 2, 2]
    assert [page_segments(page, 600) for page in range(3)] == [256, 256, 88]


def test_readers_open_the_private_part() -> None:
    private = core().open_private(KEYS.content_key)
    assert (private.name, private.inline, private.kind) == ("n", b"hello", FileKind.FILE)


def test_others_do_not() -> None:
    with pytest.raises(PeerError) as caught:
        core().open_private(bytes(32))
    assert caught.value.detail_code == "sealed_box"


@pytest.mark.parametrize(
    ("size", "inline"),
    [
        (5, None),
        (5, b"hell"),
        (0, b"x"),
        (0, None),
        (INLINE_BYTES, b"x"),
        (INLINE_BYTES + 1, b""),
        (INLINE_BYTES + 1, bytes(INLINE_BYTES)),
    ],
)
def test_inline_data_is_the_whole_file(size: int, inline: bytes | None) -> None:
    with pytest.raises(MalformedMessage, match=str(size)):
        core(size, inline).open_private(KEYS.content_key)


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES])
def test_small_and_empty_files_live_in_the_core(size: int) -> None:
    value = core(size, bytes(size))
    assert value.segments == ()
    assert value.open_private(KEYS.content_key).inline == bytes(size)


@pytest.mark.parametrize("name", ["a/b", "..", "a\nb", "x" * 256, "\udc80"])
def test_a_bad_name_is_refused_before_it_is_stored(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        Private(name)
    assert caught.value.detail_code == "bad_name"


@pytest.mark.parametrize(
    "private",
    [
        {"media_type": "x" * 256},
        {"media_type": "\udc80"},
        {"meta": {"x" * 256: ""}},
        {"meta": {"k": "x" * 4_097}},
        {"meta": {"\udc80": ""}},
        {"meta": {"k": "\udc80"}},
        {"meta": {str(at): "" for at in range(MAX_META_ENTRIES + 1)}},
        {"meta": {str(at): "x" * 4_000 for at in range(17)}},
    ],
)
def test_too_much_metadata_is_refused_before_it_is_stored(private: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        Private("n", **private)  # type: ignore[arg-type]
    assert caught.value.detail_code == "bad_metadata"


def test_metadata_has_one_order() -> None:
    assert Private("", meta={"b": "1", "a": "2"}).encode() == (
        Private("", meta={"a": "2", "b": "1"}).encode()
    )


def test_the_largest_private_part_fits_a_core() -> None:
    meta = {str(at): "x" * 4_000 for at in range(MAX_META_ENTRIES - 48)} | {
        str(at): "" for at in range(MAX_META_ENTRIES - 48, MAX_META_ENTRIES)
    }
    room = MAX_PRIVATE_BYTES - len(Private("n", meta=meta, inline=b"").encode())
    private = Private("n", meta=meta, inline=bytes(room))
    sealed = seal_private(KEYS.content_key, private.encode())
    value = replace(core(room, None), sealed_private=sealed)
    assert Core.decode(value.encode()).open_private(KEYS.content_key) == private
    with pytest.raises(UsageError, match=f"{MAX_PRIVATE_BYTES + 1} bytes"):
        replace(private, inline=bytes(room + 1))


def test_a_file_has_a_largest_size() -> None:
    raw = bytearray(core().encode())
    for size, says in [(MAX_FILE_BYTES, "needed"), (MAX_FILE_BYTES + 1, "at most")]:
        raw[3:11] = size.to_bytes(8, "big")
        with pytest.raises(MalformedMessage, match=says):
            Core.decode(bytes(raw))


def test_a_newer_version_says_so() -> None:
    with pytest.raises(MalformedMessage) as caught:
        Core.decode(b"\7" + core().encode()[1:])
    assert caught.value.detail_code == "unknown_version"
    assert caught.value.hint == "update dsn"
