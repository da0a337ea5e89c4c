"""The parts of a ledger without its server: books on disk, a desk, and witnesses in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsn.apps.ledger.engine import genesis_of
from dsn.apps.ledgerd.books import Books
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.apps.ledgerd.drand import DrandSource
from dsn.apps.ledgerd.epochs import Timekeeper
from dsn.apps.ledgerd.publisher import Publisher
from dsn.apps.ledgerd.views import Views
from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.errors import DsnError
from dsn.ledger.bodies import Salt
from dsn.ledger.checkpoint import NoteKey, NoteSignature, SignedCheckpoint, sign_root
from dsn.ledger.cosignature import cosign
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.ledger.trust import witness_key
from dsn.runtime.kernel import Kernel
from dsn.store.ledger import create_ledger, open_ledger
from tests.support.ledger_net import LOG_KEY, OPERATOR, ledger_network, root_key_of

BEN = SettlementKey(b"\x02" * 32)
PATIENCE_S = 20.0


@dataclass
class Watch:
    """A clock that goes when it is told to."""

    time_s: float = 1_700_000_000.0
    slept: list[float] = field(default_factory=list)

    def now_s(self) -> float:
        """Unix seconds."""
        return self.time_s

    def monotonic_s(self) -> float:
        """The same."""
        return self.time_s

    async def sleep(self, span_s: float) -> None:
        """Let ``span_s`` pass at once."""
        self.slept.append(span_s)
        self.time_s += span_s
        await asyncio.sleep(0)


@dataclass
class Follower:
    """A witness in memory that signs whatever it is asked to, unless ``refusal`` makes an error."""

    secret: SigningKey
    watch: Watch
    params: LedgerParams
    refusal: Callable[[], DsnError | None] = lambda: None
    speaks: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, it keeps whoever asks waiting."""
    asked: list[SignedCheckpoint] = field(default_factory=list)
    salts: list[int] = field(default_factory=list)
    """Epochs it was asked for a salt of."""

    @property
    def key(self) -> NoteKey:
        """What it cosigns with."""
        return witness_key(self.secret.public)

    async def cosign(self, signed: SignedCheckpoint) -> list[NoteSignature]:
        """Its lines."""
        self.asked.append(signed)
        await self._say()
        checkpoint, now_s = signed.checkpoint, int(self.watch.now_s())
        lines = [cosign(checkpoint, self.key, self.secret.sign, now_s)]
        if self.params.settles:
            root_key = root_key_of(self.secret.public)
            lines.append(sign_root(checkpoint, self.params.domain, root_key, self.key.name))
        return lines

    async def salt(self, epoch: int) -> Salt:
        """The same for an epoch each time."""
        self.salts.append(epoch)
        await self._say()
        salt = sha256(self.secret.public + bytes([epoch]))
        preimage = salt_preimage(self.params.domain.network, epoch, salt)
        return Salt(self.secret.public, salt, self.secret.sign(preimage))

    def __post_init__(self) -> None:
        """Speak at first."""
        self.speaks.set()

    async def _say(self) -> None:
        error = self.refusal()
        if error is not None:
            raise error
        await self.speaks.wait()


@dataclass
class Rig:
    """A ledger's parts."""

    desk: Desk
    operator: Operator
    views: Views
    publisher: Publisher
    timekeeper: Timekeeper
    witnesses: list[Follower]
    watch: Watch
    notes: list[bytes]
    """What was kept, in order."""

    async def shown(self, holds: Callable[[SignedCheckpoint], bool]) -> None:
        """Return once readers see a checkpoint of which that holds."""
        news = self.publisher._news
        async with news:
            await news.wait_for(lambda: self.views.signed is not None and holds(self.views.signed))

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        """Publish while the block runs."""
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            task = group.create_task(self.publisher.run())
            yield
            task.cancel()


@asynccontextmanager
async def rigged(
    root: Path,
    *,
    witnesses: int = 0,
    quorum: int = 0,
    open_s: int = 0,
    vault: Address = NO_ADDRESS,
    **changes: Any,
) -> AsyncIterator[Rig]:
    """The ledger in ``root``, made if there is none; epochs last an hour."""
    watch, keys = Watch(), [SigningKey(bytes([200 + n]) * 32) for n in range(witnesses)]
    contacts = [Contact(key.public, f"127.0.0.1:{n}") for n, key in enumerate(keys, 1)]
    network = ledger_network(
        "127.0.0.1:9",
        allocation={} if vault != NO_ADDRESS else {OPERATOR.address: 1_000_000},
        witnesses=contacts,
        quorum=quorum,
        epoch_s=3_600,
        open_s=open_s,
        vault=vault,
        **changes,
    )
    params = network.ledger_params
    assert params is not None
    place = str(root / "ledger")
    if not (root / "ledger").exists():
        create_ledger(place, *genesis_of(params))
    followers = [Follower(key, watch, params) for key in keys]
    with closing(open_ledger(place, signer=True)) as store, Kernel() as thread:
        books, notes = Books(store), list[bytes]()
        desk, views = Desk(books, thread, watch), Views(books.sequencer.cells())
        operator = Operator(params, LOG_KEY, OPERATOR, desk)
        publisher = Publisher(
            desk, operator, views, followers, clock=watch, every_s=0.0, keep=notes.append
        )
        timekeeper = Timekeeper(
            desk, operator, publisher, followers,
            clock=watch, file=root / "epoch", drand=DrandSource((), watch), sleep=watch.sleep,
        )  # fmt: skip
        yield Rig(desk, operator, views, publisher, timekeeper, followers, watch, notes)
