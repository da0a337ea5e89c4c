"""What happened on the chain comes into the ledger once, in order, whenever the process died."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import pytest

from dsn.apps.ledgerd.deposits import Deposits
from dsn.apps.ledgerd.intake import Intake
from dsn.apps.ledgerd.judged import JudgedSlashes
from dsn.errors import DataLost, DsnError, MalformedMessage
from dsn.ledger.bodies import Deposit, Kind
from dsn.ledger.entry import Entry
from dsn.ledger.settlement import Address, SettlementKey
from tests.support.ledger_rig import Rig, rigged
from tests.support.memory_chain import VAULT, MemoryChain, silence

ANN, BEN, CY = (SettlementKey(bytes([n]) * 32).address for n in (1, 2, 3))
SEED = 20_261_123


@asynccontextmanager
async def taking(root: Path, chain: MemoryChain) -> AsyncIterator[tuple[Rig, Intake[object]]]:
    """A ledger that takes deposits; the same one again on the same ``root``."""
    async with rigged(root, vault=VAULT) as rig:
        yield rig, intake(rig, root, chain)


def intake(rig: Rig, root: Path, chain: MemoryChain) -> Intake[object]:
    enter = Deposits(rig.desk, rig.operator).enter
    made: Intake[object] = Intake(
        rig.desk,
        chain.deposits_since,
        enter,
        file=root / "mark",
        every_s=1.0,
        sleep=rig.watch.sleep,
    )
    return made


def has(rig: Rig, *accounts: Address) -> list[int]:
    return [rig.desk.books.account(each).available for each in accounts]


def entered(rig: Rig) -> list[Deposit]:
    """Every deposit in the log."""
    leaves = rig.desk.books._store.leaves(0, rig.desk.size)
    bodies = [Entry.decode(leaf.entry).body for leaf in leaves]
    return [body for body in bodies if isinstance(body, Deposit)]


async def test_deposits_are_entered_once_and_in_order(tmp_path: Path) -> None:
    chain = MemoryChain()
    async with taking(tmp_path, chain) as (rig, deposits):
        assert await deposits.step()
        assert rig.desk.size == 0
        made = [chain.deposit(who, amount) for who, amount in ((ANN, 5), (BEN, 7), (ANN, 11))]
        for _ in range(3):
            assert await deposits.step()
        assert has(rig, ANN, BEN, CY) == [16, 7, 0]
        assert entered(rig) == [Deposit(d.account, d.amount, d.serial) for d in made]
        chain.deposit(CY, 1)
        assert await deposits.step()
        assert has(rig, CY) == [1]


async def test_what_is_not_final_waits(tmp_path: Path) -> None:
    chain = MemoryChain(unsettled=2)
    async with taking(tmp_path, chain) as (rig, deposits):
        chain.deposit(ANN, 5)
        await deposits.step()
        assert has(rig, ANN) == [0]
        chain.height += 1
        await deposits.step()
        assert has(rig, ANN) == [0]
        chain.height += 1
        await deposits.step()
        assert has(rig, ANN) == [5]


def garbled() -> None:
    raise MalformedMessage("the endpoint gives no events")


@pytest.mark.parametrize("failing", [silence, garbled])
async def test_a_chain_that_fails_is_asked_again(
    tmp_path: Path, failing: Callable[[], None]
) -> None:
    chain = MemoryChain()
    async with taking(tmp_path, chain) as (rig, deposits):
        chain.deposit(ANN, 5)
        chain.refusal = failing
        assert not await deposits.step()
        chain.refusal = lambda: None
        assert await deposits.step()
        assert has(rig, ANN) == [5]


async def test_a_failing_store_ends_the_process(tmp_path: Path) -> None:
    async with taking(tmp_path, chain := MemoryChain()) as (rig, deposits):
        chain.deposit(ANN, 5)

        def failing(*_: object) -> None:
            raise DataLost("the disk failed")

        rig.desk.books.enter_own = failing  # type: ignore[method-assign, assignment]
        with pytest.raises(DataLost):
            await deposits.run()


async def test_it_dies_anywhere_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """Before and after any entry, before the mark is written, and with a mark of long ago."""
    random, chain = Random(SEED), MemoryChain()
    marks = [b""]
    for _ in range(30):
        for _ in range(random.randrange(4)):
            chain.deposit(random.choice((ANN, BEN, CY)), random.randint(1, 9))
        async with taking(tmp_path, chain) as (rig, deposits):
            _die_after(rig, random.randrange(5))
            with suppress(_Killed):
                await deposits.step()
        mark = tmp_path / "mark"
        if mark.exists():
            marks.append(mark.read_bytes())
        if random.random() < 0.3:
            mark.unlink(missing_ok=True)
        elif random.random() < 0.3:
            mark.write_bytes(random.choice(marks))
    async with taking(tmp_path, chain) as (rig, deposits):
        assert await deposits.step()
        expected = [sum(d.amount for d in chain.deposits if d.account == a) for a in (ANN, BEN, CY)]
        assert has(rig, ANN, BEN, CY) == expected, SEED
        assert len(entered(rig)) == len(chain.deposits), SEED


class _Killed(Exception):
    """The process is gone."""


def _die_after(rig: Rig, entries: int) -> None:
    """Let so many entries through; the next one, or the writing of the mark, never happens."""
    left, enter_own = [entries], rig.desk.books.enter_own

    def mortal(*args: object) -> object:
        if not left[0]:
            raise _Killed
        left[0] -= 1
        return enter_own(*args)  # type: ignore[arg-type]

    rig.desk.books.enter_own = mortal  # type: ignore[method-assign, assignment]


async def test_after_an_older_copy_was_restored_all_is_looked_through_again(tmp_path: Path) -> None:
    chain = MemoryChain()
    for n in range(4):
        chain.deposit(ANN, n + 1)
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    async with taking(old, chain) as (rig, deposits):
        await deposits.step()
    new.mkdir()
    (new / "mark").write_bytes((old / "mark").read_bytes())
    async with taking(new, chain) as (rig, deposits):
        assert await deposits.step()
        assert has(rig, ANN) == [10]


async def test_a_gap_is_closed_by_looking_from_the_beginning(tmp_path: Path) -> None:
    """A mark that is ahead of the ledger, though the ledger grew."""
    chain = MemoryChain()
    chain.deposit(ANN, 1)
    chain.deposit(ANN, 2)
    (tmp_path / "mark").write_text("2 0\n")
    async with taking(tmp_path, chain) as (rig, deposits):
        assert not await deposits.step()
        assert has(rig, ANN) == [0]
        assert await deposits.step()
        assert has(rig, ANN) == [3]


@pytest.mark.parametrize("mark", [b"", b"x", b"1", b"1 2 3", b"\xff 1"])
async def test_a_damaged_mark_counts_for_nothing(tmp_path: Path, mark: bytes) -> None:
    chain = MemoryChain()
    chain.deposit(ANN, 1)
    (tmp_path / "mark").write_bytes(mark)
    async with taking(tmp_path, chain) as (rig, deposits):
        await deposits.step()
        assert has(rig, ANN) == [1]


async def test_looks_come_in_time(tmp_path: Path) -> None:
    chain = MemoryChain()
    left = [4]

    def stop() -> DsnError | None:
        left[0] -= 1
        if left[0] < 0:
            raise _Killed
        return silence() if left[0] == 2 else None

    chain.refusal = stop
    async with taking(tmp_path, chain) as (rig, deposits):
        with pytest.raises(_Killed):
            await deposits.run()
        assert rig.watch.slept == [1.0, 5.0, 1.0, 1.0]


async def test_slashes_that_no_longer_hold_are_left_out(tmp_path: Path) -> None:
    """Neither an unknown deal nor a second slash stops those that come after."""
    chain = MemoryChain()
    async with rigged(tmp_path, vault=VAULT) as rig:
        enter = JudgedSlashes(rig.operator).enter
        slashes: Intake[object] = Intake(
            rig.desk, chain.slashes_since, enter, file=tmp_path / "mark", every_s=1.0
        )
        chain.slash(bytes(32), 1, ANN)
        assert await slashes.step()
        assert rig.desk.refused == {"unknown_deal": 1}
        assert await slashes.step()
        assert rig.desk.refused == {"unknown_deal": 1}, "it was looked at once"
        assert rig.desk.size == 0
        assert Kind.SLASH_JUDGED == 19
