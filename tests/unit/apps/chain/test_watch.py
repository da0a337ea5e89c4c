"""The watch: what a running home does about its chain by itself, also after a restart."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from dsn.apps.chain.escape import Leaving
from dsn.apps.chain.under_way import UnderWay
from dsn.apps.chain.watch import AGAIN_S, DemandWatch, VaultWatch, watch
from dsn.errors import Unreachable
from dsn.ids import DealId
from tests.support.chain_world import seeded
from tests.support.ledger_world import address, shard, terms
from tests.support.memory_evm import ANSWER_S, TIMES
from tests.unit.apps.chain.test_dispute import Yard


class Home:
    """Paul's home, which can be started again."""

    def __init__(self, yard: Yard, folder: Path) -> None:
        self.yard, self.folder = yard, folder
        self.restart()

    def restart(self) -> None:
        async def running() -> list[DealId]:
            return [cell.deal for cell in self.yard.world.deals()]

        under_way = UnderWay(self.folder, self.yard.evm.vault)
        chain = self.yard.chain("paul")
        self.demands = DemandWatch(chain, self.yard.answering(), running, under_way)

    async def turn(self) -> None:
        async with asyncio.TaskGroup() as group:
            await self.demands.turn(group)


@pytest.fixture
def yard() -> Yard:
    return Yard()


@pytest.fixture
def home(yard: Yard, tmp_path: Path) -> Home:
    return Home(yard, tmp_path)


def waits(yard: Yard) -> bool:
    return yard.deal in yard.evm.state.demands


async def test_a_demand_is_answered_before_it_is_final(yard: Yard, home: Home) -> None:
    await home.turn()
    await yard.asking().demand(yard.deal, 3, seeded(1))
    assert yard.evm.final < yard.evm.number
    await home.turn()
    assert not waits(yard)


async def test_one_that_was_made_before_the_first_start_is_answered(yard: Yard, home: Home) -> None:
    await yard.asking().demand(yard.deal, 3, seeded(1))
    yard.evm.mine(50)
    await home.turn()
    assert not waits(yard)


async def test_one_that_was_made_while_the_home_was_away_is_answered(
    yard: Yard, home: Home
) -> None:
    await home.turn()
    yard.evm.mine(20)
    await yard.asking().demand(yard.deal, 3, seeded(1))
    yard.evm.mine(50)
    home.restart()
    await home.turn()
    assert not waits(yard)


async def test_what_fails_is_tried_again_and_survives_a_restart(yard: Yard, home: Home) -> None:
    await home.turn()
    await yard.asking().demand(yard.deal, 0, seeded(1))
    yard.evm.mine(10)
    kept, yard.disk.shards = yard.disk.shards, {}
    await home.turn()
    assert waits(yard)
    home.restart()
    await home.turn()
    assert waits(yard)
    yard.disk.shards = kept
    await home.turn()
    assert not waits(yard)


async def test_an_answer_that_a_reorganisation_took_back_is_given_again(
    yard: Yard, home: Home
) -> None:
    yard.evm.finality = 8
    await home.turn()
    await yard.asking().demand(yard.deal, 0, seeded(1))
    yard.evm.mine(3)
    await home.turn()
    assert not waits(yard)
    yard.evm.reorganise(2)
    assert waits(yard)
    home.restart()
    await home.turn()
    assert not waits(yard)
    yard.evm.mine(20)
    for _ in range(2):
        await home.turn()
    answers = [call for call in yard.evm.sent if call.function == "answer"]
    assert len(answers) == 2


async def test_an_answer_is_watched_until_it_is_final(yard: Yard, home: Home) -> None:
    yard.evm.finality = 8
    await home.turn()
    await yard.asking().demand(yard.deal, 0, seeded(1))
    yard.evm.mine(20)  # the demand is final, and its event does not come again
    for _ in range(3):
        await home.turn()
    assert not waits(yard)
    yard.evm.reorganise(1)
    assert waits(yard)
    home.restart()
    await home.turn()
    assert not waits(yard)


async def test_one_that_fails_holds_no_other_up(yard: Yard, home: Home) -> None:
    other = yard.world.open(terms(end=60, salt=b"2" * 32))
    yard.world.hold(other, 8)
    yard.anchor()
    await home.turn()
    del yard.disk.shards[shard(8).commit]
    await yard.asking().demand(other, 0, seeded(1))
    await yard.asking().demand(yard.deal, 0, seeded(1))
    await home.turn()
    assert set(yard.evm.state.demands) == {other}


async def test_others_demands_are_left_alone(yard: Yard, home: Home) -> None:
    await home.turn()
    yard.fund("petra", 1_000)
    yard.world.bind("petra")
    theirs = yard.world.open(terms(provider=address("petra"), end=60, salt=b"3" * 32))
    yard.world.hold(theirs, 1)
    yard.anchor()
    await yard.asking().demand(theirs, 0, seeded(1))
    sent = len(yard.evm.sent)
    await home.turn()
    assert len(yard.evm.sent) == sent


async def test_too_late_is_not_tried(
    yard: Yard, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    await home.turn()
    await yard.asking().demand(yard.deal, 0, seeded(1))
    yard.evm.pass_time(ANSWER_S + 1)
    sent = len(yard.evm.sent)
    for _ in range(3):
        await home.turn()
    assert waits(yard) and len(yard.evm.sent) == sent


async def test_a_chain_that_is_away_ends_no_watch(yard: Yard, home: Home) -> None:
    await home.turn()
    await yard.asking().demand(yard.deal, 0, seeded(1))
    chain, rounds = home.demands._chain, 0
    newest = chain.newest

    async def away() -> tuple[int, int]:
        raise Unreachable("away", code="chain_unreachable")

    async def sleep(seconds: float) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            chain.newest = newest  # type: ignore[method-assign]
        await asyncio.sleep(0)
        if rounds == 30:
            raise asyncio.CancelledError

    chain.newest = away  # type: ignore[method-assign]
    with suppress(asyncio.CancelledError):
        await home.demands.run(sleep)
    assert rounds == 30 and not waits(yard)


# the vault


def leaving(yard: Yard, folder: Path, name: str = "paul") -> Leaving:
    async def none() -> list[object]:
        return []

    under_way = UnderWay(folder, yard.evm.vault)
    chain, params = yard.chain(name), yard.params
    return Leaving(chain, params, [yard.copy], none, under_way, print)  # type: ignore[arg-type]


async def test_a_frozen_vault_is_left_as_its_windows_open(yard: Yard, tmp_path: Path) -> None:
    watching = VaultWatch(yard.chain("alice"), leaving(yard, tmp_path, "alice"), freezes=False)
    assert await watching.turn() is None
    yard.evm.drop(1)
    first = await watching.turn()
    assert first is not None and first.credited == {}
    assert await watching.turn() is None, "nothing is due before the window opens"
    yard.evm.pass_time(TIMES.challenge_s)
    second = await watching.turn()
    assert second is not None and second.paid and second.waiting
    assert await watching.turn() is None
    yard.evm.pass_time(TIMES.voucher_s)
    third = await watching.turn()
    assert third is not None and third.waiting == ()
    assert third.paid == yard.evm.state.units[address("alice")]
    assert await watching.turn() is None
    yard.evm.pass_time(AGAIN_S)
    assert await watching.turn() is not None


async def test_a_second_freeze_begins_anew(yard: Yard, tmp_path: Path) -> None:
    yard.world.pass_epochs(1)
    yard.anchor()
    watching = VaultWatch(yard.chain("paul"), leaving(yard, tmp_path), freezes=False)
    yard.evm.drop(2)
    assert await watching.turn() is not None
    yard.evm.pass_time(TIMES.challenge_s - 10)
    yard.evm.drop(1)
    seen = await watching.turn()
    assert seen is not None and seen.next_s == yard.evm.state.frozen_at + TIMES.challenge_s


async def test_only_who_is_told_to_freezes(yard: Yard, tmp_path: Path) -> None:
    yard.evm.pass_time(TIMES.escape_s)
    node = VaultWatch(yard.chain("paul"), leaving(yard, tmp_path), freezes=False)
    assert await node.turn() is None and not yard.evm.state.frozen_at
    witness = VaultWatch(yard.chain("sam"), leaving(yard, tmp_path, "sam"), freezes=True)
    left = await witness.turn()
    assert left is not None and left.frozen_s == yard.evm.state.frozen_at > 0


async def test_a_witness_freezes_as_soon_as_it_may(yard: Yard, tmp_path: Path) -> None:
    witness = VaultWatch(yard.chain("sam"), leaving(yard, tmp_path, "sam"), freezes=True)
    assert (await witness.turn()).waiting  # type: ignore[union-attr]
    yard.evm.pass_time(TIMES.escape_s - 100)
    yard.world.pass_epochs(1)
    yard.anchor()
    yard.evm.pass_time(200)
    await witness.turn()
    assert not yard.evm.state.frozen_at
    yard.evm.pass_time(TIMES.escape_s - 200)
    await witness.turn()
    assert yard.evm.state.frozen_at


async def test_turns_go_on_whatever_fails() -> None:
    taken = 0

    async def turn() -> None:
        nonlocal taken
        taken += 1
        raise Unreachable("away") if taken % 2 else ValueError("a bug")

    async def sleep(seconds: float) -> None:
        if taken == 4:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await watch(turn, "vault", sleep)
    assert taken == 4
