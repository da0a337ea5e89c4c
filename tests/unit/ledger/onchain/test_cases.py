"""Which contract a step goes to, and what goes along."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.ledger.bodies import Kind
from dsn.ledger.cells import cell_digest
from dsn.ledger.entry import Entry
from dsn.ledger.onchain.cases import on_chain
from dsn.ledger.onchain.steps import ShownStep
from dsn.ledger.radix import StateLeaf, StateStep, verify_cell
from tests.support.fraud_world import SIGNED_PARAMS, every_kind

ANCHOR = 7
JUDGES = {
    "FraudAccounts": range(1, 7),
    "FraudDeals": (7, 8),
    "FraudClaims": (9, 10, 11),
    "FraudEnds": (12, 13),
    "FraudDemands": range(14, 20),
}
WORLD = every_kind(True)
SIGNED = WORLD.signed_checkpoint()


def index_of(kind: Kind) -> int:
    return next(at for at, leaf in enumerate(WORLD.leaves) if leaf.entry[0] == kind)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind != Kind.SLASH_UNSERVED])
def test_every_kind_has_its_judge(kind: Kind) -> None:
    index = index_of(kind)
    call = on_chain(WORLD.fraud(index, SIGNED), SIGNED_PARAMS, ANCHOR)
    assert (kind in JUDGES[call.contract], call.function) == (True, "convict")
    anchor, number, before, _, step, _ = call.args[0]
    assert (anchor, number, step) == (ANCHOR, index, WORLD.leaves[index].encode())
    assert before == (WORLD.leaves[index - 1].encode() if index else b"")


@pytest.mark.parametrize("kind", [Kind.LINK, Kind.CLAIM, Kind.LOSS])
def test_a_body_that_cannot_be_read_goes_to_its_judge_alone(kind: Kind) -> None:
    index = index_of(kind)
    raw = WORLD.leaves[index].entry
    cut = raw[:61] + (len(raw) - 66).to_bytes(4, "big") + raw[65:-1]
    lie = WORLD.lie(index, replace(WORLD.leaves[index], entry=cut))
    call = on_chain(lie, SIGNED_PARAMS, ANCHOR)
    assert (call.contract, call.args[2], call.args[3]) == ("FraudClaims", [], [])


@pytest.mark.parametrize("entry", [b"\0", b"\x14" + bytes(64), b"\x0a" + bytes(63), bytes(65)])
def test_what_is_no_entry_goes_to_the_judge_of_logs(entry: bytes) -> None:
    index = index_of(Kind.CLAIM)
    lie = WORLD.lie(index, replace(WORLD.leaves[index], entry=entry))
    call = on_chain(lie, SIGNED_PARAMS, ANCHOR)
    assert (call.contract, call.function) == ("FraudLog", "convict")
    assert call.args[:3] == (ANCHOR, index, lie.step.leaf.encode())


def test_the_places_of_a_step_lead_from_the_root_before_it_to_the_one_after() -> None:
    index = index_of(Kind.CLAIM)
    step = ShownStep.of(WORLD.fraud(index, SIGNED), SIGNED_PARAMS)
    assert step.changes is not None
    digests = {cell.key: cell_digest(cell) for cell in step.changes.cells}
    tree = WORLD.states[index].tree
    for key, place in zip(digests, step.places(list(digests)), strict=True):
        leaf, steps = StateLeaf(*place[:2]), [StateStep(*each) for each in place[2]]
        assert leaf.key == key
        verify_cell(tree.root, leaf, steps)
        tree = tree.put(key, digests[key])
    assert tree.root == WORLD.leaves[index].state_root


def test_a_refused_step_is_shown_as_far_as_it_was_read() -> None:
    index = index_of(Kind.CLAIM)
    was = Entry.decode(WORLD.leaves[index].entry)
    lie = WORLD.lie(index, WORLD.resigned(index, was.body, nonce=was.nonce + 1))
    step = ShownStep.of(lie, SIGNED_PARAMS)
    assert step.changes is None and step.entry is not None
    deal, signer, network = on_chain(lie, SIGNED_PARAMS, ANCHOR).args[2]
    for key, digest, steps in (deal, signer, network):
        path = [StateStep(*each) for each in steps]
        verify_cell(WORLD.states[index].root, StateLeaf(key, digest), path)
