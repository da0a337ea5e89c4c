"""What the chain judged of a deal is entered if the rules still allow it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

from dsn.apps.ledger.engine import Sequencer, genesis_of
from dsn.apps.ledgerd.books import Books
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.apps.ledgerd.intake import Intake
from dsn.apps.ledgerd.judged import JudgedSlashes
from dsn.ids import DealId
from dsn.ledger.cells import CellKind, DealCell, DealState
from dsn.runtime.kernel import Kernel
from dsn.store.ledger import create_ledger, open_ledger
from tests.support.ledger_net import LOG_KEY
from tests.support.ledger_rig import Watch
from tests.support.ledger_story import submissions
from tests.support.ledger_world import CHAIN_PARAMS, KEYS, World, address, terms
from tests.support.memory_chain import MemoryChain


def story() -> tuple[World, list[DealId]]:
    """Three deals that hold something, under revision 2, 1 and 1."""
    world = World(CHAIN_PARAMS, signed=True)
    world.fund()
    world.bind("alice", "paul")
    world.open_epoch()
    deals = [world.open(terms(salt=bytes([n]) * 32)) for n in range(3)]
    for deal in deals:
        world.hold(deal, 1, 2)
    world.hold(deals[0], 1)
    return world, deals


@asynccontextmanager
async def judging(
    root: Path, world: World, chain: MemoryChain
) -> AsyncIterator[tuple[Desk, Intake[object]]]:
    """The ledger of ``world`` in ``root``, made if there is none."""
    place = str(root / "ledger")
    if not (root / "ledger").exists():
        create_ledger(place, *genesis_of(CHAIN_PARAMS))
        with closing(open_ledger(place, signer=True)) as store:
            list(Sequencer(store).submit(submissions(world)))
    with closing(open_ledger(place, signer=True)) as store, Kernel() as thread:
        desk = Desk(Books(store), thread, Watch())
        operator = Operator(CHAIN_PARAMS, LOG_KEY, KEYS["operator"], desk)
        enter = JudgedSlashes(operator).enter
        made: Intake[object] = Intake(
            desk, chain.slashes_since, enter, file=root / "mark", every_s=1.0
        )
        yield desk, made


def state(desk: Desk, deal: DealId) -> DealState:
    cell = desk.books.sequencer.state.cell(CellKind.DEAL, deal)
    assert isinstance(cell, DealCell)
    return cell.state


async def test_each_is_entered_once_if_it_still_holds(tmp_path: Path) -> None:
    (world, deals), chain = story(), MemoryChain()
    for deal in deals[:2]:
        chain.slash(deal, 1, address("dora"))
    async with judging(tmp_path, world, chain) as (desk, slashes):
        for _ in range(2):
            assert await slashes.step()
        assert [state(desk, deal) for deal in deals] == [
            DealState.OPEN, DealState.SLASHED, DealState.OPEN,
        ]  # fmt: skip
        assert desk.refused == {"revision_moved": 1}
        assert desk.size == len(world.leaves) + 1


async def test_without_its_mark_it_looks_again_and_doubles_nothing(tmp_path: Path) -> None:
    (world, deals), chain = story(), MemoryChain()
    chain.slash(deals[2], 4, address("alice"))
    async with judging(tmp_path, world, chain) as (desk, slashes):
        await slashes.step()
    (tmp_path / "mark").unlink()
    async with judging(tmp_path, world, chain) as (desk, slashes):
        assert await slashes.step()
        assert desk.refused == {"deal_not_open": 1}
        assert desk.size == len(world.leaves) + 1
        assert state(desk, deals[2]) is DealState.SLASHED
