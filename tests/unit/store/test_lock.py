"""The lock that names its holder, between real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dsn.errors import ConfigError
from dsn.store.lock import FileLock

HOLD = """
import sys
from pathlib import Path
from dsn.store.lock import FileLock
with FileLock(Path(sys.argv[1]), what="it", shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.readline()
"""
REPOSITORY = Path(__file__).parents[3]


@contextmanager
def held_elsewhere(path: Path, mode: str = "alone") -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock until a line is written to it."""
    command = [sys.executable, "-c", HOLD, str(path), mode]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=REPOSITORY, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_a_held_lock_is_refused_by_name(path: Path) -> None:
    with held_elsewhere(path) as holder, pytest.raises(ConfigError) as caught:
        FileLock(path, what="the home X", wait=False).acquire()
    assert caught.value.detail_code == "home_in_use"
    assert caught.value.message == f"the home X is in use by process {holder.pid}"


def test_a_killed_holder_holds_nothing(path: Path) -> None:
    with held_elsewhere(path) as holder:
        holder.kill()
        holder.wait()
        with FileLock(path, what="it", wait=False):
            assert path.read_text() == f"{os.getpid()}\n"


def test_shared_holders_welcome_each_other_and_nobody_else(path: Path) -> None:
    with held_elsewhere(path, "shared"):
        with FileLock(path, what="it", shared=True, wait=False):
            pass
        with pytest.raises(ConfigError):
            FileLock(path, what="it", wait=False).acquire()


def test_who_waits_is_told_for_whom_and_then_served(path: Path) -> None:
    told: list[int] = []
    with held_elsewhere(path) as holder:

        def on_wait(pid: int) -> None:
            told.append(pid)
            holder.stdin.write("\n")
            holder.stdin.flush()

        with FileLock(path, what="it", on_wait=on_wait):
            assert told == [holder.pid]
            with pytest.raises(ConfigError):
                FileLock(path, what="it", wait=False).acquire()


async def test_an_event_loop_goes_on_while_it_waits(path: Path) -> None:
    told = asyncio.Event()
    first = FileLock(path, what="it")
    first.acquire()

    async def second() -> None:
        async with FileLock(path, what="it", on_wait=lambda _: told.set()):
            pass

    waiting = asyncio.create_task(second())
    await told.wait()
    assert not waiting.done()
    first.release()
    first.release()
    await waiting


async def test_a_cancelled_waiter_leaves_nothing(path: Path) -> None:
    told = asyncio.Event()
    with FileLock(path, what="it"):
        waiting = asyncio.create_task(
            FileLock(path, what="it", on_wait=lambda _: told.set()).acquire_async()
        )
        await told.wait()
        waiting.cancel()
        await asyncio.wait([waiting])
    with FileLock(path, what="it", wait=False):
        pass


def test_a_holder_that_has_not_signed_yet_is_another_process(path: Path) -> None:
    with held_elsewhere(path):
        path.write_text("")
        with pytest.raises(ConfigError, match="in use by another process"):
            FileLock(path, what="it", wait=False).acquire()
