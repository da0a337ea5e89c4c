"""What anybody may read without paying: so many bytes an identity and day.

Spec: docs/spec/economy.md#bandwidth
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from dsn.errors import LimitReached
from dsn.ids import NodeId, short
from dsn.ports import Clock

DAY_S: Final = 86_400
_IDENTITIES: Final = 100_000
"""Remembered a day; identities cost nothing, so more of them would not help."""


class FreeQuota:
    """Bytes read by each identity since midnight (UTC)."""

    def __init__(self, most_bytes: int, clock: Clock) -> None:
        """Let everybody read ``most_bytes`` a day."""
        self._most, self._clock = most_bytes, clock
        self._day = 0
        self._read: OrderedDict[NodeId, int] = OrderedDict()

    def charge(self, caller: NodeId, size: int) -> None:
        """Count ``size`` bytes of ``caller``.

        Raises:
            LimitReached: ``payment_needed``: it would be more than are free.
        """
        day = int(self._clock.now_s()) // DAY_S
        if day != self._day:
            self._day = day
            self._read.clear()
        read = self._read.pop(caller, 0)
        granted = read + size <= self._most
        self._read[caller] = read + size if granted else read
        if len(self._read) > _IDENTITIES:
            self._read.popitem(last=False)
        if not granted:
            raise LimitReached(
                f"{size} bytes asked of {short(caller)}'s {self._most - read} left today, "
                f"{self._most} are free",
                code="payment_needed",
                hint="read under a deal with this node",
            )
