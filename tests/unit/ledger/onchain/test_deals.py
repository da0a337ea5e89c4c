"""What the contracts that judge how deals begin, grow and end are shown of a step."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from dsn.ids import DealId
from dsn.ledger.bodies import CloseDeal, Kind, Quit, TopUp
from dsn.ledger.cells import CellKind, DealCell, cell_key
from dsn.ledger.deal import Close, Extension
from dsn.ledger.entry import Body, Entry
from dsn.ledger.fraud import Fraud
from dsn.ledger.log import LogLeaf
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.deals import _up, deals_call, ends_call
from dsn.ledger.onchain.steps import ShownStep
from dsn.ledger.onchain.tuples import account_tuple, deal_tuple, network_tuple
from dsn.proofs.inventory import EMPTY_ROOT, SumTree, inventory_leaf, sum_node
from tests.support.fraud_world import SIGNED_PARAMS, every_kind
from tests.support.ledger_world import terms

WORLD = every_kind(True)
SIGNED = WORLD.signed_checkpoint()
KINDS = [Entry.decode(leaf.entry).body.kind for leaf in WORLD.leaves]
NO_DEAL = DealId(b"\x99" * 32)
CALLS = {
    Kind.OPEN: deals_call,
    Kind.TOP_UP: deals_call,
    Kind.QUIT: ends_call,
    Kind.CLOSE: ends_call,
}


def last(kind: Kind) -> int:
    return len(KINDS) - 1 - KINDS[::-1].index(kind)


def call_of(fraud: Fraud) -> OnChain:
    build = CALLS[Kind(fraud.step.leaf.entry[0])]
    return build(ShownStep.of(fraud, SIGNED_PARAMS), 3)


def lied(kind: Kind, body: Body) -> Fraud:
    """``body`` in the place of the last entry of ``kind``, by the same signer."""
    return WORLD.lie(last(kind), WORLD.resigned(last(kind), body))


@pytest.mark.parametrize("kind", CALLS)
def test_cells_are_those_before_the_step_in_the_order_they_are_read(kind: Kind) -> None:
    index = last(kind)
    before, entry = WORLD.states[index], Entry.decode(WORLD.leaves[index].entry)
    case, cells, places, *_ = call_of(WORLD.fraud(index, SIGNED)).args
    assert case[:2] == (3, index)
    mine, network, deal, other = cells
    assert mine == account_tuple(before.account(entry.signer))
    assert network == network_tuple(before.network)
    cell = before.cell(CellKind.DEAL, deal[0])
    if isinstance(cell, DealCell):
        assert deal == deal_tuple(cell)
        parties = {cell.terms.client, cell.terms.provider}
        assert {mine[0], other[0]} == parties
    else:
        assert (kind, deal[2]) == (Kind.OPEN, 0)
    keys = [cell_key(CellKind.ACCOUNT, entry.signer), before.network.key]
    keys.insert(0 if kind is Kind.CLOSE else 2, cell_key(CellKind.DEAL, deal[0]))
    shown = [key for key, _, _ in places]
    assert [a == b for a, b in zip(keys, shown, strict=False)][: 2 + (kind is not Kind.OPEN)]
    assert len(places) == (3 if kind is Kind.TOP_UP else 4)


def test_a_deal_that_is_not_there_has_no_state() -> None:
    for kind, body in (
        (Kind.TOP_UP, TopUp(NO_DEAL, 1, 1, None)),
        (Kind.QUIT, Quit(NO_DEAL)),
        (Kind.CLOSE, CloseDeal(NO_DEAL, None)),
    ):
        _, cells, places, *_ = call_of(lied(kind, body)).args
        assert (cells[2][0], cells[2][2], len(places)) == (NO_DEAL, 0, 3)


def test_forged_words_of_both_take_the_deal_alone() -> None:
    """The rules look at nothing else before."""
    deal = WORLD.deals()[0].deal
    extension = WORLD.agreed(Extension(deal, 1, 99), terms())
    closing = WORLD.agreed(Close(deal, 1), terms())
    for kind, body in (
        (Kind.TOP_UP, TopUp(deal, 1, 1, replace(extension, client_signature=bytes(65)))),
        (Kind.CLOSE, CloseDeal(deal, replace(closing, provider_signature=bytes(65)))),
    ):
        _, cells, places, *_ = call_of(lied(kind, body)).args
        assert [key for key, _, _ in places] == [cell_key(CellKind.DEAL, deal)]
        assert cells[1][0] == bytes(32)


def test_what_cannot_be_read_goes_as_it_is() -> None:
    leaf = WORLD.leaves[last(Kind.CLOSE)]
    cut = LogLeaf(leaf.entry[:-1], leaf.signature, leaf.state_root)
    call = call_of(WORLD.lie(last(Kind.CLOSE), cut))
    case, _, places, ways = call.args
    assert (call.contract, case[4], places, ways) == ("FraudEnds", cut.encode(), [], [])


@pytest.mark.parametrize("seed", range(6))
def test_ways_lead_to_the_inventory_with_and_without_a_deal(seed: int) -> None:
    """As the contract folds them: what was left out is what a removal gives."""
    random = Random(seed)
    deals = [DealId(random.randbytes(32)) for _ in range(random.randint(1, 40))]
    lines = {deal: (inventory_leaf(deal, 1, bytes(32), 5), random.randint(1, 99)) for deal in deals}
    tree = SumTree.build((deal, *line) for deal, line in lines.items())
    for deal in deals:
        (old, own), new, rest = lines[deal], EMPTY_ROOT, 0
        for left, sibling, beside in _up(tree, deal):
            parts = [(beside, sibling), (rest + own, old)]
            old = sum_node(*parts[not left], *parts[left])
            parts[1] = (rest, new)
            new = sum_node(*parts[not left], *parts[left]) if rest else sibling
            rest += beside
        assert (old, rest + own) == (tree.root, tree.total), f"seed {seed}"
        less = tree.remove(deal)
        assert (new, rest) == (less.root, less.total), f"seed {seed}"
