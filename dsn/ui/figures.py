"""Figures as people read them: times, speeds, dates, counts."""

from __future__ import annotations

from datetime import UTC, datetime

from dsn.units import MIB


def format_seconds(seconds: float) -> str:
    """``38 ms``, ``4.2 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_speed(size_bytes: int, seconds: float) -> str:
    """``53 MiB/s``, or ``-`` where there was no time to divide by."""
    if seconds <= 0:
        return "-"
    return f"{size_bytes / MIB / seconds:.3g} MiB/s"


def format_date(unix_s: int) -> str:
    """``2025-11-30 14:05`` in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")


def count(number: int, one: str, many: str = "") -> str:
    """``1 node``, ``12 nodes``; ``many`` where an s does not do."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
