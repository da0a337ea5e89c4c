"""What looking for contacts came to, the same for every way in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dsn.dht.contact import Contact


@dataclass(frozen=True, slots=True)
class Found:
    """Contacts that nobody has called yet, and what went wrong, a line each for people."""

    contacts: tuple[Contact, ...] = ()
    problems: tuple[str, ...] = ()


def left_out(codes: Counter[str], what: str) -> list[str]:
    """A line for each code of an error for which a ``what`` was left out."""
    return [
        f"{count} {what}{'s' * (count > 1)} left out: {code}"
        for code, count in sorted(codes.items())
    ]
