"""Evidence of a wrong step, brought to whichever contract judges steps of its kind.

Spec: docs/spec/chain.md; docs/spec/evidence.md#fraud.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dsn.ledger.bodies import Kind
from dsn.ledger.fraud import Fraud
from dsn.ledger.log import MAX_ENTRY_BYTES
from dsn.ledger.onchain.accounts import accounts_call
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.claims import claims_call
from dsn.ledger.onchain.deals import deals_call, ends_call
from dsn.ledger.onchain.demands import demands_call
from dsn.ledger.onchain.log_faults import leaf_call
from dsn.ledger.onchain.steps import ShownStep
from dsn.ledger.params import LedgerParams

_HEAD: Final = 65
"""Bytes of an entry before its body: kind, network, signer, nonce, and how long that is."""
_ACCOUNTS: Final = (Kind.OPEN_EPOCH, Kind.SHUT_EPOCH, Kind.BIND, Kind.DEPOSIT, Kind.WITHDRAW)
_SLASHES: Final = (Kind.SLASH_WRONG, Kind.SLASH_MISSED, Kind.SLASH_UNSERVED, Kind.SLASH_JUDGED)
_BUILDERS: Final[dict[Kind, Callable[[ShownStep, int], OnChain]]] = {
    **dict.fromkeys((*_ACCOUNTS, Kind.TRANSFER), accounts_call),
    **dict.fromkeys((Kind.OPEN, Kind.TOP_UP), deals_call),
    **dict.fromkeys((Kind.LINK, Kind.CLAIM, Kind.LOSS), claims_call),
    **dict.fromkeys((Kind.QUIT, Kind.CLOSE), ends_call),
    **dict.fromkeys((Kind.DEMAND, Kind.SERVE, *_SLASHES), demands_call),
}


def on_chain(fraud: Fraud, params: LedgerParams, anchor: int) -> OnChain:
    """The call that convicts the operator of a step, if there is anything wrong with it.

    Args:
        fraud: Untrusted.
        params: The network's.
        anchor: Number of the anchor whose log the evidence is of.

    Raises:
        MalformedMessage: A partial state that cannot be.
        LimitReached: An inventory of 2^63 leaves or more.
    """
    entry = fraud.step.leaf.entry
    if not _has_header(entry):
        return leaf_call(fraud, anchor)
    return _BUILDERS[Kind(entry[0])](ShownStep.of(fraud, params), anchor)


def _has_header(raw: bytes) -> bool:
    """Whether the contract of some kind can tell what is wrong with an entry, if anything is."""
    known = raw[0] in _BUILDERS and _HEAD <= len(raw) <= MAX_ENTRY_BYTES
    return known and int.from_bytes(raw[_HEAD - 4 : _HEAD], "big") == len(raw) - _HEAD
