"""What an escape from a frozen vault brings to whom: the vault's arithmetic, before anybody pays.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from dsn.ledger.bodies import SignedVoucher
from dsn.ledger.cells import AccountCell, DealCell, DealState
from dsn.ledger.money import repair_cost
from dsn.ledger.rules.settling import REPORTER_PART, Parties, roll, settle
from dsn.ledger.settlement import Address

Parts = Counter[Address]
"""Base units by whose they become."""


class OnRecord(NamedTuple):
    """A slash on the chain: of revision ``number``, at the word of ``asker``."""

    number: int
    asker: Address


def account_part(cell: AccountCell, deposited: int, paid: int) -> int:
    """What an account leaves with, in base units.

    Args:
        cell: As the anchored state has it; blank if it has none.
        deposited: Paid in on the chain beyond ``cell.deposits``.
        paid: Ever paid out by the vault.
    """
    return max(0, cell.available + cell.withdrawn + deposited - paid)


def deal_parts(
    deal: DealCell, provider: AccountCell, epoch: int, burn_ppm: int, slash: OnRecord | None
) -> Parts:
    """What the parties of a deal leave with; what is left for bandwidth waits for vouchers.

    Args:
        deal: As the anchored state has it.
        provider: Its provider's account there.
        epoch: The anchor's.
        burn_ppm: The network's.
        slash: What the chain has on record, if anything; of an older revision it does not count.
    """
    parts = Parts()
    if deal.demand is not None:
        parts[deal.demand.asker] += deal.bond
    if slash is not None and slash.number >= deal.number and _is_slashable(deal):
        repair = min(deal.collateral, repair_cost(deal.terms.repair_price, deal.leaves))
        parts[slash.asker] += (deal.collateral - repair) // REPORTER_PART
        parts[deal.terms.client] += repair + deal.refund + deal.disk_escrow + deal.bandwidth_escrow
        return parts
    if deal.state is DealState.OPEN:
        before = roll(provider, epoch)
        deal, after = settle(Parties(deal, before), epoch, burn_ppm)
        parts[deal.terms.provider] += after.available - before.available
    parts[deal.terms.provider] += deal.collateral
    parts[deal.terms.client] += deal.refund + deal.disk_escrow
    return parts


def bandwidth_left(deal: DealCell, slash: OnRecord | None) -> int:
    """What an escaped deal has left for vouchers at first, base units."""
    slashed = slash is not None and slash.number >= deal.number and _is_slashable(deal)
    return 0 if slashed else deal.bandwidth_escrow


def voucher_part(deal: DealCell, left: int, vouchers: Iterable[SignedVoucher]) -> int:
    """What ``vouchers`` of ``deal``, one a payer at most, take out of what is ``left``."""
    rise = 0
    for signed in vouchers:
        credits, paid = signed.voucher.credits, deal.voucher_paid
        if signed.by_delegate:
            credits, paid = min(credits, deal.terms.delegate_credits), deal.delegate_paid
        rise += max(0, credits - paid)
    return min(rise, left)


def _is_slashable(deal: DealCell) -> bool:
    return deal.state in (DealState.OPEN, DealState.ENDED)
