"""Role processes of a local network: started, recognised and ended, with no handle kept.

A process belongs to its home: it is ours only if its command line names that home, so a
pid that another program got after a reboot is never signalled.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path

POLL_S = 0.02
"""Between two looks at a process where the system cannot wake us."""


class Activity(Enum):
    """What a process is doing, as its owner sees it."""

    RUNNING = "running"
    FROZEN = "frozen"
    STOPPED = "stopped"


def command(home: Path, role: Sequence[str]) -> list[str]:
    """The command line of the role process of ``home``."""
    return [sys.executable, "-P", "-m", "dsn", "--home", str(home), *role]


def spawn(home: Path, role: Sequence[str], log: Path) -> int:
    """Start the role process of ``home`` in a session of its own, and return its pid.

    Args:
        home: Absolute; the process is recognised by it.
        role: The words after the global options, such as ``("provider", "run")``.
        log: Takes what the process prints; opened for appending.
    """
    return start(command(home, role), log)


def start(words: Sequence[str], log: Path) -> int:
    """As ``spawn``, of any program: its command line, one word of which is its home."""
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(log, "ab", opener=_open_private) as out:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_environment(),
        )
    child.returncode = 0  # it outlives us: without this, forgetting the handle is a warning
    _wait_for_name(child.pid)
    return child.pid


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _wait_for_name(pid: int) -> None:
    """A new process has no command line for a moment; nobody would recognise it."""
    while not any(_arguments(pid)) and _state(pid) not in "ZX":
        time.sleep(POLL_S / 10)


def _environment() -> dict[str, str]:
    """Ours, with our import path, and without the settings of our own home."""
    kept = {k: v for k, v in os.environ.items() if k != "DSN_HOME" and "__" not in k}
    return kept | {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)}


def activity(pid: int | None, home: Path) -> Activity:
    """Whether ``pid`` is the live process of ``home``, and not stopped by a signal."""
    if pid is None or str(home) not in _arguments(pid):
        return Activity.STOPPED
    return Activity.FROZEN if _state(pid) in "Tt" else Activity.RUNNING


def _arguments(pid: int) -> list[str]:
    """The command line of ``pid``; empty when it ended, even if nobody collected it yet."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        return raw.decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return [] if Path("/proc/self").exists() else _ps(pid, "command").split()


def _state(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        return stat.rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X" if Path("/proc/self").exists() else _ps(pid, "state")[:1] or "X"


def _ps(pid: int, column: str) -> str:
    found = subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def end(running: Iterable[tuple[int, Path]], *, grace_s: float) -> list[int]:
    """End the processes, gently first: SIGTERM, and SIGKILL for those that do not obey.

    Args:
        running: Pid and home of each; one that is not the home's process is left alone.
        grace_s: How long those that can hear a signal get to finish.

    Returns:
        The pids that had to be killed.
    """
    ours = [(pid, home) for pid, home in running if activity(pid, home) is not Activity.STOPPED]
    frozen = [(pid, home) for pid, home in ours if activity(pid, home) is Activity.FROZEN]
    for pid, home in ours:
        send(pid, home, signal.SIGKILL if (pid, home) in frozen else signal.SIGTERM)
    left = wait_for_end(ours, timeout_s=grace_s)
    for pid, home in left:
        send(pid, home, signal.SIGKILL)
    wait_for_end(left, timeout_s=grace_s)
    return [pid for pid, _ in (*frozen, *left)]


def send(pid: int, home: Path, number: signal.Signals) -> None:
    """Signal ``pid`` if it still is the process of ``home``."""
    if activity(pid, home) is not Activity.STOPPED:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_for_end(
    running: Sequence[tuple[int, Path]], *, timeout_s: float
) -> list[tuple[int, Path]]:
    """Wait until all have ended; returns those that had not in ``timeout_s`` seconds."""
    deadline_s = time.monotonic() + timeout_s
    left = list(running)
    while left := [one for one in left if activity(*one) is not Activity.STOPPED]:
        rest_s = deadline_s - time.monotonic()
        if rest_s <= 0:
            break
        _sleep_until_end(left[0][0], rest_s)
    _collect([pid for pid, _ in running])
    return left


def _sleep_until_end(pid: int, timeout_s: float) -> None:
    """Return when ``pid`` ended, or a moment later where the system offers no such call."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):
        time.sleep(min(POLL_S, timeout_s))
        return
    try:
        waiter = select.poll()
        waiter.register(handle, select.POLLIN)
        waiter.poll(timeout_s * 1000)
    finally:
        os.close(handle)


def _collect(pids: Iterable[int]) -> None:
    """Take the exit status of those that are our own children, so that none stays a zombie."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
