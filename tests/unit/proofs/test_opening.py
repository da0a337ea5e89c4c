from __future__ import annotations

import hashlib
from typing import Any

import pytest

from dsn.core.hashing import sha256
from dsn.core.merkle import leaf_hash, shard_commit
from dsn.errors import InvalidProof
from dsn.ids import Commit, DealId
from dsn.proofs.inventory import (
    MAX_LEVELS,
    InventoryEntry,
    Step,
    SumTree,
    holdings_leaf,
    inventory_leaf,
)
from dsn.proofs.opening import (
    MAX_SHARD_BYTES,
    DealPart,
    ShardLeaf,
    build_opening,
    proven_deal,
    read_opening,
    verify_opening,
)
from dsn.units import leaf_count
from tests.support.proof_world import Holdings, Inventory

DEAL, OTHER = DealId(b"\x11" * 32), DealId(b"\xee" * 32)
HELD = Holdings.of(5000, 1024, 70_000, 1)
INVENTORY = Inventory([(DEAL, 3, HELD), (OTHER, 9, Holdings.of(2048, name="o"))])
UNDER_HOLDINGS = {"root": HELD.tree.root, "total": HELD.tree.total, "inventory": False}
UNDER_INVENTORY = {
    "root": INVENTORY.tree.root,
    "total": INVENTORY.tree.total,
    "inventory": True,
}


def reason(opening: bytes, **stated: Any) -> str:
    with pytest.raises(InvalidProof) as failure:
        verify_opening(opening, **stated)
    return failure.value.detail_code


def in_place(opening: bytes, at: int, part: bytes) -> bytes:
    return opening[:at] + part + opening[at + len(part) :]


def number(value: int) -> bytes:
    return value.to_bytes(8, "big")


def first_of(length: int) -> int:
    """The number of the first leaf of the shard of ``length`` bytes."""
    before = 0
    for key, weight in HELD.tree:
        if len(HELD.shards[Commit(key)].raw) == length:
            return before
        before += weight
    raise LookupError(length)


def test_every_leaf_of_holdings_opens_and_says_what_it_is() -> None:
    for index in range(HELD.tree.total):
        at = HELD.tree.locate(index)
        shard = HELD.shards[Commit(at.key)]
        opened = read_opening(HELD.opening(index), index=index, **UNDER_HOLDINGS)
        assert opened.deal is None
        assert (opened.commit, opened.leaf, opened.length) == (at.key, at.offset, len(shard.raw))
        assert opened.data == shard.leaf_data(at.offset)


def test_every_leaf_of_an_inventory_opens_and_names_its_deal() -> None:
    for index in range(INVENTORY.tree.total):
        opening = INVENTORY.opening(index)
        verify_opening(opening, index=index, **UNDER_INVENTORY)
        entry = read_opening(opening, index=index, **UNDER_INVENTORY).deal
        expected = INVENTORY.entries[DEAL if index < HELD.tree.total else OTHER]
        assert entry == expected
        anchor = {"root": INVENTORY.tree.root, "total": INVENTORY.tree.total}
        assert proven_deal(opening, index=index, **anchor) == expected


@pytest.mark.parametrize("index", [-1, HELD.tree.total, HELD.tree.total + 5])
def test_index_comes_first(index: int) -> None:
    assert reason(b"", index=index, **UNDER_HOLDINGS) == "index"


def test_a_total_that_no_tree_can_have_is_refused() -> None:
    stated = UNDER_HOLDINGS | {"total": 1 << 63}
    assert reason(HELD.opening(0), index=0, **stated) == "index"
    assert reason(b"", index=0, **(UNDER_HOLDINGS | {"total": 0})) == "index"


def test_every_prefix_is_short() -> None:
    for opening, stated in (
        (HELD.opening(3), UNDER_HOLDINGS),
        (INVENTORY.opening(3), UNDER_INVENTORY),
    ):
        reasons = {reason(opening[:size], index=3, **stated) for size in range(len(opening))}
        assert reasons == {"short"}


def test_a_byte_more_is_trailing() -> None:
    assert reason(HELD.opening(3) + b"\0", index=3, **UNDER_HOLDINGS) == "trailing"
    assert reason(INVENTORY.opening(3) + b"\0", index=3, **UNDER_INVENTORY) == "trailing"


@pytest.mark.parametrize("left_sum", [0, HELD.tree.total, 1 << 63, (1 << 64) - 1])
def test_a_left_sum_outside_its_node_is_a_wrong_sum(left_sum: int) -> None:
    opening = in_place(HELD.opening(0), 40, number(left_sum))
    assert reason(opening, index=0, **UNDER_HOLDINGS) == "sum"


def test_an_entry_heavier_than_where_it_hangs_is_a_wrong_sum() -> None:
    opening = in_place(HELD.opening(0), 32, number(1024 * HELD.tree.total + 1))
    assert reason(opening, index=0, **UNDER_HOLDINGS) == "sum"
    opening = in_place(INVENTORY.opening(0), 72, number(INVENTORY.tree.total + 1))
    assert reason(opening, index=0, **UNDER_INVENTORY) == "sum"
    opening = in_place(INVENTORY.opening(0), 72, number(0))
    assert reason(opening, index=0, **UNDER_INVENTORY) == "sum"


@pytest.mark.parametrize("levels", [MAX_LEVELS, MAX_LEVELS + 1])
def test_more_than_256_levels_are_too_deep(levels: int) -> None:
    step = number(1) + bytes(32)
    shard = bytes(32) + number(1024) + levels * step
    stated = {"root": bytes(32), "total": levels + 1, "index": levels, "inventory": False}
    assert reason(shard, **stated) == ("holdings" if levels == MAX_LEVELS else "deep")
    deal = bytes(72) + number(1) + levels * step
    stated |= {"inventory": True}
    assert reason(deal, **stated) == ("inventory" if levels == MAX_LEVELS else "deep")


@pytest.mark.parametrize("length", [0, MAX_SHARD_BYTES + 1, (1 << 64) - 1])
def test_a_length_no_shard_has(length: int) -> None:
    opening = in_place(HELD.opening(0), 32, number(length))
    assert reason(opening, index=0, **UNDER_HOLDINGS) == "length"


def test_another_length_of_as_many_leaves_is_another_commit() -> None:
    """The commit binds the length, so bytes cannot hide in a last leaf's padding."""
    index = first_of(5000)
    opening = HELD.opening(index)
    assert opening[32:40] == number(5000)
    assert reason(in_place(opening, 32, number(5001)), index=index, **UNDER_HOLDINGS) == "holdings"


def test_the_statement_is_not_taken_from_the_bytes() -> None:
    index = first_of(5000)
    opening = HELD.opening(index)
    assert reason(opening, index=index, **(UNDER_HOLDINGS | {"root": bytes(32)})) == "holdings"
    assert reason(opening, index=index + 1, **UNDER_HOLDINGS) == "shard"
    inventory = INVENTORY.opening(0)
    assert reason(inventory, index=0, **(UNDER_INVENTORY | {"root": bytes(32)})) == "inventory"
    with pytest.raises(InvalidProof):
        verify_opening(opening, index=index, **UNDER_INVENTORY)
    with pytest.raises(InvalidProof):
        verify_opening(inventory, index=0, **UNDER_HOLDINGS)


def test_an_opening_of_another_shard_with_as_many_leaves_is_refused() -> None:
    twins = Holdings.of(1024, 1024)
    stated = {"root": twins.tree.root, "total": 2, "inventory": False}
    assert reason(twins.opening(0), index=1, **stated) == "holdings"


def test_a_deal_is_proven_even_if_the_rest_fails() -> None:
    opening = INVENTORY.opening(0)
    broken = opening[:-1] + bytes([opening[-1] ^ 1])
    assert reason(broken, index=0, **UNDER_INVENTORY) == "shard"
    anchor = {"root": INVENTORY.tree.root, "total": INVENTORY.tree.total}
    assert proven_deal(broken, index=0, **anchor).deal == DEAL
    with pytest.raises(InvalidProof) as failure:
        proven_deal(opening[:100], index=0, **anchor)
    assert failure.value.detail_code == "short"
    with pytest.raises(InvalidProof) as failure:
        proven_deal(opening, index=INVENTORY.tree.total, **anchor)
    assert failure.value.detail_code == "index"


def beside(key: bytes) -> list[tuple[bytes, bytes, int]]:
    """256 entries that each leave ``key``'s way at another level."""
    mine = int.from_bytes(key, "big")
    others = [(mine ^ 1 << bit).to_bytes(32, "big") for bit in range(MAX_LEVELS)]
    return [(other, hashlib.sha256(other).digest(), 1) for other in others]


def test_the_largest_legal_opening() -> None:
    """A shard of 1 TiB of which only one leaf and its siblings need exist."""
    leaves = leaf_count(MAX_SHARD_BYTES)
    leaf = bytes(1024)
    path = tuple(hashlib.sha256(bytes([n])).digest() for n in range(30))
    root = leaf_hash(leaf)
    for sibling in path:
        root = sha256(root + sibling)
    commit = shard_commit(root, leaves, MAX_SHARD_BYTES)
    held = SumTree.build([(commit, holdings_leaf(commit, leaves), leaves), *beside(commit)])
    entry = InventoryEntry(DEAL, 1, held.root, held.total)
    deals = SumTree.build([(DEAL, inventory_leaf(*entry), entry.leaves), *beside(DEAL)])
    inside = sum(weight for key, weight in held if key < commit)
    index = inside + sum(weight for key, weight in deals if key < DEAL)
    opening = build_opening(
        ShardLeaf(root, MAX_SHARD_BYTES, leaf, path),
        held.locate(inside).steps,
        DealPart(entry, deals.locate(index).steps),
    )
    assert len(opening) == 22_584
    verify_opening(opening, root=deals.root, total=deals.total, index=index, inventory=True)
    assert (
        reason(opening, root=deals.root, total=deals.total, index=index + 1, inventory=True)
        == "shard"
    )


def test_steps_are_written_root_first_as_sum_and_sibling() -> None:
    shard = ShardLeaf(b"\1" * 32, 7, b"seven b", ())
    step, outer = Step(2, b"\2" * 32), Step(3, b"\3" * 32)
    inner = b"\1" * 32 + number(7) + number(2) + b"\2" * 32 + b"seven b"
    assert build_opening(shard, [step]) == inner
    entry = InventoryEntry(DEAL, 5, b"\4" * 32, 6)
    deal = DEAL + number(5) + b"\4" * 32 + number(6) + number(3) + b"\3" * 32
    assert build_opening(shard, [step], DealPart(entry, [outer])) == deal + inner
