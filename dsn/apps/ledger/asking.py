"""Reaching the ledger: calls that are made again while it does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from dsn.dht.contact import Contact
from dsn.errors import TransportError, Unreachable, WrongIdentity
from dsn.ids import format_node_id
from dsn.ports import Clock
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import LedgerPeer
from dsn.wire.status import RetryLater

_FIRST_PAUSE_S: Final = 0.05
_LAST_PAUSE_S: Final = 1.0
_T = TypeVar("_T")


class Asking:
    """Calls on one ledger, with a bound on how long it may stay silent."""

    def __init__(
        self, contact: Contact | None, connections: Connections, clock: Clock, patience_s: float
    ) -> None:
        """Reach the ledger at ``contact``, which a network file may leave out."""
        self._contact, self._connections = contact, connections
        self._clock, self._patience_s = clock, patience_s
        self.name = "" if contact is None else format_node_id(contact.node_id)
        """The ledger's node id text, if it is known."""

    async def __call__(self, call: Callable[[LedgerPeer], Awaitable[_T]]) -> _T:
        """Make a call, again while the ledger does not answer and there is patience left.

        Args:
            call: May be made several times.

        Returns:
            The reply, which is untrusted.

        Raises:
            Unreachable: ``ledger_unreachable``.
            DsnError: What the ledger refused with.
        """
        contact = self._contact
        if contact is None:
            raise _unreachable("the network file does not say where it is")
        deadline_s = self._clock.monotonic_s() + self._patience_s
        for pause_s in pauses():
            try:
                return await call(LedgerPeer(self._connections.line(contact)))
            except WrongIdentity:
                raise
            except RetryLater as error:
                wait_s = max(pause_s, error.retry_after_s)
                if self._clock.monotonic_s() + wait_s > deadline_s:
                    raise
            except TransportError as error:
                wait_s = pause_s
                if self._clock.monotonic_s() + wait_s > deadline_s:
                    raise _unreachable(error.message, error.peer) from error
                self._connections.forget(contact)
            await asyncio.sleep(wait_s)
        raise AssertionError("pauses never end")


def pauses() -> Iterator[float]:
    """Seconds between two tries: more and more, without an end."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LAST_PAUSE_S)


def _unreachable(reason: str, peer: str = "") -> Unreachable:
    return Unreachable(
        f"the ledger cannot be reached: {reason}",
        code="ledger_unreachable",
        hint="open deals go on without it; try again later",
        peer=peer,
    )
