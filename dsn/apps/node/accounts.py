"""What each client holds here, as both sides signed it last, and as it was before.

Where the ledger may still ask for an earlier revision, dropped shards stay: they move to a second
account of the same client, under a deal id that nobody can have, until nothing names them.

Spec: docs/spec/economy.md#what-stays-on-disk
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import NamedTuple
from weakref import WeakValueDictionary

from dsn.errors import DealMismatch, NotFound
from dsn.ids import NO_DEAL, Commit, DealId, NodeId
from dsn.ledger.revision import Revision, first_revision
from dsn.ports import ShardStore
from dsn.proofs.inventory import EMPTY, SumTree, holdings, holdings_leaf
from dsn.store.revisions import Change, Held, RevisionLog
from dsn.wire.convert import SignedRevision, decode_revision, revision_to_wire

MOST_CACHED_SHARDS = 200_000
"""About 70 MiB of trees; one that was dropped is rebuilt from the store at 10 us a shard."""
PAGE = 16_384


class Edited(NamedTuple):
    """Holdings after an edit, and what really came in and went."""

    tree: SumTree
    adds: tuple[Held, ...]
    drops: tuple[Held, ...]


class Account:
    """One client's holdings under one deal; whoever changes them holds ``lock``."""

    __slots__ = (
        "__weakref__", "_loaded", "client", "deal", "floor", "lock", "newest", "raw", "tree",
    )  # fmt: skip

    def __init__(self, client: NodeId, deal: DealId) -> None:
        """Know nothing yet; ``load`` asks the store."""
        self.client, self.deal = client, deal
        self.lock = asyncio.Lock()
        self.newest = SignedRevision(first_revision(deal), b"", b"")
        self.raw = b""
        self.tree: SumTree | None = EMPTY
        self.floor: int | None = None
        """What was dropped up to this revision is known to be gone."""
        self._loaded = False

    @property
    def base(self) -> Revision:
        """The revision that the next one continues."""
        return self.newest.revision

    @property
    def unsigned(self) -> bool:
        """Whether the newest revision is the ledger's own, after a loss."""
        return self.base.number > 0 and not self.newest.client_signature

    async def load(self, store: ShardStore) -> None:
        """Ask the store for the newest revision, once; needs the lock."""
        if not self._loaded:
            raw = await store.revision(self.client, self.deal)
            if raw is not None:
                self.raw, self.newest, self.tree = raw, decode_revision(raw), None
            self._loaded = True

    async def held(self, store: ShardStore) -> SumTree:
        """The tree over what is held, rebuilt if it is not in memory; needs the lock."""
        if self.tree is None:
            pages = _pages(store, self.client, self.deal)
            pairs = [pair async for page in pages for pair in page]
            self.tree = await asyncio.to_thread(holdings, pairs)
        return self.tree

    def install(self, signed: SignedRevision, raw: bytes, tree: SumTree) -> None:
        """Take what the store has just made durable."""
        self.newest, self.raw, self.tree = signed, raw, tree

    def mismatch(self, message: str, code: str = "deal_mismatch") -> DealMismatch:
        """The error that shows the caller the newest revision."""
        return DealMismatch(
            message, code=code, evidence=self.raw, hint="read the newest revision, then sign anew"
        )


class Accounts:
    """All accounts in use, and the trees of those used last."""

    def __init__(self, store: ShardStore, log: RevisionLog | None = None) -> None:
        """Read from ``store`` what is not in memory; with ``log``, remember what was before."""
        self._store, self._log = store, log
        self._alive: WeakValueDictionary[tuple[NodeId, DealId], Account] = WeakValueDictionary()
        self._recent: OrderedDict[tuple[NodeId, DealId], tuple[Account, int]] = OrderedDict()
        self._cached = 0

    async def open(self, client: NodeId, deal: DealId) -> Account:
        """The account of ``client`` under ``deal``, loaded; one object while anybody has it."""
        key = (client, deal)
        account = self._alive.get(key)
        if account is None:
            account = self._alive[key] = Account(client, deal)
        async with account.lock:
            await account.load(self._store)
        self._keep(key, account)
        return account

    async def revise(
        self,
        account: Account,
        signed: SignedRevision,
        edited: Edited,
        add: Sequence[Commit],
        drop: Sequence[Commit],
    ) -> None:
        """Make the next revision of ``account`` durable; needs its lock.

        A crash at any point leaves the revision before or this one, and no shard of either gone.

        Args:
            account: Whose.
            signed: The revision.
            edited: What it does to the holdings.
            add: Shards that become held, or are already.
            drop: Shards that are let go, or never were held.

        Raises:
            As ``ShardStore.revise``; then nothing has changed.
        """
        if (log := self._log_of(account)) is not None:
            account.floor = None
            number, base = signed.revision.number, account.base.number
            await log.append(Change(account.deal, number, base, edited.adds, edited.drops))
            await self._retain(account, [commit for commit, _ in edited.drops])
        raw = revision_to_wire(signed).SerializeToString()
        await self._store.revise(account.client, account.deal, add, drop, raw)
        account.install(signed, raw, edited.tree)

    async def at(self, account: Account, number: int) -> SumTree:
        """What ``account`` held at revision ``number``; needs its lock.

        Raises:
            NotFound: ``unknown_revision``: not signed yet, or so old that nobody may ask for it.
        """
        if number == 0:
            return EMPTY
        newest, tree = account.base.number, await account.held(self._store)
        if number != newest:
            log = self._log_of(account)
            changes = [] if log is None else await log.changes(account.deal, number, newest)
            if not changes or changes[-1].base != number:
                raise NotFound(
                    f"revision {number} of deal {account.deal.hex()} is not known here",
                    code="unknown_revision",
                )
            tree = await asyncio.to_thread(_undo, tree, changes)
        return tree

    async def lose(
        self, account: Account, number: int, gone: Iterable[Commit] | None, of: int
    ) -> None:
        """Follow the ledger, which has taken shards out; needs the lock.

        What was signed since is void: its shards are kept until the client has signed again.

        Args:
            account: Whose.
            number: Of the revision that the ledger has made.
            gone: What was taken out; ``None``: everything.
            of: The revision that it was taken out of.

        Raises:
            As ``at`` and ``revise``.
        """
        tree = EMPTY if gone is None else await self.at(account, of)
        for commit in gone or ():
            tree = tree.remove(commit)
        before, after = dict(await account.held(self._store)), dict(tree)
        adds = _beside(after, before)
        edited = Edited(tree, adds, _beside(before, after))
        revision = Revision(account.deal, number, tree.count, tree.total, tree.root)
        add = await self._here([commit for commit, _ in adds])
        drop = [commit for commit, _ in edited.drops]
        await self.revise(account, SignedRevision(revision, b"", b""), edited, add, drop)

    async def free(self, account: Account, floor: int) -> None:
        """Let go of what was dropped up to revision ``floor``; needs the lock.

        Args:
            account: Whose.
            floor: No revision before it can be asked for any more.
        """
        log = self._log_of(account)
        if account.unsigned:
            floor = min(floor, account.base.number - 1)
        if log is None or floor == account.floor:
            return
        changes = await log.changes(account.deal, floor, account.base.number)
        needed = {commit for change in changes for commit, _ in change.drops}
        kept = _retained(account.deal)
        pages = _pages(self._store, account.client, kept)
        free = [commit async for page in pages for commit, _ in page if commit not in needed]
        if free:
            await self._store.revise(account.client, kept, (), free, b"")
        await log.forget(account.deal, floor)
        account.floor = floor

    async def release(self, client: NodeId, deal: DealId) -> None:
        """Delete all under a deal that is closed: nobody pays for it, or can ask for it."""
        account = await self.open(client, deal)
        async with account.lock:
            for each in (deal, _retained(deal)):
                raw = await self._store.revision(client, each) or b""
                async for page in _pages(self._store, client, each):
                    await self._store.revise(client, each, (), [commit for commit, _ in page], raw)
            account.tree = EMPTY
            if (log := self._log_of(account)) is not None:
                await log.clear(deal)

    def _log_of(self, account: Account) -> RevisionLog | None:
        """Where the account's past is; nobody asks for it where nobody pays."""
        return None if account.deal == NO_DEAL else self._log

    async def _retain(self, account: Account, commits: Sequence[Commit]) -> None:
        if keep := await self._here(commits):
            kept = _retained(account.deal)
            await self._store.revise(account.client, kept, keep, (), b"")

    async def _here(self, commits: Collection[Commit]) -> list[Commit]:
        """Those of ``commits`` that the store knows; what is lost is named until it is declared."""
        return list(await self._store.stats(commits))

    def _keep(self, key: tuple[NodeId, DealId], account: Account) -> None:
        """Note the use of ``account``, and let go of those used longest ago."""
        _, before = self._recent.pop(key, (account, 0))
        weight = 1 + (account.tree.count if account.tree else 0)
        self._recent[key] = (account, weight)
        self._cached += weight - before
        while self._cached > MOST_CACHED_SHARDS and len(self._recent) > 1:
            _, (_, dropped) = self._recent.popitem(last=False)
            self._cached -= dropped


def edit(tree: SumTree, add: Iterable[Held], drop: Iterable[Held]) -> Edited:
    """Holdings with ``add`` and without ``drop``; what is there, or is not, is passed over.

    Raises:
        As ``SumTree.insert``.
    """
    adds, drops = list[Held](), list[Held]()
    for commit, leaves in add:
        before, tree = tree, tree.insert(commit, holdings_leaf(commit, leaves), leaves)
        if tree is not before:
            adds.append((commit, leaves))
    for commit, leaves in drop:
        try:
            tree = tree.remove(commit)
        except NotFound:
            continue  # pending only: the tree never had it
        drops.append((commit, leaves))
    return Edited(tree, tuple(adds), tuple(drops))


def _undo(tree: SumTree, changes: Iterable[Change]) -> SumTree:
    """The holdings before ``changes``, of which the newest comes first."""
    for change in changes:
        tree = edit(tree, change.drops, change.adds).tree
    return tree


def _beside(some: dict[bytes, int], others: dict[bytes, int]) -> tuple[Held, ...]:
    return tuple((Commit(key), leaves) for key, leaves in some.items() if key not in others)


def _retained(deal: DealId) -> DealId:
    """The account for what was dropped; no deal has this id, for nobody finds what hashes to it."""
    return DealId(bytes(255 - byte for byte in deal))


async def _pages(
    store: ShardStore, client: NodeId, deal: DealId
) -> AsyncIterator[list[tuple[Commit, int]]]:
    page = await store.holdings(client, deal, b"", PAGE)
    while page:
        yield page
        page = await store.holdings(client, deal, page[-1][0], PAGE)
