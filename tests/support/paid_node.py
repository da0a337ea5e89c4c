"""A paid node in this process: a real ledger, a real node with its store, clients with credits.

::

    async with paid_node(tmp_path) as world:
        client = await world.client()           # bound, and with credits
        deal = await client.open()              # signed by both, entered
        await client.put(shard)                 # pays as it goes
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsn.apps.ledger.light import LightClient
from dsn.apps.node.money import Money, open_books
from dsn.apps.node.run import Node
from dsn.apps.provider import NodeConfig, configure, identity, set_prices
from dsn.config import FILE_NAME, DhtSettings, ProviderSettings
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import format_network
from dsn.ids import DealId
from dsn.ledger.bandwidth import Traffic
from dsn.ledger.binding import KeyBinding, sign_binding
from dsn.ledger.bodies import Agreed, Bind, Open
from dsn.ledger.cells import AccountCell, DealCell
from dsn.ledger.deal import Deal
from dsn.ledger.revision import (
    DealParties,
    Revision,
    first_revision,
    next_revision,
    sign_revision,
    verify_node_signature,
)
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey
from dsn.ledger.terms import SignedTerms, Terms, verify_terms
from dsn.ledger.typed import Domain, sign_typed, verify_typed
from dsn.ledger.voucher import Voucher
from dsn.machines.settle import Purse
from dsn.proofs.inventory import holdings
from dsn.rpc.channel import Connections, NodePeer
from dsn.rpc.deals import DealPeer
from dsn.rpc.line import ByteStream
from dsn.runtime.clock import SystemClock
from dsn.store.home import Home
from dsn.store.shards import open_store
from dsn.units import FRAME_BYTES, GIB, MIB, SMALL_SHARD_BYTES
from dsn.v1 import node_pb2
from dsn.wire import convert
from dsn.wire.convert import SignedRevision
from tests.support.ledger_net import Served, ledger_served
from tests.support.node_process import NodeProcess, running_process
from tests.support.node_world import Shard

NODE_ROOT = b"P" * 32
START = 10**12
PRICES = ProviderSettings.model_construct(
    disk_price=4_000_000,
    ingress_price=MIB,
    egress_price=2 * MIB,
    repair_price=10_000_000,
    free_quota=MIB,
)
"""A MiB costs 1,024 credits to store and 2,048 to read: the first window is 2,048."""
PARAMS = {"epoch_s": 30, "claim_epochs": 1, "entry_fee": 0, "max_term": 10_000}


def client_keys(seed: int) -> tuple[SigningKey, SettlementKey]:
    """The two keys of client ``seed``."""
    return SigningKey(bytes([seed]) * 32), SettlementKey(bytes([seed + 50]) * 32)


@dataclass
class PaidClient:
    """One party that stores and reads for pay, and signs no more than it is told to."""

    identity: SigningKey
    key: SettlementKey
    world: PaidWorld
    connections: Connections
    purse: Purse = field(init=False)
    deal: DealId = field(init=False)
    terms: Deal = field(init=False)
    by_delegate: bool = False

    @property
    def peer(self) -> NodePeer:
        return self.connections.peer(self.world.contact)

    @property
    def deals(self) -> DealPeer:
        return DealPeer(self.connections.line(self.world.contact))

    @property
    def domain(self) -> Domain:
        return self.world.served.params.domain

    async def offer(self) -> tuple[Terms, int]:
        """The node's terms, verified, and until when they hold."""
        reply = await self.peer.get_terms()
        terms = Terms.decode(reply.terms)
        verify_terms(
            SignedTerms(terms, reply.expires_s, reply.signature),
            network=self.world.served.network.network_id,
            public_key=self.world.contact.public_key,
            now_s=SystemClock().now_s(),
        )
        return terms, reply.expires_s

    async def draft(self, **changes: Any) -> Deal:
        """A deal by the node's terms, with ``changes`` by field."""
        terms, _ = await self.offer()
        epoch = self.world.served.time().epoch
        deal = Deal(
            self.key.address, terms.settlement,
            disk_price=terms.disk_price, ingress_price=terms.ingress_price,
            egress_price=terms.egress_price, repair_price=terms.repair_price,
            open_by=epoch + 1, end=epoch + 10, grace=terms.grace, notice=terms.notice,
            miss_limit=terms.miss_limit, dispute=terms.dispute,
            disk_escrow=10**9, bandwidth_escrow=10**6,
            collateral_ppm=terms.collateral_ppm, free_leaves=terms.free_leaves,
            delegate=NO_ADDRESS, delegate_credits=0, delegate_leaves=0, salt=os.urandom(32),
        )  # fmt: skip
        return replace(deal, **changes)

    async def agree(self, deal: Deal) -> Agreed[Deal]:
        """Have the node sign ``deal``."""
        _, expires_s = await self.offer()
        ours = sign_typed(deal, self.domain, self.key)
        theirs = await self.deals.open(deal, ours, expires_s)
        verify_typed(deal, self.domain, theirs, deal.provider)
        return Agreed(deal, ours, theirs)

    async def open(self, **changes: Any) -> DealId:
        """Open a deal and use it from now on."""
        deal = await self.draft(**changes)
        await self.world.served.enter(self.key, Open(await self.agree(deal)))
        self.use(deal)
        return self.deal

    def use(self, deal: Deal) -> None:
        """Store and read under ``deal``."""
        self.terms, self.deal = deal, deal.deal_id(self.domain)
        self.purse = Purse(deal, Traffic(), 0, deal.bandwidth_escrow)

    def voucher(self, credits: int, **changes: Any) -> node_pb2.Voucher:
        """A voucher over ``credits``; ``changes``: ``deal``, ``domain``, ``key``."""
        statement = Voucher(changes.get("deal", self.deal), credits)
        domain, key = changes.get("domain", self.domain), changes.get("key", self.key)
        signature = sign_typed(statement, domain, key)
        return node_pb2.Voucher(credits=credits, signature=signature, by_delegate=self.by_delegate)

    def due(self, *, all_of_it: bool = False) -> node_pb2.Voucher | None:
        """The voucher that the purse asks for."""
        credits = self.purse.voucher_due(all_of_it=all_of_it)
        if credits is None:
            return None
        self.purse.promised(credits)
        return self.voucher(credits)

    def newest(self, *, all_of_it: bool = False) -> node_pb2.Voucher | None:
        """The highest voucher: the node may never have got the last one."""
        due = self.due(all_of_it=all_of_it)
        return due or (self.voucher(self.purse.credits) if self.purse.credits else None)

    def group(self, shard: Shard, voucher: node_pb2.Voucher | None = None) -> list[bytes]:
        """The messages that store ``shard``."""
        size, deal = len(shard.data), self.deal
        if size <= SMALL_SHARD_BYTES:
            small = [node_pb2.SmallShard(data=shard.data, commit=shard.commit)]
            header = node_pb2.PutHeader(deal=deal, small=small, voucher=voucher)
            return [header.SerializeToString()]
        header = node_pb2.PutHeader(deal=deal, length=size, voucher=voucher)
        frames = [shard.data[at : at + FRAME_BYTES] for at in range(0, size, FRAME_BYTES)]
        trailer = node_pb2.PutTrailer(commit=shard.commit)
        return [header.SerializeToString(), *frames, trailer.SerializeToString()]

    async def put(self, *group: Shard, pays: bool = True) -> None:
        """Store ``group`` over one stream, and pay what the purse says."""
        stream, waiting = self.peer.put_shards(), [len(shard.data) for shard in group]
        try:
            for shard in group:
                self.purse.sending(len(shard.data))
                for message in self.group(shard, self.newest() if pays else None):
                    await stream.write(message)
            await stream.done_writing()
            while await stream.read() is not None:
                del waiting[0]
        finally:
            self.purse.unsent(sum(waiting))

    def revision(
        self, base: Revision, held: Sequence[Shard], add: Sequence[Shard], **changes: Any
    ) -> node_pb2.ReviseRequest:
        """The signed request for the revision after ``base`` that holds exactly ``held``."""
        revision = next_revision(base, holdings(shard.entry for shard in held))
        key = changes.get("key", self.key)
        signature = sign_revision(revision, self.parties, key.sign)
        return node_pb2.ReviseRequest(
            revision=convert.revision_to_wire(SignedRevision(revision, signature, b"")),
            add=[shard.commit for shard in add],
            voucher=self.newest(all_of_it=True),
        )

    @property
    def parties(self) -> DealParties:
        return DealParties(self.domain, self.key.address, self.terms.provider)

    async def revise(self, request: node_pb2.ReviseRequest) -> Revision:
        """Send ``request``; the countersignature is checked."""
        signed = convert.revision_from_wire((await self.peer.revise(request)).revision)
        verify_node_signature(signed.revision, self.parties, signed.node_signature)
        return signed.revision

    async def hold(self, *group: Shard) -> Revision:
        """Put ``group``, pay for it and have it held."""
        await self.put(*group)
        return await self.revise(self.revision(first_revision(self.deal), group, group))

    def asked(
        self, shard: Shard, start: int, end: int, voucher: node_pb2.Voucher | None = None
    ) -> bytes:
        """An encoded request of GetShard."""
        return node_pb2.GetShardRequest(
            commit=shard.commit, start=start, end=end, first_frame=FRAME_BYTES,
            deal=self.deal, voucher=voucher,
        ).SerializeToString()  # fmt: skip

    def only(self, voucher: node_pb2.Voucher) -> bytes:
        """A message of GetShard that brings a voucher and asks for nothing."""
        return node_pb2.GetShardRequest(deal=self.deal, voucher=voucher).SerializeToString()

    async def get(self, shard: Shard, *, pays: bool = True) -> bytes:
        """All of ``shard``, paid as the purse says."""
        stream, size = self.peer.get_shards(), len(shard.data)
        await stream.write(self.asked(shard, 0, size, self.newest() if pays else None))
        return await self.receive(stream, size, pays=pays)

    async def receive(self, stream: ByteStream, size: int, *, pays: bool = True) -> bytes:
        """``size`` bytes of an answer, paid as they come."""
        parts = bytearray()
        while len(parts) < size:
            frame = await stream.read()
            assert frame is not None
            parts += frame
            self.purse.received(len(frame))
            if pays and (voucher := self.due()) is not None:
                await stream.write(self.only(voucher))
        await stream.done_writing()
        assert await stream.read() is None
        return bytes(parts)

    async def pay(self) -> node_pb2.PayReply:
        """Pay all that is owed."""
        return await self.deals.pay(self.deal, self.due(all_of_it=True))


@dataclass
class PaidWorld:
    """A ledger, a node and whoever wants to be its client."""

    served: Served
    contact: Contact
    home: Home
    _held: AsyncExitStack
    node: Node | None = None

    @property
    def money(self) -> Money:
        """The money of a node in this process."""
        assert self.node is not None and self.node.money is not None
        return self.node.money

    async def client(self, seed: int = 1) -> PaidClient:
        """Client ``seed``, bound on the ledger."""
        client = await self.stranger(seed)
        binding = KeyBinding(
            client.identity.public, client.key.address, self.served.network.network_id, 0, 1
        )
        signed = sign_binding(binding, client.domain, client.identity.sign, client.key)
        await self.served.enter(client.key, Bind(signed))
        return client

    async def stranger(self, seed: int) -> PaidClient:
        """Client ``seed``, not bound."""
        identity, key = client_keys(seed)
        connections = Connections(identity, self.served.network.network_id)
        await self._held.enter_async_context(connections)
        return PaidClient(identity, key, self, connections)

    async def cell(self, client: PaidClient) -> DealCell:
        """The client's deal as the ledger has it."""
        return (await self._light(client).deals([client.deal]))[client.deal]

    async def account(self, client: PaidClient, key: SettlementKey) -> AccountCell:
        """The account of ``key``."""
        return await self._light(client).account(key.address)

    def _light(self, client: PaidClient) -> LightClient:
        file = self.home.path / "seen"
        return LightClient(self.served.network, client.connections, file, SystemClock())


@asynccontextmanager
async def paid_ledger(root: Path, **params: Any) -> AsyncIterator[Served]:
    """A ledger below ``root`` on which the node and nine clients have credits."""
    provider = SettlementKey.derive(NODE_ROOT)
    keys = [provider, *(client_keys(seed)[1] for seed in range(1, 10))]
    allocation = {key.address: START for key in keys}
    async with ledger_served(root / "ledger", allocation=allocation, **(PARAMS | params)) as served:
        yield served


@asynccontextmanager
async def paid_node(
    root: Path, *, prices: ProviderSettings = PRICES, **params: Any
) -> AsyncIterator[PaidWorld]:
    """A node on a ledger of its own, both below ``root``."""
    async with (
        paid_ledger(root, **params) as served,
        node_of(node_home(root, served), served, prices) as world,
    ):
        yield world


def node_home(root: Path, served: Served) -> Home:
    """The home of the node below ``root``, ready to run as a process too."""
    home = Home.create(root / "node", NODE_ROOT)
    home.save_network(format_network(served.network))
    configure(home, GIB, "127.0.0.1:0", "", home.path / FILE_NAME)
    names = ("ingress_price", "egress_price")
    set_prices(home.path / FILE_NAME, {name: getattr(PRICES, name) for name in names})
    return home


@asynccontextmanager
async def node_of(
    home: Home, served: Served, prices: ProviderSettings = PRICES
) -> AsyncIterator[PaidWorld]:
    """The node of ``home`` in this process, bound on ``served``."""
    finding = DhtSettings.model_construct(refresh_s=3_600.0, lan=False)
    config = NodeConfig(home, GIB, "127.0.0.1:0", "", finding, prices=prices)
    who, key = identity(home, None), SettlementKey.derive(NODE_ROOT)
    async with (
        AsyncExitStack() as held,
        open_store(config.volume, capacity_bytes=GIB, entropy=os.urandom, create=True) as store,
        open_books(home, served.network, key) as books,
    ):
        node = Node(config, served.network, who, store, SystemClock(), os.urandom, books)
        async with node.serving() as ready:
            world = PaidWorld(served, Contact(who.public, ready.address), home, held, node)
            await world.money.bound()
            yield world


@asynccontextmanager
async def process_of(home: Home, served: Served) -> AsyncIterator[tuple[PaidWorld, NodeProcess]]:
    """The node of ``home`` in a process of its own; killed if the block leaves it alive."""
    async with AsyncExitStack() as held, running_process(home) as running:
        world = PaidWorld(served, running.contact, home, held)
        yield world, running
