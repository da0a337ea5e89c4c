"""Epochs, bindings and credits as the contract takes them that judges those steps.

Spec: docs/spec/chain.md; contracts/FraudAccounts.vy.
"""

from __future__ import annotations

import contextlib
from typing import Any, Final

from dsn.core.keys import node_id_of
from dsn.ids import NodeId
from dsn.ledger.bodies import Bind, Deposit, OpenEpoch, ShutEpoch, Transfer
from dsn.ledger.cells import NO_NODE, AccountCell, CellKind, NodeCell, cell_key
from dsn.ledger.entry import Entry
from dsn.ledger.fraud import Closed
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.steps import ShownStep
from dsn.ledger.onchain.tuples import account_tuple, network_tuple, node_tuple
from dsn.ledger.radix import LeftOut
from dsn.ledger.settlement import NO_ADDRESS, Address

_NOBODY: Final = account_tuple(AccountCell(NO_ADDRESS))


def accounts_call(step: ShownStep, anchor: int) -> OnChain:
    """``FraudAccounts.convict`` of an entry of kinds 1 to 6 in the log of anchor number ``anchor``.

    What cannot be read goes there as it is.
    """
    entry, closed = step.entry, step.fraud.closed
    cells, places = _shown(step, entry) if entry else (_cells(step), [])
    shown = [] if closed is None else [_closed(closed)]
    return OnChain("FraudAccounts", "convict", (step.case(anchor), cells, places, shown))


def _shown(step: ShownStep, entry: Entry) -> tuple[tuple[Any, ...], list[Any]]:
    """The cells, and their places in the order in which the step reads them."""
    signer, body = entry.signer, entry.body
    keys, other, node = [cell_key(CellKind.ACCOUNT, signer)], NO_ADDRESS, NO_NODE
    match body:
        case OpenEpoch() | ShutEpoch():
            keys.append(cell_key(CellKind.NETWORK, entry.network))
        case Bind():
            node = node_id_of(body.signed.binding.identity)
            keys.append(cell_key(CellKind.NODE, node))
        case Deposit(account=other) | Transfer(to=other):
            if other != signer:
                keys.append(cell_key(CellKind.ACCOUNT, other))
        case _:
            pass
    return _cells(step, signer, other, node), step.places(keys)


def _cells(
    step: ShownStep,
    signer: Address = NO_ADDRESS,
    other: Address = NO_ADDRESS,
    node: NodeId = NO_NODE,
) -> tuple[Any, ...]:
    """``FraudAccounts.Cells``."""
    accounts = [account_tuple(step.account(each)) for each in (signer, other)]
    return (*accounts, network_tuple(step.network()), node_tuple(_node(step, node)))


def _node(step: ShownStep, node: NodeId) -> NodeCell:
    """Whose an identity is; nobody's also where the evidence leaves it out."""
    with contextlib.suppress(LeftOut):
        cell = step.before.cell(CellKind.NODE, node)
        if isinstance(cell, NodeCell):
            return cell
    return NodeCell(node, NO_ADDRESS, 0)


def _closed(closed: Closed) -> tuple[Any, ...]:
    """``FraudAccounts.Closed``."""
    last = closed.last
    return list(closed.prefix), last.leaf.encode(), list(last.path)
