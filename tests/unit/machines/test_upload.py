"""Who takes over when a node fails while a file is stored."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsn.ids import Commit, NodeId
from dsn.machines.upload import Upload, stall_limit_s

NODES = [NodeId(bytes([n]) * 32) for n in range(12)]


def _store(upload: Upload, segment: int) -> None:
    for row in upload.assign(segment):
        upload.stored(row, row.node, row.generation, Commit(b"c" * 32), 10)


def test_rows_of_a_failed_node_move_to_a_spare_under_the_next_generation() -> None:
    upload = Upload(NODES[:5], 4)
    _store(upload, 0)
    assert not upload.pending() and upload.placed(1) == 4
    upload.fail(NODES[1])
    (row,) = upload.pending()
    assert (row.node, row.generation, row.commit) == (NODES[4], 1, None)
    assert upload.stored(row, NODES[4], 1, Commit(b"d" * 32), 10)
    assert upload.placed(1) == 4 and not upload.missing()


def test_a_late_receipt_for_a_row_that_moved_on_changes_nothing() -> None:
    upload = Upload(NODES[:3], 2)
    row = upload.assign(0)[0]
    upload.fail(row.node)
    assert not upload.stored(row, NODES[0], 0, Commit(b"c" * 32), 10)
    assert row.commit is None


def test_without_a_spare_the_row_is_missing_and_not_sent_again() -> None:
    upload = Upload(NODES[:3], 3)
    _store(upload, 0)
    upload.fail(NODES[2])
    assert not upload.pending()
    assert [row.node for row in upload.missing()] == [NODES[2]]
    assert upload.placed(1) == 2
    assert upload.nodes == NODES[:2]


def test_shards_rotate_so_that_no_node_holds_only_parity() -> None:
    upload = Upload(NODES[:4], 4)
    first = [upload.assign(segment)[0].node for segment in range(4)]
    assert sorted(first) == sorted(NODES[:4])


@given(st.lists(st.integers(0, 11), max_size=12), st.integers(1, 12), st.integers(0, 3))
def test_a_segment_never_has_two_rows_on_one_node(
    failing: list[int], total: int, segments: int
) -> None:
    upload = Upload(NODES, total)
    for segment in range(segments):
        _store(upload, segment)
    for number in failing:
        upload.fail(NODES[number])
    for segment in range(segments):
        holders = [row.node for row in upload.rows(segment)]
        assert len(set(holders)) == len(holders)
    alive = 12 - len(set(failing))
    assert len(upload.nodes) == min(total, alive)
    if alive >= total:
        assert not [row for row in upload.missing() if row not in upload.pending()]


def test_patience_follows_the_slowest_quarter() -> None:
    assert stall_limit_s([0.01] * 8, True) == 1.0
    assert stall_limit_s([0.01, 0.01, 0.5, 9.0], True) == 2.0
    assert stall_limit_s([], False) == 10.0
