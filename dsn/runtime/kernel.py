"""The one thread in which a client seals, encodes and hashes.

One is enough: the event loop and gRPC's own threads keep a second core busy, and the native
code lets go of the interpreter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


class Kernel:
    """Runs arithmetic off the event loop, in order; use it as a context."""

    def __init__(self) -> None:
        """Start no thread before the first ``run``."""
        self._thread = ThreadPoolExecutor(1, "kernel")

    async def run(
        self, call: Callable[_Args, _Result], *args: _Args.args, **kwargs: _Args.kwargs
    ) -> _Result:
        """The result of ``call``, made in the thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, lambda: call(*args, **kwargs))

    def __enter__(self) -> Self:
        """Use the thread in a block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for what is running, and end the thread."""
        self._thread.shutdown(wait=True, cancel_futures=True)
