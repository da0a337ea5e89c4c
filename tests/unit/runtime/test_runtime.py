"""What a process takes from its system: time, randomness, signals, a log."""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.runtime.process import stop_signals

LOGGING = """
import structlog
from dsn.runtime.logs import configure_logs
configure_logs("info", as_json={as_json})
log = structlog.get_logger("test")
log.debug("unseen")
log.info("seen", size=3)
def work():
    key = "the secret key"
    raise ValueError("no")
try:
    work()
except ValueError:
    log.exception("failed")
"""


def test_the_clock_reads_two_times() -> None:
    clock = SystemClock()
    assert clock.now_s() > 1_700_000_000
    first = clock.monotonic_s()
    assert clock.monotonic_s() >= first


def test_entropy_has_the_size_asked_for_and_does_not_repeat() -> None:
    assert len(system_entropy(33)) == 33
    assert system_entropy(16) != system_entropy(16)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_sets_the_event_and_the_next_acts_as_always(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_signals() as stopped:
        os.kill(os.getpid(), number)
        async with asyncio.timeout(5):
            await stopped.wait()
        assert signal.getsignal(number) in (before, signal.default_int_handler)


async def test_without_a_signal_nothing_changes() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_signals() as stopped:
        assert not stopped.is_set()
    assert signal.getsignal(signal.SIGTERM) == before


def logged(as_json: bool) -> str:
    """What a process of its own logs, for logging is set once a process."""
    script = LOGGING.format(as_json=as_json)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert run.stdout == ""
    return run.stderr


def test_the_log_for_machines_is_one_object_a_line() -> None:
    seen, failed = map(json.loads, io.StringIO(logged(as_json=True)))
    assert (seen["event"], seen["size"], seen["level"]) == ("seen", 3, "info")
    assert failed["exception"][0]["exc_type"] == "ValueError"


@pytest.mark.parametrize("as_json", [True, False])
def test_no_log_shows_local_variables(as_json: bool) -> None:
    text = logged(as_json)
    assert "ValueError" in text
    assert "the secret key" not in text
    assert "unseen" not in text


def test_allocator_settings_are_taken_where_there_is_glibc(repository: Path) -> None:
    script = "from dsn.runtime.process import tune_allocator; print(tune_allocator())"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=repository, check=True
    )
    assert run.stdout.strip() == str(platform.libc_ver()[0] == "glibc")
