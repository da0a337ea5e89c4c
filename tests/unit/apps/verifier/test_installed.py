"""What stood behind a frozen root, epochs later."""

from __future__ import annotations

import random
from dataclasses import replace

from dsn.apps.verifier.installed import KEPT_EPOCHS, Installed, tree_of
from dsn.ledger.cells import DealCell, DealState
from tests.support.ledger_world import World, terms


def test_frozen_inventories_are_found_again_while_deals_change() -> None:
    seed = 5
    rng, world, installed = random.Random(seed), World(), Installed()
    world.bind("alice", "paul")
    world.open_epoch()
    deals = [world.open(terms(salt=bytes([n]) * 32, end=90)) for n in range(3)]
    roots: dict[int, bytes] = {}
    paul = world.account("paul").address
    for _ in range(8):
        epoch = world.epoch
        roots[epoch] = world.frozen("paul")
        if world.can_link("paul"):
            world.link("paul")
        for deal in rng.sample(deals, 2):
            numbers = rng.sample(range(6), rng.randint(1, 5))
            world.hold(deal, *{*world.held(deal), *numbers})
            installed.see(world.epoch, [world.deal(deal)])
        for each, root in roots.items():
            assert tree_of(installed.frozen(paul, each)).root == root, (seed, epoch, each)
        world.shut_epoch()
        world.open_epoch()
    assert len(set(roots.values())) > 4


def deal_cell() -> DealCell:
    """A deal that holds something."""
    world = World()
    world.bind("alice", "paul")
    world.open_epoch()
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    return world.deal(deal)


def test_a_deal_that_is_over_is_in_no_later_inventory() -> None:
    installed, cell = Installed(), deal_cell()
    provider = cell.terms.provider
    installed.see(1, [cell])
    installed.see(3, [replace(cell, state=DealState.ENDED)])
    assert [len(installed.frozen(provider, epoch)) for epoch in range(1, 6)] == [0, 1, 1, 0, 0]


def test_only_the_latest_epochs_are_remembered() -> None:
    installed, cell = Installed(), deal_cell()
    for epoch in range(1, 3 * KEPT_EPOCHS):
        installed.see(epoch, [replace(cell, number=epoch)])
    newest = 3 * KEPT_EPOCHS - 1
    kept = range(newest - KEPT_EPOCHS, newest + 2)
    numbers = [installed.frozen(cell.terms.provider, epoch)[cell.deal].number for epoch in kept]
    assert numbers == [epoch - 1 for epoch in kept]
    assert not installed.frozen(cell.terms.provider, 2)
