"""A ledger that does what a test tells it: honest over a real port, or a liar in one reply.

Behind it stands a ``World``, so all that it says is true until a test sets ``lies``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.core.keys import SigningKey, node_id_of
from dsn.dht.contact import Contact
from dsn.dht.network import Genesis, Network, sign_network
from dsn.errors import DsnError, NotFound
from dsn.ids import NO_NETWORK
from dsn.ledger.bodies import Bind, OpenEpoch, ShutEpoch, Transfer
from dsn.ledger.cells import CellKind, cell_key
from dsn.ledger.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    format_checkpoint,
    log_origin,
    sign_checkpoint,
    sign_root,
)
from dsn.ledger.cosignature import cosign
from dsn.ledger.entry import Entry
from dsn.ledger.log import (
    Frontier,
    TreeHead,
    build_consistency_proof,
    build_inclusion_proof,
    leaf_hash,
)
from dsn.ledger.params import LedgerParams
from dsn.ledger.promise import sign_promise
from dsn.ledger.tiles import TILE_WIDTH, Bundle, encode_bundle, parse_path
from dsn.ledger.trust import Trust, witness_key
from dsn.ledger.typed import Domain
from dsn.ports import Clock
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import LEDGER_SERVICE
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, Unary
from dsn.rpc.tls import Caller
from dsn.runtime.clock import SystemClock
from dsn.v1 import ledger_pb2 as v1
from dsn.wire.ledger import cell_to_wire
from tests.support import ledger_world
from tests.support.ledger_world import IDENTITIES, KEYS, WITNESSES, World, address

LOG_KEY = SigningKey(b"\x51" * 32)
CALLER = SigningKey(b"\x52" * 32)
GENESIS = Genesis(
    "stage",
    1_700_000_000,
    LOG_KEY.public,
    "node",
    address_limits=False,
    ledger=LedgerParams(
        Domain(NO_NETWORK, 31_337, ledger_world.DOMAIN.vault),
        KEYS["operator"].address,
        log_key=LOG_KEY.public,
        witnesses=frozenset(key.public for key in WITNESSES),
        quorum=2,
        vdf_iterations=10,
        vdf_bits=256,
        entry_fee=3,
        min_bond=3,
        max_term=1_000,
        faucet=KEYS["operator"].address,
        allocation=tuple((KEYS[name].address, 1_000_000) for name in ("operator", "alice", "paul")),
    ),
)


class Stage:
    """The ledger's calls over a ``World``; ``publish`` makes what was entered public."""

    def __init__(self, genesis: Genesis = GENESIS) -> None:
        self.genesis = genesis
        network = Network(bytes(64), genesis)
        assert network.ledger_params is not None
        self.params: LedgerParams = network.ledger_params
        self.trust = Trust.of(self.params)
        self.world = World(self.params, signed=True)
        self.lies: dict[str, Callable[[Any, Any], Message]] = {}
        """By method, what makes another reply of the request and the honest one."""
        self.calls: list[str] = []
        self.auto = True
        """Whether whatever is entered is published at once."""
        self.faucet = 50_000
        self.now_s = int(SystemClock().now_s())
        self.published: tuple[World, SignedCheckpoint] | None = None
        self.fork_from: Stage | None = None

    # the operator and its witnesses

    def begin(self) -> None:
        """The operator opens epoch 1, and there is a checkpoint."""
        closed = TreeHead(0, self.params.domain.network)
        self.do("operator", OpenEpoch(1, closed, bytes(32), b""))

    def shut(self) -> None:
        """Epoch over, by what witnesses give; the next one opens."""
        from dsn.ledger.bodies import Salt
        from dsn.ledger.rules.signatures import salt_preimage

        epoch, network = self.world.epoch, self.params.domain.network
        salts = []
        for key in WITNESSES[:2]:
            preimage = salt_preimage(network, epoch, bytes(32))
            salts.append(Salt(key.public, bytes(32), key.sign(preimage)))
        self.do("operator", ShutEpoch(epoch, tuple(salts)))
        self.do("operator", OpenEpoch(epoch + 1, self.world.frontier.head, bytes(32), b""))

    def bind(self, *names: str) -> None:
        for name in names:
            self.do(name, Bind(self.binding(name)))

    def binding(self, name: str, serial: int = 1) -> Any:
        from dsn.ledger.binding import KeyBinding, sign_binding

        identity, key = IDENTITIES[name], KEYS[name]
        domain = self.params.domain
        binding = KeyBinding(identity.public, key.address, domain.network, 0, serial)
        return sign_binding(binding, domain, identity.sign, key)

    def do(self, name: str, body: Any) -> int:
        """Enter ``body`` by ``name``; gives its index."""
        self.world.do(name, body)
        if self.auto:
            self.publish()
        return len(self.world.leaves) - 1

    def pay(self, times: int, name: str = "alice") -> None:
        """Make the log longer."""
        auto, self.auto = self.auto, False
        for _ in range(times):
            self.do(name, Transfer(KEYS["sam"].address, 1))
        self.auto = auto
        self.publish()

    def publish(self) -> None:
        self.published = (self.snapshot(), self.sign(self.checkpoint()))

    def snapshot(self) -> World:
        """The world as it stands; its state is a value, its log only grows."""
        world = World.__new__(World)
        world.__dict__ |= self.world.__dict__ | {"leaves": list(self.world.leaves)}
        return world

    def checkpoint(self, size: int | None = None) -> Checkpoint:
        world = self.world
        size = len(world.leaves) if size is None else size
        head = Frontier.at(world.nodes.__getitem__, size).head
        state_root = world.leaves[size - 1].state_root
        return Checkpoint(log_origin(self.params.domain.network), *head, state_root, world.epoch)

    def sign(
        self,
        checkpoint: Checkpoint,
        witnesses: Sequence[SigningKey] = tuple(WITNESSES),
        *,
        log_key: SigningKey = LOG_KEY,
        settlement: str = "operator",
        now_s: int = 0,
    ) -> SignedCheckpoint:
        signed = SignedCheckpoint(checkpoint)
        signed = signed.signed(sign_checkpoint(checkpoint, self.trust.operator, log_key.sign))
        signed = signed.signed(sign_root(checkpoint, self.params.domain, KEYS[settlement]))
        for key in witnesses:
            line = cosign(checkpoint, witness_key(key.public), key.sign, now_s or self.now_s)
            signed = signed.signed(line)
        return signed

    # the calls

    def methods(self) -> tuple[Unary, ...]:
        calls = {
            "Submit": (v1.SubmitRequest, self._submit),
            "GetCheckpoint": (v1.GetCheckpointRequest, self._get_checkpoint),
            "GetAccount": (v1.GetAccountRequest, self._get_account),
            "GetDeal": (v1.GetDealRequest, self._get_deal),
            "GetProof": (v1.GetProofRequest, self._get_proof),
            "GetTile": (v1.GetTileRequest, self._get_tile),
            "Draw": (v1.DrawRequest, self._draw),
        }
        return tuple(
            Unary(f"/{LEDGER_SERVICE}/{name}", kind, self._honest_or_not(name, call))
            for name, (kind, call) in calls.items()
        )

    def _honest_or_not(self, name: str, call: Callable[[Any], Message]) -> Any:
        async def handle(caller: Caller, request: Any) -> Message:
            self.calls.append(name)
            lie = self.lies.get(name)
            reply = call(request)
            return reply if lie is None else lie(request, reply)

        return handle

    def _submit(self, request: v1.SubmitRequest) -> v1.SubmitReply:
        reply = v1.SubmitReply()
        for each in request.entries:
            index = len(self.world.leaves)
            try:
                self.world.submit(Entry.decode(each.entry), each.signature)
            except DsnError as error:
                reply.outcomes.add(index=index, code=error.detail_code, message=error.message)
                continue
            leaf = self.world.leaves[index]
            network, digest = self.params.domain.network, leaf_hash(leaf.encode())
            promise = sign_promise(network, index, digest, LOG_KEY.sign)
            reply.outcomes.add(index=index, promise=promise.signature, state_root=leaf.state_root)
        if self.auto:
            self.publish()
        return reply

    def _get_checkpoint(self, request: v1.GetCheckpointRequest) -> v1.GetCheckpointReply:
        world, signed = self._published()
        size, old = signed.checkpoint.size, request.old_size
        path = build_consistency_proof(world.nodes.__getitem__, old, size) if 0 < old < size else []
        return v1.GetCheckpointReply(checkpoint=format_checkpoint(signed), consistency=path)

    def _get_account(self, request: v1.GetAccountRequest) -> v1.CellsReply:
        accounts = [(CellKind.ACCOUNT, each) for each in request.addresses]
        nodes = [(CellKind.NODE, each) for each in request.nodes]
        network = [(CellKind.NETWORK, self.params.domain.network)] * request.network
        return self._cells(accounts + nodes + network)

    def _get_deal(self, request: v1.GetDealRequest) -> v1.CellsReply:
        return self._cells((CellKind.DEAL, each) for each in request.deals)

    def _cells(self, wanted: Iterable[tuple[CellKind, bytes]]) -> v1.CellsReply:
        world, signed = self._published()
        cells = (
            cell_to_wire(
                world.state.cell(kind, name), *world.state.tree.build_proof(cell_key(kind, name))
            )
            for kind, name in wanted
        )
        return v1.CellsReply(checkpoint=format_checkpoint(signed), cells=cells)

    def _get_proof(self, request: v1.GetProofRequest) -> v1.GetProofReply:
        hashes, size = self.world.nodes.__getitem__, request.size
        if request.WhichOneof("what") == "index":
            leaf = self.world.leaves[request.index].encode()
            path = build_inclusion_proof(hashes, request.index, size)
            return v1.GetProofReply(path=path, leaf=leaf)
        return v1.GetProofReply(path=build_consistency_proof(hashes, request.old_size, size))

    def _get_tile(self, request: v1.GetTileRequest) -> v1.GetTileReply:
        bundle = parse_path(request.path)
        assert isinstance(bundle, Bundle)
        first = bundle.index * TILE_WIDTH
        leaves = self.world.leaves[first : first + bundle.width]
        if len(leaves) < bundle.width:
            raise NotFound(request.path, code="no_such_tile")
        return v1.GetTileReply(data=encode_bundle([leaf.encode() for leaf in leaves]))

    def _draw(self, request: v1.DrawRequest) -> v1.DrawReply:
        from dsn.ledger.binding import SignedBinding, verify_binding
        from dsn.ledger.cells import AccountCell

        signed = SignedBinding.decode(request.binding)
        verify_binding(signed, self.params.domain)
        to = signed.binding.settlement
        if self.world.state.account(to) != AccountCell(to):
            return v1.DrawReply(amount=0)
        self.do("operator", Transfer(to, self.faucet))
        return v1.DrawReply(amount=self.faucet)

    def _published(self) -> tuple[World, SignedCheckpoint]:
        assert self.published is not None
        return self.published


class Reader:
    """A home's view of a stage."""

    def __init__(self, network: Network, connections: Connections, folder: Path) -> None:
        self.network, self._connections = network, connections
        self.file = folder / "checkpoint"

    def light(self, clock: Clock | None = None, *, patience_s: float = 5.0) -> LightClient:
        """A light client that goes on from what an earlier one remembered."""
        return LightClient(
            self.network,
            self._connections,
            self.file,
            clock or SystemClock(),
            patience_s=patience_s,
        )

    def account(self, name: str, light: LightClient | None = None) -> LedgerAccount:
        return LedgerAccount(light or self.light(), KEYS[name])


@asynccontextmanager
async def serving(stage: Stage, folder: Path) -> AsyncIterator[Reader]:
    """Serve ``stage`` on a port of its own."""
    network_id = stage.genesis.network_id
    server = Server(LOG_KEY, network_id, stage.methods(), Limits(address_limits=False))
    address = await server.start("127.0.0.1:0")
    try:
        async with Connections(CALLER, network_id) as connections:
            yield Reader(located(stage.genesis, address), connections, folder)
    finally:
        await server.stop(0)


def located(genesis: Genesis, address: str) -> Network:
    """The network file of a stage whose ledger is at ``address``."""
    return sign_network(genesis, [], LOG_KEY.sign, ledger=Contact(LOG_KEY.public, address))


def forked(stage: Stage, size: int) -> Stage:
    """Another history of the same ledger from entry ``size`` on: one more payment, then as many."""
    other = Stage(stage.genesis)
    other.auto = False
    for leaf in stage.world.leaves[:size]:
        other.world.submit(Entry.decode(leaf.entry), leaf.signature)
    while len(other.world.leaves) < len(stage.world.leaves):
        other.do("paul", Transfer(KEYS["sam"].address, 7))
    other.auto = True
    other.publish()
    return other


def node_of(name: str) -> Any:
    """The node id of a party."""
    return node_id_of(IDENTITIES[name].public)


def without_witnesses() -> Genesis:
    """The same network, on which the operator's word is enough."""
    assert GENESIS.ledger is not None
    return replace(GENESIS, ledger=replace(GENESIS.ledger, witnesses=frozenset(), quorum=0))


async def refusal(call: Awaitable[object]) -> DsnError:
    """Why ``call`` failed."""
    with pytest.raises(DsnError) as caught:
        await call
    assert "\n" not in caught.value.message
    return caught.value


def transfer(amount: int = 1, to: str = "sam") -> Transfer:
    return Transfer(address(to), amount)
