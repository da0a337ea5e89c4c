"""PutPointer and GetPointer: keep the newest signed record under every key."""

from __future__ import annotations

from collections import OrderedDict

from dsn.apps.node.terms import Self
from dsn.dht.record import Record, newer, parse_record, verify
from dsn.errors import DsnError, PeerError
from dsn.ids import ID_BYTES
from dsn.ports import Clock, ShardStore
from dsn.rpc.limits import Budget, check_count
from dsn.rpc.tls import Caller
from dsn.v1 import node_pb2
from dsn.wire.convert import sized

MOST_RECORDS = 128
"""In one request: half a message at 4 KiB each."""
NEW_RECORDS_AN_HOUR = 4_096
"""From one caller, without shards that they point to."""
_CACHED = 4_096
STALE = "stale_record"
"""A newer record is here already."""


class Pointers:
    """Judges records by themselves and stores those that supersede what is here."""

    def __init__(self, me: Self, store: ShardStore, clock: Clock) -> None:
        """Keep records of the network that ``me`` is on."""
        self._me, self._store, self._clock = me, store, clock
        self._newest: OrderedDict[bytes, Record] = OrderedDict()
        self._budget = Budget("new records", NEW_RECORDS_AN_HOUR, clock.monotonic_s)

    async def put_pointers(
        self, caller: Caller, request: node_pb2.PutPointerRequest
    ) -> node_pb2.PutPointerReply:
        """Keep records of what this node holds; replies once they are durable."""
        check_count("records", request.records, MOST_RECORDS)
        return await self.keep(list(request.records), caller)

    async def get_pointer(
        self, caller: Caller, request: node_pb2.GetPointerRequest
    ) -> node_pb2.GetPointerReply:
        """The newest record under a key, or an empty reply."""
        key = sized("a record's key", request.key, ID_BYTES)
        return node_pb2.GetPointerReply(record=await self.held(key) or b"")

    async def held(self, key: bytes) -> bytes | None:
        """The record kept under ``key``."""
        return await self._store.get_record(key)

    async def keep(
        self, raws: list[bytes], charged: Caller | None = None
    ) -> node_pb2.PutPointerReply:
        """Make records durable that supersede what is here; name those that are refused.

        Args:
            raws: Untrusted.
            charged: Who pays for new keys out of its hour's budget; nobody does for records
                that come with shards.
        """
        reply = node_pb2.PutPointerReply()
        accepted: list[tuple[bytes, bytes]] = []
        for index, raw in enumerate(raws):
            try:
                accepted.append((await self._accept(raw, charged), raw))
            except DsnError as error:
                reply.refusals.add(index=index, code=error.detail_code)
        if accepted:
            await self._store_all(accepted)
        return reply

    async def _accept(self, raw: bytes, charged: Caller | None) -> bytes:
        """The key of a record (untrusted) that may be stored.

        Raises:
            PeerError: It is wrong by itself, or ``stale_record``: a newer one is here.
            RetryLater: ``charged`` has stored too many new ones.
        """
        record = parse_record(raw)
        verify(record, self._me.network, self._clock.now_s())
        key = bytes(record.key)
        if key not in self._newest:
            stored = await self._store.get_record(key)
            if stored is not None and key not in self._newest:
                self._newest[key] = parse_record(stored)
        newest = self._newest.get(key)
        if newest is not None and newer(newest, record):
            raise PeerError("record: a newer one is here", code=STALE)
        if newest is None and charged is not None:
            self._budget.charge(charged.node_id, 1)
        self._remember(key, record)
        return key

    def _remember(self, key: bytes, record: Record) -> None:
        """Before it is durable: of two streams, the one with the older record must see it."""
        self._newest[key] = record
        self._newest.move_to_end(key)
        if len(self._newest) > _CACHED:
            self._newest.popitem(last=False)

    async def _store_all(self, accepted: list[tuple[bytes, bytes]]) -> None:
        try:
            await self._store.put_records(accepted)
        except DsnError:
            for key, _ in accepted:
                self._newest.pop(key, None)
            raise
