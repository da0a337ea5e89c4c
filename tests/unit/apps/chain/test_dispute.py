"""Demands on the chain: asked, answered out of a store, superseded, or slashed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsn.apps.chain.answering import Agreement, Answering
from dsn.apps.chain.dispute import Disputing, demand_of
from dsn.apps.node.openings import Opener
from dsn.chain import Call
from dsn.errors import ChainRefused, DataLost, LimitReached, NotFound, UsageError
from dsn.ids import Commit, DealId, NodeId
from dsn.ledger.bodies import Claim, SignedPledge
from dsn.ports import ShardState, StoredShard
from dsn.proofs.inventory import SumTree
from tests.support.chain_world import ChainWorld, seeded
from tests.support.ledger_world import address, holdings, shard, terms
from tests.support.memory_evm import ANSWER_S, BOND_WEI, GAS
from tests.support.prover_world import SHARDS, Disk

ALICE, PAUL = address("alice"), address("paul")


class Yard(ChainWorld):
    """Paul holds shards of Alice's, under one deal; what his disk does wrong is set on it."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = Disk(dict(SHARDS))
        self.forgotten: set[int] = set()
        """Revisions that Paul knows nothing of any more."""
        self.newest: SignedPledge | None = None
        for name in ("alice", "paul", "dora"):
            self.fund(name, 100_000)
        self.world.open_epoch()
        self.world.bind("alice", "paul")
        self.deal = self.world.open(terms(end=60, disk_escrow=50_000))
        self.world.hold(self.deal, 1, 2, 3, 7)
        self.anchor()

    async def holdings(self, deal: DealId, number: int) -> SumTree:
        if number in self.forgotten:
            raise NotFound("unknown", code="unknown_revision")
        return holdings(self.world.shards[deal, number]).tree

    async def shard(self, commit: Commit) -> StoredShard | None:
        stored = self.disk.shards.get(commit)
        if stored is None:
            return None
        owner = NodeId(bytes(32))
        return StoredShard(commit, stored.root, len(stored.raw), owner, ShardState.HELD, 0)

    def asking(self, name: str = "alice") -> Disputing:
        return Disputing(self.chain(name), self.ledger(name), [self.copy], lambda text: None)

    def answering(self) -> Answering:
        async def newest(deal: DealId) -> Agreement | None:
            cell = self.world.deal(deal)
            return None if self.newest is None else Agreement(cell.terms, self.newest)

        opener = Opener(self.disk)  # type: ignore[arg-type]
        return Answering(self.chain("paul"), self, opener, newest)

    def revise(self, *numbers: int, by_delegate: bool = False) -> None:
        """Both sign a revision over these shards; nobody has it installed."""
        self.newest = self.world.pledge(self.deal, numbers, by_delegate=by_delegate)


@pytest.fixture
def yard() -> Yard:
    return Yard()


async def test_a_leaf_is_demanded_under_the_newest_anchor(yard: Yard) -> None:
    yard.world.pass_epochs(1)
    yard.anchor()
    opened = await yard.asking().demand(yard.deal, 2, seeded(1))
    cell = yard.world.deal(yard.deal)
    asked = opened.asked
    assert (asked.asker, asked.provider, asked.leaf) == (ALICE, PAUL, 2)
    assert (asked.number, asked.leaves, asked.root) == (cell.number, cell.leaves, cell.root)
    assert (opened.anchor, opened.bond_wei, opened.gas) == (1, BOND_WEI, GAS)
    assert asked.deadline_s == yard.evm.now_s - 1 + ANSWER_S
    assert await demand_of(yard.chain("paul"), yard.deal) == asked
    assert [each.deal for each in await yard.asking().pending([yard.deal])] == [yard.deal]
    assert yard.evm.state.spent[ALICE] == BOND_WEI + GAS


async def test_any_leaf_is_drawn(yard: Yard) -> None:
    drawn = set[int]()
    for seed in range(60):
        drawn.add((await yard.asking().demand(yard.deal, None, seeded(seed))).asked.leaf)
        await yard.answering().answer(yard.deal)
    assert drawn == set(range(yard.world.deal(yard.deal).leaves))


async def test_what_cannot_be_demanded(yard: Yard) -> None:
    leaves = yard.world.deal(yard.deal).leaves
    with pytest.raises(UsageError) as refused:
        await yard.asking().demand(yard.deal, leaves, seeded(1))
    assert refused.value.detail_code == "no_such_leaf"
    with pytest.raises(NotFound) as unknown:
        await yard.asking().demand(DealId(bytes(32)), 0, seeded(1))
    assert unknown.value.detail_code == "unknown_deal"
    with pytest.raises(ChainRefused) as stranger:
        await yard.asking("sam").demand(yard.deal, 0, seeded(1))
    assert stranger.value.detail_code == "not_the_client"
    await yard.asking().demand(yard.deal, 0, seeded(1))
    with pytest.raises(ChainRefused) as pending:
        await yard.asking().demand(yard.deal, 1, seeded(1))
    assert pending.value.detail_code == "demand_pending"
    yard.evm.wei = GAS
    with pytest.raises(LimitReached) as poor:
        await yard.asking("dora").demand(yard.deal, 0, seeded(1))
    assert poor.value.detail_code == "not_enough_gas"


async def test_without_an_anchor_nothing_is_demanded() -> None:
    yard = Yard()
    yard.evm.state.anchors.clear()
    with pytest.raises(NotFound) as refused:
        await yard.asking().demand(yard.deal, 0, seeded(1))
    assert refused.value.detail_code == "no_anchor"


async def test_an_anchor_that_comes_in_between_is_gone_along_with(yard: Yard) -> None:
    asking = yard.asking()
    told: list[str] = []

    def replaying(text: str) -> None:
        told.append(text)
        if len(told) == 1:
            yard.world.pass_epochs(1)
            yard.anchor()

    asking._notice = replaying
    opened = await asking.demand(yard.deal, 0, seeded(1))
    assert (opened.anchor, len(told)) == (1, 2)


@pytest.mark.parametrize("leaf", range(6))
async def test_every_leaf_is_answered(yard: Yard, leaf: int) -> None:
    await yard.asking().demand(yard.deal, leaf, seeded(1))
    before = yard.evm.number
    done = await yard.answering().answer(yard.deal)
    assert (done.how, done.number, done.gas) == ("opened", before + 1, GAS)
    assert yard.evm.number == before + 1, "an answer waits for no finality"
    assert await demand_of(yard.chain("alice"), yard.deal) is None
    assert await yard.asking("paul").collect() == BOND_WEI
    assert await yard.asking("paul").collect() == 0


async def test_a_leaf_that_went_with_a_newer_revision_is_superseded(yard: Yard) -> None:
    yard.revise(1)
    for gone in (2, 3, 7):
        del yard.disk.shards[shard(gone).commit]
    [last] = [yard.world.deal(yard.deal).leaves - 1]
    for leaf in range(last + 1):
        await yard.asking().demand(yard.deal, leaf, seeded(1))
        done = await yard.answering().answer(yard.deal)
        held = holdings((1, 2, 3, 7)).tree.locate(leaf).key == shard(1).commit
        assert done.how == ("opened" if held else "superseded"), f"leaf {leaf}"


async def test_a_revision_that_was_forgotten_is_superseded(yard: Yard) -> None:
    yard.forgotten.add(yard.world.deal(yard.deal).number)
    yard.revise(1, 2)
    await yard.asking().demand(yard.deal, 0, seeded(1))
    assert (await yard.answering().answer(yard.deal)).how == "superseded"


async def test_a_delegate_s_revision_supersedes(yard: Yard) -> None:
    yard.forgotten.add(yard.world.deal(yard.deal).number)
    yard.revise(1, 2, 3, 7, 9, by_delegate=True)
    await yard.asking().demand(yard.deal, 0, seeded(1))
    assert (await yard.answering().answer(yard.deal)).how == "superseded"


@pytest.mark.parametrize("fault", ["rotten", "gone", "unknown"])
async def test_what_is_not_there_cannot_be_answered(yard: Yard, fault: str) -> None:
    commit = shard(7).commit
    if fault == "rotten":
        yard.disk.rotten = dict.fromkeys(SHARDS, 3)
    elif fault == "gone":
        yard.disk.gone = set(SHARDS)
    else:
        yard.disk.shards.clear()
    await yard.asking().demand(yard.deal, 0, seeded(1))
    with pytest.raises(DataLost) as lost:
        await yard.answering().answer(yard.deal)
    assert lost.value.detail_code == "cannot_answer"
    assert commit in SHARDS
    yard.newest = yard.world.pledge(yard.deal, (1,), number=1)
    with pytest.raises(DataLost):
        await yard.answering().answer(yard.deal)
    assert await demand_of(yard.chain("paul"), yard.deal) is not None


async def test_too_late_is_slashed(yard: Yard) -> None:
    await yard.asking().demand(yard.deal, 0, seeded(1))
    with pytest.raises(ChainRefused) as early:
        await yard.asking("sam").slash(yard.deal)
    assert early.value.detail_code == "still_time"
    yard.evm.pass_time(ANSWER_S + 1)
    with pytest.raises(ChainRefused) as late:
        await yard.answering().answer(yard.deal)
    assert late.value.detail_code == "too_late"
    assert await yard.asking().slashed([yard.deal]) == []
    assert await yard.asking("sam").slash(yard.deal) == GAS
    yard.evm.mine(yard.evm.finality)
    [slash] = await yard.asking().slashed([yard.deal])
    assert (slash.asker, slash.number) == (ALICE, yard.world.deal(yard.deal).number)
    assert await yard.asking().collect() == BOND_WEI
    with pytest.raises(NotFound) as over:
        await yard.answering().answer(yard.deal)
    assert over.value.detail_code == "no_demand"


async def test_an_opening_of_another_leaf_or_deal_is_refused(yard: Yard) -> None:
    await yard.asking().demand(yard.deal, 0, seeded(1))
    held = holdings((1, 2, 3, 7))
    for wrong in (held.opening(1), holdings((1, 2, 3)).opening(0), held.opening(0) + b"x"):
        with pytest.raises(ChainRefused):
            await yard.chain("paul").send(Call("Dispute", "answer", (yard.deal, wrong[32:])))
    await yard.chain("sam").send(Call("Dispute", "answer", (yard.deal, held.opening(0)[32:])))


async def test_what_was_installed_since_the_anchor_may_answer(yard: Yard, tmp_path: Path) -> None:
    before = yard.world.deal(yard.deal)
    yard.world.do("paul", Claim(yard.deal, yard.world.pledge(yard.deal, (1, 2, 3)), None))
    opened = await yard.asking().demand(yard.deal, before.leaves - 1, seeded(1))
    assert opened.asked.number == before.number
    assert (await yard.answering().answer(yard.deal)).how == "opened"
