"""The arithmetic of credits: whole base units, rounded once, on cumulative amounts.

Both sides of a deal, the ledger and a chain run these few lines. Since only cumulative amounts
are rounded, paying often or seldom, early or late, comes to the same to the unit.

Spec: docs/spec/economy.md#money.
"""

from __future__ import annotations

from typing import Final

GIB_LEAVES: Final = 1 << 20
"""Leaves in a GiB: prices are a GiB's."""
MONTH_S: Final = 30 * 86_400
"""What people price disk by; the ledger counts epochs."""
PPM: Final = 1_000_000


def disk_due(price: int, leaf_epochs: int) -> int:
    """What ``leaf_epochs`` proven leaf-epochs have earned, all told.

    Args:
        price: Base units a GiB-epoch.
        leaf_epochs: The sum of leaves times proven epochs, below 2^128.
    """
    return price * leaf_epochs // GIB_LEAVES


def repair_cost(price: int, leaves: int) -> int:
    """What it costs to rebuild ``leaves`` leaves at ``price`` base units a GiB; rounded up."""
    return -(-leaves * price // GIB_LEAVES)


def collateral_needed(price: int, leaves: int, ppm: int) -> int:
    """``ppm`` millionths of the repair cost of ``leaves`` leaves; rounded up, once."""
    return -(-leaves * price * ppm // (GIB_LEAVES * PPM))


def burned_of(due: int, burn_ppm: int) -> int:
    """How much of ``due``, a cumulative amount of disk pay, is burned, all told."""
    return due * burn_ppm // PPM


def epoch_price(month_price: int, epoch_s: int) -> int:
    """What a GiB-epoch costs at ``month_price`` credits a GiB for 30 days; 1 at least, or free."""
    return 0 if month_price == 0 else max(1, month_price * epoch_s // MONTH_S)
