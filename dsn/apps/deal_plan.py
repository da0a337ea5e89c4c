"""How much escrow a deal lacks, by the same sums as the ledger's; and the deals drafted for it.

Spec: docs/spec/economy.md#time-and-pay.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from dsn.apps.deal_file import ClientDeal, Stage, new_deal
from dsn.errors import LimitReached, PeerError
from dsn.ids import NO_DEAL, NodeId
from dsn.ledger.bandwidth import Traffic, bandwidth_due
from dsn.ledger.bodies import Agreed
from dsn.ledger.deal import MAX_MISS_LIMIT, Deal
from dsn.ledger.money import disk_due
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.ledger.terms import Terms
from dsn.units import GIB, LEAF_BYTES, MIB, leaf_count

DAY_S: Final = 86_400
OPEN_WITHIN_S: Final = 600
"""How long a deal that both signed may take to the ledger."""
LEAST_LEAVES: Final = MIB // LEAF_BYTES
"""Room beyond what was asked for: names and manifests follow every file."""
FIRST_LEAVES: Final = 16 * MIB // LEAF_BYTES
"""Room in a new deal, where the budget allows; it doubles as use grows, so entries stay few."""
MOST_LEAVES: Final = GIB // LEAF_BYTES
END_STEPS: Final = 32
"""A deal lasts one to two of these parts of its term longer, so that later puts share its end."""


@dataclass(frozen=True, slots=True)
class Want:
    """What a client is about to do with a node.

    Attributes:
        leaves: To be stored beside what is held.
        read_bytes: To be read; whatever is stored is also to be read once.
        end: The epoch up to which it is to last; 0: as long as the deal does.
    """

    leaves: int = 0
    read_bytes: int = 0
    end: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be entered for one deal: base units to lock, and an end if it has to be later."""

    disk: int
    bandwidth: int
    end: int = 0

    @property
    def locked(self) -> int:
        """Base units in all."""
        return self.disk + self.bandwidth

    @property
    def empty(self) -> bool:
        """Whether there is nothing to enter."""
        return not (self.locked or self.end)


def term_epochs(days: float, epoch_s: int) -> int:
    """Epochs in ``days``, rounded up, at least 1."""
    return max(1, -(-round(days * DAY_S) // epoch_s))


def end_after(epoch: int, span: int, most: int) -> int:
    """The end of a deal that lasts ``span`` epochs from now, ``most`` at most.

    Raises:
        LimitReached: ``term_too_long``.
    """
    if span > most:
        raise LimitReached(
            f"a term of {span} epochs, at most {most} allowed",
            code="term_too_long",
            hint="ask for fewer days, and renew",
        )
    step = max(1, span // END_STEPS)
    return min((-(-(epoch + span) // step) + 1) * step, epoch + most)


def missing(deal: ClientDeal, want: Want, spare_leaves: int = LEAST_LEAVES) -> Step:
    """What ``deal`` lacks for ``want``, and for ``spare_leaves`` more where it lacks anything."""
    least = _lacking(deal, want, 0)
    return least if least.empty else _lacking(deal, want, spare_leaves)


def _lacking(deal: ClientDeal, want: Want, spare: int) -> Step:
    cell, purse = deal.cell, deal.purse
    end, coming = max(cell.end, want.end), deal.coming + want.leaves
    stored = coming + (spare if want.leaves else 0)
    held = deal.leaves + stored
    most = cell.leaf_epochs + held * (end + cell.grace - cell.settled)
    disk = disk_due(cell.terms.disk_price, most) - cell.disk_escrow - cell.disk_paid
    reads = held * LEAF_BYTES if want.leaves else 0
    if want.read_bytes:
        reads += want.read_bytes + spare * LEAF_BYTES
    traffic = Traffic(purse.traffic.ingress_bytes + stored * LEAF_BYTES, purse.traffic.egress_bytes)
    moved = bandwidth_due(cell.terms, traffic.read(reads))
    bandwidth = moved - purse.limit if want.leaves or want.read_bytes else 0
    return Step(max(0, disk), max(0, bandwidth), end if end > cell.end else 0)


def spare_leaves(deal: ClientDeal) -> int:
    """Room worth paying an entry for: as much as is used, within bounds."""
    used = max(deal.leaves + deal.coming, deal.purse.traffic.egress_bytes // LEAF_BYTES)
    return min(max(used, FIRST_LEAVES), MOST_LEAVES)


def price(deal: ClientDeal, step: Step, fee: int) -> int:
    """What it takes to enter ``step``: what is locked, and a fee an entry."""
    if deal.stage is Stage.OPEN:
        return 0 if step.empty else step.locked + fee
    opened = deal.terms.disk_escrow + deal.terms.bandwidth_escrow + fee
    topped_up = deal.stage is Stage.SIGNED and not step.empty
    return opened + step.locked + (fee if topped_up else 0)


def affordable(
    deals: Mapping[NodeId, ClientDeal],
    wants: Mapping[NodeId, Want],
    fee: int,
    *,
    available: int,
    left: int | None,
    roomy: bool = True,
) -> dict[NodeId, Step]:
    """A step for every deal: with room for more where that can be paid, else without.

    Args:
        deals: By node.
        wants: By node.
        fee: Of an entry.
        available: What the account has.
        left: Of the budget; ``None`` is no bound.
        roomy: Whether room for more is wanted at all.

    Raises:
        LimitReached: ``over_budget``, ``not_enough_credit``.
    """
    most = available if left is None else min(available, left)
    more = {node: missing(deal, wants[node], spare_leaves(deal)) for node, deal in deals.items()}
    if roomy and sum(price(deals[node], step, fee) for node, step in more.items()) <= most:
        return more
    least = {node: missing(deal, wants[node]) for node, deal in deals.items()}
    cost = sum(price(deals[node], step, fee) for node, step in least.items())
    if left is not None and cost > left:
        raise LimitReached(
            f"{cost:,} credits to lock and spend, {left:,} left of the budget",
            code="over_budget",
            hint="raise --budget, or store less, or for fewer days",
        )
    if cost > available:
        raise LimitReached(
            f"{cost:,} credits to lock and spend, {available:,} available",
            code="not_enough_credit",
            hint="dsn wallet balance shows what is locked where",
        )
    return least


def stored_cost(terms: Deal, lengths: Collection[int], epochs: int, *, moved: bool) -> int:
    """What shards of ``lengths`` bytes cost over ``epochs`` that are all proven.

    Args:
        terms: Under which they are stored.
        lengths: Of each shard.
        epochs: How long.
        moved: Whether they have to be sent, too.
    """
    disk = disk_due(terms.disk_price, sum(map(leaf_count, lengths)) * max(0, epochs))
    return disk + (terms.ingress_price * sum(lengths) // GIB if moved else 0)


def draft(
    node: NodeId,
    terms: Terms,
    client: Address,
    *,
    epoch: int,
    end: int,
    epoch_s: int,
    salt: bytes,
) -> ClientDeal:
    """A deal with ``node`` by its ``terms``: nobody has signed it, and nothing is locked yet."""
    deal = Deal(
        client=client,
        provider=terms.settlement,
        disk_price=terms.disk_price,
        ingress_price=terms.ingress_price,
        egress_price=terms.egress_price,
        repair_price=terms.repair_price,
        open_by=min(end, epoch + max(2, OPEN_WITHIN_S // epoch_s)),
        end=end,
        grace=terms.grace,
        notice=terms.notice,
        miss_limit=terms.miss_limit,
        dispute=terms.dispute,
        disk_escrow=0,
        bandwidth_escrow=0,
        collateral_ppm=terms.collateral_ppm,
        free_leaves=terms.free_leaves,
        delegate=NO_ADDRESS,
        delegate_credits=0,
        delegate_leaves=0,
        salt=salt,
    )
    return new_deal(node, NO_DEAL, Agreed(deal, b"", b""), epoch, Stage.DRAFT)


def check_offer(terms: Terms, params: LedgerParams, client: Address) -> None:
    """Check that the ledger would take a deal by ``terms`` (untrusted).

    Raises:
        PeerError: ``unpayable_terms``: one that is refused would hold up the others.
    """
    rules = {
        "no settlement address": terms.settlement != NO_ADDRESS,
        "our own settlement address": terms.settlement != client,
        "a disk price below the minimum": terms.disk_price >= params.min_disk_price,
        "a repair price below the minimum": terms.repair_price >= params.min_repair_price,
        "a collateral below the minimum": terms.collateral_ppm >= params.min_collateral_ppm,
        "too many leaves without collateral": terms.free_leaves <= params.max_free_leaves,
        "too short a dispute": terms.dispute >= params.min_dispute,
        "spans that are too long": max(terms.grace, terms.notice, terms.dispute) <= params.max_term,
        "too high a miss limit": terms.miss_limit <= MAX_MISS_LIMIT,
    }
    wrong = [name for name, holds in rules.items() if not holds]
    if wrong:
        raise PeerError(f"terms with {', '.join(wrong)}", code="unpayable_terms")
