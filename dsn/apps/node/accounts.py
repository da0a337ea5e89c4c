"""What each client holds here, as both sides signed it last."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from weakref import WeakValueDictionary

from dsn.errors import DealMismatch
from dsn.ids import DealId, NodeId
from dsn.ledger.revision import Revision, first_revision
from dsn.ports import ShardStore
from dsn.proofs.inventory import EMPTY, SumTree, holdings
from dsn.wire.convert import SignedRevision, decode_revision

MOST_CACHED_SHARDS = 200_000
"""About 70 MiB of trees; one that was dropped is rebuilt from the store at 10 us a shard."""
PAGE = 16_384


class Account:
    """One client's holdings under one deal; whoever changes them holds ``lock``."""

    __slots__ = ("__weakref__", "_loaded", "client", "deal", "lock", "newest", "raw", "tree")

    def __init__(self, client: NodeId, deal: DealId) -> None:
        """Know nothing yet; ``load`` asks the store."""
        self.client, self.deal = client, deal
        self.lock = asyncio.Lock()
        self.newest = SignedRevision(first_revision(deal), b"", b"")
        self.raw = b""
        self.tree: SumTree | None = EMPTY
        self._loaded = False

    @property
    def base(self) -> Revision:
        """The revision that the next one continues."""
        return self.newest.revision

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
            pairs = []
            page = await store.holdings(self.client, self.deal, b"", PAGE)
            while page:
                pairs += page
                page = await store.holdings(self.client, self.deal, page[-1][0], PAGE)
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

    def __init__(self, store: ShardStore) -> None:
        """Read from ``store`` what is not in memory."""
        self._store = store
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

    def _keep(self, key: tuple[NodeId, DealId], account: Account) -> None:
        """Note the use of ``account``, and let go of those used longest ago."""
        _, before = self._recent.pop(key, (account, 0))
        weight = 1 + (account.tree.count if account.tree else 0)
        self._recent[key] = (account, weight)
        self._cached += weight - before
        while self._cached > MOST_CACHED_SHARDS and len(self._recent) > 1:
            _, (_, dropped) = self._recent.popitem(last=False)
            self._cached -= dropped


async def release(store: ShardStore, client: NodeId, deal: DealId) -> None:
    """Delete what is held under a deal that is closed: nobody pays for it, or can ask for it."""
    raw = await store.revision(client, deal) or b""
    while held := await store.holdings(client, deal, b"", PAGE):
        await store.revise(client, deal, (), [commit for commit, _ in held], raw)
