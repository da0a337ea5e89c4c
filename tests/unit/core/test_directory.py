"""Listings stay inside their folder; small files share packs."""

from __future__ import annotations

from typing import Any

import pytest

from dsn.core.capability import Capability
from dsn.core.directory import (
    PACK_BELOW_BYTES,
    PACK_BYTES,
    Item,
    ItemKind,
    Listing,
    Packed,
    plan_packs,
)
from dsn.core.keys import Kind
from dsn.errors import MalformedMessage, UsageError
from dsn.ids import FileId

LINK = Capability(Kind.READ, bytes(16), FileId(bytes(32)))


def folder(path: str) -> Item:
    return Item(path, ItemKind.DIRECTORY, 0o755, 0)


def file(path: str, size: int = 0, target: Capability | Packed | None = None) -> Item:
    return Item(path, ItemKind.FILE, 0o644, 0, size, target)


def symlink(path: str, link: str) -> Item:
    return Item(path, ItemKind.SYMLINK, 0o777, 0, link=link)


def test_a_listing_reads_back() -> None:
    listing = Listing(
        (
            folder("a"),
            file("a.txt"),
            folder("a/b"),
            file("a/b/c", 5, Packed(1, 9)),
            file("d", 1 << 40, LINK),
            symlink("e", "../a"),
        ),
        (LINK, LINK),
    )
    assert Listing.decode(listing.encode()) == listing
    assert Listing.decode(Listing(()).encode()) == Listing(())


@pytest.mark.parametrize(
    "items",
    [
        (file("b"), file("a")),
        (file("a"), file("a")),
        (file("a/b"),),
        (file("a"), file("a/b")),
        (symlink("a", "/tmp"), file("a/b")),
        (folder("a"), file("a/b/c")),
        (file("a", 5, Packed(0, 0)),),
    ],
)
def test_a_listing_that_could_do_harm_is_refused(items: tuple[Item, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        Listing(items)
    assert caught.value.detail_code == "bad_name"


@pytest.mark.parametrize("path", ["", "/a", "a/../b", "..", "a//b", "a\0", "\udc80", "x" * 5_000])
def test_a_path_that_could_leave_is_refused(path: str) -> None:
    with pytest.raises(UsageError) as caught:
        file(path)
    assert caught.value.detail_code == "bad_name"


@pytest.mark.parametrize("link", ["", "a\0b", "\udc80"])
def test_a_link_to_nowhere_is_refused(link: str) -> None:
    with pytest.raises(UsageError):
        symlink("a", link)


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": 0o10000},
        {"size": 5},
        {"target": LINK},
        {"link": "x"},
        {"kind": ItemKind.DIRECTORY, "size": 5, "target": LINK},
    ],
)
def test_our_own_items_make_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        Item(**{"path": "a", "kind": ItemKind.FILE, "mode": 0, "mtime_us": 0} | fields)


@pytest.mark.parametrize(
    ("path", "link", "escapes"),
    [
        ("a", "b", False),
        ("a", "..", True),
        ("a", "../x", True),
        ("a", "/etc/passwd", True),
        ("a/b", "../c", False),
        ("a/b", "../../c", True),
        ("a/b", "x/../../../c", True),
        ("a/b", ".", False),
        ("a", "..x", False),
    ],
)
def test_a_link_that_leads_outside_is_known(path: str, link: str, escapes: bool) -> None:
    assert symlink(path, link).escapes is escapes
    assert not file(path).escapes


def test_packs_hold_read_links_only() -> None:
    with pytest.raises(AssertionError):
        Listing((), (Capability(Kind.VERIFY, bytes(16), FileId(bytes(32))),))


def test_huge_counts_are_refused_before_anything_is_made() -> None:
    for at in (16, 20):
        raw = bytearray(Listing(()).encode() + bytes(200))
        raw[at : at + 4] = b"\xff" * 4
        with pytest.raises(MalformedMessage, match="4294967295 items"):
            Listing.decode(bytes(raw))


def test_neighbours_share_a_pack() -> None:
    packs = plan_packs([("a", 10), ("b", 0), ("c", 20), ("d", PACK_BELOW_BYTES), ("e", 5)])
    assert [pack.members for pack in packs] == [(("a", 0, 10), ("c", 10, 30), ("e", 30, 35))]
    assert packs[0].size == 35


def test_a_full_pack_is_followed_by_another() -> None:
    size = PACK_BELOW_BYTES - 1
    files = [(f"{at:03}", size) for at in range(70)]
    packs = plan_packs(files)
    assert [len(pack.members) for pack in packs] == [31, 31, 8]
    assert all(pack.size <= PACK_BYTES for pack in packs)
    assert [member.path for pack in packs for member in pack.members] == [path for path, _ in files]
    assert packs[1].members[0].start == 0


def test_a_pack_may_be_exactly_full() -> None:
    size, count = PACK_BELOW_BYTES // 2, PACK_BYTES // PACK_BELOW_BYTES * 2
    packs = plan_packs((str(at), size) for at in range(count + 1))
    assert [pack.size for pack in packs] == [PACK_BYTES, size]


def test_nothing_small_needs_no_pack() -> None:
    assert plan_packs([("a", PACK_BELOW_BYTES), ("b", 0)]) == ()
    assert [pack.size for pack in plan_packs([("a", PACK_BELOW_BYTES - 1)])] == [1_048_575]
