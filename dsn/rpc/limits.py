"""What one node lets callers take at a time; over a bound it refuses at once, never waits.

Spec: docs/spec/network.md, Limits.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, TypeVar
from urllib.parse import unquote

from dsn.dht.contact import subnet_of
from dsn.errors import DsnError, TimedOut, TooMany, TransportError
from dsn.ids import NodeId, short
from dsn.units import KIB
from dsn.wire.status import RetryLater

HOUR_S: Final = 3_600.0
_BUCKETS = 10_000
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of ``docs/spec/network.md``; each is one constructor argument."""

    calls: int = 256
    calls_a_peer: int = 32
    large_uploads: int = 32
    connections_an_address: int = 8
    connections_a_subnet: int = 64
    address_limits: bool = True
    challenge_leaves_an_hour: int = 4_096
    first_message_s: float = 10.0
    unary_s: float = 10.0
    shed_after_s: float = 1.0
    idle_s: float = 300.0
    transfer_grace_s: float = 30.0
    transfer_bytes_per_s: int = 16 * KIB
    retry_after_s: float = 1.0


def address_of(peer: str) -> str:
    """The address in what gRPC calls a peer: ``ipv4:10.0.0.1:5000`` or ``ipv6:%5B::1%5D:5``."""
    return unquote(peer.partition(":")[2].rpartition(":")[0]).strip("[]")


class Patience:
    """The one deadline of a call: how long its peer may take for what it owes.

    Moving a deadline costs a microsecond; a timeout around every read would cost a frame's
    worth of bookkeeping.
    """

    __slots__ = ("_deadline", "_limits", "_now_s", "_spent", "moved_s", "resting", "working")

    def __init__(self, limits: Limits, deadline: asyncio.Timeout) -> None:
        """Move ``deadline`` as the call goes; at first it is the first message's."""
        self._limits = limits
        self._deadline = deadline
        self._now_s = asyncio.get_running_loop().time
        self.moved_s = self._now_s()
        self.working = False
        self.resting = False
        self._spent: DsnError = TooMany("")
        self._wait(limits.first_message_s, "no first message")

    def idle(self) -> None:
        """Nothing is owed: the next message may take as long as idle streams live."""
        self._wait(self._limits.idle_s, "idle")
        self.resting = not self.working

    def transfer(self, size_bytes: int) -> None:
        """From now, ``size_bytes`` must pass, either way, at the least speed after a grace."""
        bounds = self._limits
        span_s = bounds.transfer_grace_s + size_bytes / bounds.transfer_bytes_per_s
        self._wait(span_s, f"{size_bytes} bytes did not pass")

    def moved(self) -> None:
        """Part of what is owed has passed: the deadline stays, but the peer is alive."""
        self.moved_s = self._now_s()

    def work(self) -> None:
        """From now it is this side that owes: a unary call has its whole request."""
        self.working = True
        self._set(self._limits.unary_s, TimedOut(f"not done in {self._limits.unary_s:g} s"))

    def shed(self, error: DsnError) -> None:
        """End the call with ``error`` as soon as it next waits."""
        self.working = True
        self._set(0.0, error)

    def silent_s(self) -> float:
        """Seconds since the peer last did anything."""
        return self._now_s() - self.moved_s

    def spent(self) -> DsnError:
        """The error to end the call with once the deadline passed."""
        return self._spent

    def _wait(self, span_s: float, what: str) -> None:
        if not self.working:
            self._set(span_s, TooMany(f"too slow: {what} in {span_s:.0f} s", code="too_slow"))

    def _set(self, span_s: float, error: DsnError) -> None:
        if self._deadline.expired():
            return
        self.resting = False
        self.moved_s = self._now_s()
        self._spent = error
        self._deadline.reschedule(self.moved_s + span_s)


class Places:
    """So many at a time; when all are taken, the one whose peer is silent longest gives way.

    Those who only hold their places cannot keep others out that way.
    """

    def __init__(self, most: int, what: str, limits: Limits) -> None:
        """Start with ``most`` free places for ``what``."""
        self._most, self._what, self._limits = most, what, limits
        self._taken: set[Patience] = set()

    @contextmanager
    def take(self, patience: Patience) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            RetryLater: All are taken by peers that do something.
        """
        if len(self._taken) >= self._most:
            self._make_room()
        self._taken.add(patience)
        try:
            yield
        finally:
            self._taken.discard(patience)

    def end_resting(self, error: DsnError) -> None:
        """End those whose peers owe nothing and were silent too long to be owed anything."""
        for each in self._taken:
            if each.resting and each.silent_s() >= self._limits.shed_after_s:
                each.shed(error)

    def _make_room(self) -> None:
        refusal = retry_later(
            f"{len(self._taken)} {self._what} under way, {self._most} at most", self._limits
        )
        waiting = [each for each in self._taken if not each.working]
        silent = min(waiting, key=attrgetter("moved_s"), default=None)
        if silent is None or silent.silent_s() < self._limits.shed_after_s:
            raise refusal
        self._taken.discard(silent)
        silent.shed(refusal)


class Admission:
    """Counts calls under way by peer, and their connections by address.

    A connection counts while a call runs on it: gRPC does not say when one ends. Those
    without calls are bounded by the server's channel arguments.
    """

    def __init__(self, limits: Limits) -> None:
        """Start with nothing under way."""
        self._limits = limits
        self._places = Places(limits.calls, "calls", limits)
        self._by_peer: Counter[NodeId] = Counter()
        self._by_connection: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()
        self._by_subnet: Counter[str] = Counter()

    @contextmanager
    def call(self, caller: NodeId, peer: str, patience: Patience) -> Iterator[None]:
        """Count one call of ``caller`` from gRPC's ``peer`` while the block runs.

        Raises:
            RetryLater: A bound is reached.
        """
        host, group = address_of(peer), subnet_of(address_of(peer))
        self._check_peer(caller)
        if self._limits.address_limits and not self._by_connection[peer]:
            self._check_connections(host, group)
        with self._places.take(patience):
            self._by_peer[caller] += 1
            self._by_connection[peer] += 1
            if self._by_connection[peer] == 1:
                self._by_address[host] += 1
                self._by_subnet[group] += 1
            try:
                yield
            finally:
                _decrease(self._by_peer, caller)
                if not _decrease(self._by_connection, peer):
                    _decrease(self._by_address, host)
                    _decrease(self._by_subnet, group)

    def end_resting(self) -> None:
        """Let streams that only stay open go at once: the node stops."""
        self._places.end_resting(TransportError("the node stops", code="stopping"))

    def _check_peer(self, caller: NodeId) -> None:
        calls, most = self._by_peer[caller], self._limits.calls_a_peer
        if calls >= most:
            text = f"{calls} calls of {short(caller)} under way, {most} at most"
            raise retry_later(text, self._limits)

    def _check_connections(self, host: str, group: str) -> None:
        bounds = self._limits
        for count, most, where in (
            (self._by_address[host], bounds.connections_an_address, host),
            (self._by_subnet[group], bounds.connections_a_subnet, group),
        ):
            if count >= most:
                raise retry_later(f"{count} connections from {where}, {most} at most", bounds)


def retry_later(message: str, limits: Limits) -> RetryLater:
    """The refusal of what a free place would have allowed."""
    wait_s = limits.retry_after_s
    return RetryLater(message, retry_after_s=wait_s, hint=f"try again in {wait_s:g} s")


def _decrease(counter: Counter[_Key], key: _Key) -> int:
    """What is left; a count of zero is dropped, or peers that left would stay in memory."""
    counter[key] -= 1
    return counter[key] or counter.pop(key)


class Budget:
    """What a caller may use up in an hour: a token bucket each, refilled all the time."""

    def __init__(self, what: str, an_hour: int, monotonic_s: Callable[[], float]) -> None:
        """Allow everybody a burst of ``an_hour`` of ``what`` at first."""
        self._what, self._most = what, an_hour
        self._now_s = monotonic_s
        self._left: OrderedDict[NodeId, tuple[float, float]] = OrderedDict()

    def charge(self, caller: NodeId, amount: int) -> None:
        """Take ``amount`` from the caller's bucket.

        Raises:
            RetryLater: It holds fewer; says when it will hold enough.
        """
        now_s = self._now_s()
        left, at_s = self._left.pop(caller, (float(self._most), now_s))
        left = min(self._most, left + (now_s - at_s) * self._most / HOUR_S)
        granted = amount <= left
        self._left[caller] = (left - amount if granted else left, now_s)
        if len(self._left) > _BUCKETS:
            self._left.popitem(last=False)
        if not granted:
            wait_s = (amount - left) * HOUR_S / self._most
            raise RetryLater(
                f"{amount} {self._what} asked of {short(caller)}'s {int(left)} left this hour, "
                f"{self._most} at most",
                retry_after_s=wait_s,
                hint=f"try again in {wait_s:.0f} s",
            )


def check_count(what: str, items: Sequence[object], most: int) -> None:
    """Bound a repeated field before anything is done with it.

    Raises:
        TooMany: There are more than ``most``.
    """
    if len(items) > most:
        raise TooMany(f"{len(items)} {what} in one call, {most} at most")
