"""A witness from start to graceful stop: one home, one replica, one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from dsn.apps.chain.roles import WitnessWatch, watched_chain
from dsn.apps.ledger.asking import Asking
from dsn.apps.ledger.chain import NO_CHAIN, Settling, check_settling, open_settling
from dsn.apps.ledger.light import no_ledger_here
from dsn.apps.ledgerd.run import open_store
from dsn.apps.moving import Moving
from dsn.apps.witness.claims import ChainSource, Source
from dsn.apps.witness.files import EVIDENCE, WitnessFiles
from dsn.apps.witness.judge import Judge
from dsn.apps.witness.replica import Replica
from dsn.apps.witness.service import WitnessService
from dsn.apps.witness.source import LedgerSource
from dsn.chain import Chain
from dsn.config import ChainSettings
from dsn.core.keys import IdentityKeys, SigningKey, node_id_of
from dsn.dht.network import Network
from dsn.errors import ConfigError
from dsn.ids import format_node_id
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.trust import Trust
from dsn.ports import Clock, Entropy
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import WITNESS_SERVICE
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server
from dsn.rpc.standard import Health, reflection_methods
from dsn.runtime.control import control_socket
from dsn.runtime.kernel import Kernel
from dsn.runtime.loop import background
from dsn.store.home import Home

GRACE_S: Final = 5.0
COSIGN_S: Final = 30.0
"""What a checkpoint may take; replaying goes on after it, the next one finds less to do."""
PATIENCE_S: Final = 2.0
"""How long a ledger that asks for a cosignature may be silent when it is asked for its leaves."""
REPLICA: Final = "ledger"
_log = structlog.get_logger("witness")


@dataclass(frozen=True, slots=True)
class Ready:
    """What a witness says once it serves."""

    node_id: str
    address: str
    network: str
    size: int


async def run_witness(
    home: Home,
    listen: str,
    passphrase: bytes | None,
    *,
    clock: Clock,
    entropy: Entropy,
    stopped: asyncio.Event,
    on_ready: Callable[[Ready], None],
    chain: ChainSettings = NO_CHAIN,
) -> None:
    """Serve until ``stopped`` is set.

    Raises:
        ConfigError: ``no_ledger_here``, ``not_a_witness``, ``other_ledger``, ``home_in_use``,
            ``port_in_use``; with a vault also as ``open_chain``: ``no_endpoint``.
        DataLost: ``ledger_damaged``, ``witness_damaged``, or the disk failed.
    """
    network, root = home.network(), home.load_root(passphrase)
    key = SigningKey(IdentityKeys.derive(root).identity_seed)
    root_key = SettlementKey.derive(root)
    params = _trust(network, key, root_key).params
    async with (
        home.lock(wait=False),
        open_settling(chain, root_key, params) as settling,
        watched_chain(chain, root_key, params) as watched,
        serving(
            network,
            key,
            home.path,
            listen,
            clock=clock,
            entropy=entropy,
            root_key=root_key,
            settling=settling,
        ) as witness,
        control_socket(
            home.control_socket,
            Moving(home, network, witness.connections).answering(witness.answer),
        ),
        background(*_watch(watched, network, home, witness.connections)),
    ):
        _log.info("started", **asdict(witness.ready))
        on_ready(witness.ready)
        await stopped.wait()
    _log.info("stopped", node_id=witness.ready.node_id)


@asynccontextmanager
async def serving(
    network: Network,
    key: SigningKey,
    folder: Path,
    listen: str,
    *,
    clock: Clock,
    entropy: Entropy,
    root_key: SettlementKey | None = None,
    settling: Settling | None = None,
) -> AsyncIterator[Witness]:
    """Serve as a witness of the network's ledger while the block runs.

    Args:
        network: Says who the witnesses are and where the ledger is.
        key: The witness's identity.
        folder: Replica, state and evidence are in it.
        listen: ``HOST:PORT``.
        clock: The time that this witness goes by.
        entropy: Makes salts.
        root_key: Signs for the network's chain, if it has one.
        settling: That chain.

    Raises:
        As ``run_witness``.
    """
    trust = _trust(network, key, root_key)
    check_settling(trust.params, settling)
    with Kernel() as thread:
        store = await thread.run(open_store, str(folder / REPLICA), trust.params)
        try:
            files = WitnessFiles(folder / "state", folder / EVIDENCE)
            judge = await thread.run(
                lambda: Judge(key, trust, Replica(store), files, clock=clock, entropy=entropy)
            )
            async with Connections(key, network.network_id) as connections:
                ask = Asking(network.ledger, connections, clock, PATIENCE_S)
                source: Source = LedgerSource(ask)
                if settling is not None:
                    source = ChainSource(settling, source)
                if not trust.params.settles:
                    root_key = None
                service = WitnessService(judge, trust, source, thread, clock, root_key)
                witness = Witness(network, key, judge, service, connections)
                async with witness.serving(listen):
                    yield witness
        finally:
            await thread.run(store.close)


class Witness:
    """What serves one witness."""

    ready: Ready

    def __init__(
        self,
        network: Network,
        key: SigningKey,
        judge: Judge,
        service: WitnessService,
        connections: Connections,
    ) -> None:
        """Prepare to serve ``service``, which reaches the ledger over ``connections``."""
        self.connections = connections
        self._network, self._key = network, key
        self._judge, self._service = judge, service
        self._health = Health([WITNESS_SERVICE])
        methods = (
            *service.methods(),
            *self._health.methods(),
            *reflection_methods([WITNESS_SERVICE]),
        )
        limits = Limits(address_limits=network.genesis.address_limits, unary_s=COSIGN_S)
        self._server = Server(key, network.network_id, methods, limits)

    @asynccontextmanager
    async def serving(self, listen: str) -> AsyncIterator[None]:
        """Serve while the block runs; raises as ``Server.start``."""
        self.ready = Ready(
            node_id=format_node_id(node_id_of(self._key.public)),
            address=await self._server.start(listen),
            network=self._network.genesis.name,
            size=self._judge.size,
        )
        await self._health.start()
        async with asyncio.TaskGroup() as group:
            work = [self._service.run(), self._service.catch_up()]
            tasks = [group.create_task(each) for each in work]
            try:
                yield
            finally:
                await self._health.stop()
                await self._server.stop(GRACE_S)
                for task in tasks:
                    task.cancel()

    async def answer(self, command: str) -> dict[str, Any]:
        """What this witness tells commands of its home."""
        if command != "status":
            return {"error": "unknown command"}
        return asdict(self.ready) | self._judge.status() | {"refused": dict(self._service.refused)}


def _watch(
    chain: Chain | None, network: Network, home: Home, connections: Connections
) -> Iterator[Coroutine[None, None, None]]:
    """What goes on beside the calls where the network settles on ``chain``."""
    if chain is not None:
        yield WitnessWatch(chain, network, home, connections).run()


def _trust(network: Network, key: SigningKey, root_key: SettlementKey | None) -> Trust:
    """Whom this witness believes, if the network knows it as one."""
    params = network.ledger_params
    if params is None:
        raise no_ledger_here(network)
    if network.ledger is None:
        raise ConfigError(
            f"{network.genesis.name} does not say where its ledger is",
            code="no_ledger_here",
            hint="fetch a newer network file, with a [ledger] section",
        )
    known = key.public in params.witnesses
    if known and params.settles:
        known = root_key is not None and root_key.address in params.cosigners
    if not known:
        raise ConfigError(
            f"{format_node_id(node_id_of(key.public))} is no witness of {network.genesis.name}",
            code="not_a_witness",
            hint="the network file names the keys of all witnesses; use a home that has one",
        )
    return Trust.of(params)
