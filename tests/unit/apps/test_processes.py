"""Processes are recognised by their home, ended gently or not, and never mistaken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsn.apps.processes import Activity, activity, end, send, spawn, wait_for_end

OBEYS = "import signal; print('up', flush=True); signal.pause()"
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + OBEYS


@pytest.fixture
def start() -> Iterator[object]:
    """Start Python that names a home, as a role process does, and wait until it says so."""
    running: list[subprocess.Popen[bytes]] = []

    def start(home: Path, code: str = OBEYS) -> int:
        child = subprocess.Popen(
            [sys.executable, "-c", code, "--home", str(home)], stdout=subprocess.PIPE
        )
        running.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child.pid

    yield start
    for child in running:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_a_process_is_known_by_its_home(start, tmp_path):
    pid = start(tmp_path)
    assert activity(pid, tmp_path) is Activity.RUNNING
    assert activity(pid, tmp_path / "other") is Activity.STOPPED
    assert activity(None, tmp_path) is Activity.STOPPED


def test_a_frozen_process_is_seen(start, tmp_path):
    pid = start(tmp_path)
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    assert activity(pid, tmp_path) is Activity.FROZEN


def test_an_obedient_process_is_not_killed(start, tmp_path):
    pid = start(tmp_path)
    assert end([(pid, tmp_path)], grace_s=30) == []
    assert activity(pid, tmp_path) is Activity.STOPPED


def test_a_frozen_process_is_killed_at_once(start, tmp_path):
    pid = start(tmp_path)
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    assert end([(pid, tmp_path)], grace_s=30) == [pid]
    assert activity(pid, tmp_path) is Activity.STOPPED


def test_a_deaf_process_is_killed_when_its_time_is_over(start, tmp_path):
    pid = start(tmp_path, DEAF)
    assert end([(pid, tmp_path)], grace_s=0.2) == [pid]
    assert activity(pid, tmp_path) is Activity.STOPPED


def test_a_pid_that_another_program_got_is_left_alone(start, tmp_path):
    """After a reboot the pid of a node may be anybody's."""
    pid = start(tmp_path / "somebody")
    send(pid, tmp_path / "node1", signal.SIGKILL)
    assert end([(pid, tmp_path / "node1")], grace_s=1) == []
    assert activity(pid, tmp_path / "somebody") is Activity.RUNNING


def test_a_process_that_nobody_collected_has_ended(start, tmp_path):
    pid = start(tmp_path)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert activity(pid, tmp_path) is Activity.STOPPED
    assert wait_for_end([(pid, tmp_path)], timeout_s=1) == []


def test_a_spawned_process_has_its_own_session_and_log(tmp_path, monkeypatch):
    monkeypatch.setenv("DSN_HOME", "/not/this/one")
    monkeypatch.setenv("DSN_PROVIDER__LISTEN", "127.0.0.1:1")
    log = tmp_path / "log" / "node.log"
    pid = spawn(tmp_path, ("config", "show"), log)
    assert os.getsid(pid) == pid
    assert wait_for_end([(pid, tmp_path)], timeout_s=30) == []
    text = log.read_text()
    assert "provider.listen" in text
    assert "127.0.0.1:1" not in text
    assert log.stat().st_mode & 0o077 == 0
