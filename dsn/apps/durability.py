"""How likely a file is lost in a year, by its scheme, how often nodes die, how soon that heals.

A chain of births and deaths: good shards are lost one by one, each of ``h`` at its node's rate;
once no more than ``repair_at`` are left, a repair that takes its time brings all of them back.
Every term below is positive, so nothing cancels: a matrix solved in floats ends up negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from dsn.core.layout import Scheme

HOURS_A_YEAR: Final = 8_766
AFR: Final = 0.2
"""Nodes that die for good, of those that were there a year ago: what home providers are like."""
REPAIR_HOURS: Final = 24.0
SHOCK: Final = 0.3
"""How many of all nodes die at once in the shock that is told beside the yearly figure."""


@dataclass(frozen=True, slots=True)
class Durability:
    """Chances of loss in [0, 1], and what they were computed from.

    Attributes:
        loss_per_year: If nodes die one by one and independently, and somebody repairs.
        loss_per_year_shock: If ``shock`` of all nodes die at once, before any repair.
        afr: Part of the nodes that die in a year.
        repair_hours: From a segment at ``repair_at`` to a whole one.
        shock: Part of the nodes that die at once.
    """

    loss_per_year: float
    loss_per_year_shock: float
    afr: float
    repair_hours: float
    shock: float


def durability(
    scheme: Scheme,
    segments: int,
    *,
    afr: float = AFR,
    repair_hours: float = REPAIR_HOURS,
    shock: float = SHOCK,
) -> Durability:
    """The chance that at least one of ``segments`` segments is lost."""
    return Durability(
        several(loss_per_year(scheme, afr, repair_hours), segments),
        several(loss_in_shock(scheme, shock), segments),
        afr,
        repair_hours,
        shock,
    )


def loss_per_year(scheme: Scheme, afr: float, repair_hours: float) -> float:
    """The chance that one segment is lost in a year.

    Args:
        scheme: ``total`` shards, of which ``required`` are enough; repaired at ``repair_at``.
        afr: Part of the nodes that die in a year, in (0, 1).
        repair_hours: How long a repair takes, above 0.
    """
    rate, repairs = -math.log1p(-afr), HOURS_A_YEAR / repair_hours
    at = max(scheme.required, scheme.repair_at)

    def faster(good: int) -> float:
        """That another shard is lost before the repair is done."""
        return good * rate / (good * rate + repairs)

    below = range(at, scheme.required - 1, -1)
    reached = accumulate((faster(good) for good in below), lambda a, b: a * b, initial=1.0)
    chances = list(reached)
    cycle = sum(1 / (good * rate) for good in range(at + 1, scheme.total + 1))
    cycle += sum(
        chance / (good * rate + repairs) for good, chance in zip(below, chances, strict=False)
    )
    return -math.expm1(-chances[-1] / cycle)


def loss_in_shock(scheme: Scheme, shock: float) -> float:
    """The chance that a whole segment is lost if each node dies at once with chance ``shock``."""
    most = scheme.total - scheme.required
    return sum(
        math.comb(scheme.total, dead) * shock**dead * (1 - shock) ** (scheme.total - dead)
        for dead in range(most + 1, scheme.total + 1)
    )


def several(chance: float, count: int) -> float:
    """The chance that it happens to at least one of ``count``."""
    if chance >= 1.0:
        return 1.0 if count else 0.0
    return -math.expm1(count * math.log1p(-chance))
