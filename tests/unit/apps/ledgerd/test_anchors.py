"""The newest published checkpoint comes to the chain when it is time, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dsn.apps.ledgerd.anchors import Anchors
from dsn.errors import ChainRefused, LimitReached
from dsn.ledger.bodies import Deposit
from dsn.ledger.checkpoint import cosigned_roots, parse_checkpoint
from tests.support.ledger_rig import BEN, Rig, rigged
from tests.support.memory_chain import VAULT, MemoryChain, silence


@asynccontextmanager
async def anchoring(root: Path) -> AsyncIterator[tuple[Rig, MemoryChain, Anchors]]:
    """A ledger that publishes and whose vault is empty; an anchor is due every two epochs."""
    async with rigged(root, witnesses=3, quorum=2, vault=VAULT) as rig:
        chain = MemoryChain(rig.operator.params)
        anchors = Anchors(
            rig.publisher, rig.views, rig.operator.params, chain.settling, sleep=rig.watch.sleep
        )
        async with rig.publishing():
            yield rig, chain, anchors


async def pass_epoch(rig: Rig) -> None:
    """Open it and shut it; readers see that."""
    for _ in range(2):
        await rig.timekeeper.step()
    await rig.publisher.covers(rig.desk.size)


async def test_an_anchor_is_due_every_so_many_epochs(tmp_path: Path) -> None:
    async with anchoring(tmp_path) as (rig, chain, anchors):
        assert not await anchors.step(), "nothing is published"
        found = list[int]()
        for _ in range(7):
            await pass_epoch(rig)
            await anchors.step()
            assert not await anchors.step(), "it is covered"
            found.append(len(chain.anchors))
        assert found == [1, 1, 2, 2, 3, 3, 4]
        assert [each.epoch for each in chain.anchors] == [2, 4, 6, 8]
        shown = rig.views.published().checkpoint
        newest = chain.anchors[-1]
        assert (newest.size, newest.root, newest.state_root) == (
            shown.size, shown.root, shown.state_root,
        )  # fmt: skip


async def test_the_chain_is_not_asked_in_between(tmp_path: Path) -> None:
    async with anchoring(tmp_path) as (rig, chain, anchors):
        await pass_epoch(rig)
        await anchors.step()
        chain.asked.clear()
        await pass_epoch(rig)
        for _ in range(9):
            await anchors.step()
        assert chain.asked == []


async def test_what_others_anchored_counts(tmp_path: Path) -> None:
    async with anchoring(tmp_path) as (rig, chain, anchors):
        await pass_epoch(rig)
        other = Anchors(rig.publisher, rig.views, rig.operator.params, chain.settling)
        assert await other.step()
        assert not await anchors.step()
        assert len(chain.anchors) == 1
        assert anchors.status()["size"] == chain.anchors[0].size


async def test_published_notes_carry_what_anybody_needs(tmp_path: Path) -> None:
    async with anchoring(tmp_path) as (rig, _, _):
        await pass_epoch(rig)
        params = rig.operator.params
        signed = parse_checkpoint(rig.notes[-1])
        assert len(cosigned_roots(signed, params.domain, params.cosigners)) >= params.quorum


async def test_failures_are_tried_again_and_shown(tmp_path: Path) -> None:
    """A silent chain, an empty purse, a refusal: each waits longer, then it is anchored."""
    async with anchoring(tmp_path) as (rig, chain, anchors):
        await pass_epoch(rig)
        errors = [
            silence(),
            LimitReached("no wei", code="not_enough_gas"),
            ChainRefused("the vault: frozen", code="frozen"),
        ]
        shown = list[str | None]()

        def refusal() -> Exception | None:
            shown.append(anchors.status()["failed"])
            return errors.pop(0) if errors else None

        chain.refusal = refusal
        rig.watch.slept.clear()
        task = asyncio.create_task(anchors.run())
        await chain.anchored(1)
        task.cancel()
        assert rig.watch.slept == [1.0, 2.0, 4.0]
        assert shown[:4] == [None, "chain_unreachable", "not_enough_gas", "frozen"]


async def test_it_goes_on_with_every_checkpoint(tmp_path: Path) -> None:
    async with anchoring(tmp_path) as (rig, chain, anchors):
        task = asyncio.create_task(anchors.run())
        for wanted in (1, 1, 2):
            await pass_epoch(rig)
            await chain.anchored(wanted)
        task.cancel()
        assert [each.epoch for each in chain.anchors] == [2, 4]


async def test_the_status_says_how_far_behind_it_is(tmp_path: Path) -> None:
    async with anchoring(tmp_path) as (rig, _, anchors):
        assert anchors.status() == {
            "size": 0, "epoch": 0, "lag": 0, "lag_epochs": 0, "gas": 0, "failed": None,
        }  # fmt: skip
        await pass_epoch(rig)
        await anchors.step()
        size = rig.views.size
        await rig.operator.enter(Deposit(BEN.address, 9, 1))
        await rig.publisher.covers(size + 1)
        assert anchors.status() == {
            "size": size, "epoch": 2, "lag": 1, "lag_epochs": 0, "gas": 150_000, "failed": None,
        }  # fmt: skip


async def test_an_anchor_that_was_dropped_is_made_again(tmp_path: Path) -> None:
    async with anchoring(tmp_path) as (rig, chain, anchors):
        for _ in range(2):
            await pass_epoch(rig)
            await anchors.step()
        chain.anchors.clear()
        await pass_epoch(rig)
        assert await anchors.step()
        assert [each.epoch for each in chain.anchors] == [4]
