"""A node from start to graceful stop: one home, one volume, one port, one place in the DHT."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog

from dsn.apps.chain.answering import Answering, newest_of
from dsn.apps.chain.roles import NodeWatch, watched_chain
from dsn.apps.dht import Dht
from dsn.apps.entrance import Entrance
from dsn.apps.moving import Moving
from dsn.apps.node.dht import DhtService
from dsn.apps.node.money import Books, Money, open_books
from dsn.apps.node.openings import Opener
from dsn.apps.node.presence import OwnRecord, Presence
from dsn.apps.node.pricing import Pricing
from dsn.apps.node.scrub import Scrub
from dsn.apps.node.service import SERVICE, NodeService
from dsn.apps.node.terms import Self
from dsn.apps.provider import NodeConfig
from dsn.apps.trace import peers_of, traces
from dsn.chain import Chain
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import Contact
from dsn.dht.keeping import Keeper
from dsn.dht.network import Network
from dsn.errors import DsnError
from dsn.ids import format_base32, format_node_id
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.terms import Terms
from dsn.ports import Clock, Entropy, ShardStore
from dsn.rpc.channel import Connections
from dsn.rpc.dht import SERVICE as DHT_SERVICE
from dsn.rpc.limits import Limits
from dsn.rpc.server import Method, Server, split_address
from dsn.rpc.standard import Health, reflection_methods
from dsn.runtime.control import control_socket
from dsn.runtime.loop import background
from dsn.store.files import write_atomic
from dsn.store.shards import open_store

GRACE_S: Final = 5.0
SWEEP_S: Final = 60.0
RECORDS_FILE: Final = "records"
SCRUB_FILE: Final = "scrub"
LOOPBACK: Final = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
ANYWHERE: Final = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}
"""Addresses of nobody (RFC 5737, RFC 3849): which way would a packet leave?"""
_log = structlog.get_logger("node")


@dataclass(frozen=True, slots=True)
class Ready:
    """What a node says once it serves."""

    node_id: str
    public_key: str
    address: str
    network: str
    shards: int


async def run_node(
    config: NodeConfig,
    *,
    clock: Clock,
    entropy: Entropy,
    stopped: asyncio.Event,
    on_ready: Callable[[Ready], None],
) -> None:
    """Serve until ``stopped`` is set, then finish what is under way.

    Raises:
        ConfigError: ``home_in_use``, ``port_in_use``, ``no_network`` and whatever else keeps it
            from starting.
        DataLost: The disk failed; a restart finds everything that was acknowledged.
    """
    root = config.home.load_root(config.passphrase)
    key, payee = SigningKey(IdentityKeys.derive(root).identity_seed), SettlementKey.derive(root)
    network = config.home.network()
    config.home.state.mkdir(mode=0o700, exist_ok=True)
    made = config.home.state / "volume.made"
    async with (
        config.home.lock(wait=False),
        open_books(config.home, network, payee) as books,
        watched_chain(config.chain, payee, network.ledger_params) as chain,
        open_store(
            config.volume,
            capacity_bytes=config.capacity_bytes,
            entropy=entropy,
            create=not made.exists(),
        ) as store,
    ):
        made.touch(mode=0o600)
        node = Node(config, network, key, store, clock, entropy, books, chain)
        moving = Moving(config.home, network, node.connections, node.know)
        answer = moving.answering(node.answer)
        async with node.serving() as ready, control_socket(config.home.control_socket, answer):
            _log.info("started", **asdict(ready), **asdict(store.damage()))
            on_ready(ready)
            await _until(stopped, store, clock)
    _log.info("stopped", node_id=ready.node_id)


class Node:
    """One node: what it stores, what it keeps for others, and its place among them."""

    def __init__(
        self,
        config: NodeConfig,
        network: Network,
        key: SigningKey,
        store: ShardStore,
        clock: Clock,
        entropy: Entropy,
        books: Books | None = None,
        chain: Chain | None = None,
    ) -> None:
        """Prepare to serve ``store`` in ``network``; with ``books``, for pay; watch ``chain``."""
        limits = Limits(address_limits=network.genesis.address_limits)
        home, self._config, self._network, self._key = config.home, config, network, key
        self._store, self._clock = store, clock
        self.connections = Connections(key, network.network_id)
        self.scrub = Scrub(store, home.state / SCRUB_FILE, config.prices.scrub_days, clock)
        opener = Opener(store, self.scrub.suspect)
        self.money: Money | None = None
        if books is not None:
            parts = (self.connections, config, store, opener, self.scrub, clock)
            self.money = Money(books, network, key, *parts)
        self.watch = self._watching(chain, opener)
        me = self.money.me if self.money else Self(network.network_id, key, Terms())
        self._pricing = Pricing(me, config.prices, clock)
        self._keeper = Keeper(network.network_id)
        self._health = Health([SERVICE, DHT_SERVICE])
        book = home.book(network)
        self.dht = Dht(self.connections, network, me.node_id, book, clock=clock, entropy=entropy)
        self._entrance = Entrance(self.dht, config.dht, clock)
        self.presence = Presence(
            self.dht,
            store,
            OwnRecord(me, store, home.state / "node.record", clock),
            seek=self._entrance.seek,
            save=lambda: home.save_book(book),
            refresh_s=config.dht.refresh_s,
            clock=clock,
            entropy=entropy,
        )
        self.dht.own = self.presence.own.encoded
        service = NodeService(
            me,
            store,
            clock,
            limits,
            deals=self.money.deals if self.money else None,
            opener=opener,
            answers=books.answers if books else None,
            scrub=self.scrub,
        )
        self._directory = DhtService(
            self.dht,
            self._keeper,
            own=self.presence.own.encoded,
            held=service.held_record,
            hinted=self.presence.hinted,
            clock=clock,
        )
        self._server = Server(key, network.network_id, self._methods(service), limits)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Ready]:
        """Serve and be found while the block runs; remember contacts and records after it."""
        config, dht = self._config, self.dht
        self._load_records()
        bound = await self._server.start(config.listen)
        dht.address = config.address or reachable_address(bound, dht.seeds())
        self.presence.own.address = dht.address
        await self._health.start()
        self.ready = Ready(
            node_id=format_node_id(dht.table.me),
            public_key=format_base32(self._key.public),
            address=bound,
            network=self._network.genesis.name,
            shards=self._store.count,
        )
        try:
            async with (
                self._entrance.opened(Contact(self._key.public, dht.address), bound),
                background(*self._work()),
            ):
                yield self.ready
        finally:
            await self._health.stop()
            await self._server.stop(GRACE_S)
            if self.money is not None:
                await self.money.close()
            await self.connections.close()
            config.home.save_book(dht.book)
            write_atomic(config.home.state / RECORDS_FILE, self._keeper.encode())

    def know(self, network: Network) -> None:
        """Begin from the contacts of a newer network file when no other answers."""
        self.dht.network = network

    def _work(self) -> Iterator[Coroutine[None, None, None]]:
        """What goes on beside the calls."""
        yield self._directory.greeter.run()
        yield self.presence.run()
        yield self.scrub.run()
        if self.money is not None:
            yield self.money.run()
        if self.watch is not None:
            yield self.watch.run()

    async def answer(self, command: str) -> dict[str, Any]:
        """What this node tells commands of its home."""
        name, *words = command.split()
        now_s = self._clock.now_s()
        if name == "status":
            return self._status() | (await self.money.status() if self.money else {})
        if name == "earnings" and self.money is not None:
            return (await self.money.earnings()).fields()
        if name == "price":
            answer = self._pricing.answer(words)
            self.presence.own.renew()
            return answer
        if name == "declare-loss" and self.money is not None:
            return await self.money.losses.answer(words)
        if name == "answer-demand" and self.watch is not None:
            return await self.watch.answer(*words)
        if name == "peers":
            return {"peers": peers_of(self.dht, now_s)}
        if name == "record":
            return {"record": format_base32(self.presence.own.encoded())}
        if name == "trace":
            paths, *keys = words
            return {"traces": await traces(self.dht, keys, int(paths), self._clock)}
        return {"error": "unknown command"}

    def _methods(self, service: NodeService) -> list[Method]:
        """Every call that this node answers."""
        methods = [*service.methods(), *self._directory.methods(), *self._health.methods()]
        return [*methods, *reflection_methods([SERVICE, DHT_SERVICE])]

    def _watching(self, chain: Chain | None, opener: Opener) -> NodeWatch | None:
        """What this node does about ``chain`` by itself, if there is one and it is reached."""
        if chain is None or self.money is None:
            return None
        money, home = self.money, self._config.home
        answering = Answering(chain, money.inventories, opener, newest_of(money.deals))
        parts = (self.connections, answering, money.deals.store)
        return NodeWatch(chain, self._network, home, *parts)

    def _status(self) -> dict[str, Any]:
        network = {
            "joined": self.presence.joined,
            "reachable": self.presence.reachable,
            "reach": self.dht.address,
            "contacts": len(self.dht.table),
            "records": len(self._keeper),
            "refused_records": dict(self._keeper.refused),
        }
        status = asdict(self.ready) | {"shards": self._store.count}
        return status | network | self.scrub.status() | asdict(self._store.space())

    def _load_records(self) -> None:
        file = self._config.home.state / RECORDS_FILE
        if file.exists():
            try:
                self._keeper.load(file.read_bytes(), self._clock.now_s())
            except DsnError as error:
                _log.warning("records forgotten", reason=error.message)


def reachable_address(bound: str, seeds: Sequence[Contact]) -> str:
    """Where others may reach what listens at ``bound``: of a wildcard, this machine's address.

    Args:
        bound: ``HOST:PORT`` that the server is bound to.
        seeds: Whom this machine would talk to; the address it uses for that is chosen.
    """
    host, port = split_address(bound)
    if host not in ("0.0.0.0", "::"):
        return bound
    family = socket.AF_INET if host == "0.0.0.0" else socket.AF_INET6
    towards = seeds[0].host if seeds else ANYWHERE[family]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((towards, 9))  # sends nothing
            host = probe.getsockname()[0]
        except OSError:
            host = LOOPBACK[family]
    return f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"


async def _until(stopped: asyncio.Event, store: ShardStore, clock: Clock) -> None:
    """Keep the store tidy until ``stopped``."""
    while not stopped.is_set():
        if swept := await store.sweep(clock.now_s()):
            _log.info("swept", shards=swept)
        if freed := await store.compact():
            _log.info("compacted", bytes=freed)
        try:
            async with asyncio.timeout(SWEEP_S):
                await stopped.wait()
        except TimeoutError:
            continue
