"""What the story says of a provider is what the ledger says, before and after it is slashed."""

from __future__ import annotations

from dsn.apps.cheating import Standing, standing
from dsn.ledger.bodies import Claim
from dsn.ledger.cells import Cell
from dsn.ledger.disputes import SlashWrong
from tests.support.ledger_world import PARAMS, World, address, terms


def cells(world: World) -> list[Cell]:
    return list(world.state.cells.values())


def stands(world: World, since: int = 1) -> Standing:
    return standing(cells(world), address("paul"), since, PARAMS.burn_ppm)


def test_a_liar_is_paid_for_nothing_that_was_not_settled() -> None:
    world = World()
    world.bind("alice", "paul")
    world.open_epoch()
    deal = world.open(terms())
    world.hold(deal, 1, 2, 3)
    assert stands(world) == Standing(0, 0, ended=False)
    world.pass_epochs(3, "paul")
    due = stands(world)
    assert (due.proven, due.ended) == (3, False)
    world.do("paul", Claim(deal, None, None))
    assert due.disk == world.deal(deal).disk_paid > 0
    world.link("paul", wrong=1)
    assert stands(world).disk > due.disk
    lied = world.epoch
    world.pass_epochs(1)
    drawn, _ = world.drawn("paul", lied, 1)
    world.do("sam", SlashWrong(deal, drawn, world.served("paul", lied, 1)))
    assert stands(world) == Standing(4, due.disk, ended=True)
    assert stands(world, lied).proven == 1
