"""The code of a scheme: what is copied, what is made, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dsn.core.erasure import Erasure
from dsn.errors import NotEnoughShards, UsageError
from dsn.kernels.galois import Portable, Tables
from tests.support import field


class Counting(Portable):
    """The portable kernel, noting how many rows each call makes."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.inverted = 0

    def invert(self, matrix: bytes, size: int) -> bytes:
        self.inverted += 1
        return super().invert(matrix, size)

    def multiply(
        self, tables: Tables, sources: Sequence[memoryview], targets: Sequence[memoryview]
    ) -> None:
        self.rows.append(tables.outputs)
        super().multiply(tables, sources, targets)


def views(parts: Sequence[bytes]) -> list[memoryview]:
    return [memoryview(part) for part in parts]


def blank(count: int, length: int) -> list[memoryview]:
    return [memoryview(bytearray(length)) for _ in range(count)]


DATA = [bytes([at * 16 + column for column in range(16)]) for at in range(4)]


def encoded(erasure: Erasure) -> list[memoryview]:
    parity = blank(erasure.total - erasure.required, 16)
    erasure.parity(views(DATA), parity)
    return [*views(DATA), *parity]


def test_parity_is_one_over_row_xor_column_of_the_data() -> None:
    shards = encoded(Erasure(4, 6, Portable()))
    for index in (4, 5):
        row = bytes(
            next(v for v in range(256) if field.times(v, index ^ column) == 1)
            for column in range(4)
        )
        assert shards[index] == field.combine(row, DATA)


def test_a_scheme_without_parity_is_the_data() -> None:
    erasure = Erasure(4, 4, Portable())
    erasure.parity(views(DATA), [])
    out = blank(2, 16)
    erasure.decode_plan((3, 2, 1, 0), (0, 3)).run(views(DATA[::-1]), out)
    assert out == [DATA[0], DATA[3]]


def test_one_of_many_is_a_copy_each() -> None:
    erasure = Erasure(1, 255, Portable())
    parity = blank(254, 16)
    erasure.parity(views(DATA[:1]), parity)
    for index in (1, 2, 255 - 1):
        out = blank(1, 16)
        erasure.decode_plan((index,), (0,)).run([parity[index - 1]], out)
        assert out == DATA[:1]


@pytest.mark.parametrize("index", range(8))
def test_each_row_can_be_made_again(index: int) -> None:
    erasure = Erasure(4, 8, Portable())
    out = memoryview(bytearray(16))
    erasure.row(views(DATA), index, out)
    assert out == encoded(erasure)[index]


def test_nothing_is_inverted_and_no_row_made_when_nothing_is_lost() -> None:
    galois = Counting()
    erasure = Erasure(4, 8, galois)
    shards, out = encoded(erasure), blank(4, 16)
    galois.rows.clear()
    erasure.decode_plan((2, 0, 3, 1), (0, 1, 2, 3)).run([shards[at] for at in (2, 0, 3, 1)], out)
    assert out == DATA
    assert (galois.inverted, sum(galois.rows)) == (0, 0)


def test_only_missing_rows_are_made_and_a_plan_is_made_once() -> None:
    galois = Counting()
    erasure = Erasure(4, 8, galois)
    shards, have, want = encoded(erasure), (0, 7, 2, 5), (0, 1, 2, 3, 6)
    plan = erasure.decode_plan(have, want)
    assert erasure.decode_plan(have, want) is plan
    assert galois.inverted == 1
    galois.rows.clear()
    out = blank(5, 16)
    plan.run([shards[at] for at in have], out)
    assert out == [shards[at] for at in want]
    assert galois.rows == [3]


def test_a_shard_wanted_twice_is_made_twice() -> None:
    erasure = Erasure(4, 8, Portable())
    shards, out = encoded(erasure), blank(4, 16)
    erasure.decode_plan((4, 5, 6, 7), (1, 1, 6, 6)).run(shards[4:], out)
    assert out == [DATA[1], DATA[1], shards[6], shards[6]]


@pytest.mark.parametrize(
    ("required", "total"), [(0, 5), (9, 4), (300, 400), (-1, 3), (0, 0), (1, 256), (256, 256)]
)
def test_schemes_out_of_range(required: int, total: int) -> None:
    with pytest.raises(UsageError, match=f"{required}/{total}") as caught:
        Erasure(required, total, Portable())
    assert caught.value.detail_code == "bad_scheme"
    assert "255" in caught.value.hint


@pytest.mark.parametrize("have", [(), (0, 1, 2), (0, 1, 1, 2), (5, 5, 5, 5, 5)])
def test_too_few_shards(have: tuple[int, ...]) -> None:
    found = len(set(have))
    with pytest.raises(NotEnoughShards, match=f"{found} shards found, 4 needed") as caught:
        Erasure(4, 8, Portable()).decode_plan(have, (0,))
    assert (caught.value.detail_code, caught.value.exit_code) == ("not_enough_shards", 5)


@pytest.mark.parametrize(
    ("have", "want", "text"),
    [
        ((0, 1, 2, 3, 4), (5,), "5 shards given, 4 needed"),
        ((0, 1, 2, 3, 3), (5,), "5 shards given, 4 needed"),
        ((0, 1, 2, 8), (5,), "index 8 is out of range"),
        ((-1, 1, 2, 3), (5,), "index -1 is out of range"),
        ((0, 1, 2, 3), (8,), "index 8 is out of range"),
        ((0, 1, 2, 3), (4, -1), "index -1 is out of range"),
    ],
)
def test_indices_that_do_not_fit(have: tuple[int, ...], want: tuple[int, ...], text: str) -> None:
    with pytest.raises(UsageError, match=text) as caught:
        Erasure(4, 8, Portable()).decode_plan(have, want)
    assert caught.value.detail_code == "bad_index"


def test_a_row_out_of_range() -> None:
    with pytest.raises(UsageError) as caught:
        Erasure(4, 8, Portable()).row(views(DATA), 8, memoryview(bytearray(16)))
    assert caught.value.detail_code == "bad_index"


@pytest.mark.parametrize(
    ("sources", "targets"),
    [([16] * 3, [16] * 3), ([16] * 4, [16] * 2), ([16] * 4, [16] * 4), ([16] * 4, [16, 16, 15]),
     ([16, 16, 16, 15], [16] * 3)],
)  # fmt: skip
def test_buffers_that_do_not_fit(sources: list[int], targets: list[int]) -> None:
    plan = Erasure(4, 8, Portable()).decode_plan((0, 4, 5, 6), (1, 2, 3))
    with pytest.raises(ValueError, match=r"given|one length"):
        plan.run(
            [*(memoryview(bytes(n)) for n in sources)], [memoryview(bytearray(n)) for n in targets]
        )


@pytest.mark.parametrize("length", [15, 17])
def test_a_copy_of_another_length_is_refused(length: int) -> None:
    plan = Erasure(4, 8, Portable()).decode_plan((0, 1, 2, 5), (0, 3))
    out = [memoryview(bytearray(length)), memoryview(bytearray(16))]
    with pytest.raises(ValueError, match="structures"):
        plan.run(views(DATA), out)
    assert not any(out[0])
