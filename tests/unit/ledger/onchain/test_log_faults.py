"""What the judge of logs is shown."""

from __future__ import annotations

from dsn.ledger.cells import AccountCell, CellKind, DealCell, DealState
from dsn.ledger.fraud import Logged
from dsn.ledger.onchain import log_faults
from dsn.ledger.onchain.tuples import account_tuple, deal_tuple, network_tuple
from tests.support.fraud_world import every_kind
from tests.support.ledger_world import address

WORLD = every_kind(False)
TREE = WORLD.state.tree


def test_how_a_log_ends() -> None:
    size = len(WORLD.leaves)
    last = Logged.of(WORLD.leaves[-1], WORLD.nodes.__getitem__, size - 1, size)
    call = log_faults.end_call(3, last, WORLD.state.network, TREE)
    anchor, leaf, path, network, place = call.args
    assert (call.contract, call.function, anchor) == ("FraudLog", "convict_end", 3)
    assert (leaf, path) == (WORLD.leaves[-1].encode(), list(last.path))
    assert network == network_tuple(WORLD.state.network)
    assert place[0] == WORLD.state.network.key


def test_two_anchors() -> None:
    call = log_faults.fork_call(1, 2, (b"\x01" * 32,))
    assert (call.function, call.args) == ("convict_fork", (1, 2, [b"\x01" * 32]))


def test_an_account_that_is_not_there_is_shown_by_another() -> None:
    nobody = AccountCell(address("operator")[::-1])
    call = log_faults.deposit_call(4, 1, nobody, TREE)
    anchor, serial, cell, (key, _, _) = call.args
    assert (call.function, anchor, serial) == ("convict_deposit", 4, 1)
    assert cell == account_tuple(nobody)
    assert key != nobody.key


def test_a_deal_and_its_place() -> None:
    deals = [each for each in WORLD.deals() if each.state is DealState.SLASHED]
    call = log_faults.slash_call(5, deals[0], TREE)
    assert (call.function, call.args[:2]) == ("convict_slash", (5, deal_tuple(deals[0])))
    assert call.args[2][0] == deals[0].key
    assert isinstance(WORLD.state.cell(CellKind.DEAL, deals[0].deal), DealCell)
