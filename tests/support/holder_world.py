"""A node's holdings over real stores, and a ledger of real rules that asks about them.

Nothing here is sent or signed: revisions go straight to the accounts, entries to the world. Every
write can be the one before which the process dies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from dsn.apps.ledger.light import Snapshot
from dsn.apps.node.accounts import Accounts, edit
from dsn.apps.node.claims import Claims
from dsn.apps.node.deals import Deals
from dsn.apps.node.inventories import Inventories
from dsn.apps.node.terms import Payee
from dsn.errors import DsnError, EntryRefused
from dsn.ids import DealId, NodeId
from dsn.ledger.cells import AccountCell, CellKind, DealCell
from dsn.ledger.deal import Deal
from dsn.ledger.entry import Body
from dsn.ledger.log import LogLeaf
from dsn.ledger.revision import next_revision
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.ports import ShardStore
from dsn.runtime.clock import SystemClock
from dsn.store.deals import DealStore, StoredDeal
from dsn.wire.convert import SignedRevision
from tests.support.ledger_world import KEYS, NO_SIGNATURE, World, holdings, shard, terms

PROVIDER = "paul"
OWNERS = {"alice": NodeId(b"a" * 32), "bob": NodeId(b"b" * 32)}
FOREVER = 1 << 40


class Crash(Exception):
    """The process died."""


class Writes:
    """Counts down the writes that still come through."""

    def __init__(self) -> None:
        self.left: int | None = None

    def next(self) -> None:
        """One more write is about to happen."""
        if self.left == 0:
            raise Crash
        if self.left is not None:
            self.left -= 1


class Fragile:
    """A store whose writes are counted."""

    def __init__(self, inner: Any, names: Iterable[str], writes: Writes) -> None:
        self._inner, self._names, self._writes = inner, frozenset(names), writes
        if isinstance(inner, DealStore):
            log = ("append", "forget", "clear", "save_standings")
            self.revisions = Fragile(inner.revisions, log, writes)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._names:
            return found

        async def write(*args: Any, **named: Any) -> Any:
            self._writes.next()
            return await found(*args, **named)

        return write


class WorldLedger:
    """What a node asks of its ledger, answered by a world at once."""

    def __init__(self, world: World) -> None:
        self.world, self.params = world, world.params
        self.asked: list[tuple[int, int]] = []

    async def epoch(self) -> int:
        return self.world.epoch

    async def account(self, address: Address) -> AccountCell:
        return self.world.state.account(address)

    async def bound(self, nodes: Iterable[NodeId]) -> dict[NodeId, Address]:
        return {}

    async def deals(self, ids: Iterable[DealId]) -> dict[DealId, DealCell]:
        cells = (self.world.state.cell(CellKind.DEAL, each) for each in ids)
        return {cell.deal: cell for cell in cells if isinstance(cell, DealCell)}

    async def snapshot(self, address: Address, deals: Iterable[DealId] = ()) -> Snapshot:
        state, size = self.world.state, len(self.world.leaves)
        return Snapshot(size, state.network, state.account(address), await self.deals(deals))

    async def leaves(self, start: int, end: int) -> list[LogLeaf]:
        self.asked.append((start, end))
        return self.world.leaves[start:end]


class WorldAccount:
    """The provider's account: what it enters, the ledger must take."""

    address = KEYS[PROVIDER].address

    def __init__(self, world: World) -> None:
        self._world = world
        self.entered: list[Body] = []

    async def enter(
        self, bodies: Sequence[Body], *, wait: bool = True
    ) -> Sequence[int | EntryRefused]:
        outcomes = list[int | EntryRefused]()
        for body in bodies:
            try:
                self._world.do(PROVIDER, body)
            except DsnError as error:
                raise AssertionError(f"refused {body}: {error.detail_code}") from error
            self.entered.append(body)
            outcomes.append(len(self._world.leaves) - 1)
        return outcomes


class Holder:
    """A node, as far as it holds: over the same stores, a new one is the one after a restart."""

    def __init__(self, world: World, store: ShardStore, deals: DealStore) -> None:
        self.world, self.store, self.disk = world, store, deals
        self.writes, self.ledger = Writes(), WorldLedger(world)
        self.account = WorldAccount(world)
        self.restart()

    def restart(self) -> None:
        """Forget all that is only in memory."""
        self.writes.left = None
        store = cast(ShardStore, Fragile(self.store, ["revise"], self.writes))
        deals = cast(DealStore, Fragile(self.disk, ["save_cells"], self.writes))
        self.accounts = Accounts(store, deals.revisions)
        payee = Payee(KEYS[PROVIDER], self.ledger)
        self.deals = Deals(payee, deals, self.accounts, SystemClock())
        self.inventories = Inventories(self.deals, store)
        self.claims = Claims(self.deals, self.account, self.inventories)

    async def open(self, client: str, **changes: Any) -> DealId:
        """A deal of ``client``, on the ledger."""
        deal = self.deal_of(client, **changes)
        deal_id = self.world.open(deal)
        signed = StoredDeal(deal_id, OWNERS[client], deal, NO_SIGNATURE, NO_SIGNATURE)
        await self.disk.sign(signed)
        return deal_id

    def deal_of(self, client: str, **changes: Any) -> Deal:
        return terms(client=KEYS[client].address, **{"delegate": NO_ADDRESS, **changes})

    async def put(self, client: str, deal: DealId, *numbers: int) -> None:
        """Store shards for ``client`` under ``deal``."""
        for each in map(shard, numbers):
            await self.store.put_small(
                OWNERS[client],
                deal,
                each.raw,
                each.commit,
                keep_until_s=FOREVER,
                pending_limit=FOREVER,
            )

    async def revise(
        self, client: str, deal: DealId, add: Sequence[int] = (), drop: Sequence[int] = ()
    ) -> int:
        """Put ``add``, then countersign the next revision; gives its number."""
        await self.put(client, deal, *add)
        account = await self.accounts.open(OWNERS[client], deal)
        async with account.lock:
            tree = await account.held(self.store)
            pairs = [[(shard(n).commit, shard(n).leaves) for n in some] for some in (add, drop)]
            edited = edit(tree, *pairs)
            revision = next_revision(account.base, edited.tree)
            signed = SignedRevision(revision, NO_SIGNATURE, NO_SIGNATURE)
            adds, drops = ([shard(n).commit for n in some] for some in (add, drop))
            await self.accounts.revise(account, signed, edited, adds, drops)
        return revision.number

    async def has(self, number: int) -> bool:
        """Whether a shard can be read, whole."""
        each = shard(number)
        try:
            return await self.store.read(each.commit, 0, len(each.raw)) == each.raw
        except DsnError:
            return False


def tree_over(numbers: Iterable[int]) -> Any:
    """The holdings of some shards."""
    return holdings(tuple(sorted(numbers))).tree
