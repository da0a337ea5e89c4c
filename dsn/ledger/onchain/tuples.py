"""Cells and places as the structs that contracts take: tuples, in the order of their fields.

Spec: docs/spec/chain.md; contracts/lib/{cells,state,entries}.vy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from dsn.ledger.cells import KEPT_BITS, AccountCell, DealCell, NetworkCell, NodeCell, Pending
from dsn.ledger.fraud import Logged
from dsn.ledger.radix import StateTree
from dsn.ledger.settlement import NO_ADDRESS

_WORD_BITS: Final = 256
_WORD: Final = (1 << _WORD_BITS) - 1
_NO_DEMAND: Final = (NO_ADDRESS, 0, 0, b"", 0)


def network_tuple(cell: NetworkCell) -> tuple[Any, ...]:
    """``cells.Network``."""
    closed = cell.closed
    head = (cell.network, cell.epoch, int(cell.phase), cell.beacon)
    return (*head, closed.size, closed.root, cell.round)


def account_tuple(cell: AccountCell) -> tuple[Any, ...]:
    """``cells.Account``; the bits as three words, the lowest first."""
    words = [cell.bits >> at & _WORD for at in range(0, KEPT_BITS, _WORD_BITS)]
    amounts = cell.available, cell.withdrawn, cell.burned
    counts = cell.nonce, cell.deposits, cell.deals
    held = cell.live, cell.live_leaves, cell.frozen, cell.frozen_leaves
    return (cell.address, *amounts, *counts, cell.node, cell.rolled, words, *held)


def node_tuple(cell: NodeCell) -> tuple[Any, ...]:
    """``cells.Node``."""
    return cell.node, cell.account, cell.serial


def deal_tuple(cell: DealCell) -> tuple[Any, ...]:
    """``cells.Deal``."""
    times = cell.end, cell.grace, cell.settled, cell.serial, cell.ended, cell.missed
    held = cell.number, cell.shards, cell.leaves, cell.root
    paid = cell.leaf_epochs, cell.disk_paid, cell.voucher_paid, cell.delegate_paid
    locked = cell.disk_escrow, cell.bandwidth_escrow, cell.collateral
    rest = cell.refund, cell.bond, cell.burned
    demand = _NO_DEMAND if cell.demand is None else _pending(cell.demand)
    terms = tuple(cell.terms.values())
    pending = cell.demand is not None
    return (
        cell.deal, terms, int(cell.state), *times, *held, *paid, *locked, *rest, pending, demand
    )  # fmt: skip


def place_tuple(tree: StateTree, key: bytes) -> tuple[Any, ...]:
    """``state.Place``: where the bits of ``key`` lead in ``tree``, and the way there.

    Raises:
        NotFound: ``empty_state``, or ``left_out`` of a partial tree.
    """
    leaf, steps = tree.build_proof(key)
    return leaf.key, leaf.digest, [(step.bit, step.sibling) for step in steps]


def case_tuple(anchor: int, index: int, previous: Logged | None, step: Logged) -> tuple[Any, ...]:
    """``entries.Case``: leaf ``index`` of the log at anchor number ``anchor``, and the one before.

    Args:
        anchor: Whose log has both.
        index: The number of the step's leaf.
        previous: ``None`` for the first.
        step: With its inclusion proof.
    """
    before: tuple[bytes, Sequence[bytes]] = (b"", [])
    if previous is not None:
        before = previous.leaf.encode(), list(previous.path)
    return (anchor, index, *before, step.leaf.encode(), list(step.path))


def _pending(demand: Pending) -> tuple[Any, ...]:
    link = b"" if demand.link is None else demand.link.encode()
    return demand.asker, demand.deadline, demand.index, link, demand.place
