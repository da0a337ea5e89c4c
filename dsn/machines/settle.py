"""Paying for bandwidth as it is used: a node's tab and a client's purse, for one deal each.

The node counts what it took in and sent, and goes on while no more than a window is owed. The
client counts what it sent and received, and signs a voucher when half a window is owed: so it
never stands still, and either side loses a window at most. What is about to be stored is paid
before it is sent, as far as it passes the window.

Spec: docs/spec/economy.md#bandwidth.
"""

from __future__ import annotations

from typing import Final

from dsn.errors import LimitReached, PeerError
from dsn.ledger.bandwidth import Traffic, bandwidth_due, window, worth_bytes
from dsn.ledger.deal import Deal

TOLERANCE_PPM: Final = 20_000
"""Beyond a window, how much more than its own count a client pays: bytes that were sent to it
and that it did not wait for."""
PPM: Final = 1_000_000


class Tab:
    """What a client owes a node under one deal."""

    def __init__(self, terms: Deal, traffic: Traffic, credits: int, limit: int) -> None:
        """Go on where things stood.

        Args:
            terms: The deal's.
            traffic: What was moved so far.
            credits: The highest voucher's.
            limit: What a voucher can reach: bandwidth escrow and what vouchers were paid of it.
        """
        self.terms, self.traffic, self.credits, self.limit = terms, traffic, credits, limit
        self._coming = 0

    @property
    def owed(self) -> int:
        """Base units beyond the highest voucher; never below 0."""
        return max(0, self._due(self._coming) - self.credits)

    def pay(self, credits: int) -> bool:
        """Take a voucher whose signature is known to hold; says whether it is the highest.

        Raises:
            PeerError: ``over_escrow``: it could bounce.
        """
        if credits > self.limit:
            raise PeerError(
                f"voucher: {credits} credits, {self.limit} are locked for bandwidth",
                code="over_escrow",
                hint="top up the deal",
            )
        newer = credits > self.credits
        self.credits = max(self.credits, credits)
        return newer

    def expect(self, size: int) -> None:
        """Note that a group of ``size`` bytes will be stored; ``stored`` or ``lost`` ends it.

        Raises:
            LimitReached: ``payment_due``, ``escrow_spent``.
        """
        due = self._due(self._coming + size)
        self._check_escrow(due)
        if due - self.credits > window(self.terms, self.credits):
            raise self.unpaid(due - self.credits)
        self._coming += size

    def stored(self, size: int) -> None:
        """A group of ``size`` bytes that was expected is durable."""
        self._coming -= size
        self.traffic = self.traffic.stored(size)

    def lost(self, size: int) -> None:
        """A group of ``size`` bytes that was expected did not arrive."""
        self._coming -= size

    def room(self, most: int) -> int:
        """How many bytes may be read now, at most ``most``; 0: wait for a voucher.

        Raises:
            LimitReached: ``escrow_spent``.
        """
        spent = self._due(self._coming)
        left = min(self.credits + window(self.terms, self.credits), self.limit) - spent
        if left <= 0 and self.terms.egress_price:
            self._check_escrow(spent + 1)
            return 0
        return worth_bytes(self.terms.egress_price, left, most)

    def read(self, size: int) -> None:
        """``size`` bytes were sent."""
        self.traffic = self.traffic.read(size)

    def unpaid(self, owed: int) -> LimitReached:
        """The refusal of whoever owes too much."""
        return LimitReached(
            f"{owed} base units are owed for bandwidth, at most "
            f"{window(self.terms, self.credits)} may be",
            code="payment_due",
            hint="sign a voucher",
        )

    def _due(self, coming: int) -> int:
        return bandwidth_due(self.terms, self.traffic.stored(coming))

    def _check_escrow(self, due: int) -> None:
        if due > self.limit:
            raise LimitReached(
                f"bandwidth for {due} base units, {self.limit} are locked for it",
                code="escrow_spent",
                hint="top up the deal",
            )


class Purse:
    """What a client has moved, and promised for it, under one deal."""

    def __init__(self, terms: Deal, traffic: Traffic, credits: int, limit: int) -> None:
        """Go on where things stood; see ``Tab``."""
        self.terms, self.traffic, self.credits, self.limit = terms, traffic, credits, limit

    @property
    def owed(self) -> int:
        """Base units beyond what was promised; never below 0."""
        return max(0, bandwidth_due(self.terms, self.traffic) - self.credits)

    def sending(self, size: int) -> None:
        """``size`` bytes are about to be sent."""
        self.traffic = self.traffic.stored(size)

    def unsent(self, size: int) -> None:
        """``size`` bytes of those did not get a receipt."""
        self.traffic = self.traffic.stored(-size)

    def received(self, size: int) -> None:
        """``size`` bytes came."""
        self.traffic = self.traffic.read(size)

    def voucher_due(self, *, all_of_it: bool = False) -> int | None:
        """The credits that the next voucher has to reach, if one is due.

        Args:
            all_of_it: Whether to pay what is owed now, however little.

        Raises:
            LimitReached: ``escrow_spent``: more than is locked.
        """
        least = 1 if all_of_it else max(1, window(self.terms, self.credits) // 2)
        if self.owed < least:
            return None
        due = bandwidth_due(self.terms, self.traffic)
        if due > self.limit:
            raise LimitReached(
                f"bandwidth for {due} base units, {self.limit} are locked for it",
                code="escrow_spent",
                hint="top up the deal",
            )
        return due

    def promised(self, credits: int) -> None:
        """A voucher over ``credits`` was signed, now or by an earlier run of this home."""
        self.credits = max(self.credits, credits)

    def agree(self, said: Traffic) -> None:
        """Take over what the node counted (untrusted), if it is not much more than what we did.

        Raises:
            PeerError: ``overcharged``.
        """
        due, own = bandwidth_due(self.terms, said), bandwidth_due(self.terms, self.traffic)
        most = own + window(self.terms, self.credits) + own * TOLERANCE_PPM // PPM
        if due > most:
            raise PeerError(
                f"{due} base units asked for bandwidth, by our count it is {own}",
                code="overcharged",
            )
        if due > own:
            self.traffic = said
