"""The words and codes of ``dsn audit``."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsn.apps.results import Audited, AuditResult
from dsn.cli.audit import exit_code, report, to_fields
from dsn.cli.main import main


def holder(outcome: str = "held", reason: str = "") -> Audited:
    return Audited("n" + "a" * 52, "127.0.0.1:7077", outcome, reason, 10, 10, 1 << 26, 38)


def result(*holders: Audited) -> AuditResult:
    words = [each.outcome for each in holders]
    counts = [words.count(word) for word in ("held", "wrong", "silent", "unclear")]
    return AuditResult(*counts, 80, 150_000, 0.7, "a loss of 5.6 %", holders, b"{}")


HELD, WRONG = holder(), holder("wrong", "shard")
LOST, AWAY = holder("silent", "declared_lost"), holder("silent", "unreachable")
UNCLEAR = holder("unclear", "other_root")


@pytest.mark.parametrize(
    ("holders", "code"),
    [
        ((HELD, HELD), 0),
        ((HELD, WRONG), 1),
        ((WRONG, AWAY), 1),
        ((HELD, LOST), 1),
        ((LOST, AWAY), 1),
        ((HELD, AWAY), 1),
        ((HELD, UNCLEAR), 1),
        ((AWAY, AWAY), 7),
        ((AWAY, UNCLEAR), 7),
    ],
)
def test_exit_codes(holders: tuple[Audited, ...], code: int) -> None:
    assert exit_code(result(*holders)) == code


def test_stable_fields() -> None:
    fields = to_fields(result(HELD, WRONG, AWAY))
    assert (fields["held"], fields["wrong"], fields["silent"], fields["leaves"]) == (1, 1, 1, 80)
    assert fields["bytes"] == 150_000
    assert fields["verdicts"] == [
        {
            "node": HELD.node,
            "address": HELD.address,
            "outcome": each.outcome,
            "reason": each.reason,
            "asked": 10,
            "leaves": 10,
            "held_bytes": 1 << 26,
            "response_ms": 38,
        }
        for each in (HELD, WRONG, AWAY)
    ]
    assert {"holders", "bundle", "moved_bytes"}.isdisjoint(fields)


def test_the_report_has_a_line_a_holder_and_the_figures() -> None:
    lines = list(report("a.txt", result(HELD, WRONG), Path("a.dsnproof.json")))
    assert lines[0].split() == [
        "NODE", "ADDRESS", "VERDICT", "LEAVES", "HOLDS", "RESPONSE", "REASON",
    ]  # fmt: skip
    assert "held" in lines[1] and "10 of 10" in lines[1] and "64 MiB" in lines[1]
    assert lines[2].endswith("shard")
    text = "\n".join(lines)
    assert "1 held, 1 wrong, 0 silent" in text and "unclear" not in text
    assert "80 leaves proven, 146 KiB moved in 700 ms" in text
    assert "confidence  a loss of 5.6 %" in text
    assert "bundle      a.dsnproof.json (2 B)" in text


def test_what_is_unclear_is_named() -> None:
    assert "1 unclear" in "\n".join(report("a", result(HELD, UNCLEAR), None))


def test_a_bundle_needs_its_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "nowhere" / "a.dsnproof.json"
    assert main(["--home", str(tmp_path), "audit", "a.txt", "--bundle", str(missing)]) == 3
    assert "no such directory" in capsys.readouterr().err


@pytest.mark.parametrize("leaves", ["0", "-1", "513", "many"])
def test_bad_numbers_of_leaves(leaves: str, tmp_path: Path) -> None:
    assert main(["--home", str(tmp_path), "audit", "a.txt", "--leaves", leaves]) == 2


def test_the_command_allows_what_a_bundle_has_room_for() -> None:
    from dsn.apps import auditing
    from dsn.cli import audit

    assert audit.MOST_LEAVES == auditing.MOST_ASKED
