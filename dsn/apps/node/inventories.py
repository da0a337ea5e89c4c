"""What the ledger asks a node about, and what the node keeps for that reason.

A node reads the ledger again and again. Each time it learns what is installed under each of its
deals and what the epoch's inventory is made of, takes over losses that the ledger has booked, and
lets go of what nothing names any more.

Spec: docs/spec/economy.md#what-stays-on-disk
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from dsn.apps.ledger.light import Snapshot
from dsn.apps.node.accounts import Account
from dsn.apps.node.deals import Deals
from dsn.apps.node.standings import (
    NOTHING_YET,
    Following,
    Lost,
    standing_of,
    tree_of,
)
from dsn.errors import DsnError, NotFound, PeerError, TransportError
from dsn.ids import Commit, DealId
from dsn.ledger.cells import AccountCell, DealCell, DealState
from dsn.ledger.rules.settling import roll
from dsn.ports import ShardStore, StoredShard
from dsn.proofs.inventory import InventoryEntry, SumTree
from dsn.store.deals import StoredDeal
from dsn.store.revisions import Standing

MOST_FOLLOWED: Final = 65_536
"""Entries of the log that are read at most to learn what was installed in between."""
_AT_ONCE: Final = 4_096
LOSS_STEP: Final = 1 << 16
"""Numbers that a loss leaves out: what is countersigned before the node knows that the ledger
took it never has the loss's number."""
_log = structlog.get_logger("inventories")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What an epoch asks a node about.

    Attributes:
        entries: By deal, the revision that was installed.
        tree: Over them, as the ledger has it.
    """

    entries: Mapping[DealId, InventoryEntry]
    tree: SumTree


class Inventories:
    """What the ledger has of one node's holdings, and the holdings behind it."""

    def __init__(self, deals: Deals, store: ShardStore) -> None:
        """Follow ``deals`` on their ledger; their shards are in ``store``."""
        self._deals, self._store = deals, store
        self._ledger, self._mine = deals.payee.ledger, deals.payee.key.address
        self._log = deals.store.revisions
        self._turn = asyncio.Lock()
        self._given: defaultdict[DealId, int] = defaultdict(int)

    async def see(self) -> Snapshot:
        """Look at the ledger, take over what it did, and let go of what it no longer names.

        Raises:
            DsnError: The ledger cannot be reached, or contradicts itself.
        """
        async with self._turn:
            running = await self._deals.store.running()
            snapshot = await self._ledger.snapshot(self._mine, [each.deal for each in running])
            self._deals.backing.epoch = snapshot.network.epoch
            last, frozen = await self._log.standings()
            live = standing_of(snapshot)
            known = frozen if frozen and frozen.epoch == live.epoch else None
            frozen = self._matching(snapshot, known, live, last)
            if frozen is None or await self._behind(running, snapshot):
                passed = await self._follow(last or NOTHING_YET, live, running)
                await self._take_over(passed.losses, running, snapshot)
                frozen = frozen or self._matching(snapshot, passed.frozen.get(live.epoch))
            if _differs(last, live) or frozen is None or frozen != known:
                await self._log.save_standings(live, frozen)
            await self._let_go(running, snapshot, frozen)
            return snapshot

    async def frozen(self, snapshot: Snapshot) -> Inventory:
        """What the epoch of ``snapshot`` asks about; the newest one that ``see`` gave.

        Raises:
            NotFound: ``inventory_unknown``: this home was away for too long, or is an old copy.
                The epoch is then missed.
        """
        _, known = await self._log.standings()
        live = standing_of(snapshot)
        standing = self._matching(snapshot, known, live)
        if standing is None:
            raise NotFound(
                f"what epoch {live.epoch} asks this node about is not known here",
                code="inventory_unknown",
                hint="it will be from the next epoch on, unless this home is an old copy",
            )
        return Inventory(standing.entries, tree_of(standing.entries))

    async def holdings(self, deal: DealId, number: int) -> SumTree:
        """What ``deal`` held at revision ``number``, which is installed or frozen, or newer.

        Raises:
            NotFound: ``unknown_deal``, ``unknown_revision``.
        """
        account = await self._account(deal)
        async with account.lock:
            return await self._deals.accounts.at(account, number)

    async def shard(self, commit: Commit) -> StoredShard | None:
        """A shard, if it is here."""
        return await self._store.stat(commit)

    async def give_up(self, deal: DealId, lost: object = None) -> int:
        """The number under which the ledger is told what of ``deal`` is lost.

        It is above all that was countersigned or given before. Nothing else need be noted: the
        next look at the ledger finds what it has taken out, and follows it.

        Raises:
            NotFound: ``unknown_deal``.
        """
        account = await self._account(deal)
        async with account.lock:
            given = max(self._given[deal], account.base.number) + LOSS_STEP
            self._given[deal] = given
            return given

    async def _account(self, deal: DealId) -> Account:
        signed = await self._deals.store.get(deal)
        if signed is None:
            raise NotFound(f"deal {deal.hex()} is not signed here", code="unknown_deal")
        return await self._deals.accounts.open(signed.owner, deal)

    def _matching(self, snapshot: Snapshot, *known: Standing | None) -> Standing | None:
        """The first that is over what the epoch asks about, as of that epoch."""
        epoch, account = snapshot.network.epoch, self._rolled(snapshot)
        for standing in (NOTHING_YET, *known):
            if standing is not None:
                tree = tree_of(standing.entries)
                if (tree.root, tree.total) == (account.frozen, account.frozen_leaves):
                    return Standing(0, epoch, standing.entries)
        return None

    def _rolled(self, snapshot: Snapshot) -> AccountCell:
        return roll(snapshot.account, snapshot.network.epoch)

    async def _behind(self, running: Sequence[StoredDeal], snapshot: Snapshot) -> bool:
        """Whether the ledger has a revision installed that was never signed here: its own."""
        for signed in running:
            cell = snapshot.deals.get(signed.deal)
            if cell is not None and cell.number:
                account = await self._deals.accounts.open(signed.owner, signed.deal)
                if account.base.number < cell.number:
                    return True
        return False

    async def _follow(
        self, last: Standing, live: Standing, running: Sequence[StoredDeal]
    ) -> Following:
        """What the log says of the time between two looks; as far as it can be made out."""
        deals = last.entries.keys() | {signed.deal for signed in running}
        following = Following(dict(last.entries), frozenset(deals))
        if live.size - last.size > MOST_FOLLOWED:
            return following
        try:
            for start in range(last.size, live.size, _AT_ONCE):
                leaves = await self._ledger.leaves(start, min(live.size, start + _AT_ONCE))
                await asyncio.to_thread(following.take, leaves)
        except TransportError:
            raise
        except (PeerError, NotFound) as error:
            _log.error("log not understood", code=error.detail_code, reason=error.message)
        return following

    async def _take_over(
        self, losses: Sequence[Lost], running: Sequence[StoredDeal], snapshot: Snapshot
    ) -> None:
        """Bring accounts to what the ledger made of them when it booked losses."""
        owners = {signed.deal: signed.owner for signed in running}
        for lost in losses:
            if lost.deal not in owners:
                continue
            account = await self._deals.accounts.open(owners[lost.deal], lost.deal)
            try:
                async with account.lock:
                    if account.base.number < lost.number:
                        await self._deals.accounts.lose(account, lost.number, lost.gone, lost.of)
            except DsnError as error:
                deal = lost.deal.hex()
                _log.error("loss", deal=deal, code=error.detail_code, reason=error.message)

    async def _let_go(
        self, running: Sequence[StoredDeal], snapshot: Snapshot, frozen: Standing | None
    ) -> None:
        """Free what neither the ledger nor this epoch names; forget deals that are closed."""
        asked: Mapping[DealId, InventoryEntry] = {}
        if frozen is not None and not self._rolled(snapshot).proven(snapshot.network.epoch):
            asked = frozen.entries
        seen, accounts = list[DealCell](), self._deals.accounts
        for signed in running:
            cell, entry = snapshot.deals.get(signed.deal), asked.get(signed.deal)
            if cell is None:
                continue
            if cell.state is not DealState.CLOSED:
                floor = cell.number if entry is None else min(cell.number, entry.number)
                account = await accounts.open(signed.owner, signed.deal)
                async with account.lock:
                    await accounts.free(account, floor)
            elif entry is not None:
                continue
            else:
                await accounts.release(signed.owner, signed.deal)
            seen.append(cell)
        await self._deals.see(seen)


def _differs(last: Standing | None, live: Standing) -> bool:
    """Whether what was seen last is worth replacing."""
    if last is None or live.size - last.size >= _AT_ONCE:
        return True
    return (last.epoch, last.entries) != (live.epoch, live.entries)
