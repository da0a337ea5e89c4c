"""A verifier from start to graceful stop: one home, one replica, one port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

import structlog

from dsn.apps.client_parts import Parts, Setting, connected
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.asking import Asking
from dsn.apps.ledger.light import LightClient, no_ledger_here
from dsn.apps.ledgerd.run import open_store
from dsn.apps.moving import Moving
from dsn.apps.verifier.appeals import Appeals
from dsn.apps.verifier.archive import Archive
from dsn.apps.verifier.asking import Allowance, Interviewer, reach_by
from dsn.apps.verifier.convicting import Convictions
from dsn.apps.verifier.ledger import ReplayedLedger
from dsn.apps.verifier.live import LiveAudits
from dsn.apps.verifier.recording import Recorder
from dsn.apps.verifier.sampling import Sampler, Sampling
from dsn.apps.verifier.service import VerifierService
from dsn.apps.wallet import CHECKPOINT_FILE
from dsn.apps.witness.files import EVIDENCE, ReplayFiles
from dsn.apps.witness.run import PATIENCE_S, REPLICA
from dsn.apps.witness.source import LedgerSource
from dsn.config import ClientSettings, DhtSettings, VerifierSettings
from dsn.core.keys import node_id_of
from dsn.dht.network import Network
from dsn.errors import DataLost, DsnError, NoSpace
from dsn.ids import format_base32, format_node_id
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.trust import Trust
from dsn.ports import Clock, Entropy
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server
from dsn.rpc.standard import Health, reflection_methods
from dsn.rpc.verifier import AUDIT_TIMEOUT_S, VERIFIER_SERVICE
from dsn.runtime.control import control_socket
from dsn.runtime.kernel import Kernel
from dsn.runtime.loop import background
from dsn.store.home import Home
from dsn.store.verdicts import VerdictStore, open_verdicts

GRACE_S: Final = 5.0
VERDICTS: Final = "verifier.db"
BUNDLES_KEPT_S: Final = 35 * 86_400
"""As long as nodes keep their answers: after that nothing can be asked again."""
MOST_POLL_S: Final = 10.0
MOST_PATIENCE_S: Final = 600.0
"""A node that restarts within an epoch is not called silent; this is how long a reboot takes."""
_log = structlog.get_logger("verifier")


@dataclass(frozen=True, slots=True)
class VerifierConfig:
    """Whose verifier it is, and how it is set.

    Attributes:
        home: Whose.
        settings: Where it listens, and how much it looks at.
        dht: How nodes are found.
        client: What audits cost at most.
        slash: Whether it enters what convicts a provider.
        passphrase: Of the home's keys, if they have one.
    """

    home: Home
    settings: VerifierSettings
    dht: DhtSettings
    client: ClientSettings
    slash: bool = True
    passphrase: bytes | None = None


@dataclass(frozen=True, slots=True)
class Ready:
    """What a verifier says once it serves."""

    node_id: str
    public_key: str
    address: str
    network: str


async def run_verifier(
    config: VerifierConfig,
    *,
    clock: Clock,
    entropy: Entropy,
    stopped: asyncio.Event,
    on_ready: Callable[[Ready], None],
) -> None:
    """Serve until ``stopped`` is set.

    Raises:
        ConfigError: ``no_ledger_here``, ``other_ledger``, ``home_in_use``, ``port_in_use``.
        DataLost: ``ledger_damaged``, ``verdicts_damaged``, or the disk failed.
    """
    home = config.home
    async with (
        home.lock(wait=False),
        serving(config, clock=clock, entropy=entropy) as verifier,
        control_socket(home.control_socket, verifier.moving.answering(verifier.answer)),
    ):
        _log.info("started", **asdict(verifier.ready))
        on_ready(verifier.ready)
        await stopped.wait()
    _log.info("stopped", node_id=verifier.ready.node_id)


@asynccontextmanager
async def serving(
    config: VerifierConfig, *, clock: Clock, entropy: Entropy
) -> AsyncIterator[Verifier]:
    """Serve while the block runs; raises as ``run_verifier``."""
    home, root = config.home, config.home.load_root(config.passphrase)
    setting = Setting(
        home, root, config.dht, config.client, _log.info, lambda _: None, clock, entropy
    )
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(connected(setting))
        thread = stack.enter_context(Kernel())
        store = await stack.enter_async_context(open_verdicts(home.state / VERDICTS))
        trust = _trust(parts.nodes.network)
        ledger = await stack.enter_async_context(
            _replayed(home, trust, parts, store, thread, clock)
        )
        light = LightClient(
            parts.nodes.network, parts.connections, home.state / CHECKPOINT_FILE, clock
        )
        account = LedgerAccount(light, SettlementKey.derive(root)) if config.slash else None
        verifier = Verifier(config, parts, ledger, store, account, clock, entropy)
        await stack.enter_async_context(verifier.serving())
        yield verifier


@asynccontextmanager
async def _replayed(
    home: Home, trust: Trust, parts: Parts, store: VerdictStore, thread: Kernel, clock: Clock
) -> AsyncIterator[ReplayedLedger]:
    """The home's replica, open while the block runs."""
    draws = await store.draws()
    since = min((draw.opened for draw in draws if not draw.done), default=None)
    since = max((draw.opened for draw in draws), default=0) if since is None else since
    ledger = await thread.run(open_store, str(home.path / REPLICA), trust.params)
    try:
        files = ReplayFiles(home.state, home.path / EVIDENCE)
        archive = await thread.run(Archive, ledger, trust, files, since)
        ask = Asking(parts.nodes.network.ledger, parts.connections, clock, PATIENCE_S)
        yield ReplayedLedger(archive, trust, LedgerSource(ask), thread, clock)
    finally:
        await thread.run(ledger.close)


class Verifier:
    """What one verifier does, and where it serves."""

    ready: Ready

    def __init__(
        self,
        config: VerifierConfig,
        parts: Parts,
        ledger: ReplayedLedger,
        store: VerdictStore,
        account: LedgerAccount | None,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Prepare to look and to serve; convicts by ``account``, if there is one."""
        self._config, self._store, self._ledger, self._clock = config, store, ledger, clock
        self._network, self._key = parts.nodes.network, parts.identity
        self.moving = Moving(config.home, self._network, parts.connections)
        key, network = parts.identity, self._network.network_id
        params, reach = self._network.ledger_params, reach_by(parts.nodes)
        assert params is not None
        self._epoch_s = params.epoch_s
        allowance = Allowance(config.settings.budget, clock)
        interviewer = Interviewer(reach, network, allowance, clock)
        patient = Interviewer(
            reach, network, allowance, clock, patience_s=min(params.epoch_s, MOST_PATIENCE_S)
        )
        recorder = Recorder(key, network, ledger, store, clock)
        self._convictions = Convictions(ledger, config.home.path / EVIDENCE, account)
        self.sampler = Sampler(
            ledger,
            store,
            patient,
            recorder,
            Sampling(config.settings.links, config.settings.sample),
            self._convictions.convict,
            verifier=key.public,
        )
        audits = LiveAudits(key, parts.nodes, parts.manifests, store, clock, entropy)
        appeals = Appeals(store, interviewer, recorder, audits)
        service = VerifierService(store, audits, appeals, clock)
        self._health = Health([VERIFIER_SERVICE])
        methods = (
            *service.methods(),
            *self._health.methods(),
            *reflection_methods([VERIFIER_SERVICE]),
        )
        limited = self._network.genesis.address_limits
        limits = Limits(address_limits=limited, unary_s=AUDIT_TIMEOUT_S)
        self._server = Server(key, network, methods, limits)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve and look while the block runs; raises as ``Server.start``."""
        public = self._key.public
        self.ready = Ready(
            format_node_id(node_id_of(public)),
            format_base32(public),
            await self._server.start(self._config.settings.listen),
            self._network.genesis.name,
        )
        await self._health.start()
        await self.sampler.resume()
        try:
            async with background(self._work()):
                yield
        finally:
            await self._health.stop()
            await self._server.stop(GRACE_S)

    async def answer(self, command: str) -> dict[str, Any]:
        """What this verifier tells commands of its home."""
        if command != "status":
            return {"error": "unknown command"}
        signed = self._ledger.signed
        return asdict(self.ready) | {
            "size": signed.checkpoint.size if signed else 0,
            "epoch": signed.checkpoint.epoch if signed else 0,
            "looked": self.sampler.epoch,
            "verdicts": await self._store.count(),
            "since_start": dict(self.sampler.tally),
        }

    async def _work(self) -> None:
        """Follow the ledger and look at its epochs, for good.

        Raises:
            DataLost: This verifier's own disk failed.
        """
        pause_s = min(MOST_POLL_S, self._epoch_s / 10)
        while True:
            try:
                if await self._ledger.refresh():
                    await self.sampler.look_at_due()
                    await self._convictions.convict_overdue()
                    before_s = int(self._clock.now_s()) - BUNDLES_KEPT_S
                    await self._store.forget_bundles(before_s)
            except (DataLost, NoSpace):
                raise
            except DsnError as error:
                _log.warning("not looked", code=error.detail_code, reason=error.message)
            await asyncio.sleep(pause_s)


def _trust(network: Network) -> Trust:
    if network.ledger_params is None:
        raise no_ledger_here(network)
    return Trust.of(network.ledger_params)
