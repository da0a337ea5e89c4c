"""What time does to a provider and its deals: roll, settle, cover, install, split.

Everything here follows from cells alone and is the same for all who may run it: ledger, witness,
client, provider, and a chain that judges one step.

Spec: docs/spec/economy.md#ledger-state-and-rules.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from dsn.ledger.cells import KEPT_BITS, AccountCell, DealCell, DealState
from dsn.ledger.money import burned_of, collateral_needed, disk_due, repair_cost
from dsn.ledger.refusal import refuse
from dsn.ledger.rules.turn import Turn
from dsn.ledger.settlement import Address
from dsn.proofs.inventory import InventoryEntry, inventory_leaf

_ALL_BITS: Final = (1 << KEPT_BITS) - 1
REPORTER_PART: Final = 10
"""A reporter gets one tenth of what remains of the collateral."""


class Parties(NamedTuple):
    """A deal and its provider's account, which change together."""

    deal: DealCell
    provider: AccountCell


def roll(account: AccountCell, epoch: int) -> AccountCell:
    """Bring a provider's account to ``epoch``: nothing installed since its last one is asked now.

    Epochs in between count as proven if there was nothing to prove, else as missed.
    """
    if account.rolled >= epoch:
        return account
    shift = min(epoch - account.rolled, KEPT_BITS)
    fill = 0 if account.live_leaves else (1 << shift) - 1
    return replace(
        account,
        bits=(account.bits << shift | fill) & _ALL_BITS,
        frozen=account.live,
        frozen_leaves=account.live_leaves,
        rolled=epoch,
    )


def parties_of(turn: Turn, deal: DealCell) -> Parties:
    """The deal with its provider, rolled."""
    return Parties(deal, roll(turn.account(deal.terms.provider), turn.epoch))


def put_parties(turn: Turn, parties: Parties) -> None:
    """Change both cells."""
    turn.put(parties.deal, parties.provider)


def settle(parties: Parties, epoch: int, burn_ppm: int) -> Parties:
    """Pay for the epochs that were proven since the last time, out of the disk escrow.

    It comes before any revision is installed: so late growth is not paid backwards, and an old,
    larger revision earns nothing.

    Args:
        parties: Rolled to ``epoch``.
        epoch: The network's.
        burn_ppm: The network's.
    """
    deal, provider = parties
    until = min(deal.last, epoch if provider.proven(epoch) else epoch - 1)
    since = max(deal.settled, epoch - KEPT_BITS)
    if until <= since:
        return parties
    if deal.leaves:
        newest = provider.bits >> (epoch - until) & ((1 << (until - since)) - 1)
        proven = newest.bit_count()
        deal = replace(
            deal,
            leaf_epochs=deal.leaf_epochs + deal.leaves * proven,
            missed=deal.missed + until - since - proven,
        )
    deal = replace(deal, settled=until)
    return _pay(Parties(deal, provider), burn_ppm)


def _pay(parties: Parties, burn_ppm: int) -> Parties:
    """Move what is due and not paid yet: a part burns, up to half fills up the collateral."""
    deal, provider = parties
    due = disk_due(deal.terms.disk_price, deal.leaf_epochs)
    burned = burned_of(due, burn_ppm) - burned_of(deal.disk_paid, burn_ppm)
    rest = due - deal.disk_paid - burned
    kept = min(rest // 2, missing_collateral(deal))
    deal = replace(
        deal,
        disk_escrow=deal.disk_escrow - (due - deal.disk_paid),
        disk_paid=due,
        burned=deal.burned + burned,
        collateral=deal.collateral + kept,
    )
    return Parties(deal, replace(provider, available=provider.available + rest - kept))


def missing_collateral(deal: DealCell) -> int:
    """Base units that the provider's collateral lacks for what is installed."""
    terms = deal.terms
    covered = max(0, deal.leaves - terms.free_leaves)
    needed = collateral_needed(terms.repair_price, covered, terms.collateral_ppm)
    return max(0, needed - deal.collateral)


def check_cover(deal: DealCell) -> None:
    """Check that the disk escrow lasts to the end of the grace if every epoch is proven.

    Raises:
        EntryRefused: ``not_covered``.
    """
    most = deal.leaf_epochs + deal.leaves * (deal.last - deal.settled)
    due, there = disk_due(deal.terms.disk_price, most), deal.disk_escrow + deal.disk_paid
    if due > there:
        raise refuse(
            "not_covered",
            f"{due} base units for disk up to epoch {deal.last}, {there} locked",
            hint="top up the deal",
        )


def install(turn: Turn, old: DealCell, parties: Parties) -> Parties:
    """Bring the provider's live inventory to what the deal says now.

    Args:
        turn: The entry at work.
        old: The deal as it was.
        parties: The deal as it is.

    Raises:
        EntryRefused: ``too_many_leaves``: 2^63 under one provider.
    """
    deal, provider = parties
    tree = turn.inventory(provider.address)
    if deal.state is DealState.OPEN and deal.leaves:
        grown = provider.live_leaves - (old.leaves if _is_live(old) else 0) + deal.leaves
        if grown >> 63:
            raise refuse("too_many_leaves", f"{grown} leaves under one provider")
        entry = InventoryEntry(deal.deal, deal.number, deal.root, deal.leaves)
        tree = tree.replace(deal.deal, inventory_leaf(*entry), deal.leaves)
    elif _is_live(old):
        tree = tree.remove(deal.deal)
    else:
        return parties
    turn.put_inventory(provider.address, tree)
    return Parties(deal, replace(provider, live=tree.root, live_leaves=tree.total))


def _is_live(deal: DealCell) -> bool:
    return deal.state is DealState.OPEN and deal.leaves > 0


def charge_loss(deal: DealCell, leaves: int) -> DealCell:
    """The provider pays the repair of ``leaves`` leaves, as far as its collateral goes."""
    paid = min(deal.collateral, repair_cost(deal.terms.repair_price, leaves))
    return replace(deal, collateral=deal.collateral - paid, refund=deal.refund + paid)


def clear_demand(turn: Turn, deal: DealCell) -> DealCell:
    """Give a pending bond back to its asker."""
    if deal.demand is None:
        return deal
    turn.credit(deal.demand.asker, deal.bond)
    return replace(deal, demand=None, bond=0)


def split(turn: Turn, parties: Parties, reporter: Address) -> None:
    """Slash a deal: the client gets the repair, ``reporter`` a tenth of the rest, the rest burns.

    What was not settled is forfeit.
    """
    old, _ = parties
    repair = repair_cost(old.terms.repair_price, old.leaves)
    client_part = min(old.collateral, repair)
    rest = old.collateral - client_part
    reporter_part = rest // REPORTER_PART
    deal = replace(
        old,
        state=DealState.SLASHED,
        collateral=0,
        disk_escrow=0,
        bandwidth_escrow=0,
        refund=old.refund + client_part + old.disk_escrow + old.bandwidth_escrow,
        burned=old.burned + rest - reporter_part,
    )
    put_parties(turn, install(turn, old, Parties(deal, parties.provider)))
    turn.put(clear_demand(turn, deal))
    turn.credit(reporter, reporter_part)
