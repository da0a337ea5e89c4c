"""A real ledger in this process: its server on loopback, its store on disk, and witnesses.

::

    async with ledger_served(tmp_path, allocation={address: 1_000}) as served:
        served.network, served.contact          # the signed network file, where the ledger is
        async with served.peer(seed=3) as peer: # LedgerPeer of some identity
            ...
        await served.enter(key, Transfer(...))  # signed, entered, published
        await served.next_epoch()               # shut this epoch, open the next

Epochs last until ``next_epoch`` ends them. Witnesses are real servers that follow nothing and
sign whatever they are asked to; each can be told to refuse or to be silent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsn.apps.devnet import free_port
from dsn.apps.ledger.chain import Settling
from dsn.apps.ledgerd.run import Ledger, Place, serving
from dsn.core.hashing import sha256
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import Genesis, Network, format_network, sign_network
from dsn.errors import DsnError
from dsn.ids import NO_NETWORK, NetworkId
from dsn.ledger.cells import NetworkCell, Phase
from dsn.ledger.checkpoint import parse_checkpoint
from dsn.ledger.cosignature import cosign
from dsn.ledger.entry import Body, Entry, sign_entry
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.ledger.trust import witness_key
from dsn.ledger.typed import Domain, sign_typed
from dsn.rpc.channel import Connections
from dsn.rpc.ledger import WITNESS_SERVICE, LedgerPeer
from dsn.rpc.limits import Limits
from dsn.rpc.server import Server, Unary
from dsn.rpc.tls import Caller
from dsn.runtime.clock import SystemClock
from dsn.v1 import witness_pb2

ROOT = b"L" * 32
"""What the operator's keys derive from."""
LOG_KEY = SigningKey(IdentityKeys.derive(ROOT).identity_seed)
OPERATOR = SettlementKey.derive(ROOT)
LOCAL = Limits(address_limits=False)
VDF = {"vdf_iterations": 1_000, "vdf_bits": 256}
"""A delay of a few milliseconds."""
PATIENCE_S = 20.0


def root_key_of(public: bytes) -> SettlementKey:
    """What the witness with that key signs with for a chain."""
    return SettlementKey(sha256(public))


@dataclass
class Witness:
    """A server that cosigns and gives salts without looking; ``refusal`` makes it refuse."""

    key: SigningKey
    refusal: Callable[[], DsnError] | None = None
    asked: list[bytes] = field(default_factory=list)
    """Notes, as they came."""
    contact: Contact = field(init=False)
    domain: Domain | None = None
    """Where it signs roots too; nowhere by default."""
    root_key: SettlementKey = field(init=False)
    """With what."""

    def __post_init__(self) -> None:
        """Sign as the network says."""
        self.root_key = root_key_of(self.key.public)

    @asynccontextmanager
    async def serving(self, network: NetworkId, address: str) -> AsyncIterator[None]:
        """Serve while the block runs."""
        self._network = network
        at = f"/{WITNESS_SERVICE}/"
        methods = (
            Unary(at + "Cosign", witness_pb2.CosignRequest, self._cosign),
            Unary(at + "GetSalt", witness_pb2.GetSaltRequest, self._salt),
        )
        server = Server(self.key, network, methods, LOCAL)
        await server.start(address)
        try:
            yield
        finally:
            await server.stop(0)

    async def _cosign(
        self, caller: Caller, request: witness_pb2.CosignRequest
    ) -> witness_pb2.CosignReply:
        self.asked.append(request.checkpoint)
        if self.refusal:
            raise self.refusal()
        checkpoint = parse_checkpoint(request.checkpoint).checkpoint
        now_s = int(SystemClock().now_s())
        line = cosign(checkpoint, witness_key(self.key.public), self.key.sign, now_s)
        root = b""
        if self.domain is not None:
            root = sign_typed(checkpoint.ledger_root, self.domain, self.root_key)
        return witness_pb2.CosignReply(
            name=line.name, key_id=line.key_id, signature=line.signature, root_signature=root
        )

    async def _salt(
        self, caller: Caller, request: witness_pb2.GetSaltRequest
    ) -> witness_pb2.GetSaltReply:
        salt = os.urandom(32)
        preimage = salt_preimage(self._network, request.epoch, salt)
        return witness_pb2.GetSaltReply(salt=salt, signature=self.key.sign(preimage))


class Ticks:
    """An operator's clock that waits until it is told to go on."""

    def __init__(self) -> None:
        """Wait at first."""
        self._go = asyncio.Event()

    async def __call__(self, span_s: float) -> None:
        """Wait, however long is asked for."""
        await self._go.wait()
        self._go.clear()

    def go(self) -> None:
        """End one wait, this or the next."""
        self._go.set()


@dataclass
class Served:
    """A running ledger, and what its users need."""

    network: Network
    contact: Contact
    ledger: Ledger
    ticks: Ticks
    witnesses: Sequence[Witness]
    place: Place
    log_key: SigningKey = LOG_KEY
    operator: SettlementKey = OPERATOR

    @property
    def params(self) -> LedgerParams:
        """The ledger's parameters, with their network."""
        params = self.network.ledger_params
        assert params is not None
        return params

    @asynccontextmanager
    async def connections(self, seed: int = 1) -> AsyncIterator[Connections]:
        """Connections of the identity ``seed``."""
        key = SigningKey(bytes([seed]) * 32)
        async with Connections(key, self.network.network_id) as connections:
            yield connections

    @asynccontextmanager
    async def peer(self, seed: int = 1) -> AsyncIterator[LedgerPeer]:
        """The ledger as the identity ``seed`` sees it."""
        async with self.connections(seed) as connections:
            yield LedgerPeer(connections.line(self.contact))

    def signed(self, key: SettlementKey, nonce: int, body: Body) -> tuple[bytes, bytes]:
        """An entry and its signature, as ``LedgerPeer.submit`` takes them."""
        entry = Entry(self.network.network_id, key.address, nonce, body)
        return entry.encode(), sign_entry(entry, self.params.domain, key).signature

    async def enter(self, key: SettlementKey, *bodies: Body) -> list[int]:
        """Enter ``bodies`` with the next nonces of ``key``; returns once they are published."""
        books, ask = self.ledger.desk.books, self.ledger.desk.ask
        state = await ask(lambda: books.sequencer.state)
        first = state.account(key.address).nonce + 1
        async with self.peer(seed=250) as peer:
            outcomes = await peer.submit(
                self.signed(key, nonce, body) for nonce, body in enumerate(bodies, first)
            )
        assert [each.code for each in outcomes] == [""] * len(bodies)
        await self.published(outcomes[-1].index + 1)
        return [each.index for each in outcomes]

    async def published(self, size: int = 0) -> None:
        """Return once readers see a log of ``size`` entries; by default all there are."""
        async with asyncio.timeout(PATIENCE_S):
            await self.ledger.publisher.covers(size or self.ledger.desk.size)

    def time(self) -> NetworkCell:
        """Where time stands."""
        return self.ledger.desk.books.network()

    async def opened(self, epoch: int) -> None:
        """Return once ``epoch`` is open, and readers see it."""
        async with asyncio.timeout(PATIENCE_S):
            while (self.time().epoch, self.time().phase) != (epoch, Phase.OPEN):
                await self.ledger.publisher.covers(self.ledger.views.size + 1)
        await self.published()

    async def next_epoch(self, count: int = 1) -> int:
        """Shut the epoch and open the next one, ``count`` times; gives the one that is open."""
        for _ in range(count):
            epoch = self.time().epoch
            self.ticks.go()
            await self.opened(epoch + 1)
        return self.time().epoch


def ledger_network(
    address: str,
    *,
    allocation: Mapping[Address, int] | None = None,
    witnesses: Sequence[Contact] = (),
    quorum: int = 0,
    faucet: Address = NO_ADDRESS,
    contacts: Sequence[Contact] = (),
    vault: Address = NO_ADDRESS,
    **changes: Any,
) -> Network:
    """A signed network file whose ledger the keys of ``ROOT`` run at ``address``.

    With a ``vault`` the cosigners are those of ``root_key_of``, unless ``changes`` has others.
    """
    if vault != NO_ADDRESS:
        keys = (root_key_of(each.public_key) for each in witnesses)
        changes.setdefault("cosigners", frozenset(key.address for key in keys))
    params = LedgerParams(
        Domain(NO_NETWORK, 31_337 if vault != NO_ADDRESS else 0, vault),
        OPERATOR.address,
        log_key=LOG_KEY.public,
        witnesses=frozenset(each.public_key for each in witnesses),
        quorum=quorum,
        faucet=faucet,
        allocation=tuple((allocation or {}).items()),
        **{"epoch_s": 30, "open_s": 0, **VDF, **changes},
    )
    genesis = Genesis("test", 0, LOG_KEY.public, "node", address_limits=False, ledger=params)
    ledger = Contact(LOG_KEY.public, address)
    return sign_network(genesis, contacts, LOG_KEY.sign, ledger=ledger, witnesses=witnesses)


@asynccontextmanager
async def ledger_served(
    root: Path,
    *,
    allocation: Mapping[Address, int] | None = None,
    witnesses: int = 0,
    quorum: int = 0,
    faucet: Address = NO_ADDRESS,
    contacts: Sequence[Contact] = (),
    network: Network | None = None,
    http: str = "",
    relays: Sequence[str] = (),
    vault: Address = NO_ADDRESS,
    settling: Settling | None = None,
    **changes: Any,
) -> AsyncIterator[Served]:
    """Serve a ledger kept below ``root``, epoch 1 open; the same one again on the same ``root``.

    Args:
        root: A directory.
        allocation: What accounts have at genesis, in credits.
        witnesses: How many obedient ones.
        quorum: How many must cosign.
        faucet: ``OPERATOR.address`` to have one; allocate it something.
        contacts: Where nodes of the network are.
        network: In place of all these: its witnesses are then reached, not made.
        http: Where to serve HTTP, such as ``127.0.0.1:0``.
        relays: Where rounds of drand come from.
        vault: Where the network settles, if it does.
        settling: The chain of it.
        changes: Other ``LedgerParams`` by name.
    """
    helpers = [Witness(SigningKey(bytes([200 + n]) * 32)) for n in range(witnesses)]
    for helper in helpers:
        helper.contact = Contact(helper.key.public, f"127.0.0.1:{free_port('127.0.0.1')}")
    if network is None:
        network = ledger_network(
            f"127.0.0.1:{free_port('127.0.0.1')}",
            allocation=allocation,
            witnesses=[helper.contact for helper in helpers],
            quorum=quorum,
            faucet=faucet,
            contacts=contacts,
            vault=vault,
            **changes,
        )
    assert network.ledger is not None and network.ledger_params is not None
    for helper in helpers:
        helper.domain = network.ledger_params.domain if network.ledger_params.settles else None
    root.mkdir(exist_ok=True)
    (root / "network.toml").write_text(format_network(network))
    address, ticks = network.ledger.address, Ticks()
    place = Place(str(root / "ledger"), root, address, http, drand=relays)
    async with AsyncExitStack() as held:
        for helper in helpers:
            started = helper.serving(network.network_id, helper.contact.address)
            await held.enter_async_context(started)
        ledger = await held.enter_async_context(
            serving(
                network,
                LOG_KEY,
                OPERATOR,
                place,
                clock=SystemClock(),
                sleep=ticks,
                settling=settling,
            )
        )
        served = Served(network, network.ledger, ledger, ticks, helpers, place)
        await served.opened(served.time().epoch)
        yield served


async def http_get(
    address: str, path: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    raw = await reader.read()
    writer.close()
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


def _address() -> str:
    return f"127.0.0.1:{free_port('127.0.0.1')}"
