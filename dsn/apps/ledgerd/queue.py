"""Entries that wait to be judged: so many at most, and nobody waits behind a crowd of another's.

Spec: docs/spec/economy.md#service.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from dsn.apps.ledger.batch import Outcome, Refused, Submission
from dsn.errors import TransportError
from dsn.ids import NodeId, short
from dsn.wire.status import RetryLater

MOST_WAITING: Final = 4_096
"""Entries, of all callers."""
MOST_A_CALLER: Final = 1_024
BURST: Final = 256
"""Entries that a caller may send at once."""
A_SECOND: Final = 200.0
"""Entries a second that a caller may send for good."""
_CALLERS: Final = 10_000
_RETRY_S: Final = 0.5


@dataclass(slots=True, eq=False)
class Call:
    """The entries of one call, in order, and what came of them so far."""

    submissions: Sequence[Submission]
    done: asyncio.Future[list[Outcome]]
    taken: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def left(self) -> int:
        """Entries that still wait."""
        return len(self.submissions) - self.taken

    def settle(self, outcome: Outcome) -> None:
        """Note what came of the next one; the last one ends the call."""
        self.outcomes.append(outcome)
        if len(self.outcomes) == len(self.submissions) and not self.done.done():
            self.done.set_result(self.outcomes)

    def fail(self, error: Exception) -> None:
        """End the call without outcomes."""
        if not self.done.done():
            self.done.set_exception(error)


class Allowance:
    """How many entries each caller may still send: refilled all the time, never above a burst."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        """Allow everybody a burst at first."""
        self._now_s = monotonic_s
        self._left: OrderedDict[NodeId, tuple[float, float]] = OrderedDict()

    def charge(self, caller: NodeId, entries: int) -> None:
        """Take ``entries`` from what the caller has left.

        Raises:
            RetryLater: ``ledger_busy``: it has less; says when it will have enough.
        """
        left = self._refilled(caller)
        if entries > left:
            raise busy(
                f"{entries} entries of {short(caller)}, {max(0, int(left))} allowed now",
                (entries - left) / A_SECOND,
            )
        self._left[caller] = (left - entries, self._now_s())

    def fine(self, caller: NodeId, entries: int) -> None:
        """Take ``entries`` more, even if that leaves a debt."""
        if entries:
            self._left[caller] = (self._refilled(caller) - entries, self._now_s())

    def _refilled(self, caller: NodeId) -> float:
        now_s = self._now_s()
        left, at_s = self._left.pop(caller, (float(BURST), now_s))
        if len(self._left) >= _CALLERS:
            self._left.popitem(last=False)
        left = min(BURST, left + (now_s - at_s) * A_SECOND)
        self._left[caller] = (left, now_s)
        return left


class Queue:
    """Calls in line, one line a caller; whoever takes goes round the lines, an entry each."""

    def __init__(self) -> None:
        """Start empty."""
        self._lines: OrderedDict[NodeId, deque[Call]] = OrderedDict()
        self._waiting = 0
        self._closed = False
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """Entries that wait."""
        return self._waiting

    def put(self, caller: NodeId, submissions: Sequence[Submission]) -> Call:
        """Let entries wait; cancelling the call's ``done`` drops those not yet taken.

        Raises:
            RetryLater: ``ledger_busy``: too many wait already.
            TransportError: ``stopping``.
        """
        if self._closed:
            raise TransportError("the ledger stops", code="stopping")
        line = self._lines.get(caller, deque())
        mine = sum(call.left for call in line)
        for waiting, most in ((self._waiting, MOST_WAITING), (mine, MOST_A_CALLER)):
            if waiting + len(submissions) > most:
                raise busy(f"{waiting} entries wait, {most} at most", _RETRY_S)
        call = Call(submissions, asyncio.get_running_loop().create_future())
        line.append(call)
        self._lines[caller] = line
        self._waiting += len(submissions)
        self._news.set()
        return call

    async def take(self, most: int) -> list[tuple[Call, Submission]]:
        """The next entries, ``most`` at most, as soon as there is one; none once it is closed."""
        while True:
            taken: list[tuple[Call, Submission]] = []
            while self._lines and len(taken) < most:
                self._take_one(taken)
            if taken or self._closed:
                return taken
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        """Take nothing more; what waits is still handed out."""
        self._closed = True
        self._news.set()

    def _take_one(self, taken: list[tuple[Call, Submission]]) -> None:
        """One entry of the caller whose turn it is, who then goes to the end."""
        caller, line = self._lines.popitem(last=False)
        while line and line[0].done.cancelled():
            self._waiting -= line.popleft().left
        if line:
            call = line[0]
            taken.append((call, call.submissions[call.taken]))
            call.taken += 1
            self._waiting -= 1
            if not call.left:
                line.popleft()
        if line:
            self._lines[caller] = line


def refused(outcomes: Sequence[Outcome]) -> list[Refused]:
    """Those that were not taken."""
    return [each for each in outcomes if isinstance(each, Refused)]


def busy(message: str, retry_after_s: float) -> RetryLater:
    """The refusal of what the ledger would take later."""
    wait_s = max(retry_after_s, 0.05)
    return RetryLater(
        message, retry_after_s=wait_s, hint=f"try again in {wait_s:.1f} s", code="ledger_busy"
    )
