"""Whole nodes on loopback in this process, clients, and servers that are no honest node."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from dsn.apps import dht
from dsn.apps.dht import Dht
from dsn.apps.node import presence
from dsn.apps.node.presence import Presence
from dsn.apps.node.run import Node
from dsn.apps.nodes import Nodes
from dsn.apps.provider import NodeConfig, identity
from dsn.config import DhtSettings
from dsn.core.keys import SigningKey
from dsn.dht.book import AddressBook
from dsn.dht.contact import Contact
from dsn.dht.distance import nearest
from dsn.dht.keeping import Keeper
from dsn.dht.network import Genesis, Network, format_network, sign_network
from dsn.ids import NetworkId, NodeId
from dsn.ports import ShardStore
from dsn.rpc.channel import Connections
from dsn.rpc.dht import SERVICE, DhtPeer
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, Unary
from dsn.rpc.tls import Caller
from dsn.store.home import Home
from dsn.store.shards import open_store
from dsn.units import GIB
from dsn.v1 import dht_pb2
from tests.support.records import NOW_S, key
from tests.support.shard_stores import Served

LONG_S = 30.0
"""How long a busy machine may take for anything; never waited for when all is well."""
HOUR_S = 3_600
LOCAL = Limits(address_limits=False)
OPERATOR = key(999)
CLIENT = key(500)


class Clock:
    """Begins at ``NOW_S`` and runs as the machine's does, but for what it is set ahead or back."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self.ahead_s = 0.0
        self.passed_s = 0.0

    def now_s(self) -> float:
        return NOW_S + self.monotonic_s() - self._began_s + self.ahead_s

    def monotonic_s(self) -> float:
        return time.monotonic() + self.passed_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.passed_s += seconds


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait for what another task has to bring about."""
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, f"in {LONG_S} s not: {what}"
        await asyncio.sleep(0.005)


async def eventually(condition: Callable[[], Awaitable[object]], what: str) -> None:
    """As ``until``, where seeing takes a call."""
    end_s = time.monotonic() + LONG_S
    while not await condition():
        assert time.monotonic() < end_s, f"in {LONG_S} s not: {what}"
        await asyncio.sleep(0.02)


@dataclass
class Running:
    """A node that serves."""

    node: Node
    store: ShardStore
    home: Home
    contact: Contact
    served: Served = field(repr=False)

    @property
    def node_id(self) -> NodeId:
        return self.contact.node_id

    @property
    def key(self) -> SigningKey:
        return identity(self.home, None)

    @property
    def dht(self) -> Dht:
        return self.node.dht

    @property
    def presence(self) -> Presence:
        return self.node.presence

    @property
    def keeper(self) -> Keeper:
        return self.node._keeper

    def knows(self, contact: Contact) -> bool:
        """Whether ``contact`` has a place in the routing table, at its address."""
        return self.dht.table.get(contact.node_id) == contact


@asynccontextmanager
async def opened(root: Path, patch: pytest.MonkeyPatch, **constants: float) -> AsyncIterator[World]:
    """A world in ``root`` where ``constants`` of nodes differ; calls may take long unless told."""
    patch.setattr(dht, "HARD_S", constants.pop("HARD_S", LONG_S))
    for name, value in constants.items():
        patch.setattr(presence, name, value)
    world = World(root)
    try:
        yield world
    finally:
        await world.close()


class World:
    """One network, and who takes part in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock = root, Clock()
        self.genesis = Genesis("test", NOW_S, OPERATOR.public, "node", address_limits=False)
        self.nodes: list[Running] = []
        self._stack = AsyncExitStack()

    @property
    def network_id(self) -> NetworkId:
        return self.genesis.network_id

    def network(self, *seeds: Contact) -> Network:
        """The network file with ``seeds`` as its contacts."""
        return sign_network(self.genesis, seeds, OPERATOR.sign)

    # nodes

    def home(self, number: int) -> Home:
        """The home of node ``number``, made when it is not there."""
        path = self.root / f"home{number}"
        if not path.exists():
            home = Home.create(path, number.to_bytes(32, "big"))
            home.save_network(format_network(self.network()))
        return Home.open(path)

    async def start(self, number: int, *seeds: Contact, **settings: Any) -> Running:
        """As ``begin``, and wait until the node is in."""
        running = await self.begin(number, *seeds, **settings)
        await until(lambda: running.presence.joined, f"node {number} is in")
        return running

    async def begin(
        self,
        number: int,
        *seeds: Contact,
        listen: str = "127.0.0.1:0",
        address: str = "",
        refresh_s: float = HOUR_S,
    ) -> Running:
        """Run node ``number``, which gets in by way of ``seeds``, until the world ends."""
        home = self.home(number)
        finding = DhtSettings.model_construct(refresh_s=refresh_s, lan=False)
        config = NodeConfig(home, GIB, listen, address, finding)
        served = Served(self._serving(config, self.network(*seeds)))
        node, store = await served.start()
        contact = Contact(identity(home, None).public, node.ready.address)
        running = Running(node, store, home, contact, served)
        self.nodes.append(running)
        return running

    @asynccontextmanager
    async def _serving(
        self, config: NodeConfig, network: Network
    ) -> AsyncIterator[tuple[Node, ShardStore]]:
        async with open_store(
            config.volume, capacity_bytes=config.capacity_bytes, entropy=os.urandom, create=True
        ) as store:
            who = identity(config.home, None)
            node = Node(config, network, who, store, self.clock, os.urandom)
            async with node.serving():
                yield node, store

    async def grow(self, count: int, *, first: int = 0) -> list[Running]:
        """Run ``count`` nodes, one after the other; the first of them is the others' seed."""
        begun = [await self.start(first)]
        for number in range(first + 1, first + count):
            begun.append(await self.start(number, begun[0].contact))
        return begun

    async def stop(self, running: Running) -> None:
        """End a node."""
        self.nodes.remove(running)
        await running.served.stop()

    def nearest(self, target: bytes, count: int = 20) -> list[NodeId]:
        """Those of the running nodes that truly are nearest to ``target``."""
        everybody = [each.contact for each in self.nodes]
        return [each.node_id for each in nearest(everybody, target, count)]

    # others

    async def connections(
        self, who: SigningKey = CLIENT, network: NetworkId | None = None
    ) -> Connections:
        """Connections of ``who``, open as long as the world."""
        opened = Connections(who, network or self.network_id)
        return await self._stack.enter_async_context(opened)

    async def client(self, *seeds: Contact, who: SigningKey = CLIENT) -> Dht:
        """A client's view of the network, which begins with ``seeds``."""
        return Dht(
            await self.connections(who),
            self.network(*seeds),
            Contact(who.public, "").node_id,
            AddressBook(subnet_limits=False),
            clock=self.clock,
            entropy=os.urandom,
        )

    async def client_nodes(self, *seeds: Contact, who: SigningKey = CLIENT) -> Nodes:
        """The nodes as that client meets them; where the network file ends, it gives up."""

        async def seek() -> int:
            return 0

        connections = await self.connections(who)
        dht = await self.client(*seeds, who=who)
        return Nodes(dht, connections, seek, self.clock, os.urandom)

    async def peer(
        self,
        contact: Contact,
        *,
        who: SigningKey = CLIENT,
        address: str = "",
        network: NetworkId | None = None,
    ) -> DhtPeer:
        """Calls of ``who`` on ``contact``, as it says serving at ``address``."""
        connections = await self.connections(who, network)
        return DhtPeer(connections.line(contact), address, LONG_S)

    async def impostor(self, who: SigningKey, replies: Mapping[str, Reply]) -> Contact:
        """A server that proves ``who`` and answers as ``replies`` say, else with nothing."""
        server = Server(who, self.network_id, [*_methods(replies)], LOCAL)
        contact = Contact(who.public, await server.start("127.0.0.1:0"))
        self._stack.push_async_callback(server.stop, 0)
        return contact

    async def silent(self) -> Silent:
        """A port where all are let in and nobody is answered."""
        return await self._stack.enter_async_context(Silent().listening())

    async def close(self) -> None:
        """End everybody."""
        await self._stack.aclose()
        for running in list(self.nodes):
            await self.stop(running)


class Raw:
    """Bytes that go out as a message."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's
        return self._raw


Reply = Callable[[Caller, Any], Message | Raw]
_KINDS: dict[str, tuple[type[Message], type[Message]]] = {
    "Ping": (dht_pb2.PingRequest, dht_pb2.PingReply),
    "FindNode": (dht_pb2.FindNodeRequest, dht_pb2.FindNodeReply),
    "FindValue": (dht_pb2.FindValueRequest, dht_pb2.FindValueReply),
    "Store": (dht_pb2.StoreRequest, dht_pb2.StoreReply),
}


def _methods(replies: Mapping[str, Reply]) -> list[Unary]:
    def handler(reply: Reply) -> Callable[[Caller, Any], Awaitable[Any]]:
        async def handle(caller: Caller, request: Message) -> Any:
            return reply(caller, request)

        return handle

    return [
        Unary(f"/{SERVICE}/{name}", asked, handler(replies.get(name, lambda *_, a=answer: a())))
        for name, (asked, answer) in _KINDS.items()
    ]


class Silent(asyncio.Protocol):
    """A frozen host: connections are taken and stay open, and nothing ever comes back."""

    def __init__(self) -> None:
        self.address = ""
        self.taken = self.most_open = 0
        self.open = set[asyncio.BaseTransport]()

    def contact(self, number: int) -> Contact:
        """What key pair ``number`` would be here."""
        return Contact(key(number).public, self.address)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Silent]:
        """Take connections while the block runs."""
        server = await asyncio.get_running_loop().create_server(lambda: self, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for transport in self.open:
                transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.taken += 1
        self.open.add(transport)
        self.most_open = max(self.most_open, len(self.open))

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = {each for each in self.open if not each.is_closing()}
