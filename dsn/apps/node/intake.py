"""PutShard: groups in, receipts out, in order, each once its shard is durable.

The next group is read while earlier ones are being made durable; how many may be on their
way is bounded by what they keep in memory and open on disk.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Coroutine, Sequence
from typing import NamedTuple

from dsn.apps.node.accounts import Account, Accounts
from dsn.apps.node.deals import Deals, tab_of
from dsn.apps.node.pointers import STALE, Pointers
from dsn.apps.node.tabs import OpenTab
from dsn.apps.node.terms import Self, check_length, deal_needed, pending_limit
from dsn.errors import DealMismatch, DsnError, MalformedMessage
from dsn.ids import NO_DEAL, Commit
from dsn.ledger.receipt import Receipt, sign_receipt
from dsn.ports import Clock, ShardStore, ShardWriter, StoredShard
from dsn.rpc.limits import Limits, Places, check_count
from dsn.rpc.server import ServerStream, decode
from dsn.rpc.tls import Caller
from dsn.units import SMALL_SHARD_BYTES
from dsn.v1 import node_pb2
from dsn.wire.convert import SignedReceipt, commit_from_wire, receipts_to_wire

MOST_SMALL = 64
"""Small shards a group."""
SMALL_UNDER_WAY = 4
"""Groups of small shards."""
LARGE_UNDER_WAY = 2


class Outcome(NamedTuple):
    """What became of a group: stored shards or a refusal, never both."""

    room: asyncio.Semaphore
    keep_until_s: int
    stored: Sequence[StoredShard]
    refusal: DsnError | None


class Intake:
    """Takes shards from every client."""

    def __init__(
        self,
        me: Self,
        store: ShardStore,
        accounts: Accounts,
        pointers: Pointers,
        clock: Clock,
        limits: Limits,
        deals: Deals | None = None,
    ) -> None:
        """Put what comes into ``store`` and sign for it as ``me``; with ``deals``, for pay."""
        self.me, self.store, self.pointers, self.clock = me, store, pointers, clock
        self.uploads = Places(limits.large_uploads, "large uploads", limits)
        self._accounts, self.deals = accounts, deals

    async def put_shards(self, caller: Caller, stream: ServerStream) -> None:
        """Serve one stream until the caller ends it or a group is refused."""
        first = await stream.read()
        if first is None:
            return
        stream.patience.idle()
        tab = await tab_of(self.deals, caller, decode(node_pb2.PutHeader, first).deal)
        if tab is None:
            if self.deals is not None:
                raise deal_needed()
            account = await self._accounts.open(caller.node_id, NO_DEAL)
        else:
            account = await self._accounts.open(tab.deal.owner, tab.deal.deal)
        session = _Session(self, caller, account, tab, stream)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(session.acknowledge())
                await session.receive(first, group)
        finally:
            session.release()


class _Session:
    """One stream: a reader that hands groups on, and a writer that signs for them in order."""

    def __init__(
        self,
        intake: Intake,
        caller: Caller,
        account: Account,
        tab: OpenTab | None,
        stream: ServerStream,
    ) -> None:
        self._deals, self._caller = intake.deals, caller
        self._me, self._store, self._clock = intake.me, intake.store, intake.clock
        self._pointers = intake.pointers
        self._uploads = intake.uploads
        self._account, self._tab, self._stream = account, tab, stream
        self._coming = 0
        self._small = asyncio.Semaphore(SMALL_UNDER_WAY)
        self._large = asyncio.Semaphore(LARGE_UNDER_WAY)
        self._outcomes: asyncio.Queue[asyncio.Task[Outcome] | None] = asyncio.Queue()

    async def receive(self, first: bytes, group: asyncio.TaskGroup) -> None:
        """Read groups until the stream ends; a refusal waits its turn behind the receipts."""
        message: bytes | None = first
        try:
            while message is not None:
                await self._take(decode(node_pb2.PutHeader, message), group)
                del message  # a small shard need not wait in memory for the next one
                self._stream.patience.idle()
                message = await self._stream.read()
        except DsnError as error:
            self._hand_on(group, _refused(error))
        self._outcomes.put_nowait(None)

    async def acknowledge(self) -> None:
        """Send a receipt a group, in order.

        Raises:
            DsnError: The first refusal; every receipt before it is out.
        """
        while (task := await self._outcomes.get()) is not None:
            room, keep_until_s, stored, refusal = await task
            if refusal is not None:
                try:
                    raise refusal
                finally:
                    del task, refusal  # or error, traceback and this frame keep each other
            receipts = [self._receipt(shard, keep_until_s) for shard in stored]
            await self._stream.write(receipts_to_wire(receipts))
            room.release()

    def release(self) -> None:
        """The stream has ended: what was expected and not stored is not owed."""
        if self._tab is not None:
            self._tab.lost(self._coming)

    async def _take(self, header: node_pb2.PutHeader, group: asyncio.TaskGroup) -> None:
        if header.deal != self._account.deal:
            await tab_of(self._deals, self._caller, header.deal)
            raise DealMismatch("one stream stores under one deal", code="other_deal")
        if self._tab is not None and header.HasField("voucher"):
            await self._tab.take(header.voucher)
        if header.small:
            await self._take_small(header, group)
            return
        check_length(self._me.terms, header.length)
        if header.length <= SMALL_SHARD_BYTES:
            raise MalformedMessage(
                f"a shard of {header.length} bytes travels inside the header", code="bad_length"
            )
        with self._uploads.take(self._stream.patience):
            await self._take_large(header.length, group)

    async def _take_small(self, header: node_pb2.PutHeader, group: asyncio.TaskGroup) -> None:
        check_count("small shards", header.small, MOST_SMALL)
        check_count("records", header.records, MOST_SMALL)
        for shard in header.small:
            check_length(self._me.terms, len(shard.data))
        shards = [(shard.data, commit_from_wire(shard.commit)) for shard in header.small]
        await self._small.acquire()
        size = sum(len(data) for data, _ in shards)
        await self._expect(size)
        keep_until_s = self._keep_until_s()
        storing = self._store_small(shards, list(header.records), keep_until_s)
        self._hand_on(group, self._outcome(storing, size, self._small, keep_until_s))

    async def _store_small(
        self, shards: Sequence[tuple[bytes, Commit]], records: list[bytes], keep_until_s: int
    ) -> Sequence[StoredShard]:
        """All shards and records of one group; proposed together, they share one write."""
        puts = (
            self._store.put_small(
                self._account.client,
                self._account.deal,
                data,
                commit,
                keep_until_s=keep_until_s,
                pending_limit=self._pending_limit(),
            )
            for data, commit in shards
        )
        if len(shards) == 1 and not records:
            return (await next(puts),)
        if not records:
            return await asyncio.gather(*puts)
        kept, stored = await asyncio.gather(self._pointers.keep(records), asyncio.gather(*puts))
        for refusal in kept.refusals:
            if refusal.code != STALE:
                raise MalformedMessage(
                    f"record {refusal.index} is refused: {refusal.code}", code=refusal.code
                )
        return stored

    async def _take_large(self, length: int, group: asyncio.TaskGroup) -> None:
        self._stream.patience.transfer(length)
        await self._large.acquire()
        if self._tab is not None:
            await self._tab.begin(length)
        keep_until_s = self._keep_until_s()
        storing = await self._receive_large(length, keep_until_s)
        self._hand_on(group, self._outcome(storing, length, self._large, keep_until_s))

    async def _receive_large(
        self, length: int, keep_until_s: int
    ) -> Coroutine[None, None, Sequence[StoredShard]]:
        """Have all bytes handed to the disk; what is left is to make them durable."""
        writer = await self._store.begin(
            self._account.client,
            self._account.deal,
            length,
            keep_until_s=keep_until_s,
            pending_limit=self._pending_limit(),
        )
        try:
            commit = commit_from_wire((await self._frames(length, writer)).commit)
        except BaseException as error:
            writer.abort()
            del writer  # an error's traceback would keep the frames that it has gathered
            traceback.clear_frames(error.__traceback__)
            raise
        return _alone(writer.finish(commit))

    async def _frames(self, length: int, writer: ShardWriter) -> node_pb2.PutTrailer:
        """Hand every frame to the disk, once it is paid; the trailer that follows them."""
        left, read, write = length, self._stream.read, writer.write
        moved = self._stream.patience.moved
        while left > 0:
            frame = await read()
            moved()
            if frame is None or len(frame) > left:
                raise MalformedMessage(
                    f"a shard of {length} bytes with {left} left met a frame of "
                    f"{len(frame or b'')}",
                    code="bad_frame",
                )
            left -= len(frame)
            await self._expect(len(frame), waits=True)
            await write(frame)
            del frame  # or a silent sender would keep a MiB of ours
        trailer = await read()
        if trailer is None:
            raise MalformedMessage("the stream ended before the shard's commit")
        return decode(node_pb2.PutTrailer, trailer)

    def _hand_on(self, group: asyncio.TaskGroup, outcome: Coroutine[None, None, Outcome]) -> None:
        self._outcomes.put_nowait(group.create_task(outcome))

    async def _outcome(
        self,
        storing: Coroutine[None, None, Sequence[StoredShard]],
        size: int,
        room: asyncio.Semaphore,
        keep_until_s: int,
    ) -> Outcome:
        """Keep a refusal as a value, or it would end the stream before earlier receipts are out."""
        try:
            shards = await storing
        except DsnError as error:
            return Outcome(room, keep_until_s, (), error)
        if self._tab is not None:
            self._coming -= size
            await self._tab.stored(size)
        return Outcome(room, keep_until_s, shards, None)

    async def _expect(self, size: int, *, waits: bool = False) -> None:
        """Have ``size`` bytes paid, or within the window, before they are taken."""
        if self._tab is not None:
            await self._tab.expect(size, waits=waits)
            self._coming += size

    def _keep_until_s(self) -> int:
        return int(self._clock.now_s()) + self._me.terms.keep_pending_s

    def _pending_limit(self) -> int:
        return pending_limit(self._account.base.leaves)

    def _receipt(self, stored: StoredShard, keep_until_s: int) -> SignedReceipt:
        """A shard that is held already stays as long as any new one at least."""
        receipt = Receipt(
            self._account.deal,
            stored.commit,
            stored.leaf_count,
            stored.length,
            stored.keep_until_s or keep_until_s,
        )
        signature = sign_receipt(
            receipt, self._me.key.sign, network=self._me.network, node=self._me.node_id
        )
        return SignedReceipt(receipt, signature)


async def _alone(storing: Coroutine[None, None, StoredShard]) -> Sequence[StoredShard]:
    return (await storing,)


async def _refused(error: DsnError) -> Outcome:
    return Outcome(asyncio.Semaphore(), 0, (), error)
