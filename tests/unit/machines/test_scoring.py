"""What verdicts come to."""

from __future__ import annotations

import pytest

from dsn.machines.scoring import HALF_LIFE_S, WRONG_WEIGHT, Score, score
from dsn.proofs.verdict import Outcome
from tests.support.verdicts import NOW_S, verdict

HELD, WRONG, SILENT = Outcome.HELD, Outcome.WRONG, Outcome.SILENT


def test_who_nobody_looked_at_is_worth_a_half() -> None:
    assert score([], NOW_S) == Score(0.5, 0, 0, 0, "no verdicts")


def test_each_verdict_moves_the_score_its_way() -> None:
    held = [verdict(epoch) for epoch in range(1, 11)]
    values = [score(held[:n], NOW_S).value for n in range(11)]
    assert values == sorted(values) and values[10] == pytest.approx(11 / 12)
    silent = [*held, verdict(11, SILENT)]
    assert score(silent, NOW_S).value == pytest.approx(11 / 13)
    wrong = [*held, verdict(11, WRONG, reason="shard")]
    assert score(wrong, NOW_S).value == pytest.approx(11 / (12 + WRONG_WEIGHT))


def test_old_verdicts_fade_but_are_counted() -> None:
    silent = [verdict(1, SILENT)]
    found = [score(silent, NOW_S + n * HALF_LIFE_S) for n in range(4)]
    assert [each.silent for each in found] == [1] * 4
    assert [each.value for each in found] == pytest.approx([1 / (3 + 0.5**n - 1) for n in range(4)])
    assert score([verdict(1, SILENT, at_s=NOW_S + 99)], NOW_S).value == found[0].value


def test_a_verdict_counts_once_however_often_it_is_told() -> None:
    assert score([verdict(1)] * 5, NOW_S) == score([verdict(1)], NOW_S)
    assert score([verdict(2), verdict(1)], NOW_S) == score([verdict(1), verdict(2)], NOW_S)


def test_only_the_first_appeal_counts() -> None:
    first = verdict(1, SILENT)
    appeals = [verdict(1, appeal=first.hash, at_s=NOW_S + n) for n in range(9)]
    found = score([first, *appeals], NOW_S + 9)
    assert (found.held, found.silent) == (1, 1)
    others = [verdict(1, SILENT, verifier=bytes([n]) * 32) for n in range(2)]
    both = [verdict(1, verifier=each.verifier, appeal=each.hash) for each in others]
    assert score([*others, *both], NOW_S).held == 2


def test_the_reasons_are_told() -> None:
    verdicts = [verdict(1), verdict(2, SILENT), verdict(3, SILENT), verdict(4, SILENT, reason="x")]
    assert score(verdicts, NOW_S).why == "1 held, 3 silent (2 timed_out, 1 x), 0 wrong"
