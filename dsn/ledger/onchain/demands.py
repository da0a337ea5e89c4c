"""Demands, services and slashes as the contract takes them that judges those steps.

Spec: docs/spec/chain.md; contracts/FraudDemands.vy.
"""

from __future__ import annotations

from dsn.ids import ID_BYTES, DealId
from dsn.ledger.cells import CellKind, DealCell, cell_key
from dsn.ledger.disputes import (
    Demand,
    Serve,
    ServedOpening,
    SlashJudged,
    SlashMissed,
    SlashUnserved,
    SlashWrong,
)
from dsn.ledger.entry import Entry
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.steps import ShownStep
from dsn.ledger.onchain.tuples import account_tuple
from dsn.ledger.settlement import NO_ADDRESS, Address

_ABOUT_DEALS = (Demand, Serve, SlashWrong, SlashMissed, SlashUnserved, SlashJudged)


def demands_call(step: ShownStep, anchor: int) -> OnChain:
    """``FraudDemands.convict`` of a demand, a service or a slash under anchor number ``anchor``.

    A body that cannot be read needs nothing else.
    """
    entry = step.entry
    if entry is None:
        cells = step.cells(NO_ADDRESS, DealId(bytes(ID_BYTES)), NO_ADDRESS)
        return OnChain("FraudDemands", "convict", (step.case(anchor), cells, [], [], [], []))
    assert isinstance(entry.body, _ABOUT_DEALS)
    deal = step.deal(entry.body.deal)
    provider = deal.terms.provider if deal else NO_ADDRESS
    other = NO_ADDRESS if provider == entry.signer else provider
    keys = [
        cell_key(CellKind.ACCOUNT, entry.signer),
        cell_key(CellKind.NETWORK, step.before.params.domain.network),
        cell_key(CellKind.DEAL, entry.body.deal),
    ]
    if other != NO_ADDRESS:
        keys.append(cell_key(CellKind.ACCOUNT, other))
    askers = _askers(entry, deal) if deal else []
    cells, held = step.cells(entry.signer, entry.body.deal, other), step.held(provider)
    places = step.places([*keys, *(cell_key(CellKind.ACCOUNT, each) for each in askers)])
    shown = [account_tuple(step.account(each)) for each in askers]
    more = places[len(keys) :] if step.changes else []
    args = (step.case(anchor), cells, shown, held, places[: len(keys)], more)
    return OnChain("FraudDemands", "convict", args)


def _askers(entry: Entry, deal: DealCell) -> list[Address]:
    """Who gets something beside signer and provider: a bond back, or the reporter's part."""
    match entry.body:
        case Demand() | Serve(service=ServedOpening()):
            return []
        case body:
            found = [deal.demand.asker] if deal.demand else []
            if isinstance(body, SlashJudged):
                found.append(body.asker)
            known = (entry.signer, deal.terms.provider)
            return [each for each in dict.fromkeys(found) if each not in known]
