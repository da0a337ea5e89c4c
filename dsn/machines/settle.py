"""Paying for bandwidth as it is used: a node's tab and a client's purse, for one deal each.

The node counts what it took in and sent, and goes on while no more than a window is owed. The
client counts what it sent and received, and signs a voucher when half a window is owed: so it
never stands still, and either side loses a window at most. Only what travels in one message with
its header is paid before it is sent, as far as it passes the window.

Counts drift apart where a call broke off: a group may be stored though its receipt got lost, and
bytes may be on their way that nobody waits for any more. The client keeps what it cannot know
apart, and grants a node that much and no more.

Spec: docs/spec/economy.md#bandwidth.
"""

from __future__ import annotations

from typing import Final

from dsn.errors import LimitReached, PeerError
from dsn.ledger.bandwidth import Traffic, bandwidth_due, egress_due, window, worth_bytes
from dsn.ledger.deal import Deal

TOLERANCE_PPM: Final = 20_000
"""Beyond a window, how much more than its own count a client pays."""
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
        self._square = traffic

    @property
    def owed(self) -> int:
        """Base units beyond the highest voucher, expected groups included; never below 0."""
        return max(0, self._due(self._coming) - self.credits)

    @property
    def arrears(self) -> int:
        """What is owed for stored bytes: all, but for reads since nothing at all was owed.

        Those may have been on their way when the client signed its newest voucher.
        """
        reads = egress_due(self.terms, self.traffic) - egress_due(self.terms, self._square)
        return max(0, self._due(0) - reads - self.credits)

    def check(self, credits: int) -> None:
        """Check that a voucher over ``credits`` could be redeemed.

        Raises:
            PeerError: ``over_escrow``.
        """
        if credits > self.limit:
            raise PeerError(
                f"voucher: {credits} credits, {self.limit} are locked for bandwidth",
                code="over_escrow",
                hint="top up the deal",
            )

    def pay(self, credits: int) -> bool:
        """Take a voucher whose signature is known to hold; says whether it is the highest.

        Raises:
            PeerError: As ``check``.
        """
        self.check(credits)
        newer = credits > self.credits
        self.credits = max(self.credits, credits)
        if self._due(0) <= self.credits:
            self._square = self.traffic
        return newer

    def expect(self, size: int) -> bool:
        """Note that ``size`` bytes will be stored; ``stored`` or ``lost`` ends it.

        Returns:
            Whether they may come; false: more than a window would be owed, a voucher is needed.

        Raises:
            LimitReached: ``escrow_spent``.
        """
        due = self._due(self._coming + size)
        self._check_escrow(due)
        if due - self.credits > window(self.terms, self.credits):
            return False
        self._coming += size
        return True

    def check_escrow(self, size: int) -> None:
        """Check that a shard of ``size`` bytes can be paid to its end.

        Raises:
            LimitReached: ``escrow_spent``.
        """
        self._check_escrow(self._due(self._coming + size))

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
            LimitReached: ``escrow_spent``: no voucher could pay for another byte.
        """
        price, spent = self.terms.egress_price, self._due(self._coming)
        allowed = self.credits + window(self.terms, self.credits)
        room = worth_bytes(price, max(0, min(allowed, self.limit) - spent), most)
        if room == 0 and self.limit <= allowed:
            self._check_escrow(self.limit + 1)
        return room

    def read(self, size: int) -> None:
        """``size`` bytes were sent; negative: they were not, after all."""
        self.traffic = self.traffic.read(size)

    def _due(self, coming: int) -> int:
        return bandwidth_due(self.terms, self.traffic.stored(coming))

    def _check_escrow(self, due: int) -> None:
        if due > self.limit:
            raise _escrow_spent(due, self.limit)


class Purse:
    """What a client has moved, and promised for it, under one deal."""

    def __init__(self, terms: Deal, traffic: Traffic, credits: int, limit: int) -> None:
        """Go on where things stood; see ``Tab``."""
        self.terms, self.traffic, self.credits, self.limit = terms, traffic, credits, limit
        self._doubtful, self._asked, self._early = Traffic(), 0, 0
        self._granted, self._behind = 0, False

    @property
    def owed(self) -> int:
        """Base units beyond what was promised; never below 0."""
        return max(0, self._due - self.credits)

    @property
    def in_doubt(self) -> bool:
        """Whether the node may have counted bytes that we did not; it can be asked."""
        return self._doubtful != Traffic()

    @property
    def _due(self) -> int:
        return bandwidth_due(self.terms, self.traffic)

    @property
    def _possible(self) -> int:
        """What an honest node may have counted, but for what earlier runs did."""
        return bandwidth_due(self.terms, (self.traffic + self._doubtful).read(self._asked))

    def check_escrow(self, size: int) -> None:
        """Check that a shard of ``size`` bytes can be paid to its end.

        Raises:
            LimitReached: ``escrow_spent``.
        """
        due = bandwidth_due(self.terms, self.traffic.stored(size))
        if due > self.limit:
            raise _escrow_spent(due, self.limit)

    def sending(self, size: int) -> None:
        """``size`` bytes were sent, or are about to be."""
        self.traffic = self.traffic.stored(size)

    def unsent(self, size: int) -> None:
        """``size`` bytes of those did not get a receipt; the node may have stored them."""
        self.traffic = self.traffic.stored(-size)
        self._doubtful = self._doubtful.stored(size)

    def asked(self, size: int) -> None:
        """``size`` bytes were asked for; each is ``received`` or ``forgone``."""
        self._asked += size

    def received(self, size: int) -> None:
        """``size`` bytes came."""
        early = min(size, self._early)
        self.traffic = self.traffic.read(size - early)
        self._doubtful = self._doubtful.read(early)
        self._early -= early
        self._asked = max(0, self._asked - size)

    def forgone(self, size: int, sent: int) -> None:
        """``size`` bytes are not waited for any more; the node may have sent ``sent`` of them."""
        self._asked = max(0, self._asked - size)
        self._early = min(self._early, self._asked)
        self._doubtful = self._doubtful.read(sent)

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
        if self._due > self.limit:
            raise _escrow_spent(self._due, self.limit)
        return self._due

    def promised(self, credits: int) -> None:
        """A voucher over ``credits`` was signed, now or by an earlier run of this home."""
        self._behind |= credits > max(self.credits, self._due)
        self.credits = max(self.credits, credits)

    def agree(self, said: Traffic) -> None:
        """Take over what the node counted (untrusted), as far as it can be so.

        What is doubtful happened if the node says so; what is still awaited is paid when it comes.
        Beyond that a node gets a window and ``TOLERANCE_PPM`` in all, however often it says more.
        If a voucher shows that an earlier run counted more, the node's count takes the place of
        ours: what was under way then may be in it, and is doubtful once it comes.

        Raises:
            PeerError: ``overcharged``.
        """
        due, possible = bandwidth_due(self.terms, said), self._possible
        known = possible - self._granted
        if self._behind:
            known = max(known, self.credits)
        if due > known + window(self.terms, self.credits) + known * TOLERANCE_PPM // PPM:
            raise PeerError(
                f"{due} base units asked for bandwidth, by our count it is {self._due}",
                code="overcharged",
            )
        more = said - self.traffic
        if self._behind:
            ahead = window(self.terms, self.credits)
            under_way = worth_bytes(self.terms.egress_price, ahead, self._asked)
            happened, self._early = more, min(under_way, more.egress_bytes)
            self._granted += max(0, due - max(possible, self.credits))
        else:
            happened = self._doubtful.at_most(more)
            happened += more - happened - Traffic(0, self._asked)
        self._doubtful, self.traffic = self._doubtful - happened, self.traffic + happened
        if not self._behind:
            self._granted += max(0, self._possible - possible)
        self._behind = False


def _escrow_spent(due: int, limit: int) -> LimitReached:
    return LimitReached(
        f"bandwidth for {due} base units, {limit} are locked for it",
        code="escrow_spent",
        hint="top up the deal",
    )
