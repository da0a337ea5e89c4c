"""A node that sells one shard in frames of whatever size it likes, and a client with a deal.

The node keeps its tab as every node does, and judges every voucher; it is told where it lies.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dsn.apps.deal_file import DealFolder, Seen, Stage, new_deal
from dsn.apps.deals import Deals
from dsn.apps.dht import Dht
from dsn.apps.nodes import Nodes
from dsn.core.keys import SigningKey
from dsn.core.merkle import ShardHasher
from dsn.dht.book import AddressBook
from dsn.dht.contact import Contact
from dsn.dht.network import Genesis, Network, sign_network
from dsn.errors import DsnError, PeerError, Unreachable
from dsn.ids import NO_DEAL, NO_NETWORK, Commit, DealId, NodeId
from dsn.ledger.bandwidth import Traffic, window
from dsn.ledger.bodies import Agreed
from dsn.ledger.cells import AccountCell, DealCell
from dsn.ledger.deal import Deal
from dsn.ledger.entry import Body
from dsn.ledger.params import LedgerParams
from dsn.ledger.receipt import Receipt, sign_receipt
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.ledger.typed import Domain, sign_typed, verify_typed
from dsn.ledger.voucher import Voucher
from dsn.machines.settle import Tab
from dsn.rpc.channel import Connections
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, ServerStream, Streaming, Unary
from dsn.rpc.tls import Caller
from dsn.runtime.clock import SystemClock
from dsn.units import GIB, MIB, leaf_count
from dsn.v1 import node_pb2
from dsn.wire.convert import SignedReceipt, receipts_to_wire
from tests.support.signing import deal as made_deal

NODE, CLIENT, OPERATOR = (SigningKey(bytes([n]) * 32) for n in (21, 22, 23))
PAYEE, PAYER = SettlementKey(b"\x24" * 32), SettlementKey(b"\x25" * 32)
LOCAL = Limits(address_limits=False)
PRICE = GIB
"""A base unit a byte: amounts are byte counts, and every byte shows."""
ESCROW = 256 * MIB
PAY_S = 0.5
"""How long the node waits for a voucher before it refuses."""


class Away:
    """A ledger that nobody reaches."""

    def __init__(self, params: LedgerParams) -> None:
        self.params = params

    async def epoch(self) -> int:
        raise _away()

    async def accounts(self, addresses: Iterable[Address]) -> dict[Address, AccountCell]:
        raise _away()

    async def deals(self, ids: Iterable[DealId]) -> dict[DealId, DealCell]:
        raise _away()

    async def send(self, bodies: Sequence[Body], *, wait: bool = True) -> list[int]:
        raise _away()


def _away() -> Unreachable:
    return Unreachable("the ledger does not answer", code="ledger_unreachable")


class Seller:
    """One node: serves GetShard, PutShard and Pay, and holds ``data`` for sale."""

    def __init__(self, network: Network, deal: DealId, terms: Deal, data: bytes, seed: int) -> None:
        self.network, self.deal, self.terms, self.data = network, deal, terms, data
        self.tab = Tab(terms, Traffic(), 0, terms.bandwidth_escrow)
        self.rng = random.Random(seed)
        self.vouchers: list[int] = []
        self.highest: node_pb2.Voucher | None = None
        self.most_owed = 0
        self.asked: list[DealId] = []
        self.headers: list[node_pb2.PutHeader] = []
        self.refusals: list[DsnError] = []
        """Each ends one stream, before anything is sent on it."""
        self.most_frame = MIB
        self.extra: bytes | None = None
        """What is sent instead of the first frame."""
        self.taking = asyncio.Event()
        """Cleared, it takes no frame of a large shard."""
        self.taking.set()
        self.no_vouchers = False
        self.taken = 0
        """Bytes of large shards that it took, stored or not."""
        self._paid = asyncio.Event()

    def methods(self) -> list[Streaming | Unary]:
        """What it serves."""
        at = "/dsn.v1.NodeService/"
        return [
            Streaming(at + "GetShard", self._get),
            Streaming(at + "PutShard", self._put),
            Unary(at + "Pay", node_pb2.PayRequest, self._pay),
        ]

    def bill(self) -> PeerError:
        """The refusal of whoever owes too much."""
        evidence = self.reply().SerializeToString()
        return PeerError("pay first", code="payment_due", evidence=evidence)

    def reply(self) -> node_pb2.PayReply:
        """What was counted here."""
        traffic = self.tab.traffic
        reply = node_pb2.PayReply(
            ingress_bytes=traffic.ingress_bytes, egress_bytes=traffic.egress_bytes
        )
        if self.highest is not None:
            reply.voucher.CopyFrom(self.highest)
        return reply

    def take(self, message: node_pb2.Voucher) -> None:
        """Judge a voucher, and wake whoever waits for one."""
        if self.no_vouchers:
            raise PeerError("no vouchers here", code="over_escrow")
        voucher = Voucher(self.deal, message.credits)
        verify_typed(voucher, _domain(self.network), message.signature, PAYER.address)
        if self.tab.pay(message.credits):
            self.highest = message
        self.vouchers.append(message.credits)
        self._paid.set()
        self._paid = asyncio.Event()

    async def _pay(self, _: Caller, request: node_pb2.PayRequest) -> node_pb2.PayReply:
        if request.HasField("voucher"):
            self.take(request.voucher)
        return self.reply()

    async def _get(self, _: Caller, stream: ServerStream) -> None:
        asked: asyncio.Queue[node_pb2.GetShardRequest | None] = asyncio.Queue()

        async def listen() -> None:
            while (raw := await stream.read()) is not None:
                request = node_pb2.GetShardRequest.FromString(raw)
                if request.HasField("voucher"):
                    assert request.deal == self.deal
                    self.take(request.voucher)
                if request.commit:
                    asked.put_nowait(request)
            asked.put_nowait(None)

        async with asyncio.TaskGroup() as group:
            group.create_task(listen())
            while (request := await asked.get()) is not None:
                await self._send(request, stream)

    async def _send(self, request: node_pb2.GetShardRequest, stream: ServerStream) -> None:
        self.asked.append(DealId(request.deal or NO_DEAL))
        if self.refusals:
            raise self.refusals.pop(0)
        if self.extra is not None:
            await stream.write(self.extra)
        at = request.start
        while at < request.end:
            size = min(self.rng.randint(1, self.most_frame), request.end - at)
            if request.deal:
                size = await self._room(size)
            await stream.write(self.data[at : at + size])
            at += size

    async def _room(self, most: int) -> int:
        while not (size := self.tab.room(most)):
            await self._voucher()
        self.tab.read(size)
        assert self.tab.owed <= window(self.terms, self.tab.credits)
        self.most_owed = max(self.most_owed, self.tab.owed)
        return size

    async def _put(self, _: Caller, stream: ServerStream) -> None:
        while (raw := await stream.read()) is not None:
            header = node_pb2.PutHeader.FromString(raw)
            self.headers.append(header)
            if header.HasField("voucher"):
                self.take(header.voucher)
            if self.refusals:
                raise self.refusals.pop(0)
            size = header.length or sum(len(each.data) for each in header.small)
            commits = [(each.commit, len(each.data)) for each in header.small]
            if not commits:
                commits = [(await self._frames(header, stream), header.length)]
            elif header.deal != NO_DEAL:
                self.tab.expect(size)
            if header.deal != NO_DEAL:
                self.tab.stored(size)
            await stream.write(receipts_to_wire(self._receipt(header, *each) for each in commits))

    async def _frames(self, header: node_pb2.PutHeader, stream: ServerStream) -> bytes:
        """Take a shard's frames, each once it may be owed; its commit."""
        left = header.length
        while left:
            await self.taking.wait()
            size = len(await stream.read() or b"")
            left -= size
            self.taken += size
            while header.deal != NO_DEAL and not self.tab.expect(size):
                await self._voucher()
            self.most_owed = max(self.most_owed, self.tab.owed)
        return node_pb2.PutTrailer.FromString(await stream.read() or b"").commit

    async def _voucher(self) -> None:
        try:
            async with asyncio.timeout(PAY_S):
                await self._paid.wait()
        except TimeoutError:
            raise self.bill() from None

    def _receipt(self, header: node_pb2.PutHeader, commit: bytes, length: int) -> SignedReceipt:
        receipt = Receipt(DealId(header.deal), Commit(commit), leaf_count(length), length, 1 << 40)
        node, network = Contact(NODE.public, "").node_id, self.network.network_id
        return SignedReceipt(receipt, sign_receipt(receipt, NODE.sign, network=network, node=node))


@dataclass
class Shop:
    """A seller, and the client that buys of it."""

    seller: Seller
    nodes: Nodes
    deals: Deals
    node: NodeId
    commit: Commit
    notices: list[str] = field(default_factory=list)

    @property
    def traffic(self) -> Traffic:
        """What the client counted."""
        mine = self.deals.get(self.node)
        assert mine is not None
        return mine.purse.traffic


def _domain(network: Network) -> Domain:
    assert network.ledger_params is not None
    return network.ledger_params.domain


def _network() -> Network:
    params = LedgerParams(Domain(NO_NETWORK, 0, NO_ADDRESS), PAYEE.address)
    genesis = Genesis(
        "test", 1_700_000_000, OPERATOR.public, "node", address_limits=False, ledger=params
    )
    return sign_network(genesis, [], OPERATOR.sign)


def _signed_deal(network: Network, folder: Path, node: NodeId, escrow: int) -> tuple[DealId, Deal]:
    terms = made_deal(
        client=PAYER.address,
        provider=PAYEE.address,
        ingress_price=PRICE,
        egress_price=PRICE,
        bandwidth_escrow=escrow,
        delegate=NO_ADDRESS,
        delegate_credits=0,
        delegate_leaves=0,
    )
    domain = _domain(network)
    agreed = Agreed(terms, *(sign_typed(terms, domain, key) for key in (PAYER, PAYEE)))
    deal = terms.deal_id(domain)
    deals = DealFolder(folder)
    deals.save(new_deal(node, deal, agreed, 1, Stage.OPEN))
    deals.keep_seen(Seen(1, int(SystemClock().now_s())))
    return deal, terms


@asynccontextmanager
async def shop(
    root: Path, size: int, *, seed: int = 0, dealt: bool = True, escrow: int = ESCROW
) -> AsyncIterator[Shop]:
    """A seller of ``size`` bytes and its client, with a deal on file if they have ``dealt``."""
    network, data = _network(), random.Random(seed).randbytes(size)
    contact, clock = Contact(NODE.public, ""), SystemClock()
    deal, terms = _signed_deal(network, root if dealt else root / "none", contact.node_id, escrow)
    seller = Seller(network, deal, terms, data, seed)
    async with AsyncExitStack() as stack:
        server = Server(NODE, network.network_id, seller.methods(), LOCAL)
        contact = Contact(NODE.public, await server.start("127.0.0.1:0"))
        stack.push_async_callback(server.stop, 0)
        connections = await stack.enter_async_context(Connections(CLIENT, network.network_id))
        dht = Dht(
            connections,
            network,
            Contact(CLIENT.public, "").node_id,
            AddressBook(subnet_limits=False),
            clock=clock,
            entropy=os.urandom,
        )
        dht.proven[contact.node_id] = contact
        nodes = Nodes(dht, connections, _nobody, clock, os.urandom)
        assert network.ledger_params is not None
        away, notices = Away(network.ledger_params), list[str]()
        deals = Deals(
            network,
            nodes,
            away,
            away,
            PAYER,
            root,
            clock=clock,
            entropy=os.urandom,
            budget=0,
            days=1.0,
            notice=notices.append,
        )
        commit = ShardHasher.over(data).commit()
        yield Shop(seller, nodes, deals, contact.node_id, commit, notices)


async def _nobody() -> int:
    return 0
