"""A ledger with epochs and links, nodes that answer for them or lie, and a verifier that looks.

The ledger's log is made by hand and served by path; the nodes are real servers on loopback.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledgerd.run import open_store
from dsn.apps.verifier.appeals import Appeals
from dsn.apps.verifier.archive import Archive
from dsn.apps.verifier.asking import Allowance, Interviewer
from dsn.apps.verifier.convicting import Convictions
from dsn.apps.verifier.ledger import ReplayedLedger
from dsn.apps.verifier.recording import Recorder
from dsn.apps.verifier.sampling import Sampler, Sampling
from dsn.apps.witness.files import EVIDENCE, ReplayFiles
from dsn.apps.witness.judge import PUBLISHED
from dsn.apps.witness.source import LedgerSource
from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.contact import Contact
from dsn.dht.network import Genesis, Network
from dsn.errors import NotFound, Unreachable
from dsn.ids import NO_NETWORK, DealId, NodeId
from dsn.ledger.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    format_checkpoint,
    log_origin,
    sign_checkpoint,
    sign_root,
)
from dsn.ledger.cosignature import cosign
from dsn.ledger.tiles import TILE_WIDTH, Tile, build_tile, encode_bundle, parse_path
from dsn.ledger.trust import Trust, witness_key
from dsn.ledger.typed import Domain
from dsn.proofs.post import build_answer_path
from dsn.proofs.verdict import SignedVerdict
from dsn.rpc.channel import Connections, NodePeer
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, Unary
from dsn.rpc.tls import Caller
from dsn.runtime.clock import SystemClock
from dsn.runtime.kernel import Kernel
from dsn.store.verdicts import VerdictStore, open_verdicts
from dsn.v1 import node_pb2
from tests.support.ledger_stage import LOG_KEY
from tests.support.ledger_world import IDENTITIES, KEYS, PARAMS, WITNESSES, World, terms

VERIFIER = SigningKey(b"\x62" * 32)
BUDGET = 1 << 26
_LEDGER = replace(
    PARAMS,
    domain=Domain(NO_NETWORK, PARAMS.domain.chain_id, PARAMS.domain.vault),
    log_key=LOG_KEY.public,
    vdf_iterations=10,
)
GENESIS = Genesis(
    "epochs", 1_700_000_000, LOG_KEY.public, "node", address_limits=False, ledger=_LEDGER
)
NOW_NETWORK = Network(bytes(64), GENESIS)

Answer = Callable[[node_pb2.GetAnswerReply], node_pb2.GetAnswerReply]


class EpochWorld(World):
    """A signed log with real beacons, Paul's and Petra's deals, and epoch 1 open."""

    def __init__(self, network: Network = NOW_NETWORK) -> None:
        assert network.ledger_params is not None
        super().__init__(network.ledger_params, signed=True)
        self.network, self.trust = network, Trust.of(network.ledger_params)
        self.bind("alice", "paul", "petra")
        self.open_epoch()
        long = {"end": 90, "disk_escrow": 50_000}
        self.deals_of: dict[str, DealId] = {}
        for name, salt in (("paul", b"\1"), ("petra", b"\2")):
            deal = self.open(terms(provider=KEYS[name].address, salt=salt * 32, **long))
            self.deals_of[name] = deal
        self.hold(self.deals_of["paul"], 0, 1, 2, 3, 4, 5)
        self.hold(self.deals_of["petra"], 6, 7, 9, 10)

    def turn(self, *linkers: str, wrong: int | None = None) -> int:
        """Link, shut this epoch, open the next; gives the one that ended."""
        epoch = self.epoch
        for name in linkers:
            self.link(name, wrong)
        self.shut_epoch()
        self.open_epoch()
        return epoch

    def signed_now(self) -> SignedCheckpoint:
        """A checkpoint of all there is, cosigned by a quorum."""
        origin, state_root = log_origin(self.network.network_id), self.leaves[-1].state_root
        checkpoint = Checkpoint(origin, *self.frontier.head, state_root, self.epoch)
        lines = [
            sign_checkpoint(checkpoint, self.trust.operator, LOG_KEY.sign),
            sign_root(checkpoint, self.params.domain, KEYS["operator"]),
        ]
        now_s = int(SystemClock().now_s())
        lines += [
            cosign(checkpoint, witness_key(key.public), key.sign, now_s) for key in WITNESSES[:2]
        ]
        return SignedCheckpoint(checkpoint, tuple(lines))


class WorldSource(LedgerSource):
    """What the world's ledger serves."""

    def __init__(self, world: EpochWorld) -> None:
        self._world = world

    async def read(self, path: str) -> bytes:
        if path == PUBLISHED:
            return format_checkpoint(self._world.signed_now())
        resource = parse_path(path)
        if isinstance(resource, Tile):
            return build_tile(self._world.nodes.__getitem__, resource)
        first = resource.index * TILE_WIDTH
        leaves = self._world.leaves[first : first + resource.width]
        return encode_bundle([leaf.encode() for leaf in leaves])


@dataclass
class AnswerNode:
    """A node that serves the answers it linked, unless ``lie`` makes others of them."""

    name: str
    world: EpochWorld
    lie: Answer | None = None
    asked: list[tuple[int, list[int]]] = field(default_factory=list)
    contact: Contact = field(init=False)

    @property
    def node(self) -> NodeId:
        return node_id_of(IDENTITIES[self.name].public)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve while the block runs."""
        path = "/dsn.v1.NodeService/GetAnswer"
        methods = (Unary(path, node_pb2.GetAnswerRequest, self._get_answer),)
        key = IDENTITIES[self.name]
        network = self.world.network.network_id
        server = Server(key, network, methods, Limits(address_limits=False))
        self.contact = Contact(key.public, await server.start("127.0.0.1:0"))
        try:
            yield
        finally:
            await server.stop(0)

    async def _get_answer(
        self, caller: Caller, request: node_pb2.GetAnswerRequest
    ) -> node_pb2.GetAnswerReply:
        places = list(request.places)
        self.asked.append((request.epoch, places))
        reply = self.reply(request.epoch, places)
        return self.lie(reply) if self.lie else reply

    def reply(self, epoch: int, places: list[int]) -> node_pb2.GetAnswerReply:
        """What it linked in ``epoch``, at ``places``."""
        if (self.name, epoch) not in self.world.answers:
            raise NotFound(f"no answer of epoch {epoch}", code="unknown_answer")
        _, link, _, opened = self.world.answers[self.name, epoch]
        reply = node_pb2.GetAnswerReply(link=link.encode())
        for place in places:
            reply.openings.add(opening=opened[place], path=build_answer_path(opened, place))
        return reply


@dataclass
class Bench:
    """A verifier at work on a world."""

    world: EpochWorld
    store: VerdictStore
    ledger: ReplayedLedger
    archive: Archive
    sampler: Sampler
    recorder: Recorder
    appeals: Appeals
    evidence: Path
    convictions: Convictions

    async def look(self) -> list[SignedVerdict]:
        """Follow the log, look at what is due; all verdicts so far."""
        await self.ledger.refresh()
        await self.sampler.look_at_due()
        await self.convictions.convict_overdue()
        return [each.signed for each in await self.store.page()]


@asynccontextmanager
async def bench(
    folder: Path,
    world: EpochWorld,
    nodes: list[AnswerNode],
    *,
    sample: int = 4,
    links: int = 64,
    budget: int = BUDGET,
    patience_s: float = 0.0,
    audits: Any = None,
    account: LedgerAccount | None = None,
) -> AsyncIterator[Bench]:
    """A verifier whose disk is ``folder``: the same one again on the same folder."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        thread = stack.enter_context(Kernel())
        store = await stack.enter_async_context(open_verdicts(folder / "verifier.db"))
        network = world.network.network_id
        connections = await stack.enter_async_context(Connections(VERIFIER, network))
        opened = await thread.run(open_store, str(folder / "ledger"), world.params)
        stack.push_async_callback(thread.run, opened.close)
        files = ReplayFiles(folder / "state", folder / EVIDENCE)
        archive = await thread.run(Archive, opened, world.trust, files)
        ledger = ReplayedLedger(archive, world.trust, WorldSource(world), thread, clock)

        async def reach(node: NodeId, anew: bool) -> NodePeer:
            for each in nodes:
                if each.node == node:
                    return connections.peer(each.contact, fresh=anew)
            raise Unreachable("nowhere to be found")

        allowance = Allowance(budget, clock)
        interviewer = Interviewer(reach, network, allowance, clock, patience_s=patience_s)
        recorder = Recorder(VERIFIER, network, ledger, store, clock)
        convictions = Convictions(ledger, folder / EVIDENCE, account)
        sampler = Sampler(
            ledger,
            store,
            interviewer,
            recorder,
            Sampling(links, sample),
            convictions.convict,
            verifier=VERIFIER.public,
        )
        await sampler.resume()
        appeals = Appeals(store, interviewer, recorder, audits)
        yield Bench(
            world,
            store,
            ledger,
            archive,
            sampler,
            recorder,
            appeals,
            folder / EVIDENCE,
            convictions,
        )
