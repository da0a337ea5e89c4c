"""The whole story on real processes, and what is left of it: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.net.local import down, dsn


def leftovers(folder: Path) -> list[str]:
    """Command lines of processes that belong to a home under ``folder``."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = line.read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if f"{folder}/" in words:
            found.append(words.replace("\0", " "))
    return found


def test_every_step_holds_and_nothing_stays(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "file.bin").write_bytes(os.urandom(2_000_000))
    done = dsn("demo", tmp_path / "file.bin", "--nodes", "6", "--kill", "1").check()
    assert "Every step held" in done.text
    assert "same SHA-256" in done.text
    assert "\x1b" not in done.text
    assert os.listdir(tmp_path) == ["file.bin"]
    assert leftovers(tmp_path) == []


def test_an_object_with_the_figures(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "file.bin").write_bytes(os.urandom(2_000_000))
    done = dsn("demo", tmp_path / "file.bin", "--nodes", "6", "--kill", "2", "--keep", "--json")
    try:
        fields = done.check().fields
        assert (fields["nodes"], fields["killed"], fields["size"]) == (6, 2, 2_000_000)
        (_kept,) = tmp_path.glob("dsn-demo-*/network")
        assert len(leftovers(tmp_path)) == 6 + 4  # a ledger, two witnesses and a verifier
        assert int(fields["paid"]) > 0 and fields["entries"] > 0
    finally:
        for folder in tmp_path.glob("dsn-demo-*/network"):
            down(folder)
    assert leftovers(tmp_path) == []


def test_interrupted_it_cleans_up(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-m", "dsn", "demo", "--nodes", "6", "--kill", "1"]
    story = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert story.stdout is not None
    for line in story.stdout:
        if "serve after" in line:
            break
    story.send_signal(signal.SIGINT)
    _, err = story.communicate(timeout=60)
    assert story.returncode == 130
    assert err.splitlines()[-2:] == ["dsn: interrupted", "hint: resume with the same command"]
    assert list(tmp_path.iterdir()) == []
    assert leftovers(tmp_path) == []


def test_too_many_to_kill_starts_nothing(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    refused = dsn("demo", "--nodes", "6", "--kill", "3", "--json").check(2)
    assert refused.fields["error"]["code"] == "bad_kill"
    assert list(tmp_path.iterdir()) == []
