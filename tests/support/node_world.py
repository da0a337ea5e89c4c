"""A node with a real store and a real server in this process, and a client that talks to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dsn.apps.node.service import NodeService
from dsn.apps.node.terms import Self, Terms
from dsn.core.keys import SigningKey
from dsn.core.merkle import ShardHasher
from dsn.dht.contact import Contact
from dsn.ids import NO_DEAL, Commit, NetworkId
from dsn.ledger.receipt import Receipt, verify_receipt
from dsn.ledger.revision import (
    Parties,
    Revision,
    first_revision,
    next_revision,
    sign_revision,
    verify_node_signature,
)
from dsn.proofs.inventory import holdings
from dsn.rpc.channel import ByteStream, Connections, NodePeer
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server
from dsn.runtime.clock import SystemClock
from dsn.store.shards import DiskStore, open_store
from dsn.units import FRAME_BYTES, GIB, MIB, SMALL_SHARD_BYTES, leaf_count
from dsn.v1 import node_pb2
from dsn.wire import convert
from dsn.wire.convert import SignedRevision

NETWORK = NetworkId(b"test network".ljust(32))
LOCAL = Limits(address_limits=False)


@dataclass(frozen=True)
class Shard:
    """Bytes and their name."""

    data: bytes = field(repr=False)

    @property
    def commit(self) -> Commit:
        return ShardHasher.over(self.data).commit()

    @property
    def entry(self) -> tuple[Commit, int]:
        """As holdings name it."""
        return self.commit, leaf_count(len(self.data))

    def messages(self) -> list[bytes]:
        """The group that stores it."""
        size = len(self.data)
        if size <= SMALL_SHARD_BYTES:
            return [together(self)]
        header = node_pb2.PutHeader(deal=NO_DEAL, length=size).SerializeToString()
        frames = [self.data[at : at + FRAME_BYTES] for at in range(0, size, FRAME_BYTES)]
        trailer = node_pb2.PutTrailer(commit=self.commit).SerializeToString()
        return [header, *frames, trailer]


def together(*group: Shard, records: Iterable[bytes] = ()) -> bytes:
    """One group of small shards, and the records that go with them."""
    small = [node_pb2.SmallShard(data=shard.data, commit=shard.commit) for shard in group]
    return node_pb2.PutHeader(deal=NO_DEAL, small=small, records=records).SerializeToString()


def shards(*sizes: int) -> list[Shard]:
    """Shards that nobody ever saw before."""
    return [Shard(os.urandom(size)) for size in sizes]


SIZES = (1, 1_024, 5_000, SMALL_SHARD_BYTES, SMALL_SHARD_BYTES + 1, MIB, 2 * MIB + 77)
"""Both sides of every border: one leaf, one message, one frame."""


@dataclass
class Client:
    """One identity and what it knows of the node."""

    key: SigningKey
    peer: NodePeer
    network: NetworkId = NETWORK

    @property
    def parties(self) -> Parties:
        return Parties(self.network, self.peer.contact.public_key, self.key.public)

    async def put(self, *group: Shard) -> list[Receipt]:
        """Store ``group`` over one stream; every receipt is checked."""
        stream = self.peer.put_shards()
        for shard in group:
            for message in shard.messages():
                await stream.write(message)
        await stream.done_writing()
        receipts = [(await self.receipts(stream))[0] for _ in group]
        assert await stream.read() is None
        return receipts

    async def receipts(self, stream: ByteStream) -> list[Receipt]:
        """The next group's receipts, verified."""
        raw = await stream.read()
        assert raw is not None
        signed = convert.receipts_from_wire(raw)
        public = self.peer.contact.public_key
        for receipt, signature in signed:
            verify_receipt(receipt, signature, network=self.network, public_key=public)
        return [receipt for receipt, _ in signed]

    async def get(self, commit: Commit, start: int, end: int, first: int = FRAME_BYTES) -> bytes:
        """A range of a shard."""
        stream = self.peer.get_shards()
        await stream.write(get_request(commit, start, end, first))
        await stream.done_writing()
        return b"".join([frame async for frame in frames_of(stream)])

    async def newest(self) -> Revision:
        """What the node says both signed last."""
        reply = await self.peer.get_revision()
        return convert.revision_from_wire(reply.revision).revision

    def request(
        self,
        base: Revision,
        held: Iterable[Shard],
        add: Iterable[Shard],
        drop: Iterable[Shard] = (),
    ) -> node_pb2.ReviseRequest:
        """The signed request for the revision after ``base`` that holds exactly ``held``."""
        revision = next_revision(base, holdings(shard.entry for shard in held))
        signature = sign_revision(revision, self.parties, self.key.sign)
        return node_pb2.ReviseRequest(
            revision=convert.revision_to_wire(SignedRevision(revision, signature, b"")),
            add=[shard.commit for shard in add],
            drop=[shard.commit for shard in drop],
        )

    async def hold(self, *group: Shard) -> Revision:
        """Put ``group`` and have it held; nothing else is."""
        await self.put(*group)
        base = first_revision(NO_DEAL)
        return await self.revise(self.request(base, group, group))

    async def revise(self, request: node_pb2.ReviseRequest) -> Revision:
        """Send ``request``; the countersignature is checked."""
        signed = convert.revision_from_wire((await self.peer.revise(request)).revision)
        verify_node_signature(signed.revision, self.parties, signed.node_signature)
        return signed.revision


def get_request(commit: Commit, start: int, end: int, first: int = FRAME_BYTES) -> bytes:
    """An encoded request of GetShard."""
    return node_pb2.GetShardRequest(
        commit=commit, start=start, end=end, first_frame=first
    ).SerializeToString()


async def frames_of(stream: ByteStream) -> AsyncIterator[bytes]:
    """Every message until the stream ends."""
    while (frame := await stream.read()) is not None:
        yield frame


@dataclass
class World:
    """A running node and the connections of its clients."""

    contact: Contact
    key: SigningKey
    store: DiskStore
    volume: Path
    _opened: list[Connections]

    def client(self, seed: int = 1) -> Client:
        """A client with its own identity and connection."""
        key = SigningKey(bytes([seed]) * 32)
        connections = Connections(key, NETWORK)
        self._opened.append(connections)
        return Client(key, connections.peer(self.contact))


@asynccontextmanager
async def running(
    root: Path, *, limits: Limits = LOCAL, terms: Terms | None = None, capacity: int = GIB
) -> AsyncIterator[World]:
    """A node on ``root``'s volume; the same node every time for the same ``root``."""
    me = Self(NETWORK, SigningKey(b"N" * 32), terms or Terms())
    async with open_store(
        root / "volume", capacity_bytes=capacity, entropy=os.urandom, create=True
    ) as store:
        service = NodeService(me, store, SystemClock(), limits)
        server = Server(me.key, NETWORK, service.methods(), limits)
        address = await server.start("127.0.0.1:0")
        world = World(Contact(me.key.public, address), me.key, store, root / "volume", [])
        try:
            yield world
        finally:
            for connections in world._opened:
                await connections.close()
            await server.stop(0)
