"""What the ledger's own record convicts of: entered by the verifier, rarely and once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dsn.apps.verifier.convicting import build_overdue
from dsn.ids import DealId
from dsn.ledger.bodies import Kind
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import Demand, SlashMissed, SlashUnserved
from tests.support.ledger_stage import Stage, serving
from tests.support.ledger_world import KEYS
from tests.support.verifier_world import GENESIS, AnswerNode, Bench, EpochWorld, bench

SLASHES = (Kind.SLASH_MISSED, Kind.SLASH_UNSERVED)


@asynccontextmanager
async def watched(
    folder: Path, world: EpochWorld, *, enters: bool = True
) -> AsyncIterator[tuple[Bench, Stage]]:
    """A verifier on ``world``, which is served; ``enters``: by Sam's account."""
    stage, nodes = Stage(GENESIS), [AnswerNode(name, world) for name in ("paul", "petra")]
    stage.world = world
    stage.publish()
    async with serving(stage, folder) as reader, nodes[0].serving(), nodes[1].serving():
        account = reader.account("sam") if enters else None
        async with bench(folder, world, nodes, account=account) as verifier:
            yield verifier, stage


def slashes(world: EpochWorld) -> list[int]:
    return [leaf.entry[0] for leaf in world.leaves if leaf.entry[0] in SLASHES]


def overdue(verifier: Bench, reporter: str = "sam") -> list[SlashMissed | SlashUnserved]:
    return build_overdue(verifier.archive, KEYS[reporter].address)


def miss(world: EpochWorld) -> DealId:
    """Petra misses as many epochs as her deal allows; Paul none."""
    deal = world.deals_of["petra"]
    for _ in range(world.deal(deal).terms.miss_limit):
        world.turn("paul")
    return deal


async def test_more_missed_than_the_deal_allows_is_slashed_once(tmp_path: Path) -> None:
    world = EpochWorld()
    world.turn()
    deal = miss(world)
    async with watched(tmp_path, world) as (verifier, stage):
        await verifier.look()
        assert overdue(verifier) == []
        assert world.code("sam", SlashMissed(deal)) == "within_miss_limit"
        world.turn("paul")
        stage.publish()
        had = world.account("sam").available
        await verifier.look()
        assert world.deal(deal).state is DealState.SLASHED
        assert world.account("sam").available > had
        for _ in range(3):
            await verifier.look()
            world.turn("paul")
            stage.publish()
    assert slashes(world) == [Kind.SLASH_MISSED]
    assert world.deal(world.deals_of["paul"]).state is DealState.OPEN


async def test_a_demand_that_nobody_served_is_slashed_after_its_deadline(tmp_path: Path) -> None:
    world = EpochWorld()
    world.turn()
    deal = world.deals_of["paul"]
    async with watched(tmp_path, world) as (verifier, stage):
        world.do("alice", Demand(deal, world.params.min_bond, 4))
        for _ in range(world.params.demand_epochs):
            world.turn("paul", "petra")
            stage.publish()
            await verifier.look()
            assert overdue(verifier) == [] == slashes(world)
        world.turn("paul", "petra")
        stage.publish()
        await verifier.look()
    assert slashes(world) == [Kind.SLASH_UNSERVED]
    assert world.deal(deal).state is DealState.SLASHED


@pytest.mark.parametrize("enters", [True, False])
async def test_somebody_else_may_have_been_first(tmp_path: Path, enters: bool) -> None:
    world = EpochWorld()
    world.turn()
    deal = miss(world)
    world.turn("paul")
    async with watched(tmp_path, world, enters=enters) as (verifier, _):
        await verifier.ledger.refresh()
        assert overdue(verifier) == [SlashMissed(deal)]
        assert overdue(verifier, "petra") == [], "nobody slashes itself"
        world.do("bob", SlashMissed(deal))
        size = len(world.leaves)
        for _ in range(2):
            await verifier.convictions.convict_overdue()
        assert len(world.leaves) == size
