"""A course that is driven, and given up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator

import pytest

from dsn.apps.witness.source import drive
from dsn.runtime.kernel import Kernel

PATIENCE_S = 20.0


class Nothing:
    """What a course asks for, which is never read here."""

    async def read(self, path: str) -> bytes:
        """Nobody asks."""
        raise AssertionError(path)


async def test_a_course_that_is_cancelled_in_its_thread_is_closed_there() -> None:
    began, go_on, closed = threading.Event(), threading.Event(), list[threading.Thread]()

    def course() -> Generator[str, bytes, None]:
        try:
            began.set()
            assert go_on.wait(PATIENCE_S)
            yield "checkpoint"
        finally:
            closed.append(threading.current_thread())

    with Kernel() as thread:
        work = asyncio.create_task(drive(course(), Nothing(), thread, lambda: None))
        await asyncio.to_thread(began.wait, PATIENCE_S)
        work.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert closed == [await thread.run(threading.current_thread)]
