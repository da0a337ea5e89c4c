"""Cells that were packed are the same cells, and the tree over them the same tree."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsn.apps.ledger.remembered import Remembered, tree_over
from dsn.errors import MalformedMessage
from dsn.ledger.bodies import Claim, Transfer
from dsn.ledger.entry import Entry
from dsn.ledger.radix import StateLeaf, StateTree
from dsn.ledger.rules.moves import apply
from dsn.ledger.state import genesis
from tests.support.ledger_stage import Stage
from tests.support.ledger_world import World, address, terms


def near(key: int) -> st.SearchStrategy[int]:
    """Keys that part from ``key`` late."""
    return st.integers(0, 255).map(lambda bit: key ^ 1 << bit)


@given(st.sets(st.one_of(st.integers(0, (1 << 256) - 1), near(0), near(1 << 255)), max_size=60))
def test_the_tree_is_the_one_that_grows_leaf_by_leaf(keys: set[int]) -> None:
    leaves = [StateLeaf(k.to_bytes(32, "big"), bytes([k % 251]) * 32) for k in sorted(keys)]
    shuffled = random.Random(len(keys)).sample(leaves, len(leaves))
    made, grown = tree_over(leaves), StateTree.build(shuffled)
    assert list(made.parts()) == list(grown.parts())
    assert made.root == grown.root


@pytest.fixture
def world() -> World:
    """Two deals that hold something, one that does not, and a few epochs."""
    world = World(Stage().params, signed=True)
    world.bind("alice", "paul")
    world.open_epoch()
    for salt in range(3):
        deal = world.open(terms(bandwidth_escrow=2_000, salt=bytes([salt]) * 32))
        if salt:
            world.hold(deal, *range(salt + 1))
    world.pass_epochs(2, "paul")
    return world


def test_what_was_remembered_is_the_same_state(world: World) -> None:
    paul, cells = address("paul"), dict(world.state.cells)
    back = Remembered.decode(Remembered.of(cells.values()).encode())
    state = back.state(world.params)
    assert state.root == world.state.root
    assert back.inventory(paul).root == world.state.inventory(paul).root
    assert back.inventory(paul).total == sum(deal.leaves for deal in world.deals()) > 0
    assert back.inventory(address("petra")).total == 0
    assert {key: back.cell(key) for key in cells} == cells
    assert back.cell(b"no such key".ljust(32)) is None


def test_what_entries_changed_is_remembered(world: World) -> None:
    """From genesis on, packed anew now and then: claims, money, a deal that lets all go."""
    *_, last = world.deals()
    world.do("alice", Transfer(address("sam"), 9))
    world.do("paul", Claim(last.deal, None, world.voucher(last.deal, 100)))
    world.hold(last.deal)
    back = Remembered.of(genesis(world.params).cells.values())
    state = back.state(world.params)
    for index, leaf in enumerate(world.leaves):
        state, _ = apply(state, Entry.decode(leaf.entry))
        state = back.absorb(state)
        assert state.root == leaf.state_root, f"entry {index}"
        if index % 5 == 0:
            back = Remembered.decode(back.encode())
            state = back.state(world.params)
    again = Remembered.decode(back.encode())
    assert again.state(world.params).root == world.state.root
    for party in map(address, ("paul", "petra")):
        live = world.state.inventory(party)
        assert (again.inventory(party).root, back.inventory(party).root) == (live.root, live.root)


def test_cells_that_break_off_are_none(world: World) -> None:
    raw = Remembered.of(world.state.cells.values()).encode()
    with pytest.raises(MalformedMessage):
        Remembered.decode(raw + b"x")
