"""One advisory lock on a file, which names its holder to those who have to wait."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from dsn.errors import ConfigError
from dsn.store.files import PRIVATE_FILE

_POLL_S = 0.02
"""An event loop cannot wait for flock, and a thread that does cannot be cancelled: so ask."""

WaitNotice = Callable[[int], None]
"""Called once with the holder's process id (0: unknown) when a lock has to be waited for."""


class FileLock:
    """``with`` or ``async with`` holds the lock; the system frees it when the process ends."""

    def __init__(
        self,
        path: Path,
        *,
        what: str,
        shared: bool = False,
        wait: bool = True,
        on_wait: WaitNotice | None = None,
    ) -> None:
        """Prepare to lock ``path``, which is created when it is not there.

        Args:
            path: The lock file; its directory exists.
            what: What is locked, for the message, as in "the home /home/ann/.dsn".
            shared: Whether other shared holders are welcome.
            wait: Whether to wait for a holder, or to refuse with ``home_in_use``.
            on_wait: Told once when there is somebody to wait for.
        """
        self._path = path
        self._what = what
        self._mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._wait = wait
        self._on_wait = on_wait
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock, waiting for it if that is allowed.

        Raises:
            ConfigError: ``home_in_use``, naming the holder.
        """
        if not self._try():
            self._try(0)

    async def acquire_async(self) -> None:
        """As ``acquire``; the event loop goes on meanwhile."""
        while not self._try():  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)

    def release(self) -> None:
        """Give the lock back; does nothing without it."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> FileLock:
        """Take the lock."""
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        self.release()

    async def __aenter__(self) -> FileLock:
        """Take the lock."""
        await self.acquire_async()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        self.release()

    def _try(self, patience: int = fcntl.LOCK_NB) -> bool:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(handle, self._mode | patience)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            self._told(holder)
            return False
        except BaseException:
            os.close(handle)
            raise
        os.ftruncate(handle, 0)
        os.pwrite(handle, b"%d\n" % os.getpid(), 0)
        self._handle = handle
        return True

    def _told(self, holder: int) -> None:
        if not self._wait:
            by = f"process {holder}" if holder else "another process"
            raise ConfigError(
                f"{self._what} is in use by {by}",
                hint="stop that process, or choose another with --home",
                code="home_in_use",
            )
        notice, self._on_wait = self._on_wait, None
        if notice is not None:
            notice(holder)


def _holder(handle: int) -> int:
    text = os.pread(handle, 32, 0).strip()
    return int(text) if text.isdigit() else 0
