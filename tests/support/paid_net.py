"""A paid network in this process: a real ledger, real nodes that know each other, a client's home.

::

    async with paid_net(tmp_path, nodes=6) as net:
        async with net.client() as client:      # bound, and with credits
            await client.put(...)
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsn.apps.client import Client
from dsn.apps.deal_file import FOLDER, DealFolder
from dsn.apps.devnet import free_port
from dsn.apps.ledger.light import LightClient
from dsn.apps.node.money import open_books
from dsn.apps.node.run import Node
from dsn.apps.provider import NodeConfig
from dsn.config import ClientSettings, DhtSettings, ProviderSettings
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import format_network
from dsn.ids import NodeId
from dsn.ledger.binding import KeyBinding, sign_binding
from dsn.ledger.bodies import Bind
from dsn.ledger.cells import AccountCell, DealCell
from dsn.ledger.settlement import SettlementKey
from dsn.runtime.clock import SystemClock
from dsn.store.home import Home
from dsn.store.shards import open_store
from dsn.units import GIB, MIB
from tests.support.ledger_net import Served, ledger_served

CLIENT_ROOT = b"C" * 32
START = 10**12
PRICES = ProviderSettings.model_construct(
    disk_price=4_000_000,
    ingress_price=MIB,
    egress_price=2 * MIB,
    repair_price=10_000_000,
    free_quota=MIB,
)
FINDING = DhtSettings.model_construct(refresh_s=3_600.0, lan=False)
EPOCH_S, FEE, LONGEST = 30, 7, 1_000_000
PARAMS = {
    "epoch_s": EPOCH_S,
    "claim_epochs": 1,
    "entry_fee": FEE,
    "min_bond": FEE,
    "max_term": LONGEST,
}


def identity_of(root: bytes) -> SigningKey:
    """The identity key of the home with ``root``."""
    return SigningKey(IdentityKeys.derive(root).identity_seed)


@dataclass
class PaidNet:
    """What is there, and what its client was told."""

    served: Served
    nodes: dict[NodeId, Node]
    home: Home
    notices: list[str] = field(default_factory=list)

    def client(self, **storing: Any) -> Client:
        """The client, to be used as a context; ``storing`` as in the settings."""
        return Client.open(
            self.home,
            notice=self.notices.append,
            progress=lambda progress: None,
            dht=FINDING,
            storing=ClientSettings(**storing),
        )

    @asynccontextmanager
    async def light(self) -> AsyncIterator[LightClient]:
        """The ledger as a stranger sees it."""
        async with self.served.connections() as connections:
            file = self.home.path / "stranger"
            yield LightClient(self.served.network, connections, file, SystemClock())

    async def account(self, root: bytes = CLIENT_ROOT) -> AccountCell:
        """An account as the ledger has it."""
        async with self.light() as light:
            return await light.account(SettlementKey.derive(root).address)

    async def deals(self) -> dict[NodeId, DealCell]:
        """The client's deals as the ledger has them, by node."""
        async with self.light() as light:
            cells = await light.deals(DealFolder(self.home.state / FOLDER).ids())
            accounts = await light.accounts(cell.terms.provider for cell in cells.values())
        return {accounts[cell.terms.provider].node: cell for cell in cells.values()}

    @property
    def entries(self) -> int:
        """How many the ledger has."""
        return self.served.ledger.desk.size

    @property
    def stored_bytes(self) -> int:
        """Bytes on all nodes."""
        return sum(node._store.space().used for node in self.nodes.values())


@asynccontextmanager
async def paid_net(
    root: Path,
    *,
    nodes: int = 6,
    credits: int = START,
    prices: ProviderSettings = PRICES,
    **params: Any,
) -> AsyncIterator[PaidNet]:
    """A ledger, ``nodes`` nodes and a client that has ``credits``, all below ``root``."""
    roots = [bytes([n + 1]) * 32 for n in range(nodes)]
    addresses = [f"127.0.0.1:{free_port('127.0.0.1')}" for _ in roots]
    contacts = [
        Contact(identity_of(each).public, address)
        for each, address in zip(roots, addresses, strict=True)
    ]
    allocation = {SettlementKey.derive(each).address: START for each in roots}
    allocation[SettlementKey.derive(CLIENT_ROOT).address] = credits
    async with AsyncExitStack() as held:
        served = await held.enter_async_context(
            ledger_served(
                root / "ledger",
                allocation=allocation,
                contacts=contacts,
                **(PARAMS | params),
            )
        )
        started = {}
        for number, (each, address) in enumerate(zip(roots, addresses, strict=True), 1):
            place = _node(root / f"node-{number}", each, address, served, prices)
            node = await held.enter_async_context(place)
            started[node.dht.table.me] = node
        home = Home.create(root / "client", CLIENT_ROOT)
        home.save_network(format_network(served.network))
        await bind(served, CLIENT_ROOT)
        yield PaidNet(served, started, home)


async def bind(served: Served, root: bytes) -> None:
    """Bind both keys of the home with ``root``."""
    identity, key, domain = identity_of(root), SettlementKey.derive(root), served.params.domain
    binding = KeyBinding(identity.public, key.address, domain.network, 0, 1)
    await served.enter(key, Bind(sign_binding(binding, domain, identity.sign, key)))


@asynccontextmanager
async def _node(
    path: Path, root: bytes, address: str, served: Served, prices: ProviderSettings
) -> AsyncIterator[Node]:
    home = Home.create(path, root)
    home.save_network(format_network(served.network))
    config = NodeConfig(home, GIB, address, "", FINDING, prices=prices)
    who, key, clock = identity_of(root), SettlementKey.derive(root), SystemClock()
    async with (
        open_store(config.volume, capacity_bytes=GIB, entropy=os.urandom, create=True) as store,
        open_books(home, served.network, key) as books,
    ):
        node = Node(config, served.network, who, store, clock, os.urandom, books)
        async with node.serving():
            assert node.money is not None
            await node.money.bound()
            yield node
