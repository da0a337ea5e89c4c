"""Entries about one deal as the contracts take them that judge how it begins, grows and ends.

Spec: docs/spec/chain.md; contracts/FraudDeals.vy, contracts/FraudEnds.vy.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from dsn.ids import ID_BYTES, DealId
from dsn.ledger.bodies import CloseDeal, Open, Quit, TopUp
from dsn.ledger.cells import CellKind, DealCell, DealState, cell_key
from dsn.ledger.deal import Deal
from dsn.ledger.entry import Body, Entry
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.steps import ShownStep
from dsn.ledger.onchain.tuples import account_tuple, deal_tuple, network_tuple
from dsn.ledger.radix import LeftOut
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.proofs.inventory import SumTree

_NO_TERMS: Final = Deal.decode(bytes(Deal.struct.size))
_NO_DEAL: Final = deal_tuple(
    DealCell(DealId(bytes(ID_BYTES)), _NO_TERMS, DealState.OPEN, end=0, grace=0, settled=0)
)


def deals_call(step: ShownStep, anchor: int) -> OnChain:
    """``FraudDeals.convict`` of a deal's open or top-up in the log of anchor number ``anchor``.

    What cannot be read goes there as it is.
    """
    cells, places = _shown(step)
    return OnChain("FraudDeals", "convict", (step.case(anchor), cells, places))


def ends_call(step: ShownStep, anchor: int) -> OnChain:
    """``FraudEnds.convict`` of a quit or a close; as ``deals_call``."""
    cells, places = _shown(step)
    return OnChain("FraudEnds", "convict", (step.case(anchor), cells, places, _ways(step)))


def _shown(step: ShownStep) -> tuple[tuple[Any, ...], list[Any]]:
    """The cells, and their places in the order in which the step reads them."""
    entry = step.entry
    if entry is None:
        return _cells(step, NO_ADDRESS, NO_ADDRESS, _absent(DealId(bytes(ID_BYTES)))), []
    deal_id, terms = _about(step, entry)
    other = terms.provider if entry.signer == terms.client else terms.client
    mine = cell_key(CellKind.ACCOUNT, entry.signer)
    deal = cell_key(CellKind.DEAL, deal_id)
    keys = [mine, cell_key(CellKind.NETWORK, entry.network)]
    keys.insert(0 if _has_agreed(entry.body) else 2, deal)
    if other != NO_ADDRESS:
        keys.append(cell_key(CellKind.ACCOUNT, other))
    cell = step.deal(deal_id)
    shown = deal_tuple(cell) if cell else _absent(deal_id)
    return _cells(step, entry.signer, other, shown), step.places(keys)


def _about(step: ShownStep, entry: Entry) -> tuple[DealId, Deal]:
    """Which deal an entry is about, and its terms; blank if nobody knows it."""
    match entry.body:
        case Open(agreed=agreed):
            return agreed.statement.deal_id(step.before.params.domain), agreed.statement
        case TopUp(deal=deal_id) | Quit(deal=deal_id) | CloseDeal(deal=deal_id):
            cell = step.deal(deal_id)
            return deal_id, cell.terms if cell else _NO_TERMS
        case _:
            raise AssertionError("an entry of another contract")


def _has_agreed(body: Body) -> bool:
    """Whether the signatures of a deal's parties are looked for before all else."""
    match body:
        case TopUp(extension=agreed) | CloseDeal(agreed=agreed):
            return agreed is not None
        case _:
            return False


def _cells(
    step: ShownStep, signer: Address, other: Address, deal: tuple[Any, ...]
) -> tuple[Any, ...]:
    """``deals.Cells``."""
    mine, others = (account_tuple(step.account(each)) for each in (signer, other))
    return mine, network_tuple(step.network()), deal, others


def _absent(deal: DealId) -> tuple[Any, ...]:
    """``cells.Deal`` of one that is not there: it has no state."""
    _, terms, _, *rest = _NO_DEAL
    return (deal, terms, 0, *rest)


def _ways(step: ShownStep) -> list[Any]:
    """``FraudEnds.Way`` by way, up from the deal in its provider's live inventory."""
    body = step.entry.body if step.entry else None
    deal = step.deal(body.deal) if isinstance(body, CloseDeal) else None
    if deal is None or deal.state is not DealState.OPEN or not deal.leaves:
        return []
    with contextlib.suppress(LeftOut):
        return _up(step.before.inventory(deal.terms.provider), deal.deal)
    return []


def _up(tree: SumTree, deal: DealId) -> list[Any]:
    """What stands beside the way up from ``deal``: left of it or not, its root and its sum."""
    at, total, ways = tree.find(deal)[0], tree.total, list[Any]()
    for left_sum, sibling in tree.locate(at).steps:
        right = at >= left_sum
        own = total - left_sum if right else left_sum
        ways.append((right, sibling, total - own))
        at, total = at - left_sum if right else at, own
    return ways[::-1]
