"""The calling side: connections to nodes, each pinned to the node's key.

Every failure leaves here as a ``DsnError`` that names the node; nothing above sees gRPC.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.errors import DsnError, MalformedMessage, TimedOut, TransportError
from dsn.ids import NO_DEAL, DealId, NetworkId, format_node_id
from dsn.rpc import options, tls
from dsn.v1 import node_pb2
from dsn.wire.status import from_rpc_error

UNARY_TIMEOUT_S = 10.0
_SERVICE = "/dsn.v1.NodeService/"
_Reply = TypeVar("_Reply", bound=Message)
_Metadata = tuple[tuple[str, str], ...]


class ByteStream:
    """A two-way stream of raw messages whose failures are ``DsnError``.

    Cancelling a pending ``read`` or ``write`` (also by ``asyncio.timeout``) ends the stream.
    """

    __slots__ = ("_call", "_connected", "_peer", "_reading", "_send", "_unread")

    def __init__(self, call: grpc.aio.StreamStreamCall[bytes, bytes], peer: str) -> None:
        """Wrap ``call`` to the node ``peer`` (its node id text).

        ``call.write`` would do, but when the node has just refused it overwrites the node's
        reason with an internal error; the call that it wraps leaves the reason alone.
        """
        self._call = call
        self._connected = False
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
        return None if message is grpc.aio.EOF else cast(bytes, message)

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


class PointerStream:
    """PutPointer: one reply a request, in order."""

    __slots__ = ("_peer", "_stream")

    def __init__(self, stream: ByteStream, peer: str) -> None:
        """Speak over ``stream`` to the node ``peer`` (its node id text)."""
        self._stream = stream
        self._peer = peer

    async def write(self, request: node_pb2.PutPointerRequest) -> None:
        """Send one request; see ``ByteStream.write``."""
        await self._stream.write(request.SerializeToString())

    async def read(self) -> node_pb2.PutPointerReply | None:
        """The next reply, or ``None`` after the last; see ``ByteStream.read``."""
        raw = await self._stream.read()
        return None if raw is None else _decode(node_pb2.PutPointerReply, raw, self._peer)

    async def done_writing(self) -> None:
        """Say that no more requests follow."""
        await self._stream.done_writing()

    def cancel(self) -> None:
        """End the stream now."""
        self._stream.cancel()


class NodePeer:
    """A node as its clients see it: one method a call of ``NodeService``."""

    def __init__(
        self, contact: Contact, channel: grpc.aio.Channel, metadata: _Metadata, *, owned: bool
    ) -> None:
        """Speak to ``contact`` over ``channel``, which ``close`` closes only if ``owned``."""
        self.contact = contact
        self.name = format_node_id(contact.node_id)
        self._channel = channel
        self._metadata = metadata
        self._owned = owned

    async def get_terms(self, *, timeout_s: float = UNARY_TIMEOUT_S) -> node_pb2.Terms:
        """What the node offers this caller."""
        return await self._unary("GetTerms", node_pb2.GetTermsRequest(), node_pb2.Terms, timeout_s)

    async def revise(
        self, request: node_pb2.ReviseRequest, *, timeout_s: float = UNARY_TIMEOUT_S
    ) -> node_pb2.ReviseReply:
        """Have the node countersign a revision; repeating a request is harmless.

        Raises:
            DealMismatch: The base is not the newest; ``evidence`` holds the newest, encoded
                as a ``Revision`` message.
        """
        return await self._unary("Revise", request, node_pb2.ReviseReply, timeout_s)

    async def get_revision(
        self,
        deal: DealId = NO_DEAL,
        *,
        after: bytes = b"",
        limit: int = 0,
        timeout_s: float = UNARY_TIMEOUT_S,
    ) -> node_pb2.GetRevisionReply:
        """The newest revision of the caller's ``deal``, and ``limit`` holdings past ``after``."""
        request = node_pb2.GetRevisionRequest(deal=deal, after=after, limit=limit)
        return await self._unary("GetRevision", request, node_pb2.GetRevisionReply, timeout_s)

    async def challenge(
        self, request: node_pb2.ChallengeRequest, *, timeout_s: float = UNARY_TIMEOUT_S
    ) -> node_pb2.ChallengeReply:
        """Have the node prove that it holds shards; the reply is untrusted."""
        return await self._unary("Challenge", request, node_pb2.ChallengeReply, timeout_s)

    async def get_pointer(self, key: bytes, *, timeout_s: float = UNARY_TIMEOUT_S) -> bytes | None:
        """The newest record under ``key`` that the node has; untrusted."""
        request = node_pb2.GetPointerRequest(key=key)
        reply = await self._unary("GetPointer", request, node_pb2.GetPointerReply, timeout_s)
        return reply.record or None

    def put_shards(self) -> ByteStream:
        """Open PutShard: see the proto file for the order of messages."""
        return self._stream("PutShard")

    def get_shards(self) -> ByteStream:
        """Open GetShard: encoded requests up, raw frames down."""
        return self._stream("GetShard")

    def put_pointers(self) -> PointerStream:
        """Open PutPointer."""
        return PointerStream(self._stream("PutPointer"), self.name)

    async def close(self) -> None:
        """End a fresh connection and its calls; a shared one stays."""
        if self._owned:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        """Use the peer in a block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close as ``close`` does."""
        await self.close()

    def _stream(self, method: str) -> ByteStream:
        opened: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = self._channel.stream_stream(
            _SERVICE + method
        )
        return ByteStream(opened(metadata=self._metadata), self.name)

    async def _unary(
        self, method: str, request: Message, reply: type[_Reply], timeout_s: float
    ) -> _Reply:
        call: Callable[..., Any] = self._channel.unary_unary(_SERVICE + method)
        try:
            async with asyncio.timeout(timeout_s):
                raw: bytes = await call(request.SerializeToString(), metadata=self._metadata)
        except TimeoutError:
            raise TimedOut(
                f"{self.name}: no answer to {method} in {timeout_s:g} s", peer=self.name
            ) from None
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, self.name) from None
        return _decode(reply, raw, self.name)


def _decode(kind: type[_Reply], raw: bytes, peer: str) -> _Reply:
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        raise MalformedMessage(
            f"{peer}: {len(raw)} bytes that are no {kind.__name__}", peer=peer, evidence=raw
        ) from error


class Connections:
    """Connections to many nodes, reused: the ``capacity`` used last stay open.

    One object belongs to one event loop. A connection that falls out of the cache ends when
    its last stream does.
    """

    def __init__(self, identity: SigningKey, network: NetworkId, *, capacity: int = 200) -> None:
        """Call as ``identity`` on ``network``."""
        self._leaf = tls.client_leaf(identity)
        self._metadata: _Metadata = ((options.NETWORK_KEY, network.hex()),)
        self._capacity = capacity
        self._channels: OrderedDict[tuple[bytes, str], grpc.aio.Channel] = OrderedDict()

    def peer(self, contact: Contact, *, fresh: bool = False) -> NodePeer:
        """The node at ``contact``; nothing is sent before the first call.

        Args:
            contact: Whom to reach, and where.
            fresh: Make a connection of its own, which the caller closes.
        """
        if fresh:
            channel = self._open(contact, ("grpc.use_local_subchannel_pool", 1))
            return NodePeer(contact, channel, self._metadata, owned=True)
        key = (contact.public_key, contact.address)
        cached = self._channels.pop(key, None) or self._open(contact)
        self._channels[key] = cached
        if len(self._channels) > self._capacity:
            self._channels.popitem(last=False)
        return NodePeer(contact, cached, self._metadata, owned=False)

    def _open(self, contact: Contact, *extra: options.ChannelOption) -> grpc.aio.Channel:
        name = ("grpc.ssl_target_name_override", tls.target_name(contact.node_id))
        return grpc.aio.secure_channel(
            contact.address,
            tls.channel_credentials(self._leaf, contact.public_key),
            options=(*options.CLIENT, name, *extra),
        )

    async def close(self) -> None:
        """End every shared connection and the calls on it."""
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()

    async def __aenter__(self) -> Self:
        """Use the connections in a block."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close all."""
        await self.close()
