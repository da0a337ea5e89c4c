"""Deposits and withdrawals: once each, whatever falls down on the way, and to the unit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dsn.apps.chain.balance import OnChain, read_on_chain
from dsn.chain import Call
from dsn.errors import ChainRefused, EntryRefused, LimitReached, UsageError
from dsn.ledger.entry import Body
from tests.support.chain_world import ChainWorld
from tests.support.ledger_world import address
from tests.support.memory_evm import GAS, TIMES

ALICE, BOB = address("alice"), address("bob")


@pytest.fixture
def both() -> ChainWorld:
    world = ChainWorld()
    world.evm.mint(ALICE, 1_000)
    world.world.open_epoch()
    return world


def entering(both: ChainWorld) -> None:
    """Have the operator enter what was paid in, as soon as it is final."""
    both.evm.each = lambda: both.enter_deposits(final=True)


class Crash(Exception):
    """The process ends here."""


def crash() -> None:
    raise Crash


async def test_a_deposit_comes_to_both_sides(both: ChainWorld, tmp_path: Path) -> None:
    told: list[str] = []
    entering(both)
    done = await both.paying_in("alice", tmp_path, told).deposit(600, ALICE)
    assert (done.amount, done.serial, done.units, done.available) == (600, 1, 400, 600)
    assert done.gas == GAS
    assert both.evm.state.units[both.evm.vault] == 600
    assert both.evm.state.allowed[ALICE, both.evm.vault] == 0
    assert told == [
        "letting the vault take the units, and waiting until that is final",
        "paying 600 units in, and waiting until that is final",
        f"final in block {done.number}; waiting for the ledger to credit it",
    ]


async def test_a_deposit_can_be_for_another_account(both: ChainWorld, tmp_path: Path) -> None:
    entering(both)
    done = await both.paying_in("alice", tmp_path).deposit(250, BOB)
    assert (done.account, done.available, done.units) == (BOB, 250, 750)
    assert both.world.account("alice").available == 0


async def test_units_that_are_not_there_are_not_promised(both: ChainWorld, tmp_path: Path) -> None:
    with pytest.raises(LimitReached) as refused:
        await both.paying_in("alice", tmp_path).deposit(1_001, ALICE)
    assert refused.value.detail_code == "not_enough_units"
    assert "1,000 units" in refused.value.message and "1,001" in refused.value.message
    entering(both)
    assert (await both.paying_in("alice", tmp_path).deposit(1, ALICE)).serial == 1


@pytest.mark.parametrize("blocks", range(1, 7))
async def test_a_crash_anywhere_and_the_same_command_deposit_once(
    both: ChainWorld, tmp_path: Path, blocks: int
) -> None:
    both.evm.then += [lambda: None] * (blocks - 1) + [crash]
    with pytest.raises(Crash):
        await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    both.evm.then.clear()
    entering(both)
    told: list[str] = []
    done = await both.paying_in("alice", tmp_path, told).deposit(600, ALICE)
    assert told[0] == "going on with the deposit that was begun before"
    assert (done.serial, done.available, done.units) == (1, 600, 400)
    assert both.evm.state.deposits[ALICE] == [600]


@pytest.mark.parametrize("function", ["approve", "deposit"])
@pytest.mark.parametrize("was_sent", [False, True])
async def test_a_crash_around_a_call_and_the_same_command_deposit_once(
    both: ChainWorld, tmp_path: Path, function: str, was_sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paying, chain = both.paying_in("alice", tmp_path), both.chain("alice")
    send = type(chain).send

    async def crashing(self: object, call: Call, **rest: object) -> object:
        if call.function == function and not was_sent:
            raise Crash
        done = await send(self, call, **rest)  # type: ignore[arg-type]
        if call.function == function:
            raise Crash
        return done

    with monkeypatch.context() as patched:
        patched.setattr(type(chain), "send", crashing)
        with pytest.raises(Crash):
            await paying.deposit(600, ALICE)
    entering(both)
    done = await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    assert (done.serial, done.available, done.units) == (1, 600, 400)
    assert both.evm.state.deposits[ALICE] == [600]


@pytest.mark.parametrize("when", range(1, 14, 3))
async def test_a_reorganisation_loses_no_deposit(
    both: ChainWorld, tmp_path: Path, when: int
) -> None:
    both.evm.finality = 8
    both.evm.mine(8)
    both.evm.then += [lambda: None] * when + [lambda: both.evm.reorganise(5)]
    entering(both)
    done = await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    assert (done.serial, done.available, done.units) == (1, 600, 400)
    assert both.evm.state.deposits[ALICE] == [600]


async def test_what_fell_while_nobody_looked_is_made_anew(both: ChainWorld, tmp_path: Path) -> None:
    both.evm.finality = 8
    both.evm.mine(8)
    both.evm.then += [lambda: None] * 9 + [crash]
    with pytest.raises(Crash):
        await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    assert both.evm.state.deposits[ALICE] == [600]
    both.evm.reorganise(4)
    assert both.evm.state.deposits[ALICE] == []
    entering(both)
    done = await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    assert (done.serial, done.available, done.units) == (1, 600, 400)


async def test_what_falls_while_its_fate_is_awaited_is_made_anew(
    both: ChainWorld, tmp_path: Path
) -> None:
    both.evm.finality = 8
    both.evm.mine(8)
    both.evm.then += [lambda: None] * 8 + [crash]
    with pytest.raises(Crash):
        await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    assert both.evm.state.deposits[ALICE] == [600]
    both.evm.then += [lambda: None, lambda: both.evm.reorganise(4)]
    entering(both)
    done = await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    assert both.evm.state.deposits[ALICE] == [600]
    assert (done.serial, done.available, done.units) == (1, 600, 400)


async def test_another_deposit_waits_for_the_one_under_way(
    both: ChainWorld, tmp_path: Path
) -> None:
    both.evm.then += [crash]
    with pytest.raises(Crash):
        await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    for amount, to in ((300, ALICE), (600, BOB)):
        with pytest.raises(UsageError) as refused:
            await both.paying_in("alice", tmp_path).deposit(amount, to)
        assert refused.value.detail_code == "unfinished_deposit"


async def test_a_frozen_vault_takes_nothing(both: ChainWorld, tmp_path: Path) -> None:
    both.evm.drop(0)
    with pytest.raises(ChainRefused) as refused:
        await both.paying_in("alice", tmp_path).deposit(600, ALICE)
    assert refused.value.detail_code == "frozen"
    assert both.evm.state.units[ALICE] == 1_000


async def test_an_allowance_that_was_there_is_replaced(both: ChainWorld, tmp_path: Path) -> None:
    both.evm.state.allowed[ALICE, both.evm.vault] = 17
    both.evm.mine()
    entering(both)
    assert (await both.paying_in("alice", tmp_path).deposit(600, ALICE)).units == 400
    assert both.evm.state.allowed[ALICE, both.evm.vault] == 0


# out


def anchoring(both: ChainWorld) -> None:
    """Have an anchor come, and its challenge period pass."""
    both.evm.then += [
        lambda: None,
        both.anchor,
        lambda: both.evm.pass_time(TIMES.challenge_s),
    ]


@pytest.fixture
def funded(both: ChainWorld) -> ChainWorld:
    both.fund("alice", 900)
    return both


async def test_a_withdrawal_comes_to_both_sides(funded: ChainWorld, tmp_path: Path) -> None:
    told: list[str] = []
    anchoring(funded)
    done = await funded.paying_out("alice", tmp_path, told).withdraw(500)
    assert (done.collected, done.withdrawn, done.paid, done.units) == (500, 500, 500, 1_500)
    assert (done.gas, done.due_s) == (GAS, None)
    size = len(funded.world.leaves)
    assert told == [
        f"waiting for an anchor of the first {size:,} entries; the vault pays 600 s after it",
        "anchored: the vault pays in 599 s",
        f"replaying the {size:,} entries that are anchored",
    ]
    assert funded.world.account("alice").available == 900 - 500 - funded.params.entry_fee


async def test_without_waiting_the_units_are_fetched_later(
    funded: ChainWorld, tmp_path: Path
) -> None:
    out = funded.paying_out("alice", tmp_path)
    done = await out.withdraw(500, wait=False)
    assert (done.collected, done.withdrawn, done.paid, done.due_s) == (0, 500, 0, None)
    assert done.challenge_s == TIMES.challenge_s
    number = funded.anchor()
    early = await out.collect()
    anchored_s = funded.evm.state.anchors[number][2]
    assert (early.collected, early.due_s) == (0, anchored_s + TIMES.challenge_s)
    funded.evm.pass_time(TIMES.challenge_s)
    late = await out.collect()
    assert (late.collected, late.paid, late.units, late.due_s) == (500, 500, 1_500, None)
    again = await out.collect()
    assert (again.collected, again.gas, again.units) == (0, 0, 1_500)


async def test_anchors_that_came_later_hold_nothing_up(funded: ChainWorld, tmp_path: Path) -> None:
    out = funded.paying_out("alice", tmp_path)
    await out.withdraw(500, wait=False)
    for _ in range(5):
        funded.anchor()
        funded.evm.pass_time(TIMES.challenge_s // 4)
        funded.world.pass_epochs(1)
    done = await out.withdraw(100, wait=False)
    assert (done.collected, done.withdrawn, done.due_s) == (500, 600, None)
    number = funded.anchor()
    funded.world.pass_epochs(1)
    done = await out.collect()
    due_s = funded.evm.state.anchors[number][2] + TIMES.challenge_s
    assert (done.collected, done.due_s) == (0, due_s)


@pytest.mark.parametrize("blocks", range(1, 4))
async def test_a_crash_and_the_same_command_withdraw_once(
    funded: ChainWorld, tmp_path: Path, blocks: int
) -> None:
    anchoring(funded)
    funded.evm.then[blocks - 1] = crash
    with pytest.raises(Crash):
        await funded.paying_out("alice", tmp_path).withdraw(500)
    funded.evm.then.clear()
    anchoring(funded)
    funded.world.pass_epochs(1)
    done = await funded.paying_out("alice", tmp_path).withdraw(500)
    assert (done.withdrawn, done.paid, done.units) == (500, 500, 1_500)


async def test_an_entry_whose_reply_was_lost_is_not_entered_again(
    funded: ChainWorld, tmp_path: Path
) -> None:
    out = funded.paying_out("alice", tmp_path)
    enter = out._ledger.enter

    async def crashing(bodies: Sequence[Body]) -> None:
        await enter(bodies)
        raise Crash

    out._ledger.enter = crashing  # type: ignore[method-assign]
    with pytest.raises(Crash):
        await out.withdraw(500)
    anchoring(funded)
    done = await funded.paying_out("alice", tmp_path).withdraw(500)
    assert (done.withdrawn, done.paid, done.units) == (500, 500, 1_500)


async def test_another_withdrawal_waits_for_the_one_under_way(
    funded: ChainWorld, tmp_path: Path
) -> None:
    funded.evm.then.append(crash)
    with pytest.raises(Crash):
        await funded.paying_out("alice", tmp_path).withdraw(500)
    with pytest.raises(UsageError) as refused:
        await funded.paying_out("alice", tmp_path).withdraw(20)
    assert refused.value.detail_code == "unfinished_withdrawal"
    assert funded.anchor() == 0
    funded.evm.pass_time(TIMES.challenge_s)
    assert (await funded.paying_out("alice", tmp_path).collect()).collected == 500
    assert (await funded.paying_out("alice", tmp_path).withdraw(20, wait=False)).withdrawn == 520


async def test_a_refused_withdrawal_leaves_nothing_under_way(
    funded: ChainWorld, tmp_path: Path
) -> None:
    with pytest.raises(EntryRefused) as refused:
        await funded.paying_out("alice", tmp_path).withdraw(901)
    assert refused.value.detail_code == "not_enough_credit"
    assert (await funded.paying_out("alice", tmp_path).withdraw(9, wait=False)).withdrawn == 9


async def test_a_reorganisation_loses_no_withdrawal(funded: ChainWorld, tmp_path: Path) -> None:
    funded.evm.finality = 8
    out = funded.paying_out("alice", tmp_path)
    await out.withdraw(500, wait=False)
    funded.anchor()
    funded.evm.pass_time(TIMES.challenge_s)
    funded.evm.mine(6)
    funded.evm.then += [lambda: None] * 3 + [lambda: funded.evm.reorganise(5)]
    done = await out.collect()
    assert (done.collected, done.paid, done.units) == (500, 500, 1_500)


async def test_from_a_frozen_vault_nobody_withdraws(funded: ChainWorld, tmp_path: Path) -> None:
    out = funded.paying_out("alice", tmp_path)
    await out.withdraw(500, wait=False)
    funded.evm.drop(0)
    with pytest.raises(ChainRefused) as refused:
        await out.collect()
    assert refused.value.detail_code == "frozen"
    assert "dsn escape" in refused.value.hint


async def test_what_the_ledger_shows_saves_the_replay(funded: ChainWorld, tmp_path: Path) -> None:
    told: list[str] = []
    out = funded.paying_out("alice", tmp_path, told)
    out._ledger.shows = True  # type: ignore[attr-defined]
    await out.withdraw(500, wait=False)
    funded.anchor()
    funded.evm.pass_time(TIMES.challenge_s)
    assert (await out.collect()).collected == 500
    assert told == []


async def test_the_balance_has_what_is_on_its_way(both: ChainWorld, tmp_path: Path) -> None:
    both.fund("alice", 900)
    chain = both.chain("alice")
    await both.paying_out("alice", tmp_path).withdraw(500, wait=False)
    await chain.send(Call("TestCredit", "approve", (both.evm.vault, 70)))
    await chain.send(Call("Vault", "deposit", (ALICE, 70)))
    found = await read_on_chain(chain, both.world.account("alice"))
    gas = await chain.balance()
    assert found == OnChain(units=930, gas=gas, depositing=70, withdrawing=500, owed=0)
    both.enter_deposits()
    assert (await read_on_chain(chain, both.world.account("alice"))).depositing == 0
