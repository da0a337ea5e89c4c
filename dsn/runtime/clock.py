"""The machine's clock."""

from __future__ import annotations

import time


class SystemClock:
    """Time as the operating system tells it; the one place that asks."""

    def now_s(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic_s(self) -> float:
        """Seconds since some moment; never goes back."""
        return time.monotonic()
