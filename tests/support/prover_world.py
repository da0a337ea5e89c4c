"""A node that proves, on the rules' own ledger: ``World`` in memory, answers in real files.

::

    field = Field(tmp_path)
    deal = field.hold(1, 2, 3)              # paul holds these shards of alice's, installed
    field.world.pass_epochs(1)              # frozen, and the next epoch is open
    await field.prover().turn(field.snapshot())

Paul is the node. What the disk, the ledger or the answers' files do wrong is set on the field.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dsn.apps.ledger.light import Snapshot
from dsn.apps.node.demands import Demands
from dsn.apps.node.openings import Opener
from dsn.apps.node.proving import Prover
from dsn.apps.node.terms import Self
from dsn.errors import DsnError, EntryRefused, NotFound, ShardCorrupt
from dsn.ids import Commit, DealId, NodeId
from dsn.ledger.entry import Body
from dsn.ledger.log import LogLeaf
from dsn.ledger.rules.settling import roll
from dsn.ledger.terms import Terms
from dsn.ports import ShardState, StoredShard
from dsn.proofs.inventory import SumTree
from dsn.store.answers import AnswerStore, open_answers
from dsn.units import GROUP_LEAVES, LEAF_BYTES
from tests.support.ledger_world import (
    IDENTITIES,
    PARAMS,
    World,
    address,
    holdings,
    inventory,
    shard,
    terms,
)
from tests.support.proof_world import Inventory, Shard

NODE = "paul"
SHARDS = {shard(n).commit: shard(n) for n in range(12)}
_GROUP_BYTES = GROUP_LEAVES * LEAF_BYTES


class Clock:
    """A clock that stands."""

    at_s = 1_000.0

    def now_s(self) -> float:
        return self.at_s

    def monotonic_s(self) -> float:
        return self.at_s


@dataclass
class Disk:
    """Shards in memory, read as a store reads them; some are gone, some rotted."""

    shards: dict[Commit, Shard]

    def __post_init__(self) -> None:
        self.gone: set[Commit] = set()
        self.rotten: dict[Commit, int] = {}
        """The byte that changed."""
        self.reads: list[Commit] = []

    async def sample(self, commit: Commit, numbers: Sequence[int]) -> tuple[bytes, list[bytes]]:
        self.reads.append(commit)
        if commit in self.gone:
            raise ShardCorrupt("gone", code="shard_lost")
        if commit not in self.shards:
            raise NotFound("unknown", code="unknown_shard")
        stored = self.shards[commit]
        raw = bytearray(stored.raw)
        if commit in self.rotten:
            raw[self.rotten[commit]] ^= 1
        return stored.groups, [
            bytes(raw[n * _GROUP_BYTES : (n + 1) * _GROUP_BYTES]) for n in numbers
        ]


class Holding:
    """What Paul holds, as the world's ledger names it."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self.forgotten = False

    async def frozen(self, snapshot: Snapshot) -> Inventory:
        account = roll(snapshot.account, snapshot.network.epoch)
        if self.forgotten or account.frozen not in self._field.world.known:
            raise NotFound("an inventory that is not known", code="inventory_unknown")
        return inventory(self._field.world.known[account.frozen])

    async def holdings(self, deal: DealId, number: int) -> SumTree:
        return holdings(self._field.world.shards[deal, number]).tree

    async def shard(self, commit: Commit) -> StoredShard | None:
        stored = self._field.disk.shards.get(commit)
        if stored is None:
            return None
        owner, state = NodeId(bytes(32)), ShardState.HELD
        return StoredShard(commit, stored.root, len(stored.raw), owner, state, 0)


class Paul:
    """Paul's account: it enters what it is told to, unless the field says otherwise."""

    address = address(NODE)

    def __init__(self, field: Field) -> None:
        self._field = field
        self.entered: list[Body] = []
        self.tries = 0

    async def enter(self, bodies: Sequence[Body], *, wait: bool = True) -> list[int | EntryRefused]:
        field, outcomes = self._field, list[int | EntryRefused]()
        if field.before_entering:
            field.before_entering()
        for body in bodies:
            self.tries += 1
            entry = field.world.entry(NODE, body)
            try:
                field.world.submit(entry)
            except EntryRefused as refused:
                outcomes.append(refused)
                continue
            self.entered.append(body)
            outcomes.append(len(field.world.leaves) - 1)
        if field.after_entering:
            field.after_entering()
        return outcomes


class Field:
    """A ledger, Paul's disk, and the folder of his answers."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.world = World(replace(PARAMS, **changes), signed=True)
        self.world.bind("alice", NODE)
        self.world.open_epoch()
        folder.mkdir(exist_ok=True)
        self.folder = folder / "answers"
        self.disk = Disk(dict(SHARDS))
        self.holding, self.paul, self.clock = Holding(self), Paul(self), Clock()
        self.rot: list[Commit] = []
        self.given_up: list[tuple[DealId, list[Commit]]] = []
        self.before_entering: Callable[[], None] | None = None
        self.after_entering: Callable[[], None] | None = None
        self.answers: AnswerStore = open_answers(self.folder)
        self.hide: set[int] = set()
        """Indices of leaves that the ledger does not show."""

    def hold(self, *numbers: int, **changes: Any) -> DealId:
        """A new deal of Alice's under which these shards are held; installed, not frozen yet."""
        usual = {"end": 60, "grace": 5, "disk_escrow": 200_000, "miss_limit": 700}
        deal = self.world.open(terms(**usual | changes))
        self.world.hold(deal, *numbers)
        return deal

    def snapshot(self) -> Snapshot:
        """All of it, now."""
        state = self.world.state
        deals = {cell.deal: cell for cell in self.world.deals()}
        return Snapshot(len(self.world.leaves), state.network, self.world.account(NODE), deals)

    async def leaves(self, start: int, end: int) -> list[LogLeaf]:
        return [
            leaf if at not in self.hide else replace(leaf, entry=b"\xff")
            for at, leaf in enumerate(self.world.leaves[start:end], start)
        ]

    def restart(self) -> AnswerStore:
        """The answers as a process that starts now finds them."""
        self.answers = open_answers(self.folder)
        return self.answers

    def prover(self) -> Prover:
        """Paul's prover, as at a start."""
        me = Self(self.world.params.domain.network, IDENTITIES[NODE], Terms())
        return Prover(
            me, self.holding, self.restart(), Opener(self.disk, self.rot.append), self.paul,
            self.leaves, self.world.params, self.clock,
        )  # fmt: skip

    def demands(self) -> Demands:
        """Who serves demands on Paul's deals."""
        return Demands(
            self.holding, self.restart(), Opener(self.disk), self.paul,
            self.world.params, self._give_up,
        )  # fmt: skip

    async def _give_up(self, deal: DealId, commits: Sequence[Commit]) -> int:
        self.given_up.append((deal, list(commits)))
        number = self.world.deal(deal).number + 5
        left = [n for n in self.world.held(deal) if shard(n).commit not in commits]
        self.world.shards[deal, number] = tuple(left)
        return number


def unreachable() -> None:
    """A ledger that is away."""
    raise DsnError("away", code="ledger_unreachable")
