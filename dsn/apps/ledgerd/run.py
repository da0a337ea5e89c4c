"""The ledger from start to graceful stop: one home, one store, one signer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from dsn.apps.ledger.chain import NO_CHAIN, Settling, check_settling, open_settling
from dsn.apps.ledger.engine import genesis_of
from dsn.apps.ledger.light import no_ledger_here
from dsn.apps.ledgerd.backup import CHECKPOINT_FILE
from dsn.apps.ledgerd.books import Books
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.apps.ledgerd.drand import DrandSource
from dsn.apps.ledgerd.epochs import Sleep, Timekeeper
from dsn.apps.ledgerd.faucet import Faucet
from dsn.apps.ledgerd.http import serve_http
from dsn.apps.ledgerd.publisher import SHORT_EPOCH_S, Publisher
from dsn.apps.ledgerd.service import LedgerService
from dsn.apps.ledgerd.settler import Settler
from dsn.apps.ledgerd.views import Views
from dsn.apps.ledgerd.witnesses import RemoteWitness, Witness
from dsn.apps.moving import Moving
from dsn.config import ChainSettings
from dsn.core.keys import IdentityKeys, SigningKey, node_id_of
from dsn.dht.network import Network
from dsn.errors import ConfigError, NotFound
from dsn.ids import format_node_id
from dsn.ledger.params import LedgerParams
from dsn.ledger.params_text import format_params
from dsn.ledger.settlement import SettlementKey
from dsn.ports import Clock, LedgerStore
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import LEDGER_SERVICE
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server
from dsn.rpc.standard import Health, reflection_methods
from dsn.runtime.control import control_socket
from dsn.runtime.kernel import Kernel
from dsn.runtime.loop import background
from dsn.store.files import PRIVATE_DIRECTORY, write_atomic
from dsn.store.home import Home
from dsn.store.ledger import create_ledger, open_ledger

GRACE_S: Final = 5.0
LAST_CHECKPOINT_S: Final = 5.0
"""What witnesses get for the last checkpoint, when the ledger stops."""
EPOCH_FILE: Final = "ledger.epoch"
_log = structlog.get_logger("ledger")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a ledger is kept and served.

    Attributes:
        store: A directory or ``postgresql://...``.
        state: A directory for what the process remembers beside its store.
        listen: ``HOST:PORT`` of the calls.
        http: ``HOST:PORT`` of checkpoint and tiles over HTTP; empty: none.
        record: Gets a line for every entry, if there is one.
        drand: Relays that rounds are fetched from, if the network's beacons are drand's.
    """

    store: str
    state: Path
    listen: str
    http: str = ""
    record: TextIO | None = None
    drand: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Ready:
    """What a ledger says once it serves."""

    node_id: str
    address: str
    http: str
    network: str


async def run_ledger(
    home: Home,
    place: Place,
    passphrase: bytes | None,
    *,
    clock: Clock,
    stopped: asyncio.Event,
    on_ready: Callable[[Ready], None],
    chain: ChainSettings = NO_CHAIN,
) -> None:
    """Serve until ``stopped`` is set; then finish what was taken and publish it.

    Raises:
        ConfigError: ``no_ledger_here``, ``not_operator``, ``other_ledger``, ``ledger_behind``,
            ``home_in_use``, ``ledger_in_use``, ``port_in_use``; with a vault also as
            ``open_chain``: ``no_endpoint``.
        DataLost: ``ledger_damaged``, or the disk failed: a restart finds what was acknowledged.
    """
    network = home.network()
    log_key, key = operator_keys(home.load_root(passphrase), network)
    params = network.ledger_params
    assert params is not None
    async with AsyncExitStack() as held:
        await held.enter_async_context(home.lock(wait=False))
        place.state.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        settling = await held.enter_async_context(open_settling(chain, key, params))
        ledger = await held.enter_async_context(
            serving(
                network,
                log_key,
                key,
                place,
                clock=clock,
                settling=settling,
            )
        )
        moving = Moving(home, network, ledger.connections)
        answer = moving.answering(ledger.answer)
        await held.enter_async_context(control_socket(home.control_socket, answer))
        _log.info("started", **asdict(ledger.ready), size=ledger.desk.size)
        on_ready(ledger.ready)
        await stopped.wait()
    _log.info("stopped", size=ledger.desk.size)


def operator_keys(root: bytes, network: Network) -> tuple[SigningKey, SettlementKey]:
    """The keys that sign for the ledger of ``network``, if they follow from ``root``.

    Raises:
        ConfigError: ``no_ledger_here``, ``not_operator``.
    """
    params = network.ledger_params
    if params is None:
        raise no_ledger_here(network)
    log_key = SigningKey(IdentityKeys.derive(root).identity_seed)
    key = SettlementKey.derive(root)
    if (log_key.public, key.address) != (params.log_key, params.operator):
        raise ConfigError(
            f"the ledger of {network.genesis.name} is run by another home",
            code="not_operator",
            hint="use the home whose keys the network file names as log_key and operator",
        )
    return log_key, key


def open_store(place: str, params: LedgerParams) -> LedgerStore:
    """The ledger at ``place``, open to sign; made if there is none.

    Raises:
        ConfigError: ``other_ledger``: it is another network's; or as ``open_ledger``.
    """
    try:
        store = open_ledger(place, signer=True)
    except NotFound:
        create_ledger(place, *genesis_of(params))
        store = open_ledger(place, signer=True)
    if store.genesis != format_params(params):
        store.close()
        raise ConfigError(
            "the ledger that is kept there has other parameters than the network file",
            code="other_ledger",
            hint="it belongs to another network; choose another place",
        )
    return store


@asynccontextmanager
async def serving(
    network: Network,
    log_key: SigningKey,
    key: SettlementKey,
    place: Place,
    *,
    clock: Clock,
    witnesses: Sequence[Witness] | None = None,
    sleep: Sleep = asyncio.sleep,
    settling: Settling | None = None,
) -> AsyncIterator[Ledger]:
    """Serve the ledger of ``network`` while the block runs.

    Args:
        network: Has a ledger.
        log_key: Its ``log_key``.
        key: Its operator's settlement key.
        place: Where.
        clock: The time.
        witnesses: In place of those that the network file says how to reach.
        sleep: How the operator's clock waits.
        settling: The network's chain, if it has one.

    Raises:
        As ``run_ledger``.
    """
    params = network.ledger_params
    assert params is not None
    check_settling(params, settling)
    with closing(open_store(place.store, params)) as store, Kernel() as thread:
        async with Connections(log_key, network.network_id) as connections:
            if witnesses is None:
                witnesses = [
                    RemoteWitness(contact, connections, params) for contact in network.witnesses
                ]
            ledger = Ledger(
                network, log_key, key, place, store, witnesses, thread, clock, sleep, settling
            )
            ledger.connections = connections
            async with ledger.serving():
                yield ledger


class Ledger:
    """What serves one ledger."""

    ready: Ready
    connections: Connections
    """Over which its witnesses are reached."""

    def __init__(
        self,
        network: Network,
        log_key: SigningKey,
        key: SettlementKey,
        place: Place,
        store: LedgerStore,
        witnesses: Sequence[Witness],
        thread: Kernel,
        clock: Clock,
        sleep: Sleep,
        settling: Settling | None = None,
    ) -> None:
        """Prepare to serve ``store``, which only ``thread`` touches from now on."""
        params = network.ledger_params
        assert params is not None
        self._network, self._log_key, self._place = network, log_key, place
        self._params, self._witnesses, self._clock = params, witnesses, clock
        books = Books(store, place.record)
        self.views = Views(books.sequencer.cells())
        self.desk = Desk(books, thread, clock)
        self.operator = Operator(params, log_key, key, self.desk)
        self._note_file = place.state / CHECKPOINT_FILE
        self.publisher = Publisher(
            self.desk,
            self.operator,
            self.views,
            witnesses,
            clock=clock,
            every_s=0.1 if params.epoch_s < SHORT_EPOCH_S else 1.0,
            keep=lambda note: write_atomic(self._note_file, note),
        )
        self.timekeeper = Timekeeper(
            self.desk,
            self.operator,
            self.publisher,
            witnesses,
            clock=clock,
            file=place.state / EPOCH_FILE,
            drand=DrandSource(place.drand, clock),
            sleep=sleep,
        )
        self.settler = None
        if settling is not None:
            self.settler = Settler(
                self.desk, self.operator, self.publisher, self.views, settling, place.state
            )
        vault = settling.vault if settling else None
        faucet = Faucet(self.desk, self.operator, clock, vault)
        service = LedgerService(self.desk, self.views, self.operator, faucet)
        self._health = Health([LEDGER_SERVICE])
        methods = (
            *service.methods(),
            *self._health.methods(),
            *reflection_methods([LEDGER_SERVICE]),
        )
        limits = Limits(address_limits=network.genesis.address_limits)
        self._server = Server(log_key, network.network_id, methods, limits)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve while the block runs; entries wait until the witnesses had their say.

        Raises:
            ConfigError: ``ledger_behind``, ``port_in_use``, ``bad_address``.
        """
        with suppress(FileNotFoundError):
            self.publisher.recall(self._note_file.read_bytes())
        async with AsyncExitStack() as held:
            bound = await self._server.start(self._place.listen)
            held.push_async_callback(self._server.stop, GRACE_S)
            http = ""
            if self._place.http:
                http = await held.enter_async_context(
                    serve_http(self._place.http, self.desk, self.views)
                )
            self.ready = Ready(
                node_id=format_node_id(node_id_of(self._log_key.public)),
                address=bound,
                http=http,
                network=self._network.genesis.name,
            )
            await self.publisher.consult()
            await self._health.start()
            held.push_async_callback(self._health.stop)
            work = [self.publisher.run(), self.timekeeper.run()]
            if self.settler:
                work.append(self.settler.run())
            async with background(*work):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.desk.run())
                    yield
                    self.desk.queue.close()
                await self._publish_last()

    async def answer(self, command: str) -> dict[str, Any]:
        """What this ledger tells commands of its home."""
        if command != "status":
            return {"error": "unknown command"}
        network = self.desk.books.network()
        head = self.desk.books.sequencer.head
        return {
            **asdict(self.ready),
            "size": head.size,
            "root": head.root.hex(),
            "epoch": network.epoch,
            "phase": network.phase.name.lower(),
            "doing": self.timekeeper.doing,
            "published": self.views.size,
            "quorum": self._params.quorum,
            "witnesses": [
                {
                    "name": witness.key.name,
                    "cosigned_s": self.publisher.cosigned_s.get(witness.key.name),
                }
                for witness in self._witnesses
            ],
            "not_cosigned": dict(self.publisher.refusals),
            "refused": dict(self.desk.refused),
            "queue": len(self.desk.queue),
            **({"anchor": self.settler.anchors.status()} if self.settler else {}),
        }

    async def _publish_last(self) -> None:
        """Let readers see all that was taken, if the witnesses are there."""
        try:
            async with asyncio.timeout(LAST_CHECKPOINT_S):
                await self.publisher.covers(self.desk.size)
        except TimeoutError:
            _log.warning("not published", size=self.desk.size, published=self.views.size)
