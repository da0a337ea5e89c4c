"""The sessions that README and guide show, run on real nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import pages, session

SESSIONS = [page for page in pages() if session(page)]
STEP_TIMEOUT_S = 120


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has just installed dsn."""
    home = tmp_path / "home"
    home.mkdir()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8"}


def run(command: str, folder: Path, shell: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """One line of a session; variables set by earlier lines live in the file ``.state``."""
    script = f"""
        [ -f .state ] && . ./.state
        set -a
        {command}
        end=$?
        export -p > .state
        exit "$end"
    """
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=shell,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: page.stem)
def test_session_runs_as_written(page: Path, tmp_path: Path, shell: dict[str, str]) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    steps = session(page)
    try:
        for step in steps:
            done = run(step.command, folder, shell)
            assert done.returncode == step.exit_code, f"$ {step.command}\n{done.stdout}"
    finally:
        for devnet in folder.rglob("devnet.json"):
            run(f"dsn devnet down --dir '{devnet.parent}'", folder, shell)


def test_readme_and_guide_show_sessions() -> None:
    assert {"README", "first-file", "devnet"} <= {page.stem for page in SESSIONS}
