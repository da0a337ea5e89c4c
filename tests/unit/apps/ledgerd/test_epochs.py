"""The operator's clock, on a clock of the test's own: every step, every place to die in."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from dsn.apps.ledgerd.epochs import RETRY_S
from dsn.apps.ledgerd.witnesses import gather_salts
from dsn.errors import Unreachable
from dsn.ledger.bodies import Kind, ShutEpoch
from dsn.ledger.cells import Phase
from dsn.ledger.entry import Entry
from dsn.proofs.post import beacon_hash
from tests.support.ledger_rig import Rig, rigged


def stands(rig: Rig) -> tuple[int, Phase]:
    network = rig.desk.books.network()
    return network.epoch, network.phase


def kinds(rig: Rig) -> list[Kind]:
    store = rig.desk.books._store
    return [Kind(leaf.entry[0]) for leaf in store.leaves(0, rig.desk.size)]


async def test_epochs_alternate_and_each_lasts_its_time(tmp_path: Path) -> None:
    async with rigged(tmp_path, witnesses=2, quorum=2) as rig, rig.publishing():
        for expected in (
            (1, Phase.OPEN), (2, Phase.SHUT), (2, Phase.OPEN), (3, Phase.SHUT),
        ):  # fmt: skip
            await rig.timekeeper.step()
            assert stands(rig) == expected
        assert rig.watch.slept == [3_600, 3_600]
        assert await rig.desk.ask(kinds, rig) == [Kind.OPEN_EPOCH, Kind.SHUT_EPOCH] * 2
        assert rig.views.size == 4


async def test_the_closing_checkpoint_ends_with_the_shut(tmp_path: Path) -> None:
    """And the next epoch's beacon is made over it once it is cosigned."""
    async with rigged(tmp_path, witnesses=2, quorum=2) as rig, rig.publishing():
        await rig.timekeeper.step()
        await rig.timekeeper.step()
        closed = rig.views.signed
        assert closed is not None and closed.checkpoint.size == 2
        await rig.timekeeper.step()
        network = rig.desk.books.network()
        assert network.closed == closed.checkpoint.head
        (leaf,) = await rig.desk.ask(lambda: list(rig.desk.books._store.leaves(2, 3)))
        body = Entry.decode(leaf.entry).body
        assert network.beacon == beacon_hash(body.value)  # type: ignore[union-attr]


async def test_it_waits_for_a_quorum_of_salts(tmp_path: Path) -> None:
    async with rigged(tmp_path, witnesses=3, quorum=2) as rig, rig.publishing():
        await rig.timekeeper.step()
        await rig.publisher.covers(1)
        left = [3]

        def refusal() -> Unreachable | None:
            left[0] -= 1
            return Unreachable("away") if left[0] >= 0 else None

        rig.witnesses[0].refusal = lambda: Unreachable("away")
        rig.witnesses[1].refusal = refusal
        await rig.timekeeper.step()
        assert rig.watch.slept[0] == 3_600
        assert rig.watch.slept[1:] == [RETRY_S] * 3
        (leaf,) = await rig.desk.ask(lambda: list(rig.desk.books._store.leaves(1, 2)))
        body = Entry.decode(leaf.entry).body
        assert isinstance(body, ShutEpoch)
        assert {salt.witness for salt in body.salts} == {
            each.secret.public for each in rig.witnesses[1:]
        }


async def test_a_witness_that_says_nothing_is_not_waited_for(tmp_path: Path) -> None:
    async with rigged(tmp_path, witnesses=3, quorum=2) as rig:
        rig.witnesses[2].speaks.clear()
        found = await gather_salts(rig.witnesses, 7, timeout_s=0.05)
        assert [salt.witness for salt in found] == sorted(
            each.secret.public for each in rig.witnesses[:2]
        )


@pytest.mark.parametrize("steps", range(1, 6))
async def test_wherever_it_died_it_goes_on_from_there(tmp_path: Path, steps: int) -> None:
    """Also while the step's entry was in the log and nobody had cosigned it yet."""
    async with rigged(tmp_path, witnesses=2, quorum=2) as rig, rig.publishing():
        for _ in range(steps - 1):
            await rig.timekeeper.step()
    async with rigged(tmp_path, witnesses=2, quorum=2) as rig:
        for witness in rig.witnesses:
            witness.refusal = lambda: Unreachable("away")
        died = asyncio.create_task(rig.timekeeper.step())
        with suppress(TimeoutError):
            await asyncio.wait_for(died, 0.3)
    async with rigged(tmp_path, witnesses=2, quorum=2) as rig:
        await rig.publisher.consult()
        async with rig.publishing():
            while stands(rig) != (4, Phase.OPEN):
                await rig.timekeeper.step()
            await rig.publisher.covers(rig.desk.size)
            assert await rig.desk.ask(kinds, rig) == [
                *[Kind.OPEN_EPOCH, Kind.SHUT_EPOCH] * 3, Kind.OPEN_EPOCH,
            ]  # fmt: skip


async def test_a_restart_neither_shortens_nor_repeats_the_epochs_time(tmp_path: Path) -> None:
    """But for ``open_s``: whoever had no link when the ledger went away has that time for it."""
    async with rigged(tmp_path, open_s=600) as rig, rig.publishing():
        await rig.timekeeper.step()
        assert rig.timekeeper._left_s(1) == 3_600
    for passed, left in ((600.0, 3_000.0), (3_599.0, 600), (9_999.0, 600), (-50.0, 3_600.0)):
        async with rigged(tmp_path, open_s=600) as rig:
            rig.watch.time_s += passed
            assert rig.timekeeper._left_s(1) == left
    async with rigged(tmp_path, open_s=600) as rig:
        assert rig.timekeeper._left_s(2) == 3_600, "another epoch begins when it is asked about"
