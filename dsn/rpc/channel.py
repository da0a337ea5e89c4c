"""The calling side: connections to nodes, each pinned to the node's key."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.ids import NO_DEAL, Commit, DealId, NetworkId
from dsn.rpc import options, tls
from dsn.rpc.line import ByteStream, Line, Metadata, Meter
from dsn.v1 import node_pb2

UNARY_TIMEOUT_S = 10.0
_SERVICE = "/dsn.v1.NodeService/"
_Reply = TypeVar("_Reply", bound=Message)


class NodePeer:
    """A node as its clients see it: one method a call of ``NodeService``."""

    def __init__(self, line: Line, *, owned: bool = False) -> None:
        """Speak over ``line``, which ``close`` closes only if it is ``owned``."""
        self.contact = line.contact
        self.name = line.name
        self._line = line
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

    async def get_answer(
        self, epoch: int, places: Sequence[int] = (), *, timeout_s: float = UNARY_TIMEOUT_S
    ) -> node_pb2.GetAnswerReply:
        """The node's link of ``epoch``, and the openings at ``places`` under it; untrusted."""
        request = node_pb2.GetAnswerRequest(epoch=epoch, places=places)
        return await self._unary("GetAnswer", request, node_pb2.GetAnswerReply, timeout_s)

    async def put_leaves(
        self,
        commit: Commit,
        leaves: Mapping[int, bytes],
        *,
        timeout_s: float = UNARY_TIMEOUT_S,
    ) -> node_pb2.PutLeafReply:
        """Give rotten ``leaves`` of a shard back, by index; says which are still rotten."""
        sent = [node_pb2.Leaf(index=index, data=data) for index, data in leaves.items()]
        request = node_pb2.PutLeafRequest(commit=commit, leaves=sent)
        return await self._unary("PutLeaf", request, node_pb2.PutLeafReply, timeout_s)

    async def get_pointer(self, key: bytes, *, timeout_s: float = UNARY_TIMEOUT_S) -> bytes | None:
        """The newest record under ``key`` that the node has; untrusted."""
        request = node_pb2.GetPointerRequest(key=key)
        reply = await self._unary("GetPointer", request, node_pb2.GetPointerReply, timeout_s)
        return reply.record or None

    async def put_pointers(
        self, records: Sequence[bytes], *, timeout_s: float = UNARY_TIMEOUT_S
    ) -> dict[int, str]:
        """Have the node keep records of what it holds; gives the codes of those it refuses."""
        request = node_pb2.PutPointerRequest(records=records)
        reply = await self._unary("PutPointer", request, node_pb2.PutPointerReply, timeout_s)
        return {refusal.index: refusal.code for refusal in reply.refusals}

    def put_shards(self) -> ByteStream:
        """Open PutShard: see the proto file for the order of messages."""
        return self._stream("PutShard")

    def get_shards(self) -> ByteStream:
        """Open GetShard: encoded requests up, raw frames down."""
        return self._stream("GetShard")

    async def close(self) -> None:
        """End a fresh connection and its calls; a shared one stays."""
        if self._owned:
            await self._line.close()

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
        return self._line.stream(_SERVICE + method)

    async def _unary(
        self, method: str, request: Message, reply: type[_Reply], timeout_s: float
    ) -> _Reply:
        return await self._line.unary(_SERVICE + method, request, reply, timeout_s)


class Connections:
    """Connections to many nodes, reused: the ``capacity`` used last stay open.

    One object belongs to one event loop. A connection that falls out of the cache ends when
    its last stream does.
    """

    def __init__(self, identity: SigningKey, network: NetworkId, *, capacity: int = 200) -> None:
        """Call as ``identity`` on ``network``."""
        self._leaf = tls.client_leaf(identity)
        self._metadata: Metadata = ((options.NETWORK_KEY, network.hex()),)
        self._capacity = capacity
        self.meter = Meter()
        self._lines: OrderedDict[tuple[bytes, str], Line] = OrderedDict()
        self._moved: Mapping[Contact, Contact] = {}

    def move(self, moved: Mapping[Contact, Contact]) -> None:
        """From now on reach these contacts where they are now; earlier moves no longer count."""
        self._moved = dict(moved)

    def peer(self, contact: Contact, *, fresh: bool = False) -> NodePeer:
        """The node at ``contact``; nothing is sent before the first call.

        Args:
            contact: Whom to reach, and where.
            fresh: Make a connection of its own, which the caller closes.
        """
        if fresh:
            line = self._open(contact, ("grpc.use_local_subchannel_pool", 1))
            return NodePeer(line, owned=True)
        return NodePeer(self.line(contact))

    def line(self, contact: Contact) -> Line:
        """The shared connection to ``contact``."""
        contact = self._moved.get(contact, contact)
        key = (contact.public_key, contact.address)
        line = self._lines.pop(key, None) or self._open(contact)
        self._lines[key] = line
        if len(self._lines) > self._capacity:
            self._lines.popitem(last=False)
        return line

    def forget(self, contact: Contact) -> None:
        """Let the shared connection go: the next call connects anew, without gRPC's back-off."""
        contact = self._moved.get(contact, contact)
        self._lines.pop((contact.public_key, contact.address), None)

    def _open(self, contact: Contact, *extra: options.ChannelOption) -> Line:
        name = ("grpc.ssl_target_name_override", tls.target_name(contact.node_id))
        # The scheme is ours to name: left to an untrusted address, it could be a local socket.
        channel = grpc.aio.secure_channel(
            f"dns:///{contact.address}",
            tls.channel_credentials(self._leaf, contact.public_key),
            options=(*options.CLIENT, name, *extra),
        )
        return Line(contact, channel, self._metadata, self.meter)

    async def close(self) -> None:
        """End every shared connection and the calls on it."""
        while self._lines:
            _, line = self._lines.popitem()
            await line.close()

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
