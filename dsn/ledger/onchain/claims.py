"""Links, claims and losses as the contract takes them that judges those steps.

Spec: docs/spec/chain.md; contracts/FraudClaims.vy.
"""

from __future__ import annotations

from typing import Final

from dsn.ids import ID_BYTES, DealId
from dsn.ledger.bodies import Claim, Loss
from dsn.ledger.cells import CellKind, cell_key
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.steps import Shown, ShownStep
from dsn.ledger.settlement import NO_ADDRESS

_NO_DEAL: Final = DealId(bytes(ID_BYTES))


def claims_call(step: ShownStep, anchor: int) -> OnChain:
    """``FraudClaims.convict`` of a link, a claim or a loss in the log of anchor number ``anchor``.

    A body that cannot be read needs nothing else.
    """
    cells, keys, held = step.cells(NO_ADDRESS, _NO_DEAL, NO_ADDRESS), list[bytes](), list[Shown]()
    if step.entry is not None:
        signer, body = step.entry.signer, step.entry.body
        deal = body.deal if isinstance(body, Claim | Loss) else _NO_DEAL
        known = step.deal(deal)
        provider = known.terms.provider if known else NO_ADDRESS
        cells, held = step.cells(signer, deal, provider), step.held(provider)
        keys = [
            cell_key(CellKind.ACCOUNT, signer),
            cell_key(CellKind.NETWORK, step.before.params.domain.network),
        ]
        if isinstance(body, Claim | Loss):
            keys.insert(0 if isinstance(body, Claim) else 2, cell_key(CellKind.DEAL, deal))
        if isinstance(body, Claim) and signer != provider:
            keys.append(cell_key(CellKind.ACCOUNT, provider))
    args = (step.case(anchor), cells, step.places(keys), held)
    return OnChain("FraudClaims", "convict", args)
