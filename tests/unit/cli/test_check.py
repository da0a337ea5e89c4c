"""The words and codes of ``dsn check``."""

from __future__ import annotations

import pytest

from dsn.apps.results import CheckResult, FileState, SegmentHealth
from dsn.cli.check import EXIT_CODES, report, to_fields


def checked(state: FileState = FileState.DEGRADED) -> CheckResult:
    whole, short = SegmentHealth(6, 4, 6), SegmentHealth(5, 4, 6)
    return CheckResult(
        state=state, segments=(whole, short, whole), manifest=SegmentHealth(6, 1, 6), leaves=459,
        bytes=470_016, confidence="a loss of 1 % would have been seen with 99 %",
        faults=("nabc: segment 1 shard 3: wrong leaf",), silent=("nxyz",), deep=False,
    )  # fmt: skip


def test_exit_codes_of_all_states():
    assert {state.value: code for state, code in EXIT_CODES.items()} == {
        "healthy": 0,
        "degraded": 1,
        "at_risk": 1,
        "lost": 5,
        "unknown": 7,
    }


def test_the_report_names_faults_and_silence():
    lines = list(report("a.txt", checked()))
    assert ("state", "degraded") in lines
    assert ("fault", "nabc: segment 1 shard 3: wrong leaf") in lines
    assert ("silent", "nxyz") in lines
    assert ("confidence", "a loss of 1 % would have been seen with 99 %") in lines


def test_like_segments_share_a_line_worst_first():
    segments = [value for name, value in report("a", checked()) if name == "segments"]
    assert segments == [
        "1 with 5 of 6 shards good (4 needed)",
        "2 with 6 of 6 shards good (4 needed)",
    ]


@pytest.mark.parametrize("field", ["state", "segments", "loss_per_year", "loss_per_year_shock"])
def test_stable_fields(field):
    assert field in to_fields(checked())


def test_segments_and_state_are_plain_values():
    fields = to_fields(checked())
    assert fields["state"] == "degraded"
    assert fields["segments"][1] == {"good": 5, "required": 4, "total": 6}
    assert fields["loss_per_year"] is None
