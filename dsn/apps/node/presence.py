"""A node's presence in the network: it gets in, stays in, and keeps what it has findable.

Spec: docs/spec/network.md#staying-whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from dsn.apps.announce import Announced, announce, announce_shards
from dsn.apps.dht import Dht
from dsn.apps.node.terms import Self
from dsn.core.keys import verify_signature
from dsn.dht.contact import Contact
from dsn.dht.distance import nearest
from dsn.dht.node_record import (
    NODE_TERM_S,
    REPUBLISH_S,
    NodeRecord,
    free_class,
    sign_node_record,
)
from dsn.dht.record import next_sequence, parse_record
from dsn.dht.shards import ShardBatch, sign_batch
from dsn.errors import DsnError, PeerError
from dsn.ids import Commit, NodeId
from dsn.machines.upkeep import join, meet, refresh
from dsn.ports import Clock, Entropy, ShardStore
from dsn.rpc.dht import Pong
from dsn.store.files import write_atomic

RETRY_S: Final = (0.25, 15.0)
"""Between attempts to get in: the first and the longest."""
SEEK_AFTER_S: Final = 1.0
"""Other ways in are tried once waits have grown so long: seeds may only be starting."""
LOOK_S: Final = 5.0
"""Between two looks at whether records must be announced anew."""
CHECKERS: Final = 3
"""Contacts that are asked whether they can call this node back."""
PAGE: Final = 1_024
"""Records read from the store at a time."""
_US: Final = 1_000_000
_log = structlog.get_logger("dht")


class OwnRecord:
    """What this node says of itself, signed anew when it changes or grows old.

    The file remembers the last sequence, so that a clock set back cannot silence the node.
    """

    def __init__(self, me: Self, store: ShardStore, file: Path, clock: Clock) -> None:
        """Speak as ``me``; remember in ``file``."""
        self.address = ""
        """Where the node can be reached; set once it listens."""
        self._me, self._store = me, store
        self._file, self._clock = file, clock
        self._record = self._load()

    def encoded(self) -> bytes:
        """The record as it stands."""
        if self._record is None or self.due:
            self.renew()
        assert self._record is not None
        return self._record.encode()

    @property
    def due(self) -> bool:
        """Whether what it says is not so any more, or will run out before it is told again."""
        record, now_s = self._record, self._clock.now_s()
        if record is None or record.expires_s - now_s < NODE_TERM_S - REPUBLISH_S:
            return True
        said = record.addresses, record.free_class, record.terms_digest
        return said != ((self.address,), self._free_class(), self._me.terms.digest())

    def renew(self) -> None:
        """Sign a new one."""
        now_s = self._clock.now_s()
        last = self._record.sequence if self._record else 0
        self._record = sign_node_record(
            self._me.key.sign,
            network=self._me.network,
            public_key=self._me.key.public,
            sequence=next_sequence(last, int(now_s * _US)),
            issued_s=int(now_s),
            expires_s=int(now_s) + NODE_TERM_S,
            addresses=(self.address,),
            roles=("provider",),
            terms_digest=self._me.terms.digest(),
            free_class=self._free_class(),
        )
        write_atomic(self._file, self._record.encode())

    def sign_shards(self, commits: Sequence[Commit]) -> ShardBatch:
        """Say that the shards of ``commits`` are here."""
        now_s = self._clock.now_s()
        return sign_batch(
            self._me.key.sign,
            network=self._me.network,
            public_key=self._me.key.public,
            sequence=int(now_s * _US),
            expires_s=int(now_s) + NODE_TERM_S,
            commits=commits,
        )

    def _free_class(self) -> int:
        """The class of what is free; an eighth past a border it counts, or it would waver."""
        free = self._store.space().free
        said = self._record.free_class if self._record else -1
        near = {free_class(free * eighths // 8) for eighths in (7, 8, 9)}
        return said if said in near else free_class(free)

    def _load(self) -> NodeRecord | None:
        """What was said last, whether or not it still holds."""
        try:
            record = parse_record(self._file.read_bytes())
            verify_signature(record.signer, record.preimage(), record.signature)
            if not isinstance(record, NodeRecord) or record.key != self._me.node_id:
                raise PeerError("record: it is not this node's", code="foreign_key")
            if record.network != self._me.network:
                raise PeerError("record: it is of another network", code="other_network")
        except FileNotFoundError:
            return None
        except DsnError as error:
            _log.warning("own record forgotten", reason=error.message)
            return None
        return record


class Presence:
    """The tasks of a node in the DHT."""

    def __init__(
        self,
        dht: Dht,
        store: ShardStore,
        own: OwnRecord,
        *,
        seek: Callable[[], Awaitable[int]],
        save: Callable[[], None],
        refresh_s: float,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        """Stay in the network of ``dht``.

        Args:
            dht: Makes the calls.
            store: Has the records of what this node holds.
            own: What this node says of itself.
            seek: Looks for contacts where the address book and the network file do not lead.
            save: Remembers what is worth remembering; called every refresh.
            refresh_s: Seconds between two rounds of upkeep.
            clock: Dates what is done.
            entropy: Draws targets, walks and delays.
        """
        self.joined, self.reachable = False, False
        self.cost = Announced()
        self._dht, self._store, self.own = dht, store, own
        self._seek, self._save, self._refresh_s = seek, save, refresh_s
        self._clock, self._entropy = clock, entropy
        self._hint: asyncio.Queue[Contact] = asyncio.Queue(1)
        self._hinted_s = -refresh_s
        self._neighbours: set[NodeId] = set()
        self._announced, self._announced_s = b"", 0.0

    async def run(self) -> None:
        """Get in, and stay until cancelled."""
        await self._get_in()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay())
            tasks.create_task(self._stay_announced())
            tasks.create_task(self._follow_hints())

    def hinted(self, stranger: Contact) -> None:
        """Take a merge hint: at most one a refresh, for each costs a lookup."""
        now_s = self._clock.monotonic_s()
        if now_s - self._hinted_s < self._refresh_s or self._dht.table.get(stranger.node_id):
            return
        self._hinted_s = now_s
        if self._hint.empty():
            self._hint.put_nowait(stranger)

    # getting in

    async def _get_in(self) -> None:
        wait_s, longest_s = RETRY_S
        while not await self._enter():
            _log.warning("not let in", reason=self._dht.nobody().message)
            await asyncio.sleep(wait_s * (0.5 + self._draw()))
            wait_s = min(longest_s, 1.5 * wait_s)
            self._dht.forgive()
            if wait_s > SEEK_AFTER_S:
                await self._seek()
        self.joined = True
        _log.info("joined", contacts=len(self._dht.table), reachable=self.reachable)

    async def _enter(self) -> bool:
        """Whether somebody let this node in, or it is the first of its network."""
        if not self._dht.seeds():
            await self._seek()
        seeds = self._dht.seeds()
        await self._dht.run(join(self._dht.table, seeds, self._entropy))
        if len(self._dht.table):
            await self._check_reachable()
            await self.announce()
        return bool(self._dht.table) or not seeds

    async def _check_reachable(self) -> None:
        table = self._dht.table
        for contact in nearest(table, self._entropy(32), CHECKERS):
            pong = await self._dht.call("Ping", contact, lambda peer: peer.ping(call_back=True))
            if isinstance(pong, Pong) and pong.reachable:
                self.reachable = True
                return
        self.reachable = not table

    # staying in

    async def _stay(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s * (0.75 + self._draw() / 2))
            table, seeds = self._dht.table, self._dht.seeds()
            await self._dht.run(refresh(table, seeds, self._entropy))
            if not table:
                await self._seek()
                continue
            await self._check_reachable()
            self._save()

    async def _stay_announced(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self._announcement_due():
                await self._check_reachable()
                await self.announce()

    def _announcement_due(self) -> bool:
        """Whether records grow old, or other nodes have become the ones to keep them."""
        aged = self._clock.monotonic_s() - self._announced_s >= REPUBLISH_S
        nearest_now = self._nearest()
        moved = 2 * len(self._neighbours & nearest_now) < len(nearest_now)
        changed = self.own.encoded() != self._announced
        return bool(nearest_now) and (moved or aged or changed)

    def _nearest(self) -> set[NodeId]:
        return {each.node_id for each in self._dht.table.closest(self._dht.table.me)}

    async def _follow_hints(self) -> None:
        while True:
            stranger = await self._hint.get()
            await self._dht.run(meet(self._dht.table, [stranger], self._entropy))

    async def announce(self) -> None:
        """Have this node's record, and those of all it holds, kept by the nodes near their keys."""
        me = self._dht.table.me
        self.cost = Announced()
        self._announced_s, self._neighbours = self._clock.monotonic_s(), self._nearest()
        self._announced = self.own.encoded()
        self._dht.forget_regions()
        self.cost.add(await announce(self._dht, {me: self._announced}))
        keys = await self._store.record_keys(limit=PAGE)
        while keys:
            held = {key: await self._store.get_record(key) for key in keys}
            fresh = {key: raw for key, raw in held.items() if raw and self._lasts(raw)}
            self.cost.add(await announce(self._dht, fresh))
            keys = await self._store.record_keys(after=keys[-1], limit=PAGE)
        if self._dht.network.genesis.shard_records:
            await self._announce_shards()

    async def _announce_shards(self) -> None:
        page = await self._store.commits()
        while page:
            self.cost.add(await announce_shards(self._dht, page, self.own.sign_shards))
            page = await self._store.commits(after=page[-1])

    def _lasts(self, raw: bytes) -> bool:
        try:
            return parse_record(raw).expires_s > self._clock.now_s()
        except DsnError:
            return False

    def _draw(self) -> float:
        return int.from_bytes(self._entropy(4), "big") / (1 << 32)
