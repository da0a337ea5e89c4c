"""``DhtService``: what a node answers to others in the network.

Answering costs little and changes little: a caller gets a place in the routing table only
after it was called back where it says it serves, and a record is kept only within quotas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dsn.apps.dht import Dht
from dsn.dht.contact import Contact, check_contact
from dsn.dht.keeping import Keeper
from dsn.errors import DsnError, MalformedMessage
from dsn.ids import ID_BYTES
from dsn.ports import Clock
from dsn.rpc.dht import MOST_BATCHES, MOST_ENTRIES, MOST_VALUES, SERVICE
from dsn.rpc.limits import check_count
from dsn.rpc.server import Method, Unary
from dsn.rpc.tls import Caller
from dsn.v1 import dht_pb2
from dsn.wire.convert import contact_from_wire, contact_to_wire, sized

GREETERS: Final = 4
"""Callers called back at a time."""
MOST_WAITING: Final = 64
"""Callers that wait for it; in a flood the others are forgotten, and may call again."""
TURN: Final = 32
"""Signatures checked before others get a turn: some 2 ms."""

Hinted = Callable[[Contact], None]


class Greeter:
    """Calls callers back, a few at a time, each at one address once at a time."""

    def __init__(self, dht: Dht) -> None:
        """Note in the table of ``dht``."""
        self._dht = dht
        self._queue: asyncio.Queue[Contact] = asyncio.Queue(MOST_WAITING)
        self._waiting: dict[Contact, asyncio.Future[bool]] = {}
        self._running = False

    def greet(self, caller: Caller, address: str) -> None:
        """Have ``caller`` called back at ``address`` if that could change the routing table.

        Args:
            caller: Who has just called.
            address: Untrusted; empty if it does not serve.

        Raises:
            MalformedMessage: ``bad_contact``.
        """
        if not address:
            return
        contact = check_contact(caller.public_key, address)
        if self._dht.table.wants(contact):
            self._enqueue(contact)

    async def reached(self, caller: Caller, address: str) -> bool:
        """Whether ``caller`` answers at ``address`` (untrusted); false if too many wait for it.

        Raises:
            MalformedMessage: ``bad_contact``.
        """
        answer = self._enqueue(check_contact(caller.public_key, address))
        return answer is not None and await asyncio.shield(answer)

    def _enqueue(self, contact: Contact) -> asyncio.Future[bool] | None:
        """What will come of calling ``contact`` back, if that is to be."""
        if self._running and contact not in self._waiting and not self._queue.full():
            self._waiting[contact] = asyncio.get_running_loop().create_future()
            self._queue.put_nowait(contact)
        return self._waiting.get(contact)

    async def run(self) -> None:
        """Call back until cancelled; nobody who still waits then is called."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(GREETERS):
                    tasks.create_task(self._work())
        finally:
            self._running = False
            for answer in self._waiting.values():
                answer.set_result(False)
            self._waiting.clear()

    async def _work(self) -> None:
        while True:
            contact = await self._queue.get()
            reached = False
            try:
                reached = await self._dht.greet(contact)
            finally:
                self._waiting.pop(contact).set_result(reached)


class DhtService:
    """A node's calls over its routing table and the records it keeps."""

    def __init__(
        self,
        dht: Dht,
        keeper: Keeper,
        *,
        own: Callable[[], bytes],
        held: Callable[[bytes], Awaitable[bytes | None]],
        hinted: Hinted,
        clock: Clock,
    ) -> None:
        """Serve.

        Args:
            dht: The routing table, and calls to others.
            keeper: Records that were stored here.
            own: This node's own record.
            held: The record under a key that this node keeps for a file it holds.
            hinted: Told of a merge hint.
            clock: Judges records.
        """
        self._dht, self._keeper, self._clock = dht, keeper, clock
        self._own, self._held, self._hinted = own, held, hinted
        self.greeter = Greeter(dht)

    def methods(self) -> tuple[Method, ...]:
        """Every call by its path."""
        at = f"/{SERVICE}/"
        return (
            Unary(at + "Ping", dht_pb2.PingRequest, self._ping),
            Unary(at + "FindNode", dht_pb2.FindNodeRequest, self._find_node),
            Unary(at + "FindValue", dht_pb2.FindValueRequest, self._find_value),
            Unary(at + "Store", dht_pb2.StoreRequest, self._store),
        )

    async def _ping(self, caller: Caller, request: dht_pb2.PingRequest) -> dht_pb2.PingReply:
        hint = contact_from_wire(request.hint) if request.HasField("hint") else None
        reachable = False
        if request.call_back and request.address:
            reachable = await self.greeter.reached(caller, request.address)
        else:
            self.greeter.greet(caller, request.address)
        if hint is not None:
            self._hinted(hint)
        return dht_pb2.PingReply(record=self._own(), reachable=reachable)

    async def _find_node(
        self, caller: Caller, request: dht_pb2.FindNodeRequest
    ) -> dht_pb2.FindNodeReply:
        target = sized("a target", request.target, ID_BYTES)
        self.greeter.greet(caller, request.address)
        return dht_pb2.FindNodeReply(contacts=self._closest(caller, target))

    async def _find_value(
        self, caller: Caller, request: dht_pb2.FindValueRequest
    ) -> dht_pb2.FindValueReply:
        key = sized("a record's key", request.key, ID_BYTES)
        self.greeter.greet(caller, request.address)
        records = [self._own()] if key == self._dht.table.me else []
        if (held := await self._held(key)) is not None:
            records.append(held)
        records += self._keeper.find(key, self._clock.now_s())
        return dht_pb2.FindValueReply(
            records=records[:MOST_VALUES], contacts=self._closest(caller, key)
        )

    def _closest(self, caller: Caller, target: bytes) -> list[dht_pb2.DhtContact]:
        found = self._dht.table.closest(target)
        return [contact_to_wire(each) for each in found if each.node_id != caller.node_id]

    async def _store(self, caller: Caller, request: dht_pb2.StoreRequest) -> dht_pb2.StoreReply:
        check_count("records", request.entries, MOST_ENTRIES)
        check_count("batches", request.batches, MOST_BATCHES)
        if request.entries and request.batches:
            raise MalformedMessage("records and batches in one Store")
        self.greeter.greet(caller, request.address)
        reply = dht_pb2.StoreReply()
        now_s, publisher = self._clock.now_s(), caller.node_id
        for index, entry in enumerate(request.entries):
            if index % TURN == TURN - 1:
                await asyncio.sleep(0)
            try:
                self._keeper.accept(entry.key, entry.record, publisher, now_s)
            except DsnError as error:
                reply.refusals.add(index=index, code=error.detail_code)
        for index, batch in enumerate(request.batches):
            await asyncio.sleep(0)
            try:
                self._keeper.accept_batch(batch, publisher, now_s)
            except DsnError as error:
                reply.refusals.add(index=index, code=error.detail_code)
        return reply
