"""An honest provider with crashes and rot is never slashable if it declares.

One node with a real store, a real scrub and real answers' files lives on the rules' own ledger:
its disk rots and loses files, it crashes around every entry, owners demand, repairers mend or do
not. Whoever would slash it is refused at every turn.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from dsn.ledger.bodies import Loss, SubmitLink
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import Demand, DrawnOpening, SlashMissed, SlashUnserved
from dsn.proofs.opening import verify_opening
from dsn.proofs.post import Link, drawn_indices
from tests.support import ledger_world
from tests.support.honest_node import Crash, HonestNode, stored
from tests.support.prover_world import NODE

EPOCHS = 40
LIMIT = 12


async def check(node: HonestNode, when: str) -> None:
    """Nobody can slash Paul now, and nothing that he linked is wrong."""
    world = node.field.world
    for deal in node.held:
        assert world.deal(deal).state is DealState.OPEN, when
        assert world.code("sam", SlashMissed(deal)) == "within_miss_limit", when
        assert world.code("sam", SlashUnserved(deal)) in ("no_demand", "still_time"), when
    for body in node.field.paul.entered:
        node.losses_taken += isinstance(body, Loss)
        if isinstance(body, SubmitLink):
            node.links_taken += 1
            await check_answer(node, body.link)
    node.field.paul.entered.clear()


async def check_answer(node: HonestNode, link: Link) -> None:
    """Every opening under a link holds, as a stranger judges it, and can be demanded."""
    world = node.field.world
    answer = await node.field.answers.get(link.epoch)
    network, who = world.params.domain.network, world.account(NODE).node
    drawn = drawn_indices(link, world.values[link.epoch], network=network, node=who)
    for index, opening in zip(drawn, answer.openings, strict=True):
        verify_opening(opening, root=link.root, total=link.total, index=index, inventory=True)
    held = ledger_world.inventory(world.known[link.root])
    at = max(
        n
        for n, leaf in enumerate(world.leaves)
        if leaf.entry and SubmitLink(link).encode() in leaf.entry
    )
    world.answers[NODE, link.epoch] = (at, link, held, answer.openings)


def demand(node: HonestNode) -> None:
    """Alice asks for a leaf that is held, or for an opening of a link."""
    world, random = node.field.world, node.random
    linked = [epoch for name, epoch in world.answers if epoch < world.epoch]
    deal = random.choice(list(node.held))
    target: DrawnOpening | int = random.randrange(max(1, world.deal(deal).leaves))
    if linked and random.random() < 0.5:
        target, deal = world.drawn(NODE, random.choice(linked), 0)
    body = Demand(deal, 100, target)
    if not world.code("alice", body):
        world.do("alice", body)


async def live(node: HonestNode, when: str) -> None:
    """One epoch, with as many starts as it takes."""
    node.crashing = True
    for _ in range(6):
        async with node.started():
            try:
                for _ in range(3):
                    await node.scrub.turn()
                await node.turn()
                await node.turn()
                break
            except Crash:
                node.scrub.save()
    node.crashing = False
    await check(node, when)


@pytest.mark.parametrize("seed", range(6))
async def test_rot_and_crashes_never_cost_a_deal(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_world, "shard", stored)
    random = Random(f"honest/{seed}")
    node = HonestNode(tmp_path, random)
    await node.hold(1, 2, 3, 6, miss_limit=LIMIT)
    await node.hold(30, 31, 32, miss_limit=LIMIT)
    world = node.field.world
    for _ in range(EPOCHS):
        world.pass_epochs(1)
        node.field.clock.at_s += world.params.epoch_s
        if random.random() < 0.25:
            everything = [number for numbers in node.held.values() for number in numbers]
            node.harm(random.choice(everything), gone=random.random() < 0.3)
        if random.random() < 0.3:
            demand(node)
        if random.random() < 0.15:
            async with node.started():
                await node.mend()
        await live(node, f"seed {seed}, epoch {world.epoch}")
    assert node.links_taken > EPOCHS // 3, f"seed {seed}: {node.links_taken} links"
    assert node.losses_taken > 0, f"seed {seed}: nothing was ever declared"
