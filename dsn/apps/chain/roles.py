"""What each role does with its network's chain: the parts of this package, put together.

Spec: docs/spec/chain.md#watch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from dsn.apps.chain.accusing import EvidenceWatch
from dsn.apps.chain.auditing import AuditWatch
from dsn.apps.chain.connect import open_chain
from dsn.apps.chain.escape import Leaving
from dsn.apps.chain.replay import LogCopy, ServedLog, StoredLog
from dsn.apps.chain.under_way import FOLDER, UnderWay
from dsn.apps.chain.watch import DemandWatch, VaultWatch, watch
from dsn.apps.ledger.asking import Asking
from dsn.apps.ledger.reading import TOO_LARGE
from dsn.apps.witness.source import LedgerSource
from dsn.chain import Chain
from dsn.config import ChainSettings
from dsn.dht.contact import Contact
from dsn.dht.network import Network
from dsn.errors import ConfigError, DsnError, LimitReached
from dsn.ids import DealId, format_node_id
from dsn.ledger.bodies import SignedVoucher
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.tiles import TILE_WIDTH, Bundle, encode_bundle, parse_path
from dsn.ledger.voucher import Voucher
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import WitnessPeer
from dsn.runtime.clock import SystemClock
from dsn.store.deals import DealStore
from dsn.store.home import Home
from dsn.store.ledger import LEDGER_FILE

if TYPE_CHECKING:
    from dsn.apps.chain.answering import Answering

REPLICA = "ledger"
"""In a home: what an operator, a witness or a verifier has of the log."""
EVIDENCE = "evidence"
PATIENCE_S = 3.0
"""How long a ledger may be silent before its witnesses are asked."""
_log = structlog.get_logger("chain")


def copies_of(
    network: Network, connections: Connections, home: Home, named: Path | None = None
) -> list[LogCopy]:
    """The copies of the log that a home can ask: one that is named, its own, and what is served.

    Args:
        network: Says who serves.
        connections: To reach them.
        home: May have a replica.
        named: A ledger's or a witness's directory, if the owner knows one.
    """
    own = [] if named is None else [named]
    if (home.path / REPLICA / LEDGER_FILE).is_file():
        own.append(home.path / REPLICA)
    copies: list[LogCopy] = [StoredLog(str(each)) for each in own]
    if network.ledger is not None:
        ask = Asking(network.ledger, connections, SystemClock(), PATIENCE_S)
        copies.append(ServedLog("the ledger", LedgerSource(ask).read))
    return [*copies, *(_witnessed(each, connections) for each in network.witnesses)]


def _witnessed(contact: Contact, connections: Connections) -> ServedLog:
    async def get_tile(path: str) -> bytes:
        peer = WitnessPeer(connections.line(contact))
        try:
            return await peer.get_tile(path)
        except DsnError as error:
            bundle = parse_path(path)
            large = isinstance(error, LimitReached) or error.detail_code == TOO_LARGE
            if not large or not isinstance(bundle, Bundle):
                raise
        first = bundle.index * TILE_WIDTH
        leaves = [await peer.get_tile(f"leaf/{first + at}") for at in range(bundle.width)]
        return encode_bundle(leaves)

    return ServedLog(f"witness {format_node_id(contact.node_id)}", get_tile)


async def vouchers_of(store: DealStore) -> list[SignedVoucher]:
    """The newest vouchers that a provider's store has, of every deal and payer."""
    return [
        SignedVoucher(Voucher(deal.deal, tab.credits), by_delegate, tab.signature)
        for deal in await store.all()
        for by_delegate, tab in deal.tabs.items()
        if tab.signature
    ]


async def no_vouchers() -> Sequence[SignedVoucher]:
    """What a home without a node holds."""
    return ()


@asynccontextmanager
async def watched_chain(
    settings: ChainSettings, key: SettlementKey, params: LedgerParams | None
) -> AsyncIterator[Chain | None]:
    """The chain to watch while the block runs; nothing if there is none, or it is not to be.

    A role that cannot watch works all the same, and says so in its log.
    """
    async with AsyncExitStack() as held:
        chain = None
        if params is not None and params.settles and settings.watch:
            try:
                chain = await held.enter_async_context(open_chain(settings, key, params))
            except ConfigError as error:
                _log.warning("no watch", code=error.detail_code, reason=error.message)
        yield chain


class NodeWatch:
    """The watch of a node: it answers demands, and leaves a frozen vault."""

    def __init__(
        self,
        chain: Chain,
        network: Network,
        home: Home,
        connections: Connections,
        answering: Answering,
        store: DealStore,
    ) -> None:
        """Watch for the node of ``home``; ``answering`` and ``store`` are its."""
        params = network.ledger_params
        assert params is not None
        under_way = UnderWay(home.state / FOLDER, params.domain.vault)
        self.answering = answering

        async def running() -> list[DealId]:
            return [each.deal for each in await store.running()]

        self._demands = DemandWatch(chain, answering, running, under_way)
        copies, held = copies_of(network, connections, home), partial(vouchers_of, store)
        leaving = Leaving(chain, params, copies, held, under_way, _tell)
        self._vault = VaultWatch(chain, leaving, freezes=False)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._demands.run(asyncio.sleep))
            group.create_task(watch(self._vault.turn, "vault", asyncio.sleep))

    async def answer(self, deal: str) -> dict[str, Any]:
        """What ``dsn dispute answer`` is told: of the answer, or why there is none."""
        try:
            done = await self.answering.answer(DealId(bytes.fromhex(deal)))
        except DsnError as error:
            return {"error": error.detail_code, "message": error.message, "hint": error.hint}
        return {"deal": deal, "how": done.how, "block": done.number, "gas": done.gas}


class WitnessWatch:
    """The watch of a witness: it freezes when that is due, leaves, audits, and brings evidence."""

    def __init__(
        self, chain: Chain, network: Network, home: Home, connections: Connections
    ) -> None:
        """Watch for the witness of ``home``."""
        params = network.ledger_params
        assert params is not None
        under_way = UnderWay(home.state / FOLDER, params.domain.vault)
        copies = copies_of(network, connections, home)
        leaving = Leaving(chain, params, copies, no_vouchers, under_way, _tell)
        self._vault = VaultWatch(chain, leaving, freezes=True)
        folder = home.path / EVIDENCE
        self._evidence = EvidenceWatch(chain, params, folder, copies, under_way)
        self._audit = AuditWatch(chain, params, copies, under_way)

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(watch(self._vault.turn, "vault", asyncio.sleep))
            group.create_task(watch(self._evidence.turn, "evidence", asyncio.sleep))
            group.create_task(watch(self._audit.turn, "audit", asyncio.sleep))


def _tell(text: str) -> None:
    _log.info(text)
