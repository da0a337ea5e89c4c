"""The audit as a running witness takes it: once an anchor, and again after what fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dsn.apps.chain.auditing import AuditWatch
from dsn.apps.chain.under_way import UnderWay
from dsn.apps.chain.watch import AGAIN_S
from dsn.chain import Call, Done
from dsn.errors import ChainRefused, NotFound
from dsn.ledger.bodies import Deposit, Transfer
from dsn.ledger.log import LogLeaf
from tests.support.chain_world import ChainWorld, WorldLog
from tests.support.ledger_world import address
from tests.support.memory_evm import EvmOf


@dataclass
class CountedLog(WorldLog):
    """Counts how often it was read; while ``away`` it has nothing."""

    asked: int = 0
    away: bool = field(default=False)

    async def leaves(self, size: int) -> AsyncIterator[Sequence[LogLeaf]]:
        self.asked += 1
        async for some in super().leaves(0 if self.away else size):
            yield some


class Refusing(EvmOf):
    """A chain on which some calls convict nobody, for the reasons in ``codes``."""

    codes: Mapping[str, str] = {}

    async def send(self, call: Call, *, wei: int = 0, final: bool = False) -> Done:
        if code := self.codes.get(call.function):
            raise ChainRefused(f"the contract refuses: {code}", code=code)
        return await super().send(call, wei=wei, final=final)


class Town:
    """A witness, and the anchors that it sees."""

    def __init__(self, folder: Path) -> None:
        self.both, self.folder = ChainWorld(), folder
        self.both.fund("alice", 1_000)
        self.both.anchor()
        self.both.evm.mine(self.both.evm.finality)
        self.copy = CountedLog(self.both.world.leaves)
        self.chain = self.both.chain("sam")
        self.restart()

    def restart(self) -> None:
        under_way = UnderWay(self.folder, self.both.evm.vault)
        self.watching = AuditWatch(self.chain, self.both.params, [self.copy], under_way)

    def anchor(self, *, wrong: bool = False) -> None:
        self.both.world.do("alice", Transfer(address("bob"), 5))
        number = self.both.anchor()
        if wrong:
            anchors = self.both.evm.state.anchors
            anchors[number] = (*anchors[number][:4], bytes(32))


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


async def test_an_anchor_is_audited_once(town: Town) -> None:
    found = await town.watching.turn()
    assert found is not None and (found.deposits, found.findings) == (1, ())
    for _ in range(2):
        assert await town.watching.turn() is None
        town.both.evm.pass_time(AGAIN_S)
    town.restart()
    assert await town.watching.turn() is None
    assert town.copy.asked == 1
    town.anchor()
    assert await town.watching.turn() is not None
    assert (town.copy.asked, town.both.evm.sent) == (2, [])


async def test_before_the_first_anchor_nothing_is_done(town: Town) -> None:
    town.both.evm.state.anchors.clear()
    assert await town.watching.turn() is None
    assert town.copy.asked == 0


async def test_what_cannot_be_read_is_tried_again_later(town: Town) -> None:
    town.copy.away = True
    with pytest.raises(NotFound):
        await town.watching.turn()
    assert await town.watching.turn() is None
    assert town.copy.asked == 1, "no replay at every look"
    town.both.evm.pass_time(AGAIN_S)
    with pytest.raises(NotFound):
        await town.watching.turn()
    town.copy.away = False
    town.anchor()
    assert await town.watching.turn() is not None, "a new anchor does not wait"
    assert town.copy.asked == 3


async def test_a_wrong_anchor_falls_and_what_stands_is_audited(town: Town) -> None:
    town.anchor(wrong=True)
    found = await town.watching.turn()
    assert found is not None and [each.fault for each in found.findings] == ["end_differs"]
    [sent] = town.both.evm.sent
    assert (sent.contract, sent.function) == ("FraudLog", "convict_end")
    assert len(town.both.evm.state.anchors) == 1 and town.both.evm.state.frozen_at
    left = await town.watching.turn()
    assert left is not None and left.findings == ()
    assert await town.watching.turn() is None


def refusing(town: Town, **codes: str) -> None:
    """Start again on a chain that refuses functions for some reasons."""
    town.chain = chain = Refusing(town.both.evm, address("sam"))
    chain.codes = codes
    town.restart()


@pytest.mark.parametrize("code", ["convicted_already", "no_fault", "no_anchor"])
async def test_what_the_chain_has_decided_is_not_brought_again(town: Town, code: str) -> None:
    town.anchor(wrong=True)
    refusing(town, convict_end=code)
    assert await town.watching.turn() is not None
    town.both.evm.pass_time(AGAIN_S)
    assert await town.watching.turn() is None


def two_faults(town: Town) -> None:
    """A made-up deposit and, behind it, a wrong end."""
    town.both.world.do("operator", Deposit(address("bob"), 5, 1))
    town.anchor(wrong=True)


async def test_what_the_chain_does_not_take_holds_up_nothing_else(town: Town) -> None:
    two_faults(town)
    refusing(town, convict="bad_place")
    found = await town.watching.turn()
    assert found is not None
    assert [each.fault for each in found.findings] == ["deposit_differs", "end_differs"]
    assert [each.function for each in town.both.evm.sent] == ["convict_end"]


async def test_a_conviction_that_fails_is_tried_again(town: Town) -> None:
    """As long as one of two faults is not decided."""
    two_faults(town)
    honest = town.chain
    refusing(town, convict="bad_place", convict_end="no_fault")
    with pytest.raises(ChainRefused) as refused:
        await town.watching.turn()
    assert refused.value.detail_code == "bad_place"
    town.chain = honest
    town.restart()
    town.both.evm.wrong = {town.both.world.leaves[1].encode()}
    assert await town.watching.turn() is not None
    assert town.both.evm.state.frozen_at
