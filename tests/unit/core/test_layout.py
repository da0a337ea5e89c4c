"""Schemes, and where the bytes of a file lie."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dsn.core.layout import (
    MAX_FILE_BYTES,
    FileLayout,
    Scheme,
    SegmentLayout,
    Span,
    default_scheme,
)
from dsn.errors import UsageError
from dsn.units import INLINE_BYTES, MIB, SYMBOL_BYTES, SYMBOL_PLAIN_BYTES


@pytest.mark.parametrize("text", ["1/1", "4/6", "10/30", "255/255", "1/255"])
def test_a_scheme_reads_back(text: str) -> None:
    assert str(Scheme.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["0/5", "9/4", "300/400", "4/256", "4", "4/", "/6", "4/6/8", " 4/6", "04/6", "4/06", "-1/6",
     "4 / 6", "٤/٦", "", "4/6\n", "1e1/30"],
)  # fmt: skip
def test_a_bad_scheme_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Scheme.parse(text)
    assert caught.value.detail_code == "bad_scheme"
    assert "4/6" in caught.value.hint


def test_a_scheme_made_of_bad_numbers_is_refused() -> None:
    for required, total in [(0, 1), (2, 1), (1, 256), (-1, 3)]:
        with pytest.raises(UsageError):
            Scheme(required, total)


@pytest.mark.parametrize(
    ("text", "repair_at", "copies"),
    [
        ("10/30", 20, 21),
        ("3/10", 6, 8),
        ("4/6", 4, 6),
        ("4/8", 6, 8),
        ("2/4", 3, 4),
        ("1/1", 1, 1),
        ("20/20", 20, 8),
        ("29/80", 55, 52),
        ("3/4", 4, 4),
    ],
)
def test_repair_threshold_and_manifest_copies(text: str, repair_at: int, copies: int) -> None:
    scheme = Scheme.parse(text)
    assert (scheme.repair_at, scheme.manifest_copies) == (repair_at, copies)


@pytest.mark.parametrize(
    ("groups", "text"), [(6, "4/6"), (9, "4/6"), (10, "3/10"), (29, "3/10"), (30, "10/30")]
)
def test_the_default_scheme_follows_the_network(groups: int, text: str) -> None:
    assert str(default_scheme(groups)) == text


@pytest.mark.parametrize(("groups", "fits"), [(5, "3/5"), (4, "2/4"), (2, "1/2"), (1, "1/1")])
def test_a_small_network_is_told_what_fits(groups: int, fits: str) -> None:
    with pytest.raises(UsageError) as caught:
        default_scheme(groups)
    assert caught.value.detail_code == "bad_scheme"
    assert f"--scheme {fits} fits" in caught.value.hint
    assert f"{groups} known" in caught.value.message
    Scheme.parse(fits).check_fits(groups)


def test_no_scheme_fits_an_empty_network() -> None:
    with pytest.raises(UsageError) as caught:
        default_scheme(0)
    assert "fits" not in caught.value.hint


def test_more_shards_than_groups_are_refused() -> None:
    Scheme(4, 6).check_fits(6)
    with pytest.raises(UsageError) as caught:
        Scheme(4, 6).check_fits(5)
    assert caught.value.detail_code == "bad_scheme"
    assert "6" in caught.value.message
    assert "5" in caught.value.message


@pytest.mark.parametrize("size", [0, 1, INLINE_BYTES])
def test_a_tiny_file_has_no_segment(size: int) -> None:
    layout = FileLayout(size, 4)
    assert (layout.symbols, layout.segments) == (0, 0)
    assert list(layout.segments_for(0, size)) == []


@pytest.mark.parametrize(
    ("required", "symbols", "segments"),
    [
        (4, 1, [1]),
        (4, 512, [512]),
        (4, 512 + 1, [513]),
        (4, 512 + 63, [575]),
        (4, 512 + 64, [512, 64]),
        (4, 1024, [512, 512]),
        (10, 510 + 63, [573]),
        (10, 510 + 64, [510, 64]),
        (3, 510 * 3 + 10, [510, 510, 520]),
        (255, 511, [511]),
        (171, 342 + 64, [342, 64]),
        (171, 342 + 63, [405]),
    ],
)
def test_a_file_is_cut_in_whole_stripes(required: int, symbols: int, segments: list[int]) -> None:
    layout = FileLayout(symbols * SYMBOL_PLAIN_BYTES, required)
    cut = [layout.segment(number).symbols for number in range(layout.segments)]
    assert cut == segments


def test_segments_follow_one_another() -> None:
    layout = FileLayout(70 * MIB + 5, 10)
    spans = [layout.plain(number) for number in range(layout.segments)]
    assert spans[0].start == 0
    assert spans[-1].end == layout.size
    assert all(a.end == b.start for a, b in pairwise(spans))


def test_a_range_names_its_segments() -> None:
    layout = FileLayout(3 * 512 * SYMBOL_PLAIN_BYTES, 4)
    edge = layout.segment_bytes
    assert layout.segments_for(0, 1) == range(1)
    assert layout.segments_for(edge - 1, edge + 1) == range(2)
    assert layout.segments_for(edge, edge + 1) == range(1, 2)
    assert layout.segments_for(0, layout.size) == range(3)
    assert layout.segments_for(5, 5) == range(0)


def test_a_range_in_a_long_last_segment_stays_in_it() -> None:
    layout = FileLayout((512 + 63) * SYMBOL_PLAIN_BYTES, 4)
    assert layout.segments_for(layout.size - 1, layout.size) == range(1)


def test_only_one_symbol_is_the_files_last() -> None:
    layout = FileLayout((512 + 64) * SYMBOL_PLAIN_BYTES - 7, 4)
    last = [
        (number, symbol)
        for number in range(layout.segments)
        for symbol in range(layout.segment(number).symbols)
        if layout.is_last(number, symbol)
    ]
    assert last == [(1, 63)]


def test_a_whole_segment_has_no_short_stripe() -> None:
    layout = SegmentLayout(4, 8 * SYMBOL_PLAIN_BYTES)
    assert (layout.symbols, layout.rows, layout.rest, layout.short) == (8, 2, 0, 0)
    assert layout.shard_bytes == 2 * SYMBOL_BYTES
    assert layout.leaf_count == 128
    assert layout.place(5) == (1, 1)


def test_a_short_stripe_is_cut_in_whole_leaves() -> None:
    layout = SegmentLayout(4, 8 * SYMBOL_PLAIN_BYTES + 5_000)
    assert layout.rest == 5_016
    assert layout.short == 2_048
    assert layout.shard_bytes == 2 * SYMBOL_BYTES + 2_048
    base = 8 * SYMBOL_BYTES
    assert [layout.short_part(index) for index in range(4)] == [
        Span(base, base + 2_048),
        Span(base + 2_048, base + 4_096),
        Span(base + 4_096, base + 5_016),
        Span(base + 5_016, base + 5_016),
    ]


def test_a_last_symbol_that_is_one_byte_short_leaves_no_whole_row() -> None:
    layout = SegmentLayout(2, 2 * SYMBOL_PLAIN_BYTES - 1)
    assert layout.rows == 0
    assert layout.short == SYMBOL_BYTES


def test_a_range_in_whole_rows_needs_only_its_shards() -> None:
    layout = SegmentLayout(4, 12 * SYMBOL_PLAIN_BYTES + 100)
    touched = layout.symbols_for(SYMBOL_PLAIN_BYTES - 1, SYMBOL_PLAIN_BYTES + 1)
    assert touched == range(2)
    assert layout.shards_for(touched) == {0: (0, SYMBOL_BYTES), 1: (0, SYMBOL_BYTES)}
    assert layout.stripes_for(touched) == (0, SYMBOL_BYTES)


def test_a_range_over_rows_is_one_span_a_shard() -> None:
    layout = SegmentLayout(4, 12 * SYMBOL_PLAIN_BYTES)
    assert layout.shards_for(range(3, 9)) == {
        3: (0, 2 * SYMBOL_BYTES),
        0: (SYMBOL_BYTES, 3 * SYMBOL_BYTES),
        1: (SYMBOL_BYTES, 2 * SYMBOL_BYTES),
        2: (SYMBOL_BYTES, 2 * SYMBOL_BYTES),
    }
    assert layout.stripes_for(range(3, 9)) == (0, 3 * SYMBOL_BYTES)


def test_a_range_in_the_short_stripe_needs_all_of_it() -> None:
    layout = SegmentLayout(4, 4 * SYMBOL_PLAIN_BYTES + 100)
    tail = (SYMBOL_BYTES, layout.shard_bytes)
    assert layout.shards_for(range(4, 5)) == dict.fromkeys(range(4), tail)
    spans = layout.shards_for(range(3, 5))
    assert spans == {**dict.fromkeys(range(3), tail), 3: (0, layout.shard_bytes)}
    assert layout.stripes_for(range(4, 5)) == tail


def test_a_range_ends_with_its_last_symbol() -> None:
    layout = SegmentLayout(4, 3 * SYMBOL_PLAIN_BYTES)
    assert layout.symbols_for(0, SYMBOL_PLAIN_BYTES) == range(1)
    assert layout.symbols_for(0, SYMBOL_PLAIN_BYTES + 1) == range(2)
    assert layout.symbols_for(SYMBOL_PLAIN_BYTES, layout.plain_bytes) == range(1, 3)


def test_an_empty_range_needs_nothing() -> None:
    layout = SegmentLayout(4, 100)
    assert layout.symbols_for(7, 7) == range(0)
    assert layout.shards_for(range(0)) == {}
    assert layout.stripes_for(range(0)).size == 0


def test_numbers_of_the_largest_file_fit_their_fields() -> None:
    layout = FileLayout(MAX_FILE_BYTES, 171)
    assert layout.segments < 1 << 32
    assert layout.segment(layout.segments - 1).symbols <= 576
