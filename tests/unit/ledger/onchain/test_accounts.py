"""What the contract that judges epochs and accounts is shown of a step."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.ledger.bodies import Bind, Deposit, Kind, Transfer
from dsn.ledger.cells import AccountCell, CellKind, NodeCell, cell_digest, cell_key
from dsn.ledger.entry import Entry
from dsn.ledger.fraud import Fraud
from dsn.ledger.onchain.accounts import accounts_call
from dsn.ledger.onchain.steps import ShownStep
from dsn.ledger.onchain.tuples import account_tuple, network_tuple, node_tuple
from dsn.ledger.radix import StateLeaf, StateStep, verify_absence, verify_cell
from dsn.ledger.settlement import NO_ADDRESS
from tests.support.fraud_world import SIGNED_PARAMS, every_kind
from tests.support.ledger_world import address

WORLD = every_kind(True)
SIGNED = WORLD.signed_checkpoint()
KINDS = [Entry.decode(leaf.entry).body.kind for leaf in WORLD.leaves]
SECOND = {
    Kind.OPEN_EPOCH: CellKind.NETWORK,
    Kind.SHUT_EPOCH: CellKind.NETWORK,
    Kind.BIND: CellKind.NODE,
    Kind.DEPOSIT: CellKind.ACCOUNT,
    Kind.TRANSFER: CellKind.ACCOUNT,
}


def step_of(fraud: Fraud) -> ShownStep:
    return ShownStep.of(fraud, SIGNED_PARAMS)


def last(kind: Kind) -> int:
    return len(KINDS) - 1 - KINDS[::-1].index(kind)


@pytest.mark.parametrize("kind", [*SECOND, Kind.WITHDRAW])
def test_each_place_is_under_the_root_that_the_ones_before_lead_to(kind: Kind) -> None:
    index = last(kind)
    before, after = (*WORLD.states, WORLD.state)[index : index + 2]
    call = accounts_call(step_of(WORLD.fraud(index, SIGNED)), 7)
    case, cells, places, _ = call.args
    assert (call.contract, call.function, case[:2]) == ("FraudAccounts", "convict", (7, index))
    assert len(places) == 1 + (kind in SECOND)
    tree = before.tree
    signer = cell_key(CellKind.ACCOUNT, Entry.decode(WORLD.leaves[index].entry).signer)
    assert places[0][0] == signer
    for key, digest, steps in places:
        verify_cell(tree.root, StateLeaf(key, digest), [StateStep(*each) for each in steps])
        written = key
        if kind is Kind.BIND and key != signer:
            written = cell_key(CellKind.NODE, cells[3][0])
        changed = after.tree.find(written)
        assert changed is not None
        tree = tree.put(written, changed)
    assert tree.root == after.root


def test_the_cells_are_those_before_the_step() -> None:
    index = last(Kind.TRANSFER)
    before, entry = WORLD.states[index], Entry.decode(WORLD.leaves[index].entry)
    assert isinstance(entry.body, Transfer)
    mine, other, _, _ = accounts_call(step_of(WORLD.fraud(index, SIGNED)), 0).args[1]
    assert mine == account_tuple(before.account(entry.signer))
    assert other == account_tuple(before.account(entry.body.to))
    index = last(Kind.SHUT_EPOCH)
    cells = accounts_call(step_of(WORLD.fraud(index, SIGNED)), 0).args[1]
    assert cells[2] == network_tuple(WORLD.states[index].network)
    assert cells[1] == account_tuple(AccountCell(NO_ADDRESS))


def test_an_identity_that_nobody_has_is_shown_as_nobodys() -> None:
    index = last(Kind.BIND)
    entry = Entry.decode(WORLD.leaves[index].entry)
    assert isinstance(entry.body, Bind)
    _, cells, places, _ = accounts_call(step_of(WORLD.fraud(index, SIGNED)), 0).args
    node = cells[3][0]
    assert cells[3] == node_tuple(NodeCell(node, NO_ADDRESS, 0))
    signer = WORLD.state.account(entry.signer)
    tree = WORLD.states[index].tree.put(places[0][0], places[0][1])
    mine = replace(WORLD.states[index].account(entry.signer), node=node, nonce=1)
    tree = tree.put(signer.key, cell_digest(replace(mine, **_fee(mine))))
    key, digest, steps = places[1]
    verify_absence(
        tree.root,
        cell_key(CellKind.NODE, node),
        StateLeaf(key, digest),
        [StateStep(*each) for each in steps],
    )


def _fee(account: AccountCell) -> dict[str, int]:
    fee = SIGNED_PARAMS.entry_fee
    return {"available": account.available - fee, "burned": account.burned + fee}


def test_of_a_refused_step_all_is_under_the_root_before() -> None:
    index = last(Kind.TRANSFER)
    poor = Transfer(address("alice"), 1 << 60)
    fraud = WORLD.lie(index, WORLD.resigned(index, poor))
    _, _, places, _ = accounts_call(step_of(fraud), 0).args
    (place,) = places
    key, digest, steps = place
    root = WORLD.states[index].root
    verify_cell(root, StateLeaf(key, digest), [StateStep(*each) for each in steps])


def test_what_was_not_read_is_left_out() -> None:
    index = last(Kind.TRANSFER)
    leaf = replace(WORLD.leaves[index], signature=bytes(65))
    _, cells, places, _ = accounts_call(step_of(WORLD.lie(index, leaf)), 0).args
    assert places == []
    assert cells[2][0] == bytes(32)
    malformed = replace(leaf, entry=leaf.entry[:-1])
    assert accounts_call(step_of(WORLD.lie(index, malformed)), 0).args[2] == []


def test_a_deposit_for_oneself_has_one_account() -> None:
    index = last(Kind.DEPOSIT)
    own = Deposit(SIGNED_PARAMS.operator, 5, 1)
    fraud = WORLD.lie(index, WORLD.resigned(index, own))
    assert len(accounts_call(step_of(fraud), 0).args[2]) == 1


def test_only_an_open_shows_a_closed_log() -> None:
    opened = WORLD.fraud(last(Kind.OPEN_EPOCH), SIGNED)
    ((prefix, leaf, path),) = accounts_call(step_of(opened), 0).args[3]
    assert opened.closed is not None
    assert prefix == list(opened.closed.prefix)
    assert (leaf, path) == (opened.closed.last.leaf.encode(), list(opened.closed.last.path))
    first = KINDS.index(Kind.OPEN_EPOCH)
    for index in (first, last(Kind.SHUT_EPOCH), last(Kind.TRANSFER)):
        assert accounts_call(step_of(WORLD.fraud(index, SIGNED)), 0).args[3] == []
