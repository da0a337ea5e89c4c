"""The arithmetic of segments against a plain walk over every symbol."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dsn.core.layout import FileLayout, SegmentLayout
from dsn.units import INLINE_BYTES, LEAF_BYTES, SYMBOL_BYTES, SYMBOL_PLAIN_BYTES

REQUIRED = st.sampled_from([1, 2, 3, 4, 10, 29, 171, 255]) | st.integers(1, 255)
NEAR = st.integers(-2, 2) | st.integers(0, SYMBOL_PLAIN_BYTES)


def near_symbols(most: int) -> st.SearchStrategy[int]:
    return st.builds(lambda n, d: max(1, n * SYMBOL_PLAIN_BYTES + d), st.integers(0, most), NEAR)


class Walk:
    """A segment's boxes laid out one after the other, as the words of the design say."""

    def __init__(self, required: int, plain: int) -> None:
        self.boxes: list[int] = []
        while plain > 0:
            self.boxes.append(min(plain, SYMBOL_PLAIN_BYTES) + 16)
            plain -= SYMBOL_PLAIN_BYTES
        self.where: list[tuple[int, int] | None] = []
        row = 0
        left = list(self.boxes)
        while len(left) >= required and left[required - 1] == SYMBOL_BYTES:
            self.where += [(row, index) for index in range(required)]
            left, row = left[required:], row + 1
        self.where += [None] * len(left)
        self.rows, self.rest = row, sum(left)
        short = -(-self.rest // required)
        self.short = -(-short // LEAF_BYTES) * LEAF_BYTES


@given(REQUIRED, near_symbols(600))
def test_a_segments_layout_is_the_designs(required: int, plain: int) -> None:
    layout, walk = SegmentLayout(required, plain), Walk(required, plain)
    assert layout.symbols == len(walk.boxes)
    assert layout.cipher_bytes == sum(walk.boxes)
    assert (layout.rows, layout.rest, layout.short) == (walk.rows, walk.rest, walk.short)
    assert layout.shard_bytes == walk.rows * SYMBOL_BYTES + walk.short
    assert layout.shard_bytes == layout.leaf_count * LEAF_BYTES
    assert layout.shard_bytes * required >= layout.cipher_bytes
    for symbol, where in enumerate(walk.where):
        assert layout.box(symbol).size == walk.boxes[symbol]
        assert layout.plain(symbol).size == walk.boxes[symbol] - 16
        if where is not None:
            assert layout.place(symbol) == where
    assert layout.row_symbols == sum(where is not None for where in walk.where)


@given(REQUIRED, near_symbols(600))
def test_the_short_stripe_is_cut_without_a_gap(required: int, plain: int) -> None:
    layout = SegmentLayout(required, plain)
    parts = [layout.short_part(index) for index in range(required)]
    assert parts[0].start == layout.row_symbols * SYMBOL_BYTES
    assert parts[-1].end == layout.cipher_bytes
    assert all(a.end == b.start for a, b in pairwise(parts))
    assert all(part.size <= layout.short for part in parts)


@given(REQUIRED, near_symbols(60), st.data())
def test_a_range_asks_for_what_it_needs_and_no_more(
    required: int, plain: int, data: st.DataObject
) -> None:
    layout, walk = SegmentLayout(required, plain), Walk(required, plain)
    start = data.draw(st.integers(0, plain - 1))
    end = data.draw(st.integers(start + 1, plain))
    symbols = layout.symbols_for(start, end)
    assert layout.plain(symbols[0]).start <= start < layout.plain(symbols[0]).end
    assert layout.plain(symbols[-1]).start < end <= layout.plain(symbols[-1]).end

    needed: dict[int, set[int]] = {}
    for where in (walk.where[symbol] for symbol in symbols):
        targets = [where] if where else [(walk.rows, index) for index in range(required)]
        for row, index in targets:
            needed.setdefault(index, set()).add(row)
    spans = layout.shards_for(symbols)
    assert spans.keys() == needed.keys()
    for index, rows in needed.items():
        first, last = min(rows), max(rows)
        assert rows == set(range(first, last + 1))
        end_of = layout.shard_bytes if last == walk.rows else (last + 1) * SYMBOL_BYTES
        assert spans[index] == (first * SYMBOL_BYTES, end_of)
    stripes = layout.stripes_for(symbols)
    assert stripes.start == min(span.start for span in spans.values())
    assert stripes.end == max(span.end for span in spans.values())


@given(REQUIRED, st.integers(0, 10 * INLINE_BYTES) | near_symbols(3_000))
def test_a_file_is_cut_whole(required: int, size: int) -> None:
    file = FileLayout(size, required)
    assert (file.segments == 0) == (size <= INLINE_BYTES)
    at = symbols = 0
    for number in range(file.segments):
        span, segment = file.plain(number), file.segment(number)
        assert span.start == at
        assert segment.plain_bytes == span.size
        at, symbols = span.end, symbols + segment.symbols
        if number < file.segments - 1:
            assert segment.symbols == 512 // required * required
            assert segment.rest == 0
            assert segment.shard_bytes * required == segment.cipher_bytes <= 32 << 20
        elif number:
            assert 64 <= segment.symbols <= 576
    assert at == (size if file.segments else 0)
    assert symbols == file.symbols


@given(REQUIRED, near_symbols(2_000), st.data())
def test_a_files_range_names_the_segments_that_hold_it(
    required: int, size: int, data: st.DataObject
) -> None:
    file = FileLayout(size, required)
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    touched = [
        number
        for number in range(file.segments)
        if max(start, file.plain(number).start) < min(end, file.plain(number).end)
    ]
    assert list(file.segments_for(start, end)) == touched


@given(REQUIRED, near_symbols(2_000))
def test_exactly_one_symbol_is_last(required: int, size: int) -> None:
    file = FileLayout(size, required)
    last = [
        (number, symbol)
        for number in range(file.segments)
        for symbol in range(file.segment(number).symbols)
        if file.is_last(number, symbol)
    ]
    final = file.segments - 1
    assert last == ([(final, file.segment(final).symbols - 1)] if file.segments else [])
