"""Figures as people read them: times, speeds, dates, counts."""

from __future__ import annotations

from datetime import UTC, datetime

from dsn.units import format_size

COUNTED_STAGES = frozenset({"audit", "check", "lookups", "refreshes"})
"""Stages of progress that count holders or segments; all others count bytes."""


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
    return f"{format_size(round(size_bytes / seconds))}/s"


def format_date(unix_s: int) -> str:
    """``2025-11-30 14:05`` in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")


def count(number: int, one: str, many: str = "") -> str:
    """``1 node``, ``12 nodes``; ``many`` where an s does not do."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def format_amount(stage: str, done: int, total: int | None, speed: float | None) -> str:
    """``124 MiB of 143 MiB, 88 MiB/s``; ``3 of 12`` for a stage that counts no bytes.

    Args:
        stage: As progress names it.
        done: Bytes, or things.
        total: As ``done``, if it is known.
        speed: Bytes a second, if it is known.
    """
    if stage in COUNTED_STAGES:
        return f"{done:,}" if total is None else f"{done:,} of {total:,}"
    amount = format_size(done) if total is None else f"{format_size(done)} of {format_size(total)}"
    return amount if speed is None else f"{amount}, {format_speed(round(speed), 1.0)}"
