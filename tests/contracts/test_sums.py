"""lib/sums against the Python sum tree."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsn.ids import Commit, DealId
from dsn.proofs.inventory import (
    MAX_TOTAL,
    InventoryEntry,
    SumTree,
    holdings_leaf,
    inventory_leaf,
    sum_node,
)
from tests.contracts.probes import deploy_probe, reverts
from tests.support.evm import Contract, Evm

HASHES = st.binary(min_size=32, max_size=32)
WORDS = st.integers(0, (1 << 64) - 1)
NEAR = st.builds(
    lambda first, last: bytes([first]) + bytes(30) + bytes([last]), *[st.integers(0, 9)] * 2
)
"""Keys that share long prefixes, so that trees are deep."""
ENTRIES = st.builds(
    InventoryEntry, st.one_of(HASHES, NEAR).map(DealId), WORDS, HASHES, st.integers(1, 1 << 40)
)
LISTS = st.lists(ENTRIES, max_size=12, unique_by=lambda each: each.deal).map(sorted)
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module")
def sums(node: Evm) -> Contract:
    return deploy_probe(node, "sums_probe")


def tree(entries: Sequence[InventoryEntry]) -> SumTree:
    return SumTree.build((each.deal, inventory_leaf(*each), each.leaves) for each in entries)


@FEW
@given(HASHES, HASHES, WORDS, WORDS)
def test_nodes_and_leaves_have_the_hashes_that_python_gives_them(
    sums: Contract, left: bytes, right: bytes, one: int, other: int
) -> None:
    assert sums.call("sum_node", one, left, other, right) == sum_node(one, left, other, right)
    assert sums.call("holdings_leaf", left, one) == holdings_leaf(Commit(left), one)
    entry = InventoryEntry(DealId(left), one, right, other)
    assert sums.call("inventory_leaf", entry) == inventory_leaf(*entry)


@FEW
@given(LISTS)
def test_a_list_has_the_root_and_the_total_of_its_tree(
    sums: Contract, entries: list[InventoryEntry]
) -> None:
    expected = tree(entries)
    assert sums.call("inventory", entries) == (expected.root, expected.total)


def test_a_full_list_of_the_deepest_keys_has_its_root_too(sums: Contract) -> None:
    deep = [
        InventoryEntry(DealId((1 << bit).to_bytes(32, "big")), 1, bytes(32), bit + 1)
        for bit in range(256)
    ]
    deep += [
        InventoryEntry(DealId(((1 << 256) - (1 << bit)).to_bytes(32, "big")), 1, bytes(32), 7)
        for bit in range(254, -1, -1)
    ]
    assert len(deep) == 511
    expected = tree(deep)
    assert sums.call("inventory", deep) == (expected.root, expected.total)


@FEW
@given(LISTS, ENTRIES)
def test_a_replaced_line_gives_the_tree_after_it(
    sums: Contract, entries: list[InventoryEntry], entry: InventoryEntry
) -> None:
    for old in [entry, *(entry._replace(deal=each.deal) for each in entries[:2])]:
        rest = [each for each in entries if each.deal != old.deal]
        after = tree(entries).replace(old.deal, inventory_leaf(*old), old.leaves)
        changed = sums.call("replaced", entries, old)
        assert [tuple(each) for each in changed] == sorted([*rest, old])
        assert sums.call("inventory", changed) == (after.root, after.total)
        gone = sums.call("replaced", entries, old._replace(leaves=0))
        assert [tuple(each) for each in gone] == rest


@pytest.mark.parametrize("count", [2, 3])
def test_lists_that_no_tree_could_be_over_show_nothing(sums: Contract, count: int) -> None:
    entries = [InventoryEntry(DealId(bytes([n]) * 32), 1, bytes(32), 5) for n in range(count)]
    assert reverts(sums, "inventory", entries) == ""
    assert reverts(sums, "inventory", entries[::-1]) == "bad_holdings"
    assert reverts(sums, "inventory", [*entries, entries[-1]]) == "bad_holdings"
    for wrong in (0, MAX_TOTAL):
        last = entries[-1]._replace(leaves=wrong)
        assert reverts(sums, "inventory", [*entries[:-1], last]) == "bad_holdings"
    alone = [entries[0]._replace(leaves=MAX_TOTAL)]
    assert sums.call("inventory", alone)[1] == MAX_TOTAL
