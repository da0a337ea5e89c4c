"""Whether a call lets other threads run, seen without a clock."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable


def lets_others_run(call: Callable[[], object], attempts: int = 50) -> bool:
    """Run ``call`` in a thread that nobody interrupts; see whether we run before it ends.

    The interpreter takes its lock from nobody here, so that we get it from ``call`` itself or
    after it. A busy machine may wake us too late: one attempt of many has to succeed.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3_600)
    try:
        return any(_seen_inside(call) for _ in range(attempts))
    finally:
        sys.setswitchinterval(interval)


def _seen_inside(call: Callable[[], object]) -> bool:
    began, ended = threading.Event(), []

    def run() -> None:
        began.set()
        call()
        ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    began.wait()
    inside = not ended
    thread.join()
    return inside
