"""The catalogue's runs: merging, and how few of them there ever are."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from dsn.core.catalogue import (
    MAX_RUNS,
    Entry,
    Paid,
    Removed,
    Row,
    RunRef,
    SlotBody,
    decode_run,
    encode_run,
    merge,
    merge_rows,
    plan_update,
)
from dsn.core.keys import FileKeys
from dsn.core.layout import Scheme
from dsn.core.manifest import FileKind
from dsn.errors import MalformedMessage, UsageError
from dsn.ids import FileId


def entry(name: str, size: int = 0) -> Entry:
    return Entry(name, bytes(16), FileId(bytes(32)), size, Scheme(4, 6), FileKind.FILE, 0)


def ref(rows: int) -> RunRef:
    return RunRef(bytes(16), FileId(bytes(32)), rows)


@pytest.mark.parametrize("name", ["", "dsn:read:x", "a\tb", "\udcff", "x" * 4_097])
def test_a_bad_name_is_refused(name: str) -> None:
    for make in (entry, Removed):
        with pytest.raises(UsageError) as caught:
            make(name)
        assert caught.value.detail_code == "bad_name"


def test_the_newest_run_wins() -> None:
    runs = [[entry("a", 1), entry("b", 1)], [entry("a", 2)], [Removed("b"), entry("c", 3)]]
    assert merge(runs) == {"a": entry("a", 2), "c": entry("c", 3)}
    assert list(merge([[entry("b")], [entry("a")]])) == ["a", "b"]
    assert merge([]) == {}


def test_a_removed_name_comes_back_with_a_later_put() -> None:
    assert merge([[entry("a", 1)], [Removed("a")], [entry("a", 2)]]) == {"a": entry("a", 2)}


def test_removed_names_hide_older_runs_and_vanish_in_the_oldest() -> None:
    newer: list[list[Row]] = [[entry("a")], [Removed("a"), Removed("b")]]
    assert merge_rows(newer, oldest=False) == (Removed("a"), Removed("b"))
    assert merge_rows(newer, oldest=True) == ()


def test_a_merged_run_is_sorted_and_encodes() -> None:
    rows = merge_rows(
        [[entry("é"), entry("z")], [entry("a"), entry("a/b"), entry("𝄞")]], oldest=True
    )
    assert decode_run(encode_run(rows)) == rows
    assert [row.name for row in rows] == ["a", "a/b", "z", "é", "𝄞"]


def test_a_row_says_what_is_paid_and_old_rows_do_not() -> None:
    paid = [replace(entry("b"), paid=Paid(2**63, 7, renew)) for renew in (False, True)]
    for row in paid:
        assert decode_run(encode_run([entry("a"), row])) == (entry("a"), row)
    raw = encode_run(paid[1:])
    assert len(raw) == len(encode_run([entry("b")])) + 17
    with pytest.raises(MalformedMessage):
        decode_run(raw[:-1] + b"\2")


def test_an_entry_opens_its_file_and_hides_its_key() -> None:
    assert entry("a").keys().read_key == FileKeys.owner(bytes(16)).read_key
    assert "owner_key" not in repr(entry("a")) + repr(ref(1))


@pytest.mark.parametrize(
    ("sizes", "changes", "keep"),
    [
        ([], 1, 0),
        ([1], 1, 0),
        ([2], 1, 1),
        ([8, 4, 2], 1, 3),
        ([8, 4, 1], 1, 2),
        ([8, 3, 1], 1, 0),
        ([11, 3, 1], 1, 1),
        ([9, 4, 2], 100, 0),
        ([1_000, 4, 2], 3, 1),
    ],
)
def test_a_change_swallows_what_it_outgrows(sizes: list[int], changes: int, keep: int) -> None:
    assert plan_update([ref(size) for size in sizes], changes) == keep


@pytest.mark.parametrize("batch", [1, 7])
def test_runs_stay_few_and_rewriting_cheap(batch: int) -> None:
    sizes: list[int] = []
    written = total = 0
    for _ in range(5_000):
        keep = plan_update([ref(size) for size in sizes], batch)
        sizes[keep:] = [batch + sum(sizes[keep:])]
        written += sizes[-1]
        total += batch
        assert len(sizes) <= math.log2(total / batch) + 1
        assert all(a >= 2 * b for a, b in pairwise(sizes))
    assert sum(sizes) == total
    assert written <= total * (math.log(total, 1.5) + 1)


def test_even_a_catalogue_of_four_thousand_million_names_fits_a_record() -> None:
    sizes = [1 << (32 - at) for at in range(33)]
    assert len(sizes) <= MAX_RUNS
    assert plan_update([ref(size) for size in sizes], 1) == 0
    assert plan_update([ref(3 ** (MAX_RUNS - at)) for at in range(MAX_RUNS)], 1) == MAX_RUNS - 1
    assert len(SlotBody(tuple(ref(1) for _ in range(MAX_RUNS))).encode()) < 3 << 10


def test_a_slot_reads_back() -> None:
    body = SlotBody((ref(5), RunRef(b"k" * 16, FileId(b"f" * 32), 1)))
    assert SlotBody.decode(body.encode()) == body
    assert SlotBody.decode(SlotBody().encode()) == SlotBody()


def test_the_longest_slot_and_the_shortest_rows_read_back() -> None:
    body = SlotBody((ref(1),) * MAX_RUNS)
    assert SlotBody.decode(body.encode()) == body
    rows = (Removed("a"), Removed("b"))
    assert decode_run(encode_run(rows)) == rows


def test_our_own_slots_are_held_to_the_format() -> None:
    for runs in [(ref(1),) * (MAX_RUNS + 1), (ref(0),), (ref(1 << 32),)]:
        with pytest.raises(AssertionError):
            SlotBody(runs).encode()


def test_a_huge_count_is_refused_before_anything_is_made() -> None:
    with pytest.raises(MalformedMessage, match="4294967295 names"):
        decode_run(encode_run(())[:16] + b"\xff" * 4 + bytes(100))
