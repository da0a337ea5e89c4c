"""``dsn verifier report``: what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsn.cli.main import main
from dsn.store.home import Home


@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        ((), "no_verdicts", 3),
        (("--from", "9", "--to", "3"), "usage", 2),
        (("--provider", "x"), "bad_id", 2),
        (("--provider", "nabc"), "bad_base32", 2),
        (("--format", "xml"), "usage", 2),
    ],
)
def test_what_cannot_be_reported_is_refused(
    words: tuple[str, ...],
    code: str,
    exit_code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = Home.create(tmp_path / "home", b"\x07" * 32)
    before = sorted(tmp_path.rglob("*"))
    assert main(["--home", str(home.path), "--json", "verifier", "report", *words]) == exit_code
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert sorted(tmp_path.rglob("*")) == before
