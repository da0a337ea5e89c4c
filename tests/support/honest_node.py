"""A node that proves and owns up, on the rules' own ledger, with a real store that rots.

::

    node = HonestNode(tmp_path, Random("seed"))
    async with node.started():              # a process; another one finds what it left
        await node.turn()

Paul is the node, Alice his client. Small shards have numbers below ``LARGE``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from dsn.apps.ledger.light import Snapshot
from dsn.apps.node.demands import Demands
from dsn.apps.node.losses import Losses
from dsn.apps.node.openings import Opener
from dsn.apps.node.proving import Prover
from dsn.apps.node.scrub import Scrub
from dsn.apps.node.terms import Self
from dsn.errors import ShardCorrupt
from dsn.ids import Commit, DealId
from dsn.ledger.terms import Terms
from dsn.ports import StoredShard
from dsn.store.shards import DiskStore
from dsn.units import SMALL_SHARD_BYTES
from tests.support import ledger_world
from tests.support.ledger_world import IDENTITIES
from tests.support.proof_world import Shard
from tests.support.prover_world import NODE, Field, Holding
from tests.support.shard_stores import ALICE, DEAL, LATER, PLENTY, disk_store
from tests.vectors.core_vectors import data

LARGE = 20
"""From this number on shards have files of their own."""
_small = ledger_world.shard


def stored(number: int) -> Shard:
    """A shard of 1 to 5 leaves, or of 65 to 200."""
    if number < LARGE:
        return _small(number)
    return SHARDS.setdefault(
        number, Shard(data(f"large.{number}", 65_537 + 9_001 * number % 130_000))
    )


SHARDS: dict[int, Shard] = {}


class Crash(Exception):
    """The machine stops."""


class HonestNode:
    """Paul, as a process after another that finds what the last one left."""

    def __init__(self, folder: Path, random: Random) -> None:
        self.folder, self.random = folder, random
        self.field = Field(folder, demand_epochs=4, entry_fee=0)
        self.held: dict[DealId, list[int]] = {}
        self.numbers: dict[DealId, int] = {}
        self.field.before_entering = self.field.after_entering = self._crash_now_and_then
        self.crashing = False
        self.links_taken = self.losses_taken = 0

    def _crash_now_and_then(self) -> None:
        if self.crashing and self.random.random() < 0.1:
            raise Crash

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        """Everything anew, from what is on disk."""
        async with disk_store(self.folder / "volume") as self.store:
            self._put_together()
            yield

    def _put_together(self) -> None:
        field, params = self.field, self.field.world.params
        me = Self(params.domain.network, IDENTITIES[NODE], Terms())
        self.scrub = Scrub(self.store, self.folder / "scrub", 30.0, field.clock)
        opener, holder = Opener(self.store, self.scrub.suspect), Stored(self)
        self.prover = Prover(
            me, holder, field.restart(), opener, field.paul, field.leaves,
            params, field.clock,
        )  # fmt: skip
        self.losses = Losses(
            holder, self.scrub, self.store, field.paul, self.give_up, params, field.clock
        )
        self.demands = Demands(holder, field.answers, opener, field.paul, params, self.give_up_one)

    async def hold(self, *numbers: int, **changes: object) -> DealId:
        """A new deal under which these shards are held, on disk and on the ledger."""
        deal = self.field.hold(*numbers, salt=bytes([len(self.held)]) * 32, **changes)
        self.held[deal] = list(numbers)
        async with disk_store(self.folder / "volume") as store:
            for number in numbers:
                await keep(store, stored(number))
        return deal

    async def give_up(self, deal: DealId, commits: Sequence[Commit]) -> int:
        world = self.field.world
        before = self.numbers.get(deal, world.deal(deal).number)
        number = max(before, world.deal(deal).number) + 1
        base = world.shards.get((deal, before), world.held(deal))
        left = tuple(n for n in base if stored(n).commit not in commits)
        world.shards[deal, number], self.numbers[deal] = left, number
        return number

    async def give_up_one(self, deal: DealId, commits: Sequence[Commit]) -> int:
        self.numbers[deal] = self.field.world.deal(deal).number
        everything = [stored(n).commit for n in self.field.world.held(deal)]
        return await self.give_up(deal, commits or everything)

    async def turn(self) -> None:
        """What a node does again and again."""
        field = self.field
        await self.prover.turn(field.snapshot())
        while self.scrub._suspects:
            await self.scrub.turn()
        await self.demands.turn(field.snapshot())
        self.numbers.clear()
        await self.losses.turn()
        self.numbers.clear()

    # what befalls it

    def harm(self, number: int, *, gone: bool = False) -> None:
        """Rot in a shard, or the loss of its file; a small one is lost by rot, too."""
        one, log = stored(number), self.folder / "volume" / "log"
        if number < LARGE:
            for path in log.iterdir():
                raw = path.read_bytes()
                if one.raw in raw:
                    path.write_bytes(raw.replace(one.raw, bytes(len(one.raw))))
            return
        path = self.folder / "volume" / "shards" / one.commit.hex()[:2] / one.commit.hex()
        if gone or not path.exists():
            path.unlink(missing_ok=True)
            return
        raw = bytearray(path.read_bytes())
        raw[self.random.randrange(len(raw))] ^= 0xFF
        path.write_bytes(raw)

    async def mend(self) -> None:
        """Somebody gives back what is known to be rotten, if it can be given back."""
        for commit in list(self.scrub.bad):
            try:
                rotten = await self.scrub.look(commit)
                one = next(s for s in map(stored, range(40)) if s.commit == commit)
                await self.store.mend(commit, {at: one.leaf_data(at) for at in rotten})
                await self.scrub.look(commit)
            except ShardCorrupt:
                continue


class Stored(Holding):
    """What Paul holds by the ledger, out of a real store."""

    def __init__(self, node: HonestNode) -> None:
        super().__init__(node.field)
        self._node = node

    async def see(self) -> Snapshot:
        return self._field.snapshot()

    async def shard(self, commit: Commit) -> StoredShard | None:
        return await self._node.store.stat(commit)


async def keep(store: DiskStore, one: Shard) -> None:
    """Store a shard under Alice's deal."""
    if len(one.raw) > SMALL_SHARD_BYTES:
        writer = await store.begin(
            ALICE, DEAL, len(one.raw), keep_until_s=LATER, pending_limit=PLENTY
        )
        await writer.write(one.raw)
        await writer.finish(one.commit)
    else:
        await store.put_small(
            ALICE, DEAL, one.raw, one.commit, keep_until_s=LATER, pending_limit=PLENTY
        )
    await store.revise(ALICE, DEAL, [one.commit], [], b"r")
