"""What verdicts on a node come to: one figure, and the reasons behind it.

The rule of succession over weighted verdicts: a node nobody looked at is worth a half, each held
verdict moves it towards one, each silent one towards nothing, and a wrong one, which no honest
node ever gets, as far as many silent ones. Verdicts count for less as they grow old.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from dsn.proofs.verdict import Outcome, Verdict

HALF_LIFE_S: Final = 7 * 86_400
"""A verdict of that age counts for half."""
WRONG_WEIGHT: Final = 20
"""Silent verdicts that one wrong verdict weighs as much as."""
NO_FAULT: Final = frozenset({"unknown_shard", "too_many"})
"""Reasons of silence that say nothing of a node: a manifest may name shards that it never took, and
anybody can use up what it answers in an hour."""


@dataclass(frozen=True, slots=True)
class Score:
    """A node by verdicts on it.

    Attributes:
        value: In [0, 1]; 0.5 where nothing is known.
        held: Verdicts, whatever their age; so are the next two.
        wrong: As ``held``.
        silent: As ``held``.
        why: The same in words, reasons included.
    """

    value: float
    held: int
    wrong: int
    silent: int
    why: str


def score(verdicts: Sequence[Verdict], now_s: float) -> Score:
    """Score the one node that ``verdicts`` are on.

    The same verdict twice counts once, and of the appeals against one verdict the first does:
    asking often buys nothing.

    Args:
        verdicts: Verified, in any order, by any verifiers that the caller believes.
        now_s: Unix seconds.
    """
    counted = list(_counted(verdicts))
    weights = dict.fromkeys(Outcome, 0.0)
    for each in counted:
        if each.outcome is Outcome.SILENT and each.reason in NO_FAULT:
            continue
        weights[each.outcome] += 0.5 ** (max(0.0, now_s - each.at_s) / HALF_LIFE_S)
    good = 1 + weights[Outcome.HELD]
    bad = 1 + weights[Outcome.SILENT] + WRONG_WEIGHT * weights[Outcome.WRONG]
    tally = Counter(each.outcome for each in counted)
    return Score(
        good / (good + bad),
        tally[Outcome.HELD],
        tally[Outcome.WRONG],
        tally[Outcome.SILENT],
        _why(counted, tally),
    )


def _counted(verdicts: Iterable[Verdict]) -> Iterable[Verdict]:
    seen = set[bytes]()
    for each in sorted(verdicts, key=lambda verdict: verdict.at_s):
        names = {each.hash, each.verifier + each.appeal} if any(each.appeal) else {each.hash}
        if not names & seen:
            yield each
        seen |= names


def _why(counted: Sequence[Verdict], tally: Counter[Outcome]) -> str:
    """``412 held, 3 silent (2 timed_out, 1 missed), 0 wrong``."""
    if not counted:
        return "no verdicts"
    parts = [f"{tally[Outcome.HELD]} held"]
    for outcome in (Outcome.SILENT, Outcome.WRONG):
        reasons = Counter(each.reason for each in counted if each.outcome is outcome)
        detail = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        parts.append(
            f"{tally[outcome]} {outcome.name.lower()}" + (f" ({detail})" if detail else "")
        )
    return ", ".join(parts)
