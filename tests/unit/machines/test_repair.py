"""Which shards count as lost, who takes them over, and what two repairers come to."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from dsn.core.codec import U16_MAX
from dsn.core.layout import Scheme
from dsn.core.placement import Placement, ShardPlace, missing
from dsn.errors import NotEnoughShards
from dsn.ids import Commit, FileId, NodeId
from dsn.machines.placement import Candidate
from dsn.machines.repair import Repair, same_places
from dsn.machines.upload import Row
from dsn.units import GIB

SCHEME = Scheme(2, 4)
FILE = FileId(b"f" * 32)
NODES = [NodeId(bytes([number]) * 32) for number in range(1, 11)]
LENGTH = 4_096


def commit(segment: int, index: int, generation: int = 0) -> Commit:
    return Commit(bytes([segment, index, generation]) + bytes(29))


def placed(segments: int = 3, nodes: Sequence[NodeId] = NODES[:4]) -> Placement:
    """Index i of segment g on node (i + g) mod total."""
    rows = tuple(
        tuple(ShardPlace((i + g) % len(nodes), 0, commit(g, i)) for i in range(len(nodes)))
        for g in range(segments)
    )
    return Placement(tuple(nodes), rows)


def candidate(node: NodeId, group: str = "", free: int = GIB) -> Candidate:
    return Candidate(node, group or node.hex(), free, 0.01)


def repair_of(placement: Placement, offered: Sequence[NodeId] = NODES) -> Repair:
    repair = Repair(FILE, placement, SCHEME, [LENGTH] * len(placement.rows))
    repair.offer([candidate(node) for node in offered])
    return repair


def store(repair: Repair) -> list[Row]:
    """Everything that is planned gets its receipt."""
    rows = repair.plan()
    for row in rows:
        assert repair.stored(row, commit(row.segment, row.index, row.generation))
    return rows


def test_nothing_is_lost_of_a_file_that_is_whole() -> None:
    repair = repair_of(placed())
    assert repair.broken() == [] and repair.plan() == []
    assert repair.placement() == placed()


def test_what_a_node_held_goes_to_one_heir_under_the_next_generation() -> None:
    repair = repair_of(placed())
    repair.lose_node(NODES[1])
    rows = store(repair)
    assert [(row.segment, row.index) for row in rows] == [(0, 1), (1, 0), (2, 3)]
    assert {row.generation for row in rows} == {1}
    assert len({row.node for row in rows}) == 1 and rows[0].node not in NODES[:4]
    after = repair.placement()
    assert after.nodes[:4] == tuple(NODES[:4]), "the table is only appended to"
    assert after.rows[0][1] == ShardPlace(4, 1, commit(0, 1, 1))
    assert repair.broken() == [] and repair.plan() == []


def test_places_without_a_successor_stay_as_they_are() -> None:
    repair = repair_of(placed(), offered=NODES[:4])
    repair.lose_node(NODES[1])
    assert repair.broken() == [0, 1, 2] and repair.plan() == []
    assert repair.placement() == placed()


def test_the_segment_that_is_nearest_to_its_end_comes_first() -> None:
    repair = repair_of(placed())
    repair.lose_shard(NODES[0], commit(0, 0))
    for index in (0, 1):
        repair.lose_shard(NODES[(index + 2) % 4], commit(2, index))
    assert repair.broken() == [2, 0]
    assert [row.segment for row in repair.plan()] == [2, 2, 0]


def test_a_shard_counts_only_where_its_own_node_shows_it() -> None:
    repair = repair_of(placed())
    repair.lose_shard(NODES[3], commit(0, 0))
    assert repair.lost(0) == [], "node 3 does not hold that shard anyway"


def test_too_few_shards_name_the_segment_and_both_figures() -> None:
    repair = repair_of(placed())
    for index in (0, 1, 2):
        repair.lose_shard(NODES[(index + 1) % 4], commit(1, index))
    with pytest.raises(NotEnoughShards, match="segment 1: 1 shards found, 2 needed"):
        repair.check()


def test_one_shard_of_a_segment_a_group() -> None:
    repair = Repair(FILE, placed(1), SCHEME, [LENGTH])
    repair.learn_groups(dict.fromkeys(NODES[:2], "home") | {NODES[2]: "far", NODES[3]: "off"})
    repair.offer([candidate(NODES[5], "home"), candidate(NODES[6], "far")])
    repair.lose_node(NODES[2])
    (row,) = repair.plan()
    assert row.node == NODES[6], "home has a good shard; far lost its only one"


def test_a_node_with_losses_of_its_own_comes_last_but_comes() -> None:
    repair = repair_of(placed(1))
    repair.lose_shard(NODES[0], commit(0, 0))
    assert repair.plan()[0].node not in NODES[:4]
    alone = repair_of(placed(1), offered=NODES[:4])
    alone.lose_shard(NODES[0], commit(0, 0))
    assert [row.node for row in alone.plan()] == [NODES[0]]


def test_a_full_node_takes_nothing() -> None:
    repair = Repair(FILE, placed(), SCHEME, [LENGTH] * 3)
    repair.offer([candidate(NODES[6], free=2 * LENGTH), candidate(NODES[7], free=LENGTH)])
    repair.lose_node(NODES[1])
    nodes = [row.node for row in repair.plan()]
    assert (nodes.count(NODES[6]), nodes.count(NODES[7])) == (2, 1)
    assert [row.node for row in repair.plan()] == nodes, "planning again changes nothing"


def test_a_failed_attempt_is_never_repeated_under_its_generation() -> None:
    repair = repair_of(placed(1))
    repair.lose_node(NODES[0])
    (first,) = repair.plan()
    repair.fail(first.node)
    (second,) = repair.plan()
    assert (first.generation, second.generation) == (1, 2) and second.node != first.node
    assert not repair.stored(first, commit(0, 0, 1)), "a late receipt"
    assert repair.placement() == placed(1)
    repair.spoilt(second)
    (third,) = store(repair)
    assert third.generation == 3


def test_a_node_that_fails_after_its_receipt_loses_what_it_took() -> None:
    repair = repair_of(placed())
    repair.lose_node(NODES[1])
    heir = store(repair)[0].node
    repair.fail(heir)
    assert repair.broken() == [0, 1, 2]
    assert heir not in {row.node for row in store(repair)}


def test_a_place_that_nobody_took_goes_beyond_what_was_tried() -> None:
    rows = ((*placed(1).rows[0][:3], missing(7)),)
    repair = repair_of(Placement(tuple(NODES[:4]), rows))
    (row,) = repair.plan()
    assert (row.index, row.generation) == (3, 8)


def test_generations_end() -> None:
    rows = ((*placed(1).rows[0][:3], missing(U16_MAX)),)
    assert repair_of(Placement(tuple(NODES[:4]), rows)).plan() == []


def test_an_interrupted_repair_is_taken_up_where_it_is_of_use() -> None:
    repair = repair_of(placed(1))
    repair.lose_node(NODES[0])
    stored = Row(0, 0, NODES[8], 2, commit(0, 0, 2), LENGTH)
    assert not repair.restore(Row(0, 1, NODES[8], 1, commit(0, 1, 1), LENGTH)), "not lost"
    assert not repair.restore(Row(0, 0, NODES[8], 0, commit(0, 0), LENGTH)), "not newer"
    assert not repair.restore(Row(0, 0, NODES[2], 1, commit(0, 0, 1), LENGTH)), "group taken"
    assert repair.restore(stored) and not repair.restore(stored)
    assert repair.plan() == [] and repair.rows() == [stored]


@pytest.mark.parametrize("seed", range(20))
def test_two_repairers_that_see_the_same_choose_alike(seed: int) -> None:
    rng = random.Random(seed)
    gone = rng.sample(NODES[:4], 2)
    results = []
    for _ in range(2):
        repair = Repair(FILE, placed(), SCHEME, [LENGTH] * 3)
        seen = [candidate(node, free=GIB + rng.randrange(GIB // 2)) for node in NODES]
        repair.offer(rng.sample(seen, len(seen)))
        for node in gone:
            repair.lose_node(node)
        store(repair)
        results.append(repair.placement())
    assert same_places(*results), f"seed {seed}"


@pytest.mark.parametrize("seed", range(50))
def test_two_repairers_that_see_different_nodes_come_to_one_whole_placement(seed: int) -> None:
    rng = random.Random(seed)
    gone = rng.sample(NODES[:4], 2)
    pair = []
    for _ in range(2):
        repair = repair_of(placed(), rng.sample(NODES, 9))
        for node in gone:
            repair.lose_node(node)
        store(repair)
        pair.append(repair)
    published = pair[0].placement()
    for turn in range(6):
        mine = pair[turn % 2]
        mine.merge(published)
        store(mine)
        published = mine.placement()
    assert same_places(pair[0].placement(), pair[1].placement()), f"seed {seed}"
    for segment in range(3):
        holders = [published.holder(segment, index) for index in range(4)]
        assert len(set(holders)) == 4 and not set(gone) & set(holders), f"seed {seed}"


def test_places_are_the_same_however_nodes_are_numbered() -> None:
    one, turned = placed(2), tuple(reversed(NODES[:4]))
    rows = tuple(tuple(p._replace(node=3 - p.node) for p in row) for row in one.rows)
    assert same_places(one, Placement(turned, rows))
    assert not same_places(one, Placement(tuple(NODES[4:8]), one.rows))
