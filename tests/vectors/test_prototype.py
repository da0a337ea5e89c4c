"""Vectors made by an independent prototype: ours must give the same bytes."""

from __future__ import annotations

from typing import Any

import pytest

from dsn.core import merkle
from dsn.errors import InvalidProof
from dsn.ids import Commit, NetworkId, NodeId
from dsn.proofs.challenge import indices, por_seed
from dsn.proofs.inventory import EMPTY, SumTree, holdings, holdings_leaf
from dsn.proofs.opening import Opened, proven_deal, read_opening, verify_opening
from dsn.proofs.por import answer_root
from tests.support.proof_world import Inventory, Shard, prototype_world
from tests.support.vectors import load
from tests.vectors.core_vectors import data

VECTORS = load("proofs")
raw = bytes.fromhex


@pytest.fixture(scope="module")
def world() -> Inventory:
    return prototype_world(VECTORS["world"]["deals"])


def named_data(text: str) -> bytes:
    name, size = text.split(",")
    return data(name, int(size))


def statement(case: dict[str, Any]) -> dict[str, Any]:
    return {
        "root": raw(case["root"]),
        "total": case["total"],
        "index": case["g"],
        "inventory": case["anchor"] == "inventory",
    }


@pytest.mark.parametrize("case", VECTORS["shard"], ids=lambda case: case["data"])
def test_shard_trees(case: dict[str, Any]) -> None:
    shard = Shard(named_data(case["data"]))
    assert (shard.leaves, shard.root.hex(), shard.commit.hex()) == (
        case["leaf_count"],
        case["root"],
        case["commit"],
    )
    for leaf, path in case["paths"].items():
        opened = shard.leaf(int(leaf))
        assert [each.hex() for each in opened.path] == path
        digest = merkle.leaf_hash(opened.data)
        merkle.verify_path(shard.root, int(leaf), shard.leaves, digest, opened.path)


@pytest.mark.parametrize("case", VECTORS["radix"], ids=lambda case: case["note"])
def test_sum_trees_built_at_once_and_entry_by_entry(case: dict[str, Any]) -> None:
    pairs = [(Commit(raw(key)), weight) for key, weight in case["entries"]]
    grown = EMPTY
    for commit, leaf_count in pairs:
        grown = grown.insert(commit, holdings_leaf(commit, leaf_count), leaf_count)
    for tree in (grown, holdings(pairs)):
        assert (tree.root.hex(), tree.total) == (case["root"], case["total"])
        for way in case["paths"]:
            found = tree.locate(way["g"])
            assert (found.key.hex(), found.offset) == (way["key"], way["rest"])
            assert [[left_sum, sibling.hex()] for left_sum, sibling in found.steps] == way["steps"]


@pytest.mark.parametrize("case", VECTORS["indices"], ids=lambda case: str(case["total"]))
def test_indices(case: dict[str, Any]) -> None:
    assert indices(raw(case["seed"]), case["total"], case["c"]) == case["indices"]


def test_holdings_and_inventory_of_a_world(world: Inventory) -> None:
    assert (world.tree.root.hex(), world.tree.total) == (
        VECTORS["world"]["root"],
        VECTORS["world"]["total"],
    )
    for expected in VECTORS["world"]["deals"]:
        entry = world.entries[raw(expected["deal"])]
        assert (entry.holdings_root.hex(), entry.leaves) == (
            expected["holdings_root"],
            expected["leaves"],
        )
        held = next(held for deal, _, held in world.deals if deal == entry.deal)
        shards = [[key.hex(), len(held.shards[Commit(key)].raw)] for key, _ in held.tree]
        assert shards == expected["shards"]


@pytest.mark.parametrize("case", VECTORS["openings"], ids=lambda c: f"{c['anchor']}-{c['g']}")
def test_openings(case: dict[str, Any], world: Inventory) -> None:
    opening, proves, stated = raw(case["raw"]), case["proves"], statement(case)
    verify_opening(opening, **stated)
    opened = read_opening(opening, **stated)
    assert isinstance(opened, Opened)
    assert (opened.commit.hex(), opened.leaf, opened.length) == (
        proves["commit"],
        proves["leaf"],
        proves["length"],
    )
    if stated["inventory"]:
        assert opened.deal is not None
        entry = opened.deal
        assert (entry.deal.hex(), entry.number, entry.leaves) == (
            proves["deal"],
            proves["number"],
            proves["leaves"],
        )
        built = world.opening(case["g"])
    else:
        assert opened.deal is None
        roots = {held.tree.root: held for _, _, held in world.deals}
        built = roots[stated["root"]].opening(case["g"])
    assert built == opening


@pytest.mark.parametrize("case", VECTORS["failures"], ids=lambda case: case["note"])
def test_failing_openings_name_the_first_reason(case: dict[str, Any]) -> None:
    opening, stated = raw(case["raw"]), statement(case)
    with pytest.raises(InvalidProof) as failure:
        verify_opening(opening, **stated)
    assert failure.value.detail_code == case["reason"]
    anchor = {key: stated[key] for key in ("root", "total", "index")}
    if case["proven_deal"] is None:
        with pytest.raises(InvalidProof):
            proven_deal(opening, **anchor)
    else:
        assert proven_deal(opening, **anchor).deal.hex() == case["proven_deal"]


@pytest.mark.parametrize("case", VECTORS["answers"], ids=lambda case: f"c={case['c']}")
def test_answer_roots(case: dict[str, Any], world: Inventory) -> None:
    seed, total = raw(case["seed"]), case["total"]
    drawn = indices(seed, total, case["c"])
    assert drawn == case["indices"]
    openings = [world.opening(index) for index in drawn]
    assert answer_root(openings).hex() == case["answer_root"]
    assert answer_root(openings[:1]).hex() == case["opening_hashes"][0]


def test_the_seed_of_a_retrievability_proof(world: Inventory) -> None:
    case, setting = VECTORS["por"], VECTORS["answers"][0]
    network, node = NetworkId(raw(setting["network"])), NodeId(raw(setting["node"]))
    root = next(held.tree.root for _, number, held in world.deals if number == 3)
    assert por_seed(network, node, raw(case["nonce"]), root).hex() == case["seed"]


@pytest.mark.parametrize("case", VECTORS["drops"], ids=lambda case: str(case["total"]))
def test_a_removed_entry_leaves_its_sibling_in_its_parents_place(case: dict[str, Any]) -> None:
    """Stand in for each subtree beside the way with one entry of the same sum and hash."""
    steps = [
        (
            int.from_bytes(raw(case["steps"])[at : at + 8], "big"),
            raw(case["steps"])[at + 8 : at + 40],
        )
        for at in range(0, len(raw(case["steps"])), 40)
    ]
    own, index, key, entries = case["total"], case["first_leaf"], 0, []
    for depth, (left_sum, sibling) in enumerate(steps):
        right, bit = index >= left_sum, 1 << (255 - depth)
        beside = left_sum if right else own - left_sum
        entries.append(((key | (0 if right else bit)).to_bytes(32, "big"), sibling, beside))
        key |= bit if right else 0
        own, index = (own - left_sum, index - left_sum) if right else (left_sum, index)
    mine, count = key.to_bytes(32, "big"), case["leaf_count"]
    entries.append((mine, holdings_leaf(Commit(raw(case["commit"])), count), count))
    tree = SumTree.build(entries)
    assert (tree.root.hex(), tree.total) == (case["root"], case["total"])
    left = tree.remove(mine)
    assert (left.root.hex(), left.total) == (case["new_root"], case["new_total"])
