"""Where a repair puts what it made: deals, streams, receipts, and both sides' signatures."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Final, Self

from dsn.apps.client_parts import Parts, Setting
from dsn.apps.fleet import Fleet, Group
from dsn.apps.lanes import ReceiptFuture
from dsn.apps.readback import read_back
from dsn.apps.repair_log import Kept, RepairLog
from dsn.errors import DsnError
from dsn.ids import Commit, NodeId, short
from dsn.machines.placement import Candidate
from dsn.machines.repair import Repair
from dsn.machines.upload import Row
from dsn.units import FRAME_BYTES, LEAF_BYTES, leaf_count

COPIES_BYTES: Final = 64 << 10
"""Room for manifest copies beside rows, where they are not yet made."""


class RepairStore:
    """Stores rebuilt shards and manifest copies for one repair; use it as a context."""

    def __init__(
        self,
        repair: Repair,
        candidates: list[Candidate],
        log: RepairLog,
        parts: Parts,
        setting: Setting,
    ) -> None:
        """Store on ``candidates`` what ``repair`` asks for; note it in ``log``."""
        self.repair, self.log, self._parts, self._setting = repair, log, parts, setting
        self._candidates = {each.node: each for each in candidates}
        self._receipts: set[ReceiptFuture] = set()
        self._under_way: Counter[NodeId] = Counter()
        self._reserved: Counter[NodeId] = Counter()
        self._unread: dict[NodeId, dict[Commit, int]] = {}
        self.sent_bytes = 0

    async def __aenter__(self) -> Self:
        """Open no stream before the first shard."""
        nodes, deals = self._parts.nodes, self._parts.deals
        self._fleet = Fleet(nodes, deals, self._on_failure, self._has_spares)
        self._fleet.width = max(1, len(self._candidates))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all streams."""
        await self._fleet.close()
        self._parts.holdings.save_drops()

    @property
    def alive(self) -> set[NodeId]:
        """Nodes that answered and did not fail since."""
        return self._candidates.keys() - self._fleet.failed

    def _has_spares(self) -> bool:
        return len(self.alive) > self.repair.scheme.total

    @property
    def failed(self) -> frozenset[NodeId]:
        """Nodes that were given up."""
        return frozenset(self._fleet.failed)

    def resume(self) -> None:
        """Take up what an interrupted repair stored, as far as it is of use."""
        for kept in self.log.kept:
            row = kept.row()
            usable = row is not None and kept.node in self.alive and self.log.fresh(kept)
            if row is not None and usable and self.repair.restore(row):
                self._keep(kept.node, kept.commit, row.length)

    # deals

    async def reserve_rows(self, copies: Iterable[NodeId]) -> list[Row]:
        """Rows to be made, once there are deals for all of them, and with who holds a copy.

        Raises:
            LimitReached: It is more than the account has, or than may be spent.
            Unreachable: ``ledger_unreachable``, and more has to be locked.
        """
        while True:
            rows = self.repair.plan()
            sizes = Counter(dict.fromkeys(set(copies) & self.alive, COPIES_BYTES))
            for row in rows:
                sizes[row.node] += row.length
            failed = self.failed
            await self.reserve(sizes)
            if self.failed == failed:
                return rows

    async def reserve(self, sizes: Mapping[NodeId, int]) -> None:
        """Lock what it costs to store ``sizes`` bytes, by node; who refuses is given up."""
        lacking = {
            node: size - self._reserved[node]
            for node, size in sizes.items()
            if size > self._reserved[node]
        }
        for node, refusal in (await self._parts.deals.reserve(lacking)).items():
            self._fleet.fail(node, refusal)
        self._reserved.update(lacking)

    # shards out

    def group(self, node: NodeId, length: int) -> Group:
        """Start sending ``node`` a shard of ``length`` bytes."""
        return self._fleet.group(node, length)

    async def limit_pending(self, rows: Iterable[Row]) -> None:
        """Sign for what is stored before a node's bound on unsigned bytes is met."""
        full = [row.node for row in rows if not self._has_room(row.node, row.length)]
        if full:
            await self.all_receipts()
            await self._each(full, self._parts.holdings.revise)

    def _has_room(self, node: NodeId, coming_bytes: int) -> bool:
        signed_for = sum(self._parts.holdings.added(node).values()) * LEAF_BYTES
        unsigned = signed_for + self._under_way[node] + coming_bytes
        return unsigned <= self._parts.nodes.max_pending.get(node, unsigned)

    def expect(self, receipt: ReceiptFuture, row: Row, commit: Commit, *, good: bool) -> None:
        """Wait for the receipt of ``row``; what is not ``good`` is let go once it came."""
        self._receipts.add(receipt)
        self._under_way[row.node] += row.length
        receipt.add_done_callback(partial(self._stored, row, row.node, commit, good))

    def _stored(
        self, row: Row, node: NodeId, commit: Commit, good: bool, receipt: ReceiptFuture
    ) -> None:
        self._receipts.discard(receipt)
        self._under_way[node] -= row.length
        if receipt.cancelled() or receipt.exception() is not None:
            return
        self.sent_bytes += row.length
        if good and self.repair.stored(row, commit):
            self._keep(node, commit, row.length)
            self.log.note(node, commit, row)
        else:
            self._parts.holdings.drop(node, [commit])

    def _keep(self, node: NodeId, commit: Commit, length: int) -> None:
        self._parts.holdings.add(node, commit, leaf_count(length))
        self._unread.setdefault(node, {})[commit] = length

    async def all_receipts(self) -> None:
        """Wait until nothing that was sent whole is owed a receipt."""
        while self._receipts:
            await asyncio.wait(self._receipts)
        self._fleet.check()

    async def store_copies(
        self, copies: Mapping[NodeId, list[tuple[bytes, Commit]]]
    ) -> list[NodeId]:
        """Store sealed manifest copies; the nodes that have all of theirs."""
        sizes = Counter({node: sum(len(data) for data, _ in copies[node]) for node in copies})
        for row in self.repair.rows():
            if row.node in copies:
                sizes[row.node] += row.length
        await self.reserve(sizes)
        waits = {}
        for node, boxes in copies.items():
            waits[node] = [await self._send(node, *box) for box in boxes]
        done = []
        for node, receipts in waits.items():
            results = await asyncio.gather(*receipts, return_exceptions=True)
            if any(isinstance(result, BaseException) for result in results):
                self._fleet.check()
                continue
            done.append(node)
            for data, commit in copies[node]:
                self.sent_bytes += len(data)
                self._keep(node, commit, len(data))
                self.log.note(node, commit)
        return done

    async def _send(self, node: NodeId, data: bytes, commit: Commit) -> ReceiptFuture:
        group = self.group(node, len(data))
        for at in range(0, len(data), FRAME_BYTES):
            await group.send(data[at : at + FRAME_BYTES])
        return await group.end(commit)

    # for good

    async def settle(self) -> bool:
        """Sign for everything with every node, and read samples back; whether all of them could."""
        before = self.failed
        await self.revise_all()
        await self._each(list(self._unread), self._read_back)
        return self.failed == before

    async def revise_all(self) -> None:
        """Sign all noted changes with every node that answers; the others are told later."""
        await self._each(self._parts.holdings.changed, self._parts.holdings.revise)

    def drop(self, kept: Iterable[Kept]) -> None:
        """Have the next revisions let go of ``kept``."""
        for each in kept:
            self._parts.holdings.drop(each.node, [each.commit])
            self._unread.get(each.node, {}).pop(each.commit, None)

    async def _read_back(self, node: NodeId) -> None:
        if not (shards := self._unread.get(node)):
            return
        leaves = {commit: leaf_count(length) for commit, length in shards.items()}
        async with self._parts.nodes.peer(node, fresh=True) as peer:
            await read_back(
                peer,
                leaves,
                network=self._parts.nodes.network.network_id,
                clock=self._setting.clock,
                entropy=self._setting.entropy,
            )
        del self._unread[node]

    def _on_failure(self, node: NodeId, error: DsnError) -> None:
        self.repair.fail(node)
        self._unread.pop(node, None)
        self._parts.holdings.discard(node, moved=True)
        self._setting.notice(f"node {short(node)} takes nothing over ({error.message})")

    async def _each(
        self, nodes: Iterable[NodeId], call: Callable[[NodeId], Awaitable[object]]
    ) -> None:
        """``call`` those of ``nodes`` that answer, side by side."""
        await self._fleet.each((node for node in nodes if node in self.alive), call)
