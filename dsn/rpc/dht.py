"""A node as others in the network see it: one method a call of ``DhtService``.

What it names is checked for form here; whether it is true is for the caller to judge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from google.protobuf.message import Message

from dsn.dht.contact import Contact
from dsn.dht.routing import BUCKET_SIZE
from dsn.errors import MalformedMessage
from dsn.rpc.line import Line
from dsn.v1 import dht_pb2
from dsn.wire.convert import contact_to_wire, contacts_from_wire

SERVICE: Final = "dsn.v1.DhtService"
MOST_ENTRIES: Final = 256
"""Records in one Store: at their largest they fill a message."""
MOST_BATCHES: Final = 32
MOST_VALUES: Final = 20
"""Records under one key."""
_Reply = TypeVar("_Reply", bound=Message)


class Pong(NamedTuple):
    """What a ping brought: the node's own record (untrusted), and whether it called back."""

    record: bytes
    reachable: bool


class Values(NamedTuple):
    """Records under a key (untrusted), and who may know more."""

    records: tuple[bytes, ...]
    contacts: list[Contact]


class DhtPeer:
    """Calls on one node; ``address`` is where the caller serves, empty for a client."""

    def __init__(self, line: Line, address: str, timeout_s: float) -> None:
        """Speak over ``line``; every call gets ``timeout_s``."""
        self._line, self._address, self._timeout_s = line, address, timeout_s

    async def ping(self, *, call_back: bool = False, hint: Contact | None = None) -> Pong:
        """See that the node is there, and perhaps whether it can reach us."""
        request = dht_pb2.PingRequest(address=self._address, call_back=call_back)
        if hint is not None:
            request.hint.CopyFrom(contact_to_wire(hint))
        timeout_s = 2 * self._timeout_s if call_back else self._timeout_s
        reply = await self._unary("Ping", request, dht_pb2.PingReply, timeout_s)
        return Pong(reply.record, reply.reachable)

    async def find_node(self, target: bytes) -> list[Contact]:
        """The contacts that the node knows nearest to ``target``."""
        request = dht_pb2.FindNodeRequest(address=self._address, target=target)
        reply = await self._unary("FindNode", request, dht_pb2.FindNodeReply)
        return contacts_from_wire(reply.contacts, BUCKET_SIZE)

    async def find_value(self, key: bytes) -> Values:
        """The records that the node keeps under ``key``, and whom else to ask."""
        request = dht_pb2.FindValueRequest(address=self._address, key=key)
        reply = await self._unary("FindValue", request, dht_pb2.FindValueReply)
        if len(reply.records) > MOST_VALUES:
            text = f"{len(reply.records)} records under one key, at most {MOST_VALUES} allowed"
            raise MalformedMessage(f"{self._line.name}: {text}", peer=self._line.name)
        contacts = contacts_from_wire(reply.contacts, BUCKET_SIZE)
        return Values(tuple(reply.records), contacts)

    async def store(
        self, entries: Sequence[tuple[bytes, bytes]], batches: Iterable[bytes] = ()
    ) -> dict[int, str]:
        """Have the node keep (key, record) pairs, or batches; gives the codes of those refused."""
        request = dht_pb2.StoreRequest(address=self._address, batches=batches)
        for key, record in entries:
            request.entries.add(key=key, record=record)
        timeout_s = 4 * self._timeout_s  # every signature is checked before the answer
        reply = await self._unary("Store", request, dht_pb2.StoreReply, timeout_s)
        return {refusal.index: refusal.code for refusal in reply.refusals}

    async def _unary(
        self, method: str, request: Message, reply: type[_Reply], timeout_s: float = 0.0
    ) -> _Reply:
        path = f"/{SERVICE}/{method}"
        return await self._line.unary(path, request, reply, timeout_s or self._timeout_s)
