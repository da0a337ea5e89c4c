"""What a repair would cost, by the terms that nodes stand by now; nothing is sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dsn.apps.deal_plan import Want, draft, end_after, missing, stored_cost, term_epochs
from dsn.apps.nodes import Nodes
from dsn.apps.quotes import Moment
from dsn.apps.repair_store import COPIES_BYTES
from dsn.ids import ID_BYTES, NodeId
from dsn.ledger.settlement import NO_ADDRESS
from dsn.units import leaf_count


@dataclass(frozen=True, slots=True)
class RepairCost:
    """Base units: what is stored costs until it expires, and what would be locked meanwhile."""

    cost: int
    locked: int


def repair_cost(
    stored: Mapping[NodeId, Sequence[int]],
    copies: Collection[NodeId],
    read: Mapping[NodeId, int],
    nodes: Nodes,
    days: float,
    moment: Moment,
) -> RepairCost:
    """What it takes where no deal is open yet.

    Args:
        stored: Lengths of new shards in bytes, by node.
        copies: Nodes that get a copy of the manifest beside.
        read: Bytes to be read, by node.
        nodes: Who know terms; a node without any is left out.
        days: How long the new shards are paid for.
        moment: Of the ledger.

    Raises:
        LimitReached: ``term_too_long``.
    """
    epoch, params, cost, locked = moment.epoch, moment.params, 0, 0
    end = end_after(epoch, term_epochs(days, params.epoch_s), params.max_term)
    for node in {*stored, *copies, *read}:
        if (offer := nodes.terms.get(node)) is None:
            continue
        salt, lengths = bytes(ID_BYTES), stored.get(node, ())
        deal = draft(
            node, offer.terms, NO_ADDRESS, epoch=epoch, end=end, epoch_s=params.epoch_s, salt=salt
        )
        cost += stored_cost(deal.terms, lengths, end - epoch, moved=True)
        extra = leaf_count(COPIES_BYTES) if node in copies else 0
        want = Want(sum(map(leaf_count, lengths)) + extra, read.get(node, 0))
        locked += missing(deal, want).locked + params.entry_fee
    return RepairCost(cost, locked)
