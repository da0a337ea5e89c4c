"""A provider's node: one home, one volume, one port, from start to graceful stop."""

from __future__ import annotations

import asyncio
import json
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from dsn.apps.node.service import SERVICE, NodeService
from dsn.apps.node.terms import Self, Terms
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.errors import ConfigError, UsageError
from dsn.ids import format_base32, format_node_id
from dsn.ports import Clock, Entropy, ShardStore
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, split_address
from dsn.rpc.standard import Health, reflection_methods
from dsn.runtime.control import control_socket
from dsn.store.files import write_atomic
from dsn.store.home import Home
from dsn.store.shards import open_store
from dsn.units import MIB, format_size

GRACE_S: Final = 5.0
SWEEP_S: Final = 60.0
LEAST_CAPACITY_BYTES: Final = 64 * MIB
_log = structlog.get_logger("node")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node needs to know; paths follow from its home."""

    home: Home
    capacity_bytes: int
    listen: str
    passphrase: bytes | None = None

    @property
    def volume(self) -> Path:
        """Where the shards are."""
        return self.home.path / "volume"

    @property
    def socket(self) -> Path:
        """Where commands on this home reach the node."""
        return self.home.run / "control.sock"


@dataclass(frozen=True, slots=True)
class Ready:
    """What a node says once it serves."""

    node_id: str
    public_key: str
    address: str
    network: str
    shards: int


def identity(home: Home, passphrase: bytes | None) -> SigningKey:
    """The key that the home's node proves and signs with."""
    return SigningKey(IdentityKeys.derive(home.load_root(passphrase)).identity_seed)


def configure(home: Home, capacity_bytes: int, listen: str, settings_file: Path) -> None:
    """Write what the home offers into its settings, leaving all others as they are.

    Raises:
        UsageError: ``bad_capacity``: too little to be of use.
        ConfigError: ``capacity_too_large``: the disk has less; ``bad_address``.
    """
    split_address(listen)
    if capacity_bytes < LEAST_CAPACITY_BYTES:
        raise UsageError(
            f"a capacity of {format_size(capacity_bytes)}, at least "
            f"{format_size(LEAST_CAPACITY_BYTES)} needed",
            code="bad_capacity",
        )
    room = shutil.disk_usage(home.path).free + _size_of(home.path / "volume")
    if capacity_bytes > room:
        raise ConfigError(
            f"{format_size(capacity_bytes)} offered, the disk of {home.path} has "
            f"{format_size(room)}",
            hint="offer less, or put the home on a larger disk",
            code="capacity_too_large",
        )
    tables = tomllib.loads(settings_file.read_text("utf-8")) if settings_file.exists() else {}
    offer = {"capacity": capacity_bytes, "listen": listen}
    tables["provider"] = tables.get("provider", {}) | offer
    write_atomic(settings_file, _format_tables(tables).encode())


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
    key = identity(config.home, config.passphrase)
    network = config.home.network()
    made = config.home.state / "volume.made"
    async with (
        config.home.lock(wait=False),
        open_store(
            config.volume,
            capacity_bytes=config.capacity_bytes,
            entropy=entropy,
            create=not made.exists(),
        ) as store,
    ):
        config.home.state.mkdir(mode=0o700, exist_ok=True)
        made.touch(mode=0o600)
        me = Self(network.network_id, key, Terms())
        limits = Limits(address_limits=network.genesis.address_limits)
        node = _Node(me, store, clock, limits)
        address = await node.start(config.listen)
        ready = Ready(
            node_id=format_node_id(me.node_id),
            public_key=format_base32(key.public),
            address=address,
            network=network.genesis.name,
            shards=store.count,
        )
        try:
            async with control_socket(config.socket, _status(ready, store)):
                _log.info("started", **asdict(ready), **asdict(store.damage()))
                on_ready(ready)
                await _until(stopped, store, clock)
        finally:
            await node.stop()
    _log.info("stopped", node_id=ready.node_id)


class _Node:
    """Server, health and service as one thing to start and stop."""

    def __init__(self, me: Self, store: ShardStore, clock: Clock, limits: Limits) -> None:
        self._health = Health([SERVICE])
        methods = (
            *NodeService(me, store, clock, limits).methods(),
            *self._health.methods(),
            *reflection_methods([SERVICE]),
        )
        self._server = Server(me.key, me.network, methods, limits)

    async def start(self, listen: str) -> str:
        address = await self._server.start(listen)
        await self._health.start()
        return address

    async def stop(self) -> None:
        await self._health.stop()
        await self._server.stop(GRACE_S)


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


def _status(ready: Ready, store: ShardStore) -> Callable[[str], Any]:
    async def answer(command: str) -> dict[str, Any]:
        if command != "status":
            return {"error": "unknown command"}
        return asdict(ready) | {"shards": store.count} | asdict(store.space())

    return answer


def _size_of(volume: Path) -> int:
    """What a volume takes already, which its own capacity may count again."""
    files = (path for path in volume.rglob("*") if path.is_file())
    return sum(path.stat().st_blocks * 512 for path in files)


def _format_tables(tables: dict[str, dict[str, Any]]) -> str:
    """Settings as TOML: one level of tables whose values are written as JSON writes them."""
    lines: list[str] = []
    for section, values in tables.items():
        lines += [f"[{section}]", *(f"{key} = {json.dumps(v)}" for key, v in values.items()), ""]
    return "\n".join(lines)
