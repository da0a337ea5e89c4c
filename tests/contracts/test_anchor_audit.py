"""Audits of what is anchored, and convictions by what they find, before the contracts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.chain import auditing
from dsn.apps.chain.auditing import Audit, AuditWatch, Finding
from dsn.apps.chain.replay import LogCopy
from dsn.apps.chain.said import learn
from dsn.apps.chain.under_way import UnderWay
from dsn.chain import Chain
from dsn.errors import InvalidProof, NotFound
from dsn.ids import DealId
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.bodies import Deposit, Transfer
from dsn.ledger.disputes import SlashJudged
from dsn.ledger.log import LogLeaf
from dsn.ledger.onchain import dispute
from dsn.ledger.settlement import SettlementKey
from dsn.rpc.evm import EvmChain
from dsn.rpc.evm_endpoint import Pace
from tests.support.chain_world import WorldLog
from tests.support.evm import Settled
from tests.support.fraud_world import SignedWorld, log_of
from tests.support.ledger_world import address, terms
from tests.support.onchain_history import deposit_all

Changed = Callable[[LedgerRoot], LedgerRoot]
PACE = Pace(call_s=20.0, away_s=20.0, poll_s=0.02, stuck_s=20.0, mined_s=120.0)
AUDITOR = SettlementKey(b"\x5a" * 32)


class Court:
    """A ledger, the contracts it settles in, and somebody who audits it."""

    def __init__(self, settled: Settled, folder: Path) -> None:
        self.settled, self.evm, self.folder = settled, settled.evm, folder
        self.times = settled.vault.call("times")
        self.world = self.history()
        deposit_all(settled, self.world)
        self.evm.fund(AUDITOR.address)

    def history(self) -> SignedWorld:
        """How it begins: what the vault took is entered."""
        world = SignedWorld(self.settled.params)
        world.fund()
        world.bind("alice", "paul")
        world.open_epoch()
        return world

    def root(self, world: SignedWorld | None = None) -> LedgerRoot:
        return (world or self.world).signed_checkpoint().checkpoint.ledger_root

    def anchor(self, changed: Changed = lambda root: root) -> int:
        return self.settled.anchor(changed(self.root()))

    def anchor_leaves(self, leaves: Sequence[LogLeaf]) -> WorldLog:
        """Anchor another log than that of the world, with the state that its end tells."""
        head, _ = log_of(leaves)
        self.settled.anchor(LedgerRoot(*head, leaves[-1].state_root, self.world.epoch))
        return WorldLog(leaves)

    @asynccontextmanager
    async def chain(self, finality: int = 0) -> AsyncIterator[Chain]:
        place, params = self.evm.url, self.settled.params
        async with EvmChain(place, AUDITOR, params, finality=finality, pace=PACE) as chain:
            yield chain

    @property
    def under_way(self) -> UnderWay:
        return UnderWay(self.folder, self.settled.params.domain.vault)

    async def audit(self, *copies: LogCopy, finality: int = 0) -> Audit:
        """An audit with ``copies``, or an honest one of the world's log."""
        async with self.chain(finality) as chain:
            asked = copies or (WorldLog(self.world.leaves),)
            found = await auditing.audit(
                chain, self.settled.params, asked, self.under_way, lambda _: None
            )
        assert found is not None
        return found

    def says(self, finding: Finding) -> str:
        """What the contract convicts of by a finding."""
        contract = self.settled.contract(finding.call.contract)
        done = contract.tried(finding.call.function, *finding.call.args)
        (said,) = contract.logged(done, "Convicted")
        return str(said["fault"])

    async def convicts(self, finding: Finding, standing: int) -> str:
        """Bring ``finding``; ``standing`` anchors are left. Gives what the contract said."""
        fault = self.says(finding)
        async with self.chain() as chain:
            done = await auditing.convict(chain, [finding])
        assert (done.fault, done.index, done.anchor) == (fault, finding.index, finding.anchor)
        assert done.gas > 0
        assert self.settled.vault.call("frozen_at") == self.evm.time_s
        assert self.settled.vault.call("anchor_count") == standing
        return fault

    def slash(self, deal: DealId, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Have ``deal`` slashed on the chain, under an anchor that is made for it."""
        asked, cell = self.anchor(), self.world.deal(deal)
        call = dispute.demand(asked, cell, self.world.state.tree, 0)
        wei, who = self.settled.dispute.call("bond_wei"), address("alice")
        self.evm.fund(who)
        self.settled.dispute.send(call.function, *call.args, sender=who, wei=wei)
        meanwhile()
        self.evm.pass_time(self.settled.dispute.call("answer_s") + 1)
        self.settled.dispute.send("slash", deal)


@pytest.fixture
def court(settled: Settled, tmp_path: Path) -> Court:
    return Court(settled, tmp_path)


def faults(found: Audit) -> list[tuple[int, str]]:
    return [(each.anchor, each.fault) for each in found.findings]


async def test_nothing_is_anchored(court: Court) -> None:
    async with court.chain() as chain:
        parts = court.settled.params, [], court.under_way, print
        assert await auditing.audit(chain, *parts) is None


async def test_honest_anchors_have_no_finding(court: Court) -> None:
    court.anchor()
    court.world.open(terms())
    court.anchor()
    court.world.pass_epochs(1)
    newest = court.anchor()
    found = await court.audit()
    assert found.findings == ()
    assert (found.anchor.number, found.anchor.size) == (newest, len(court.world.leaves))
    assert (found.deposits, found.slashes) == (6, 0)


@pytest.mark.parametrize(
    "changed",
    [
        lambda root: replace(root, state_root=bytes(32)),
        lambda root: replace(root, epoch=root.epoch + 1),
    ],
    ids=["state", "epoch"],
)
async def test_an_anchor_that_says_what_its_log_does_not_end_with(
    court: Court, changed: Changed
) -> None:
    court.anchor()
    court.world.do("alice", Transfer(address("bob"), 5))
    wrong = court.anchor(changed)
    found = await court.audit()
    assert faults(found) == [(wrong, "end_differs")]
    assert await court.convicts(found.findings[0], standing=wrong) == "end_differs"


async def test_an_anchor_behind_the_newest_is_held_against_the_log_while_it_can_fall(
    court: Court,
) -> None:
    """One could withdraw by it once it is final."""
    wrong = court.anchor(lambda root: replace(root, state_root=bytes(32)))
    court.world.do("alice", Transfer(address("bob"), 5))
    court.anchor()
    found = await court.audit()
    assert faults(found) == [(wrong, "end_differs")]
    assert court.says(found.findings[0]) == "end_differs"
    court.evm.pass_time(court.times[0])
    court.world.do("alice", Transfer(address("bob"), 6))
    court.anchor()
    court.world.do("alice", Transfer(address("bob"), 7))
    court.anchor()
    assert faults(await court.audit()) == []


async def test_a_log_that_does_not_begin_as_it_was_anchored(court: Court) -> None:
    court.anchor()
    court.world.do("alice", Transfer(address("bob"), 5))
    older = court.anchor()
    other = court.history()
    for amount in (6, 7, 8):
        other.do("alice", Transfer(address("bob"), amount))
    newer = court.settled.anchor(court.root(other))
    found = await court.audit(WorldLog(court.world.leaves), WorldLog(other.leaves))
    assert faults(found) == [(newer, "log_forked")]
    assert f"anchor {older}" in found.findings[0].text
    assert await court.convicts(found.findings[0], standing=newer) == "log_forked"


# deposits


async def test_a_deposit_that_is_left_out_too_long(court: Court) -> None:
    court.settled.deposit(address("alice"), 700)
    court.settled.deposit(address("alice"), 50)
    court.evm.pass_time(court.times[3] + 1)
    late = court.anchor()
    found = await court.audit()
    assert faults(found) == [(late, "deposit_omitted")]
    assert "deposit 2 of 0x" in found.findings[0].text
    assert await court.convicts(found.findings[0], standing=late) == "deposit_omitted"


async def test_no_omission_is_shown_in_a_state_that_is_not_the_logs(court: Court) -> None:
    """No cell could be proven under such an anchor; its end convicts."""
    court.settled.deposit(address("alice"), 700)
    court.evm.pass_time(court.times[3] + 1)
    late = court.anchor(lambda root: replace(root, state_root=bytes(32)))
    assert faults(await court.audit()) == [(late, "end_differs")]


async def test_a_deposit_for_an_account_that_the_ledger_never_had(court: Court) -> None:
    court.settled.deposit(SettlementKey(b"\x61" * 32).address, 9)
    court.evm.pass_time(court.times[3] + 1)
    late = court.anchor()
    found = await court.audit()
    assert faults(found) == [(late, "deposit_omitted")]
    assert await court.convicts(found.findings[0], standing=late) == "deposit_omitted"


async def test_a_deposit_has_its_time(court: Court) -> None:
    """A second too early nobody is convicted, neither here nor there."""
    court.settled.deposit(address("alice"), 700)
    made_s = court.settled.vault.call("deposit_times", address("alice"), 2)
    court.evm.rpc("evm_setNextBlockTimestamp", made_s + court.times[3])
    court.anchor()
    found = await court.audit()
    assert (found.deposits, found.findings) == (7, ())
    court.world.do("operator", Deposit(address("alice"), 700, 2))
    court.evm.pass_time(court.times[3])
    court.anchor()
    assert (await court.audit()).findings == ()


async def test_a_deposit_that_is_not_final_is_not_missing(court: Court) -> None:
    court.settled.deposit(address("alice"), 700)
    court.evm.pass_time(court.times[3] + 1)
    late = court.anchor()
    found = await court.audit(finality=3)
    assert (found.deposits, found.findings) == (6, ())
    court.evm.mine(3)
    assert faults(await court.audit(finality=3)) == [(late, "deposit_omitted")]


@pytest.mark.parametrize("finality", [0, 3])
@pytest.mark.parametrize(("amount", "serial"), [(701, 2), (1, 3)])
async def test_a_deposit_that_the_vault_never_took(
    court: Court, amount: int, serial: int, finality: int
) -> None:
    """Of another amount, or none at all; whether what the vault did take is final or not."""
    court.settled.deposit(address("alice"), 700)
    court.world.do("operator", Deposit(address("alice"), 700 if serial > 2 else amount, 2))
    if serial > 2:
        court.world.do("operator", Deposit(address("alice"), amount, serial))
    wrong, index = court.anchor(), len(court.world.leaves) - 1
    found = await court.audit(finality=finality)
    assert faults(found) == [(wrong, "deposit_differs")]
    assert (found.findings[0].index, found.findings[0].call.contract) == (index, "FraudAccounts")
    assert await court.convicts(found.findings[0], standing=wrong) == "deposit_differs"


async def test_a_deposit_that_was_entered_before_it_is_final_here(court: Court) -> None:
    """Others wait for fewer blocks: no honest operator is blamed for that."""
    court.settled.deposit(address("alice"), 700)
    court.world.do("operator", Deposit(address("alice"), 700, 2))
    court.anchor()
    found = await court.audit(finality=3)
    assert (found.deposits, found.findings) == (6, ())


# slashes


@pytest.fixture
def deal(court: Court) -> DealId:
    deal = court.world.open(terms())
    court.world.hold(deal, 1, 2)
    return deal


async def test_a_slash_that_is_left_out_too_long(court: Court, deal: DealId) -> None:
    court.slash(deal)
    court.world.shut_epoch()
    with court.evm.undone():
        court.anchor()
        early = await court.audit()
        assert (early.slashes, early.findings) == (1, ())
    court.evm.pass_time(court.times[3] + 1)
    late = court.anchor()
    found = await court.audit()
    assert faults(found) == [(late, "slash_omitted")]
    assert await court.convicts(found.findings[0], standing=late) == "slash_omitted"


async def test_a_slash_that_the_ledger_has(court: Court, deal: DealId) -> None:
    number = court.world.deal(deal).number
    court.slash(deal)
    court.evm.pass_time(court.times[3] + 1)
    court.world.do("operator", SlashJudged(deal, number, address("alice")))
    court.anchor()
    found = await court.audit()
    assert (found.slashes, found.findings) == (1, ())


async def test_a_slash_under_a_revision_that_moved_is_void(court: Court, deal: DealId) -> None:
    court.slash(deal, meanwhile=lambda: court.world.hold(deal, 1))
    court.evm.pass_time(court.times[3] + 1)
    court.anchor()
    assert (await court.audit()).findings == ()


async def test_a_slash_that_the_chain_never_judged(court: Court, deal: DealId) -> None:
    number = court.world.deal(deal).number
    court.world.do("operator", SlashJudged(deal, number, address("alice")))
    wrong = court.anchor()
    found = await court.audit()
    assert faults(found) == [(wrong, "slash_differs")]
    assert await court.convicts(found.findings[0], standing=wrong) == "slash_differs"


# entries


async def test_an_entry_against_the_rules_is_told_from_a_wrong_end(court: Court) -> None:
    court.anchor()
    for amount in (5, 6, 7):
        court.world.do("alice", Transfer(address("bob"), amount))
    index = len(court.world.leaves) - 2
    leaf = court.world.resigned(index, Transfer(address("bob"), 10**9))
    copy = court.anchor_leaves([*court.world.leaves[:index], leaf, court.world.leaves[-1]])
    found = await court.audit(copy)
    assert faults(found) == [(1, "not_enough_credit")]
    assert (found.findings[0].index, f"entry {index}" in found.findings[0].text) == (index, True)
    assert await court.convicts(found.findings[0], standing=1) == "not_enough_credit"


@pytest.mark.parametrize("back", [1, 2])
async def test_a_state_root_in_the_log_that_does_not_follow(court: Court, back: int) -> None:
    """In its last leaf, where the anchor repeats it; or in one before, where none does."""
    court.world.do("alice", Transfer(address("bob"), 5))
    leaves = [*court.world.leaves]
    leaves[-back] = replace(leaves[-back], state_root=b"\x13" * 32)
    copy = court.anchor_leaves(leaves)
    found = await court.audit(copy)
    assert faults(found) == [(0, "state_root_differs")]
    assert await court.convicts(found.findings[0], standing=0) == "state_root_differs"


async def test_the_deepest_fault_comes_first(court: Court) -> None:
    court.settled.deposit(address("alice"), 700)
    court.evm.pass_time(court.times[3] + 1)
    court.anchor(lambda root: replace(root, epoch=9))
    court.world.do("operator", Deposit(address("bob"), 1, 2))
    court.world.do("alice", Transfer(address("bob"), 5))
    court.anchor(lambda root: replace(root, epoch=9))
    found = await court.audit()
    assert faults(found) == [
        (0, "end_differs"),
        (1, "deposit_differs"),
        (1, "end_differs"),
        (1, "deposit_omitted"),
    ]
    assert [court.says(each) for each in found.findings] == [fault for _, fault in faults(found)]
    assert await court.convicts(found.findings[0], standing=0) == "end_differs"


# whose word it is


async def test_without_the_log_nothing_is_found(court: Court) -> None:
    court.anchor()
    with pytest.raises(NotFound) as nowhere:
        await court.audit(WorldLog(court.world.leaves[:-1]), WorldLog([]))
    assert nowhere.value.detail_code == "no_log"


async def test_deposits_are_learned_once_and_without_a_gap(court: Court) -> None:
    court.anchor()
    assert (await court.audit()).deposits == 6
    court.settled.deposit(address("alice"), 700)
    assert (await court.audit()).deposits == 7
    court.folder /= "anew"
    async with court.chain() as chain:

        async def hiding(*args: object, **known: object) -> object:
            found, after = await events(*args, **known)  # type: ignore[arg-type]
            return found[1:], after

        events, chain.events = chain.events, hiding  # type: ignore[method-assign,assignment]
        with pytest.raises(InvalidProof) as gap:
            await learn(chain, court.under_way)
    assert gap.value.detail_code == "chain_incomplete"


async def test_what_a_long_reorganisation_took_back_is_forgotten(court: Court) -> None:
    who = address("alice")
    async with court.chain() as chain:
        said = await learn(chain, court.under_way)
        gone = {**said.deposits, who.hex(): [*said.deposits[who.hex()], 5]}
        court.under_way.save("said", replace(said, deposits=gone))
        court.settled.deposit(who, 700)
        with pytest.raises(InvalidProof):
            await learn(chain, court.under_way)
        found = await learn(chain, court.under_way)
    assert (found.counts, found.amount(who, 2)) == ((7, 0), 700)


async def test_a_witness_convicts_by_itself(court: Court) -> None:
    court.anchor()
    court.world.do("alice", Transfer(address("bob"), 5))
    copies = [WorldLog(court.world.leaves)]
    async with court.chain() as chain:
        watching = AuditWatch(chain, court.settled.params, copies, court.under_way)
        first = await watching.turn()
        assert first is not None and first.findings == ()
        wrong = court.anchor(lambda root: replace(root, state_root=bytes(32)))
        second = await watching.turn()
        assert second is not None and faults(second) == [(wrong, "end_differs")]
        assert court.settled.vault.call("anchor_count") == wrong
        assert court.settled.vault.call("frozen_at") == court.evm.time_s
