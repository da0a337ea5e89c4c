"""Pages of places, and how two repairers agree."""

from __future__ import annotations

import hashlib

import pytest

from dsn.core.placement import (
    NOWHERE,
    Placement,
    Row,
    ShardPlace,
    decode_page,
    encode_page,
    merge_placements,
    missing,
    page_hash,
)
from dsn.errors import MalformedMessage
from dsn.ids import Commit, NodeId

A, B, C = (NodeId(bytes([at]) * 32) for at in (1, 2, 3))
LOW, HIGH = Commit(bytes(32)), Commit(bytes([255]) * 32)


def test_a_page_is_36_bytes_a_shard() -> None:
    rows: tuple[Row, ...] = ((ShardPlace(1, 2, HIGH), missing(7)),) * 256
    page = encode_page(rows)
    assert len(page) == 256 * 2 * 36
    assert page[:72] == b"\0\1\0\2" + HIGH + b"\xff\xff\0\7" + bytes(32)
    assert decode_page(page, segments=256, total=2, nodes=2) == rows
    assert page_hash(page) == hashlib.sha256(b"dsn/page/v1".ljust(16, b"\0") + page).digest()


@pytest.mark.parametrize(("segments", "total", "nodes"), [(2, 2, 2), (1, 3, 2), (1, 2, 1)])
def test_a_page_fits_its_file(segments: int, total: int, nodes: int) -> None:
    page = encode_page([(ShardPlace(0, 0, LOW), ShardPlace(1, 0, LOW))])
    with pytest.raises(MalformedMessage):
        decode_page(page, segments=segments, total=total, nodes=nodes)


def test_a_missing_shard_has_no_commit() -> None:
    page = encode_page([(ShardPlace(NOWHERE, 0, HIGH),)])
    with pytest.raises(MalformedMessage, match="nobody holds"):
        decode_page(page, segments=1, total=1, nodes=5)


def test_a_placement_is_cut_in_pages() -> None:
    rows = tuple((ShardPlace(0, at, LOW),) for at in range(300))
    pages = Placement((A,), rows).pages()
    assert [len(page) // 36 for page in pages] == [256, 44]
    assert decode_page(pages[1], segments=44, total=1, nodes=1) == rows[256:]


def test_a_placement_names_holders() -> None:
    placement = Placement((A, B), ((ShardPlace(1, 0, LOW), missing(0)),))
    assert placement.holder(0, 0) == B
    assert placement.holder(0, 1) is None


def merged(ours: tuple[NodeId, ShardPlace], theirs: tuple[NodeId, ShardPlace]) -> ShardPlace:
    """Merge one shard in both directions; the node in the answer counts in (ours, theirs)."""
    results = []
    for first, second in ((ours, theirs), (theirs, ours)):
        out = merge_placements(Placement((first[0],), ((first[1],),)),
                               Placement((second[0],), ((second[1],),)))  # fmt: skip
        place = out.rows[0][0]
        results.append((out.holder(0, 0), place.generation, place.commit))
    assert results[0] == results[1]
    node = results[0][0]
    number = NOWHERE if node is None else [ours[0], theirs[0]].index(node)
    return ShardPlace(number, results[0][1], results[0][2])


def test_the_higher_generation_wins() -> None:
    result = merged((A, ShardPlace(0, 1, LOW)), (B, ShardPlace(0, 2, HIGH)))
    assert result == ShardPlace(1, 2, HIGH)
    assert merged((A, ShardPlace(0, 1, LOW)), (B, missing(2))) == missing(2)


def test_at_equal_generation_the_shard_somebody_holds_wins() -> None:
    assert merged((A, ShardPlace(0, 1, HIGH)), (B, missing(1))) == ShardPlace(0, 1, HIGH)


def test_then_the_lower_commit_wins() -> None:
    result = merged((A, ShardPlace(0, 1, HIGH)), (B, ShardPlace(0, 1, LOW)))
    assert result == ShardPlace(1, 1, LOW)


def test_two_repairers_who_made_the_same_bytes_agree_on_one_node() -> None:
    result = merged((B, ShardPlace(0, 1, LOW)), (A, ShardPlace(0, 1, LOW)))
    assert result == ShardPlace(1, 1, LOW)


def test_node_numbers_of_our_pages_stay() -> None:
    ours = Placement((B, A), ((ShardPlace(0, 1, LOW), ShardPlace(1, 0, LOW)),))
    theirs = Placement((A, C), ((ShardPlace(0, 0, LOW), ShardPlace(1, 1, LOW)),))
    result = merge_placements(ours, theirs)
    assert result.nodes == (B, A, C)
    assert result.rows == ((ShardPlace(0, 1, LOW), ShardPlace(2, 1, LOW)),)
