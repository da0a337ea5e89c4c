"""Whatever can be made reads back the same, and has one spelling."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsn.core.capability import (
    Capability,
    format_capability,
    make_capability,
    parse_capability,
)
from dsn.core.catalogue import (
    MAX_RUNS,
    Entry,
    Removed,
    Row,
    RunRef,
    SlotBody,
    decode_run,
    encode_run,
    merge_rows,
)
from dsn.core.directory import Item, ItemKind, Listing, Packed, plan_packs
from dsn.core.keys import FileKeys, Kind, SigningKey
from dsn.core.layout import FileLayout, Scheme
from dsn.core.manifest import Core, FileKind, Head, Private, SegmentSeal, sign_head, verify_head
from dsn.core.names import catalogue_name_fault, file_name_fault, path_fault
from dsn.core.phrase import format_phrase, parse_phrase
from dsn.core.placement import (
    Copy,
    PageRef,
    Placement,
    ShardPlace,
    decode_page,
    encode_page,
    merge_placements,
    missing,
    page_count,
)
from dsn.ids import Commit, FileId, NodeId
from dsn.units import INLINE_BYTES, MIB


def raw(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


U64 = st.integers(0, (1 << 64) - 1)
TIMES = st.integers(-(1 << 63), (1 << 63) - 1)
FILE_IDS = raw(32).map(FileId)
COMMITS = st.one_of(raw(32), st.sampled_from([bytes(32), b"\1" * 32])).map(Commit)
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SCHEMES = st.tuples(st.integers(1, 255), st.integers(1, 255)).map(
    lambda pair: Scheme(min(pair), max(pair))
)
SIGNER = SigningKey(bytes(32))


@given(SCHEMES)
def test_schemes(scheme: Scheme) -> None:
    assert Scheme.parse(str(scheme)) == scheme
    assert scheme.required <= scheme.repair_at <= scheme.total
    assert 1 <= scheme.manifest_copies <= scheme.total


PRIVATES = st.builds(
    Private,
    name=TEXT.filter(lambda name: not file_name_fault(name)),
    media_type=TEXT,
    mtime_us=TIMES,
    meta=st.dictionaries(TEXT, TEXT, max_size=5),
    kind=st.sampled_from(FileKind),
    inline=st.none() | st.binary(max_size=INLINE_BYTES),
)


@given(PRIVATES)
def test_private_parts(private: Private) -> None:
    again = Private.decode(private.encode())
    assert again == private
    assert list(again.meta) == sorted(private.meta)


@st.composite
def cores(draw: st.DrawFn) -> Core:
    size, scheme = draw(st.integers(0, 200 * MIB)), draw(SCHEMES)
    count = FileLayout(size, scheme.required).segments
    seals = draw(st.lists(st.builds(SegmentSeal, raw(16), raw(32)), min_size=count, max_size=count))
    return Core(scheme, size, SIGNER.public, tuple(seals), draw(st.binary(max_size=100)))


@st.composite
def heads(draw: st.DrawFn) -> Head:
    core = draw(cores())
    nodes = draw(st.lists(raw(32).map(NodeId), min_size=1, max_size=5, unique=True))
    copies = st.builds(Copy, st.integers(0, len(nodes) - 1), COMMITS)
    pages = st.builds(PageRef, raw(32), st.lists(copies, max_size=5).map(tuple))
    count = page_count(len(core.segments))
    refs = draw(st.lists(pages, min_size=count, max_size=count))
    return sign_head(core, draw(U64), nodes, refs, SIGNER.sign)


@given(cores())
def test_cores(core: Core) -> None:
    assert Core.decode(core.encode()) == core


@given(heads())
def test_heads(head: Head) -> None:
    again = Head.decode(head.encode())
    assert again == head
    verify_head(again, head.core.file_id)


U16 = st.integers(0, (1 << 16) - 1)


def places(nodes: int) -> st.SearchStrategy[ShardPlace]:
    held = st.builds(ShardPlace, st.integers(0, nodes - 1), st.integers(0, 3) | U16, COMMITS)
    return held | st.integers(0, 3).map(missing)


@given(st.data(), st.integers(1, 4), st.integers(1, 6), st.integers(1, 5))
def test_pages(data: st.DataObject, segments: int, total: int, nodes: int) -> None:
    rows = tuple(
        tuple(data.draw(st.lists(places(nodes), min_size=total, max_size=total)))
        for _ in range(segments)
    )
    page = encode_page(rows)
    assert decode_page(page, segments=segments, total=total, nodes=nodes) == rows


NODES = tuple(NodeId(bytes([at]) * 32) for at in range(4))


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    nodes = tuple(draw(st.permutations(NODES)))[: draw(st.integers(1, 4))]
    return Placement(nodes, (tuple(draw(places(len(nodes))) for _ in range(3)),))


def resolved(placement: Placement) -> list[tuple[NodeId | None, int, bytes]]:
    return [
        (placement.holder(0, index), place.generation, place.commit)
        for index, place in enumerate(placement.rows[0])
    ]


@given(placements(), placements(), placements())
def test_repairers_agree_in_whatever_order_they_merge(
    a: Placement, b: Placement, c: Placement
) -> None:
    assert resolved(merge_placements(a, b)) == resolved(merge_placements(b, a))
    left = merge_placements(merge_placements(a, b), c)
    right = merge_placements(a, merge_placements(b, c))
    assert resolved(left) == resolved(right)
    assert merge_placements(a, a) == a
    assert left.nodes[: len(a.nodes)] == a.nodes
    for place, results in zip(
        resolved(left), zip(*map(resolved, (a, b, c)), strict=True), strict=True
    ):
        assert place in results
        assert place[1] == max(result[1] for result in results)


@given(raw(16), FILE_IDS, st.sampled_from([Kind.READ, Kind.REPAIR, Kind.VERIFY]))
def test_capabilities(owner_key: bytes, file_id: FileId, kind: Kind) -> None:
    capability = make_capability(FileKeys.owner(owner_key), kind, file_id)
    text = format_capability(capability)
    assert parse_capability(text) == capability
    assert format_capability(parse_capability(text)) == text


NAMES = TEXT.filter(lambda name: not catalogue_name_fault(name))
ENTRIES = st.builds(
    Entry,
    name=NAMES,
    owner_key=raw(16),
    file_id=FILE_IDS,
    size=U64,
    scheme=SCHEMES,
    kind=st.sampled_from(FileKind),
    added_us=U64,
)
ROWS: st.SearchStrategy[Row] = ENTRIES | st.builds(Removed, NAMES)


@given(st.lists(ROWS, max_size=8), st.booleans())
def test_runs(rows: list[Row], oldest: bool) -> None:
    run = merge_rows([[row] for row in rows], oldest=oldest)
    assert decode_run(encode_run(run)) == run


RUN_REFS = st.builds(RunRef, raw(16), FILE_IDS, st.integers(1, (1 << 32) - 1))


@given(st.lists(RUN_REFS, max_size=MAX_RUNS).map(tuple))
def test_slots(runs: tuple[RunRef, ...]) -> None:
    body = SlotBody(runs)
    assert SlotBody.decode(body.encode()) == body


LINKS = st.builds(Capability, st.just(Kind.READ), raw(16), FILE_IDS)
PARTS = TEXT.filter(lambda part: "/" not in part and not path_fault(part))
MODES = st.integers(0, 0o7777)


@st.composite
def listings(draw: st.DrawFn) -> Listing:
    packs = tuple(draw(st.lists(LINKS, min_size=1, max_size=3)))
    packed = st.builds(Packed, st.integers(0, len(packs) - 1), U64)
    items: dict[str, Item] = {}
    folders = [""]
    for part in draw(st.lists(PARTS, max_size=8)):
        above = draw(st.sampled_from(folders))
        path, kind = f"{above}/{part}" if above else part, draw(st.sampled_from(ItemKind))
        if path in items:
            continue
        size = draw(U64) if kind is ItemKind.FILE else 0
        target = draw(packed | LINKS) if size else None
        link = draw(PARTS) if kind is ItemKind.SYMLINK else ""
        items[path] = Item(path, kind, draw(MODES), draw(TIMES), size, target, link)
        if kind is ItemKind.DIRECTORY:
            folders.append(path)
    return Listing(tuple(items[path] for path in sorted(items)), packs)


@given(listings())
def test_listings(listing: Listing) -> None:
    assert Listing.decode(listing.encode()) == listing


@given(st.lists(st.integers(0, 2 * MIB), max_size=200))
def test_packs_hold_every_small_file_once(sizes: list[int]) -> None:
    files = [(f"{at:03}", size) for at, size in enumerate(sizes)]
    packs = plan_packs(files)
    members = [member for pack in packs for member in pack.members]
    small = [(path, size) for path, size in files if 0 < size < MIB]
    assert [(member.path, member.end - member.start) for member in members] == small
    for pack in packs:
        ends = [0, *(member.end for member in pack.members)]
        assert [member.start for member in pack.members] == ends[:-1]
        assert pack.size == ends[-1]


@given(raw(32))
def test_phrases(root: bytes) -> None:
    assert parse_phrase(format_phrase(root)) == root
