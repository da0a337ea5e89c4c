"""Put streams to one node: groups up, receipts down; no patience without progress.

Small shards are paid in the message that brings them, large ones as their frames go: whenever
half a window is owed a voucher goes beside the stream, and the node never has more than a window
of what it has taken.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dsn.apps.paying import Payer
from dsn.errors import DsnError, MalformedMessage, PeerError, TimedOut
from dsn.ids import Commit, NetworkId
from dsn.ledger.receipt import Receipt, verify_receipt
from dsn.ports import Clock
from dsn.rpc.channel import NodePeer
from dsn.units import KIB, leaf_count
from dsn.v1 import node_pb2
from dsn.wire.convert import SignedReceipt, receipts_from_wire

CLOSE_S = 2.0
"""Longest wait for a stream that has nothing left to say."""
BATCH_SHARDS = 64
BATCH_BYTES = 960 * KIB
"""Small shards in one message, with room for their commits and pointers."""
BATCHES_UNDER_WAY = 1
"""A small shard waits for company while this many messages have no receipts yet."""

ReceiptFuture = asyncio.Future[Receipt]


@dataclass(frozen=True, slots=True)
class Sent:
    """A shard that is owed a receipt."""

    commit: Commit
    length: int
    receipt: ReceiptFuture


@dataclass(frozen=True, slots=True)
class Small:
    """A whole small shard and, perhaps, the record that points to it."""

    data: bytes
    record: bytes | None
    sent: Sent


class Message(NamedTuple):
    """What goes out, and how much of it is a shard's bytes."""

    data: bytes
    paid_bytes: int


class Lane(ABC):
    """One PutShard stream; once it has an ``error``, every receipt still owed fails with it."""

    def __init__(self, peer: NodePeer, payer: Payer, network: NetworkId, clock: Clock) -> None:
        """Open the stream, which ``payer`` pays for; its two tasks live until ``close``."""
        self.peer = peer
        self.error: DsnError | None = None
        self.slowest_s = 0.0
        self._payer, self._network, self._clock = payer, network, clock
        self._unsigned = 0
        """Bytes that the payer counts as sent and nobody signed for yet."""
        self._stream = peer.put_shards()
        self._owed: deque[Sequence[Sent]] = deque()
        self._due_s = clock.monotonic_s()
        self._answered = asyncio.Event()
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._read())]

    def stalled_s(self) -> float:
        """Since when the node owes progress, in seconds; 0 if it owes none."""
        if self.error is not None or not (self._owed or self._busy()):
            return 0.0
        return self._clock.monotonic_s() - self._due_s

    def fail(self, error: DsnError) -> None:
        """Give the node up: whoever waits for it goes on."""
        if self.error is not None:
            return
        self.error = error
        self._stream.cancel()
        self._answered.set()
        for sent in (each for group in self._owed for each in group):
            _fail(sent, error)
        self._owed.clear()
        self._take_back()

    async def close(self) -> None:
        """Let what is queued go out, and end the stream."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._end()
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            self.fail(TimedOut(f"{self.peer.name}: the put stream does not end"))
        finally:
            for task in self._tasks:
                task.cancel()
            self._take_back()

    @abstractmethod
    def _busy(self) -> bool:
        """Whether something is queued."""

    @abstractmethod
    async def _end(self) -> None:
        """Take nothing more."""

    @abstractmethod
    async def _send(self) -> None:
        """Write what is queued until ``_end``."""

    @abstractmethod
    async def _drain(self) -> None:
        """Throw away what is queued, until ``_end``."""

    def _wait_begins(self) -> None:
        """Progress is owed from now on, if it was not before."""
        if not self._owed and not self._busy():
            self._due_s = self._clock.monotonic_s()

    def _take_back(self) -> None:
        """What went out, or was announced, and got no receipt does not count as sent."""
        self._payer.unsent(self._unsigned)
        self._unsigned = 0

    async def _run(self) -> None:
        try:
            await self._send()
            await self._stream.done_writing()
        except DsnError as error:
            self.fail(error)
            await self._drain()

    async def _write(self, message: bytes) -> None:
        began_s = self._clock.monotonic_s()
        await self._stream.write(message)
        self._due_s = self._clock.monotonic_s()
        self.slowest_s = max(self.slowest_s * 0.9, self._due_s - began_s)

    async def _read(self) -> None:
        try:
            while (raw := await self._stream.read()) is not None:
                self._due_s = self._clock.monotonic_s()
                self._take(receipts_from_wire(raw, self._payer.deal))
                self._answered.set()
            if self._owed:
                raise PeerError(f"{self.peer.name}: the put stream ended without a receipt")
        except DsnError as error:
            self.fail(error)

    def _take(self, receipts: Sequence[SignedReceipt]) -> None:
        if not self._owed:
            raise PeerError(f"{self.peer.name}: a receipt that nobody asked for")
        if len(receipts) != len(self._owed[0]):
            raise MalformedMessage(
                f"{self.peer.name}: {len(receipts)} receipts for {len(self._owed[0])} shards"
            )
        for sent, (said, signature) in zip(self._owed[0], receipts, strict=True):
            receipt = Receipt(
                self._payer.deal,
                sent.commit,
                leaf_count(sent.length),
                sent.length,
                said.keep_until_s,
            )
            public_key = self.peer.contact.public_key
            verify_receipt(receipt, signature, network=self._network, public_key=public_key)
            if not sent.receipt.done():
                sent.receipt.set_result(receipt)
            self._unsigned -= sent.length
        self._owed.popleft()


class LargeLane(Lane):
    """Large shards, one after the other, at most ``depth`` frames queued."""

    def __init__(
        self, peer: NodePeer, payer: Payer, network: NetworkId, clock: Clock, depth: int
    ) -> None:
        """Open the stream."""
        self._queue: asyncio.Queue[Message | None] = asyncio.Queue(depth)
        self._vouchers: asyncio.Queue[node_pb2.Voucher | None] = asyncio.Queue()
        super().__init__(peer, payer, network, clock)
        self._tasks.append(asyncio.create_task(self._pay()))

    async def begin(self, length: int) -> None:
        """Start a shard of ``length`` bytes; its frames follow."""
        if self.error is not None:
            return
        header = node_pb2.PutHeader(length=length)
        try:
            self._payer.begin(header, length)
        except DsnError as error:
            self.fail(error)
        else:
            await self._put(Message(header.SerializeToString(), 0))

    async def send(self, frame: bytes) -> None:
        """Queue a frame; returns once there is room, at once on a failed lane."""
        await self._put(Message(frame, len(frame)))

    async def end(self, commit: Commit, length: int) -> ReceiptFuture:
        """End the shard; the receipt comes once the node holds it for good."""
        self._wait_begins()
        sent = new_sent(commit, length, self.error)
        if self.error is None:
            self._owed.append([sent])
            await self._put(Message(node_pb2.PutTrailer(commit=commit).SerializeToString(), 0))
        return sent.receipt

    async def _put(self, message: Message) -> None:
        self._wait_begins()
        if self.error is None:
            await self._queue.put(message)

    def _busy(self) -> bool:
        return not self._queue.empty()

    async def _end(self) -> None:
        await self._queue.put(None)

    async def _send(self) -> None:
        try:
            while (message := await self._queue.get()) is not None:
                await self._write(message.data)
                self._count(message.paid_bytes)
                del message
        finally:
            self._vouchers.put_nowait(None)

    def _count(self, size: int) -> None:
        """What went out is paid once half a window of it is owed, not before."""
        if self.error is None and size:
            self._unsigned += size
            voucher = self._payer.sent(size)
            if voucher is not None:
                self._vouchers.put_nowait(voucher)

    async def _pay(self) -> None:
        """Bring vouchers beside the stream, so that no frame waits for one to be on its way."""
        try:
            while (voucher := await self._vouchers.get()) is not None:
                await self._payer.hand_over(voucher)
        except DsnError as error:
            self.fail(error)

    async def _drain(self) -> None:
        """Whoever is sending must not block on a lane that is gone."""
        while await self._queue.get() is not None:
            pass


class SmallLane(Lane):
    """Small shards, with the records that point to them, many a message."""

    def __init__(self, peer: NodePeer, payer: Payer, network: NetworkId, clock: Clock) -> None:
        """Open the stream."""
        self._queue: deque[Small] = deque()
        self._wake = asyncio.Event()
        self._ended = False
        super().__init__(peer, payer, network, clock)

    def put(self, data: bytes, commit: Commit, record: bytes | None = None) -> ReceiptFuture:
        """Queue a whole shard; the receipt comes once the node holds it for good."""
        self._wait_begins()
        sent = new_sent(commit, len(data), self.error)
        if self.error is None:
            self._queue.append(Small(data, record, sent))
            self._wake.set()
        return sent.receipt

    def _busy(self) -> bool:
        return bool(self._queue)

    async def _end(self) -> None:
        self._ended = True
        self._wake.set()

    async def _send(self) -> None:
        while not (self._ended and not self._queue):
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                while len(self._owed) >= BATCHES_UNDER_WAY and self.error is None:
                    self._answered.clear()
                    await self._answered.wait()
                await self._write(self._next_message())

    def _next_message(self) -> bytes:
        message, size = node_pb2.PutHeader(), 0
        sent: list[Sent] = []
        while self._queue and len(sent) < BATCH_SHARDS:
            if sent and size + len(self._queue[0].data) > BATCH_BYTES:
                break
            size += len(self._queue[0].data)
            small = self._queue.popleft()
            message.small.add(data=small.data, commit=small.sent.commit)
            if small.record is not None:
                message.records.append(small.record)
            sent.append(small.sent)
        self._owed.append(sent)
        self._unsigned += size
        self._payer.announce(message, size)
        return message.SerializeToString()

    async def _drain(self) -> None:
        error = self.error
        assert error is not None
        while self._queue:
            _fail(self._queue.popleft().sent, error)


def new_sent(commit: Commit, length: int, error: DsnError | None) -> Sent:
    """A shard that is owed a receipt, or never gets one because of ``error``."""
    sent = Sent(commit, length, asyncio.get_running_loop().create_future())
    sent.receipt.add_done_callback(_retrieve)
    if error is not None:
        sent.receipt.set_exception(error)
    return sent


def _fail(sent: Sent, error: DsnError) -> None:
    if not sent.receipt.done():
        sent.receipt.set_exception(error)


def _retrieve(future: ReceiptFuture) -> None:
    """A receipt that failed is seen through its lane; asyncio need not report it."""
    if not future.cancelled():
        future.exception()
