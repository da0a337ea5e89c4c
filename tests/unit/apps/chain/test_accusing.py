"""Evidence that is brought to the chain, whatever size of the log it is of; and anchoring."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dsn.apps.chain.accusing import EvidenceWatch, bring
from dsn.apps.chain.anchoring import anchor_checkpoint
from dsn.apps.chain.under_way import UnderWay
from dsn.errors import ChainRefused, InvalidProof, InvalidSignature, NotFound
from dsn.ledger.bodies import Transfer
from dsn.ledger.checkpoint import SignedCheckpoint, sign_root
from dsn.ledger.evidence import accuse
from dsn.ledger.log import LogLeaf
from dsn.ledger.trust import Trust
from tests.support.chain_world import WorldLog
from tests.support.fraud_world import SIGNED_PARAMS, TRUST, SignedWorld, log_of, sign
from tests.support.ledger_world import COSIGNERS, address
from tests.support.memory_evm import GAS, EvmOf, MemoryEvm


class Court:
    """A log with a wrong entry, the vault it is anchored in, and evidence of the entry."""

    def __init__(self) -> None:
        self.world = SignedWorld()
        self.world.fund()
        self.world.open_epoch()
        for amount in (5, 6, 7):
            self.world.do("alice", Transfer(address("bob"), amount))
        self.index = len(self.world.leaves) - 2
        self.leaf = self.world.resigned(self.index, Transfer(address("bob"), 10**9))
        self.fraud = self.world.lie(self.index, self.leaf)
        self.evm = MemoryEvm(SIGNED_PARAMS)
        self.evm.wrong = {self.leaf.encode()}

    @property
    def chain(self) -> EvmOf:
        return self.evm.chain(address("sam"))

    def leaves(self, more: int = 0) -> list[LogLeaf]:
        """The log with the wrong entry, and some after it."""
        tail = self.world.leaves[self.index + 1 :][:more]
        return [*self.world.leaves[: self.index], self.leaf, *tail]

    def anchor(self, leaves: list[LogLeaf]) -> WorldLog:
        head, _ = log_of(leaves)
        made = (head.size, 1, self.evm.now_s, head.root, leaves[-1].state_root)
        self.evm.state.anchors.append(made)
        self.evm.mine()
        return WorldLog(leaves)


@pytest.fixture
def court() -> Court:
    return Court()


async def test_evidence_of_the_anchored_checkpoint_convicts(court: Court) -> None:
    court.anchor(court.world.leaves[:3])
    court.anchor(court.leaves())
    done = await bring(court.chain, court.fraud.encode(), SIGNED_PARAMS, [])
    assert (done.index, done.fault) == (court.index, "not_enough_credit")
    assert (done.anchor, done.contract, done.gas) == (1, "FraudAccounts", GAS)
    assert [each[0] for each in court.evm.state.anchors] == [3]
    assert court.evm.state.frozen_at


async def test_evidence_of_another_size_is_proven_anew(court: Court) -> None:
    copy = court.anchor(court.leaves(more=1))
    other = WorldLog(court.world.leaves)
    done = await bring(court.chain, court.fraud.encode(), SIGNED_PARAMS, [other, copy])
    assert done.anchor == 0 and court.evm.state.anchors == []


async def test_without_a_copy_of_the_anchored_log_it_waits(court: Court) -> None:
    court.anchor(court.leaves(more=1))
    with pytest.raises(NotFound) as refused:
        await bring(court.chain, court.fraud.encode(), SIGNED_PARAMS, [WorldLog([])])
    assert refused.value.detail_code == "no_log"


async def test_what_is_not_anchored_harms_nobody(court: Court) -> None:
    raw = court.fraud.encode()
    with pytest.raises(NotFound) as nothing:
        await bring(court.chain, raw, SIGNED_PARAMS, [])
    court.anchor(court.world.leaves[: court.index])
    with pytest.raises(NotFound) as before:
        await bring(court.chain, raw, SIGNED_PARAMS, [])
    honest = court.anchor(court.world.leaves)
    with pytest.raises(NotFound) as other:
        await bring(court.chain, raw, SIGNED_PARAMS, [honest])
    codes = {each.value.detail_code for each in (nothing, before, other)}
    assert codes == {"not_anchored"} and not court.evm.state.frozen_at


async def test_what_convicts_nobody_costs_nothing(court: Court) -> None:
    world = court.world
    honest = world.fraud(court.index, world.signed_checkpoint())
    court.anchor(world.leaves)
    with pytest.raises(InvalidProof) as right:
        await bring(court.chain, honest.encode(), SIGNED_PARAMS, [])
    assert right.value.detail_code == "no_fault"
    court.evm.wrong.clear()
    court.anchor(court.leaves(more=1) + world.leaves[:1])
    assert court.evm.sent == []


async def test_a_chain_judges_no_checkpoints(court: Court) -> None:
    world = court.world
    one = world.checkpoint(world.frontier.head, world.state.root, 1)
    two = replace(one, epoch=2)
    operator = Trust.of(SIGNED_PARAMS).operator
    evidence = accuse(sign(one), sign(two), operator, []).encode()
    with pytest.raises(InvalidProof) as refused:
        await bring(court.chain, evidence, SIGNED_PARAMS, [])
    assert refused.value.detail_code == "not_for_a_chain"


async def test_a_witness_brings_what_it_has_once_it_is_anchored(
    court: Court, tmp_path: Path
) -> None:
    folder = tmp_path / "evidence"
    folder.mkdir()
    (folder / "wrong_entry-9.evidence").write_bytes(court.fraud.encode())
    (folder / "junk-1.evidence").write_bytes(b"junk")
    copies = [WorldLog(court.leaves(more=1))]
    parts = court.chain, SIGNED_PARAMS, folder, copies
    watching = EvidenceWatch(*parts, UnderWay(tmp_path, court.evm.vault))
    await watching.turn()
    assert court.evm.sent == []
    court.anchor(court.leaves(more=1))
    await watching.turn()
    assert court.evm.state.frozen_at and len(court.evm.sent) == 1
    again = EvidenceWatch(*parts, UnderWay(tmp_path, court.evm.vault))
    await again.turn()
    assert len(court.evm.sent) == 1


# anchors


def published(court: Court, cosigners: int = 3) -> SignedCheckpoint:
    """What the ledger shows, with the lines that a chain needs."""
    signed = court.world.signed_checkpoint()
    for key in COSIGNERS[:cosigners]:
        line = sign_root(signed.checkpoint, SIGNED_PARAMS.domain, key)
        signed = signed.signed(line)
    return signed


async def test_anybody_anchors_what_is_published(court: Court) -> None:
    signed = published(court)
    made = await anchor_checkpoint(court.chain, signed, SIGNED_PARAMS)
    found = made.anchor
    assert (found.number, found.size, made.gas) == (0, signed.checkpoint.size, GAS)
    assert (found.root, found.state_root) == (signed.checkpoint.root, court.world.state.root)
    again = await anchor_checkpoint(court.chain, signed, SIGNED_PARAMS)
    assert (again.anchor, again.gas, len(court.evm.sent)) == (found, 0, 1)


async def test_what_too_few_signed_is_not_anchored(court: Court) -> None:
    with pytest.raises(InvalidSignature) as refused:
        await anchor_checkpoint(court.chain, published(court, 1), SIGNED_PARAMS)
    assert refused.value.detail_code == "no_quorum"
    assert court.evm.sent == [] and TRUST.params == SIGNED_PARAMS


async def test_a_frozen_vault_takes_no_anchor(court: Court) -> None:
    court.evm.drop(0)
    with pytest.raises(ChainRefused) as refused:
        await anchor_checkpoint(court.chain, published(court), SIGNED_PARAMS)
    assert refused.value.detail_code == "frozen"
