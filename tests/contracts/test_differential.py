"""Every step of a ledger, right or wrong, is the same to the contracts as to the rules in Python.

What an EVM cannot judge it believes: Ed25519 signatures, and the evidence of a beacon. What only a
chain knows Python believes: what was deposited there, and what was slashed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random

import pytest

from dsn.errors import DsnError
from dsn.ledger.bodies import Bind, Kind, ShutEpoch
from dsn.ledger.cells import CellKind, DealCell
from dsn.ledger.disputes import SlashJudged
from dsn.ledger.entry import Entry
from dsn.ledger.fraud import Fraud
from dsn.ledger.typed import Domain, verify_typed
from tests.support.evm import Settled
from tests.support.fraud_world import SignedWorld
from tests.support.onchain_history import (
    FORGED,
    Lie,
    Tried,
    Verdict,
    anchor_lies,
    bring,
    can_be_slashed,
    chain_verdict,
    every_kind,
    lies_about,
    python_verdict,
)

PARTS = 4
HISTORIES, STEPS, STEPS_JUDGED = 24, 60, 1_000
LIARS, LIES = 24, 250
NO_FAULT = Verdict(False, "no_fault")
NOT_JUDGED = Verdict(True, "slash_differs")


def check_honest(settled: Settled, world: SignedWorld, name: str) -> Counter[Kind]:
    """Try every entry on its contract; how many there were of each kind."""
    seen = Counter[Kind]()
    with settled.evm.undone():
        signed, number = bring(settled, world)
        for index, leaf in enumerate(world.leaves):
            body = Entry.decode(leaf.entry).body
            expected = NO_FAULT
            if isinstance(body, SlashJudged):
                deal = world.states[index].cell(CellKind.DEAL, body.deal)
                assert isinstance(deal, DealCell)
                expected = NO_FAULT if can_be_slashed(deal, body) else NOT_JUDGED
            found = chain_verdict(settled, world.fraud(index, signed), number)
            assert found == expected, f"{name}, entry {index} of kind {body.kind.name}"
            seen[body.kind] += 1
    return seen


@pytest.mark.parametrize("part", range(PARTS))
def test_no_honest_step_is_ever_convicted(settled: Settled, part: int) -> None:
    seen = Counter[Kind]()
    for seed in range(part, HISTORIES, PARTS):
        seen += check_honest(settled, Tried(settled, seed, STEPS).world, f"seed {seed}")
    assert seen.total() >= STEPS_JUDGED // PARTS, seen


def test_no_honest_step_of_any_kind_is_convicted(settled: Settled) -> None:
    seen = Counter[Kind]()
    for missed in (True, False):
        seen += check_honest(settled, every_kind(settled, missed), f"missed {missed}")
    assert set(seen) == set(Kind)


def believed(fraud: Fraud, domain: Domain, python: Verdict, chain: Verdict) -> bool:
    """Whether two verdicts differ only by what one side has to believe."""
    kind, leaf = fraud.step.leaf.entry[0], fraud.step.leaf
    if chain.convicted and python.code == "invalid_signature":
        return kind in (Kind.SHUT_EPOCH, Kind.BIND)
    if chain.convicted:
        return (kind, chain.code) in (
            (Kind.DEPOSIT, "deposit_differs"),
            (Kind.SLASH_JUDGED, "slash_differs"),
        )
    if kind == Kind.OPEN_EPOCH:
        return python.code == "bad_beacon"
    if python.code != "invalid_signature" or kind not in (Kind.SHUT_EPOCH, Kind.BIND):
        return False
    entry = Entry.decode(leaf.entry)
    with suppress(DsnError):
        verify_typed(entry, domain, leaf.signature, entry.signer)
        if isinstance(entry.body, Bind):
            signed = entry.body.signed
            binding = signed.binding
            verify_typed(binding, domain, signed.settlement_signature, binding.settlement)
        return isinstance(entry.body, Bind | ShutEpoch)
    return False


def check_lies(settled: Settled, lies: Sequence[Lie], name: str) -> Counter[str]:
    """Judge ``lies`` on both sides; the faults that convicted."""
    faults, wrong = Counter[str](), list[str]()
    frauds, number = anchor_lies(settled, lies)
    for lie, fraud in zip(lies, frauds, strict=True):
        python = python_verdict(settled, fraud)
        chain = chain_verdict(settled, fraud, number)
        if python != chain and not believed(fraud, settled.params.domain, python, chain):
            kind = lie.leaf.entry[0]
            wrong.append(f"{name}, {lie.what}, kind {kind}: Python {python}, chain {chain}")
        if lie.what == FORGED and chain != Verdict(True, "state_root_differs"):
            wrong.append(f"{name}, {lie.what}: chain {chain}")
        faults[python.code if python.convicted else ""] += 1
    assert not wrong, "\n".join(wrong)
    return faults


@pytest.mark.parametrize("part", range(PARTS))
def test_every_lie_is_convicted_as_in_python(settled: Settled, part: int) -> None:
    """Whatever was tried and refused, and everything but the truth about what was taken."""
    faults = Counter[str]()
    for seed in range(part, LIARS, PARTS):
        random, tried = Random(seed), Tried(settled, seed, STEPS)
        with settled.evm.undone():
            bring(settled, tried.world)
            lies = list(tried.refused)
            for index in range(len(tried.world.leaves)):
                lies += lies_about(tried.world, index, random)
            chosen = random.sample(lies, min(len(lies), LIES))
            faults += check_lies(settled, chosen, f"seed {seed}")
    assert faults.total() - faults[""] > LIARS // PARTS * LIES * 9 // 10, faults
    assert len(faults) > 10, faults


@pytest.mark.parametrize("missed", [True, False])
def test_lies_about_every_kind(settled: Settled, missed: bool) -> None:
    world, random = every_kind(settled, missed), Random(missed)
    bring(settled, world)
    lies = [lie for index in range(len(world.leaves)) for lie in lies_about(world, index, random)]
    faults = check_lies(settled, lies, f"missed {missed}")
    assert {lie.leaf.entry[0] for lie in lies} >= set(Kind)
    assert faults["state_root_differs"] > 100 and faults["malformed_message"] > 50, faults
