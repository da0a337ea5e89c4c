"""What moving bytes costs under a deal, and how much may be owed: the same sums on both sides.

Amounts are base units, all told since the deal began. Only these sums are rounded, so cutting
bytes into more or fewer messages changes nothing.

Spec: docs/spec/economy.md#bandwidth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from dsn.ledger.deal import Deal
from dsn.units import GIB, MIB

FIRST_WINDOW_BYTES: Final = MIB
LAST_WINDOW_BYTES: Final = 16 * MIB


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes stored and read under a deal since it began."""

    ingress_bytes: int = 0
    egress_bytes: int = 0

    def stored(self, size: int) -> Traffic:
        """With ``size`` more bytes stored."""
        return replace(self, ingress_bytes=self.ingress_bytes + size)

    def read(self, size: int) -> Traffic:
        """With ``size`` more bytes read."""
        return replace(self, egress_bytes=self.egress_bytes + size)

    def __add__(self, other: Traffic) -> Traffic:
        """Both together."""
        return self.stored(other.ingress_bytes).read(other.egress_bytes)

    def __sub__(self, other: Traffic) -> Traffic:
        """What is more than ``other``, each way; never below 0."""
        return Traffic(
            max(0, self.ingress_bytes - other.ingress_bytes),
            max(0, self.egress_bytes - other.egress_bytes),
        )

    def at_most(self, other: Traffic) -> Traffic:
        """As much as both have, each way."""
        return Traffic(
            min(self.ingress_bytes, other.ingress_bytes),
            min(self.egress_bytes, other.egress_bytes),
        )


def ingress_due(terms: Deal, traffic: Traffic) -> int:
    """What the bytes stored cost."""
    return terms.ingress_price * traffic.ingress_bytes // GIB


def egress_due(terms: Deal, traffic: Traffic) -> int:
    """What the bytes read cost."""
    return terms.egress_price * traffic.egress_bytes // GIB


def bandwidth_due(terms: Deal, traffic: Traffic) -> int:
    """What a voucher for all of ``traffic`` promises."""
    return ingress_due(terms, traffic) + egress_due(terms, traffic)


def window(terms: Deal, credits: int) -> int:
    """How much may be owed by whoever has promised ``credits`` so far.

    As much as was promised already, but at least what 1 MiB costs and at most what 16 MiB cost,
    rounded up: it doubles with every window that was paid.
    """
    price = max(terms.ingress_price, terms.egress_price)
    first, last = (-(-price * size // GIB) for size in (FIRST_WINDOW_BYTES, LAST_WINDOW_BYTES))
    return min(max(first, credits), last)


def worth_bytes(price: int, credits: int, most: int) -> int:
    """How many bytes ``credits`` buy at ``price`` a GiB, at most ``most``; rounded down."""
    return most if price == 0 else min(most, credits * GIB // price)
