"""Long arithmetic that nobody waits for when the process ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

_Result = TypeVar("_Result")


async def in_background(call: Callable[[], _Result]) -> _Result:
    """The result of ``call``, made in a thread of its own that dies with the process.

    A delay function takes a minute and cannot be interrupted; a pool's threads would be waited
    for, and an operator who stops the ledger with them.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def settle(result: _Result | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, failed = None, None
        try:
            result = call()
        except Exception as error:
            failed = error
        with suppress(RuntimeError):  # the loop is gone, and whoever asked
            loop.call_soon_threadsafe(settle, result, failed)

    Thread(target=work, name="delay", daemon=True).start()
    return await done
