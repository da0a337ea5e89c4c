"""One connection to one node: unary calls and two-way streams of raw messages.

Every failure leaves here as a ``DsnError`` that names the node; nothing above sees gRPC.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import grpc.aio
from google.protobuf.message import DecodeError, Message

from dsn.dht.contact import Contact
from dsn.errors import DsnError, MalformedMessage, TimedOut, TransportError
from dsn.ids import format_node_id
from dsn.wire.status import from_rpc_error

Metadata = tuple[tuple[str, str], ...]
_Reply = TypeVar("_Reply", bound=Message)


@dataclass(slots=True)
class Meter:
    """Bytes of messages, both ways, without what TLS and TCP add."""

    bytes: int = 0


class ByteStream:
    """A two-way stream of raw messages whose failures are ``DsnError``.

    Cancelling a pending ``read`` or ``write`` (also by ``asyncio.timeout``) ends the stream.
    """

    __slots__ = ("_call", "_connected", "_meter", "_peer", "_reading", "_send", "_unread")

    def __init__(
        self, call: grpc.aio.StreamStreamCall[bytes, bytes], peer: str, meter: Meter
    ) -> None:
        """Wrap ``call`` to the node ``peer`` (its node id text), counted by ``meter``.

        ``call.write`` would do, but when the node has just refused it overwrites the node's
        reason with an internal error; the call that it wraps leaves the reason alone.
        """
        self._call = call
        self._connected = False
        self._meter = meter
        self._peer = peer
        self._reading = False
        self._unread: deque[bytes] = deque()
        inner: Any = call
        self._send: Callable[[bytes], Awaitable[None]] = inner._cython_call.send_serialized_message

    async def write(self, message: bytes) -> None:
        """Send one message, waiting until the connection takes it.

        Raises:
            DsnError: The node refused, or the connection broke.
        """
        try:
            if not self._connected:
                await self._call.wait_for_connection()
                self._connected = True
            await self._send(message)
            self._meter.bytes += len(message)
        except (grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
            raise await self._failure() from None
        except asyncio.CancelledError:
            self._end()
            raise

    async def read(self) -> bytes | None:
        """The next message, or ``None`` after the last.

        Raises:
            DsnError: The node refused, or the connection broke.
        """
        if self._unread:
            return self._unread.popleft()
        self._reading = True
        try:
            message: object = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self._peer) from None
        except asyncio.CancelledError:
            self._end()
            raise
        finally:
            self._reading = False
        if message is grpc.aio.EOF:
            return None
        self._meter.bytes += len(cast(bytes, message))
        return cast(bytes, message)

    async def done_writing(self) -> None:
        """Say that no more messages follow; does nothing on an ended stream."""
        await self._call.done_writing()

    def cancel(self) -> None:
        """End the stream now; whoever waits on it gets a ``TransportError``."""
        self._call.cancel()

    async def _failure(self) -> DsnError:
        """Why the node ended the stream: it says so only after its last message is read."""
        try:
            while not self._reading and not self._call.done():
                message: object = await self._call.read()
                if message is not grpc.aio.EOF:
                    self._unread.append(cast(bytes, message))
            error = grpc.aio.AioRpcError(
                await self._call.code(),
                await self._call.initial_metadata(),
                await self._call.trailing_metadata(),
                details=await self._call.details(),
            )
        except grpc.aio.AioRpcError as reported:
            error = reported
        return from_rpc_error(error, self._peer)

    def _end(self) -> None:
        """Tell ``cancel`` from a cancelled task: gRPC raises the same for both.

        Raises:
            TransportError: The stream was ended, the task was not.
        """
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            raise TransportError(f"{self._peer}: the stream was ended here", peer=self._peer)
        self._call.cancel()


class Line:
    """A connection to ``contact`` that opens with its first call."""

    __slots__ = ("_channel", "_metadata", "_meter", "contact", "name")

    def __init__(
        self, contact: Contact, channel: grpc.aio.Channel, metadata: Metadata, meter: Meter
    ) -> None:
        """Call over ``channel``; every call carries ``metadata`` and is counted by ``meter``."""
        self.contact = contact
        self.name = format_node_id(contact.node_id)
        self._channel = channel
        self._metadata = metadata
        self._meter = meter

    def stream(self, path: str) -> ByteStream:
        """Open a two-way stream."""
        opened: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
        opened = self._channel.stream_stream(path)
        return ByteStream(opened(metadata=self._metadata), self.name, self._meter)

    async def unary(
        self, path: str, request: Message, reply: type[_Reply], timeout_s: float
    ) -> _Reply:
        """One request and its reply, which is untrusted.

        Raises:
            DsnError: What the node refused with, or why it could not be reached.
            MalformedMessage: The reply is no ``reply``.
        """
        call: Callable[..., Any] = self._channel.unary_unary(path)
        sent = request.SerializeToString()
        self._meter.bytes += len(sent)
        try:
            async with asyncio.timeout(timeout_s):
                raw: bytes = await call(sent, metadata=self._metadata)
        except TimeoutError:
            method = path.rpartition("/")[2]
            raise TimedOut(
                f"{self.name}: no answer to {method} in {timeout_s:g} s", peer=self.name
            ) from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.name) from None
        self._meter.bytes += len(raw)
        try:
            return reply.FromString(raw)
        except DecodeError as error:
            raise MalformedMessage(
                f"{self.name}: {len(raw)} bytes that are no {reply.__name__}",
                peer=self.name,
                evidence=raw,
            ) from error

    async def close(self) -> None:
        """End the connection and its calls."""
        await self._channel.close()
