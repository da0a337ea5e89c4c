from __future__ import annotations

import hashlib
import itertools
import random

import pytest

from dsn.errors import LimitReached, MalformedMessage, NotFound
from dsn.ids import Commit, DealId
from dsn.proofs.inventory import (
    EMPTY,
    EMPTY_ROOT,
    MAX_LEVELS,
    MAX_TOTAL,
    Step,
    SumTree,
    holdings,
    holdings_leaf,
    inventory_leaf,
    sum_node,
)

LOW, HIGH, NEXT = Commit(bytes(32)), Commit(b"\x80" + bytes(31)), Commit(bytes(31) + b"\x01")


def leaf(n: int) -> bytes:
    return hashlib.sha256(bytes([n])).digest()


def tower(levels: int = MAX_LEVELS) -> list[tuple[bytes, bytes, int]]:
    """Entries such that the zero key hangs below ``levels`` splits."""
    keys = [0, *(1 << (255 - bit) for bit in range(levels))]
    return [(key.to_bytes(32, "big"), leaf(n % 256), n + 1) for n, key in enumerate(keys)]


def test_leaves_and_nodes_hash_96_bytes_under_their_own_tags() -> None:
    def tagged(tag: bytes, body: bytes) -> bytes:
        return hashlib.sha256(tag.ljust(16, b"\0") + body).digest()

    eight = (7).to_bytes(8, "big")
    assert holdings_leaf(HIGH, 7) == tagged(b"dsn/held/v1", HIGH + eight)
    assert inventory_leaf(DealId(LOW), 7, leaf(1), 7) == tagged(
        b"dsn/inv/v1", LOW + eight + leaf(1) + eight
    )
    assert sum_node(7, leaf(1), 7, leaf(2)) == tagged(
        b"dsn/sum/v1", eight + leaf(1) + eight + leaf(2)
    )


def test_empty_tree() -> None:
    assert (EMPTY.root, EMPTY.total, EMPTY.count, list(EMPTY)) == (bytes(32), 0, 0, [])
    assert bytes(32) == EMPTY_ROOT
    assert SumTree.build([]).root == EMPTY.root
    with pytest.raises(NotFound) as failure:
        EMPTY.locate(0)
    assert failure.value.detail_code == "no_such_leaf"


def test_order_of_arrival_does_not_matter() -> None:
    entries = [(LOW, leaf(1), 3), (HIGH, leaf(2), 2), (NEXT, leaf(3), 9)]
    roots = set()
    for order in itertools.permutations(entries):
        tree = EMPTY
        for entry in order:
            tree = tree.insert(*entry)
        roots |= {tree.root, SumTree.build(order).root}
        assert (tree.count, tree.total) == (3, 14)
        assert list(tree) == [(LOW, 3), (NEXT, 9), (HIGH, 2)]
    assert len(roots) == 1


def test_a_change_leaves_the_old_tree_as_it_was() -> None:
    old = EMPTY.insert(LOW, leaf(1), 3).insert(HIGH, leaf(2), 2)
    root = old.root
    old.insert(NEXT, leaf(3), 9)
    old.replace(LOW, leaf(4), 1)
    old.remove(HIGH)
    assert (old.root, old.total, list(old)) == (root, 5, [(LOW, 3), (HIGH, 2)])
    assert SumTree.build([(LOW, leaf(1), 3), (HIGH, leaf(2), 2)]).root == root


def test_the_same_entry_again_changes_nothing() -> None:
    tree = EMPTY.insert(LOW, leaf(1), 3)
    assert tree.insert(LOW, leaf(1), 3) is tree
    assert tree.replace(LOW, leaf(1), 3) is tree
    assert holdings([(LOW, 3), (HIGH, 1), (LOW, 3)]).root == holdings([(HIGH, 1), (LOW, 3)]).root


@pytest.mark.parametrize("other", [(LOW, leaf(2), 3), (LOW, leaf(1), 4)], ids=["leaf", "weight"])
def test_another_leaf_of_the_same_key_is_an_error_unless_it_replaces(
    other: tuple[bytes, bytes, int],
) -> None:
    mine = (LOW, leaf(1), 3)
    tree = SumTree.build([mine, (NEXT, leaf(9), 1)])
    for conflict in (lambda: tree.insert(*other), lambda: SumTree.build([mine, other])):
        with pytest.raises(MalformedMessage) as failure:
            conflict()
        assert failure.value.detail_code == "entry_conflict"
    replaced = tree.replace(*other)
    assert replaced.root == SumTree.build([other, (NEXT, leaf(9), 1)]).root
    assert (replaced.total, replaced.count) == (other[2] + 1, 2)


def test_a_commit_with_two_leaf_counts_is_an_error() -> None:
    with pytest.raises(MalformedMessage, match="for 3 and for 4 leaves"):
        holdings([(LOW, 3), (LOW, 4)])


@pytest.mark.parametrize(("key", "weight"), [(LOW, 0), (bytes(31), 1), (bytes(33), 1), (b"", 1)])
def test_an_entry_without_leaves_or_with_a_short_key_is_refused(key: bytes, weight: int) -> None:
    for make in (
        lambda: EMPTY.insert(key, leaf(1), weight),
        lambda: SumTree.build([(key, leaf(1), weight)]),
    ):
        with pytest.raises(MalformedMessage) as failure:
            make()
        assert failure.value.detail_code == "bad_entry"


def test_a_total_of_two_to_the_63_is_refused() -> None:
    full = EMPTY.insert(LOW, leaf(1), MAX_TOTAL)
    assert full.total == (1 << 63) - 1
    for make in (
        lambda: full.insert(HIGH, leaf(2), 1),
        lambda: EMPTY.insert(LOW, leaf(1), 1 << 63),
        lambda: holdings([(LOW, MAX_TOTAL), (HIGH, 1)]),
    ):
        with pytest.raises(LimitReached) as failure:
            make()
        assert failure.value.detail_code == "total_too_large"


def test_removing_gives_the_tree_that_never_had_it() -> None:
    entries = [(LOW, leaf(1), 3), (NEXT, leaf(3), 9), (HIGH, leaf(2), 2)]
    tree = SumTree.build(entries)
    for gone in entries:
        rest = [entry for entry in entries if entry != gone]
        assert tree.remove(gone[0]).root == SumTree.build(rest).root
    assert tree.remove(LOW).remove(HIGH).remove(NEXT).root == EMPTY.root


@pytest.mark.parametrize("key", [b"\x81" + bytes(31), bytes(31), b""])
def test_removing_what_is_not_there_is_named(key: bytes) -> None:
    for tree in (EMPTY, SumTree.build([(LOW, leaf(1), 3), (HIGH, leaf(2), 2)])):
        with pytest.raises(NotFound) as failure:
            tree.remove(key)
        assert failure.value.detail_code == "no_such_entry"


def test_numbers_fall_to_entries_by_key_and_weight() -> None:
    tree = SumTree.build([(HIGH, leaf(2), 2), (LOW, leaf(1), 3)])
    found = [tree.locate(index)[:2] for index in range(5)]
    assert found == [(LOW, 0), (LOW, 1), (LOW, 2), (HIGH, 0), (HIGH, 1)]
    assert tree.locate(0).steps == (Step(3, leaf(2)),)
    assert tree.locate(4).steps == (Step(3, leaf(1)),)
    for outside in (-1, 5):
        with pytest.raises(NotFound):
            tree.locate(outside)


def test_at_most_256_levels() -> None:
    entries = tower()
    tree = SumTree.build(entries)
    grown = EMPTY
    for entry in reversed(entries):
        grown = grown.insert(*entry)
    assert grown.root == tree.root
    assert len(tree.locate(0).steps) == MAX_LEVELS
    assert tree.locate(tree.total - 1).key == b"\x80" + bytes(31)
    assert tree.remove(bytes(32)).count == MAX_LEVELS


def test_an_entry_is_found_where_its_numbers_begin() -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    pairs = [(Commit(rng.randbytes(32)), rng.randrange(1, 9)) for _ in range(200)]
    tree, first = holdings(pairs), 0
    for key, leaves in tree:
        assert tree.find(key) == (first, leaves), f"seed {seed}"
        assert tree.locate(first).key == tree.locate(first + leaves - 1).key == key
        first += leaves
    for key in (rng.randbytes(32), b""):
        with pytest.raises(NotFound):
            tree.find(key)
