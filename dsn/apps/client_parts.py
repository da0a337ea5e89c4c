"""What a client is made of, put together for one home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dsn.apps.deal_file import FOLDER
from dsn.apps.deals import Deals
from dsn.apps.dht import Dht
from dsn.apps.entrance import Entrance
from dsn.apps.faults import Faults
from dsn.apps.gets import Gets
from dsn.apps.holdings import Holdings
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.apps.manifests import Manifests
from dsn.apps.names import Catalogue
from dsn.apps.nodes import Nodes
from dsn.apps.results import NoticeSink, ProgressSink
from dsn.apps.scores import Scores
from dsn.apps.wallet import CHECKPOINT_FILE
from dsn.config import ClientSettings, DhtSettings
from dsn.core.keys import IdentityKeys, SigningKey, node_id_of
from dsn.ids import NetworkId
from dsn.ledger.settlement import SettlementKey
from dsn.ports import Clock, Entropy
from dsn.rpc.channel import Connections
from dsn.runtime.kernel import Kernel
from dsn.store.home import Home


@dataclass(frozen=True, slots=True)
class Setting:
    """Whose client it is, how it is set, and whom it tells.

    Attributes:
        home: Whose.
        root: 32 secret bytes that its keys derive from.
        dht: How nodes are found.
        storing: How long what is stored is paid for, and how much may be.
        notice: Told what a person should know.
        progress: Told the steps of long work.
        clock: This machine's.
        entropy: This machine's.
    """

    home: Home
    root: bytes
    dht: DhtSettings
    storing: ClientSettings
    notice: NoticeSink
    progress: ProgressSink
    clock: Clock
    entropy: Entropy


@dataclass(frozen=True, slots=True)
class Parts:
    """What commands work with."""

    dht: Dht
    nodes: Nodes
    faults: Faults
    deals: Deals
    manifests: Manifests
    holdings: Holdings
    catalogue: Catalogue
    gets: Gets
    kernel: Kernel
    identity: SigningKey
    connections: Connections


@asynccontextmanager
async def connected(setting: Setting) -> AsyncIterator[Parts]:
    """The parts of a client, connected; whatever is to be remembered is saved after the block.

    Raises:
        ConfigError: The home has joined no network.
    """
    home, network = setting.home, setting.home.network()
    keys, clock, entropy = IdentityKeys.derive(setting.root), setting.clock, setting.entropy
    identity, state = SigningKey(keys.identity_seed), home.state
    state.mkdir(exist_ok=True, mode=0o700)
    async with AsyncExitStack() as stack:
        kernel = stack.enter_context(Kernel())
        connections = Connections(identity, network.network_id)
        await stack.enter_async_context(connections)
        me, book = node_id_of(identity.public), home.book(network)
        dht = Dht(connections, network, me, book, clock=clock, entropy=entropy)
        stack.callback(lambda: home.save_book(book))
        entrance = Entrance(dht, setting.dht, clock)
        scores = _scores(setting, connections, network.network_id)
        nodes = Nodes(dht, connections, entrance.seek, clock, entropy, scores.rate)
        faults = Faults(state / "faults.json", setting.notice)
        stack.callback(faults.save)
        nodes.partners = deals = _deals(setting, nodes, connections, state)
        stack.callback(deals.save)
        manifests = Manifests(nodes, faults, deals=deals)
        yield Parts(
            dht,
            nodes,
            faults,
            deals,
            manifests,
            Holdings(state / "holdings", nodes, identity, deals=deals, faults=faults),
            Catalogue(state / "catalogue", keys, nodes, clock, entropy),
            Gets(nodes, manifests, faults, clock, kernel, setting.progress, deals=deals),
            kernel,
            identity,
            connections,
        )


def _scores(setting: Setting, connections: Connections, network: NetworkId) -> Scores:
    verifiers, folder = setting.storing.verifiers, setting.home.state / "verdicts"
    return Scores(verifiers, folder, connections, network, setting.clock, setting.notice)


def _deals(setting: Setting, nodes: Nodes, connections: Connections, state: Path) -> Deals:
    network, key, light, account = nodes.network, SettlementKey.derive(setting.root), None, None
    if network.ledger_params is not None:
        light = LightClient(network, connections, state / CHECKPOINT_FILE, setting.clock)
        account = LedgerAccount(light, key)
    return Deals(
        network,
        nodes,
        light,
        account,
        key,
        state / FOLDER,
        clock=setting.clock,
        entropy=setting.entropy,
        budget=setting.storing.budget,
        days=setting.storing.days,
        demands=setting.storing.demands,
        notice=setting.notice,
    )
