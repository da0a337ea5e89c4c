"""A process that learns where others are now, once its home has a newer network file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dsn.dht.contact import Contact
from dsn.dht.network import Network
from dsn.rpc.channel import Connections
from dsn.runtime.control import Answer
from dsn.store.home import Home

COMMAND: Final = "network"
"""What ``dsn join`` says on the control socket."""


class Moving:
    """Follows the ledger and the witnesses of one network wherever its file says they are."""

    def __init__(
        self,
        home: Home,
        network: Network,
        connections: Connections,
        changed: Callable[[Network], None] | None = None,
    ) -> None:
        """Begin with ``network``.

        Args:
            home: Has the file.
            network: As the process knows it.
            connections: Over which it reaches others.
            changed: Told the network as it is now.
        """
        self._home, self._network, self._connections = home, network, connections
        self._changed = changed

    def answering(self, answer: Answer) -> Answer:
        """``answer``, for a process that also knows ``COMMAND``."""

        async def either(command: str) -> dict[str, Any]:
            return self.look() if command == COMMAND else await answer(command)

        return either

    def look(self) -> dict[str, Any]:
        """Read the file again.

        Returns:
            How many are to be reached elsewhere than when the process began; or an ``error``.

        Raises:
            ConfigError: What is wrong with the file; nothing has changed then.
        """
        new = self._home.network()
        if new.network_id != self._network.network_id:
            return {"error": "another network"}
        moved = moves(self._network, new)
        self._connections.move(moved)
        if self._changed is not None:
            self._changed(new)
        return {"moved": len(moved)}


def moves(old: Network, new: Network) -> dict[Contact, Contact]:
    """Where the ledger and the witnesses of ``old`` are by ``new``, for those that moved."""
    now = {contact.public_key: contact for contact in _fixed(new)}
    return {
        contact: now[contact.public_key]
        for contact in _fixed(old)
        if contact != now.get(contact.public_key, contact)
    }


def _fixed(network: Network) -> list[Contact]:
    """Those who are known by their keys, wherever they are."""
    ledger = [] if network.ledger is None else [network.ledger]
    return [*ledger, *network.witnesses]
