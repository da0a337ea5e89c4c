"""A put session: files in, receipts back, and a spare for every node that fails or stalls.

One stream a node carries large shards, another one small ones; both live as long as the
session. A watch gives up nodes that owe progress; their rows go to spares, made again from
the source and checked against the first sealing before a byte leaves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from dsn.apps.deals import Deals
from dsn.apps.fleet import Fleet
from dsn.apps.holdings import Holdings
from dsn.apps.lanes import ReceiptFuture
from dsn.apps.nodes import Nodes
from dsn.apps.pointers import Pointers
from dsn.apps.readback import read_back
from dsn.apps.results import Progress, ProgressSink
from dsn.apps.rows import Rows
from dsn.apps.stored import Box, StoredFile, seal_manifest, sign_file_pointer
from dsn.core.layout import Scheme
from dsn.core.manifest import SegmentSeal
from dsn.core.merkle import ShardHasher
from dsn.core.segment import SegmentEncoder
from dsn.dht.record import next_sequence
from dsn.errors import DsnError, Unreachable
from dsn.ids import Commit, NodeId, short
from dsn.ledger.receipt import Receipt
from dsn.machines import placement
from dsn.machines.placement import Candidate, Reason, uniform
from dsn.machines.upload import Row, Upload
from dsn.ports import Clock, Entropy
from dsn.runtime.kernel import Kernel
from dsn.units import FRAME_BYTES, LEAF_BYTES, SMALL_SHARD_BYTES, leaf_count

MAX_HOLDERS = 48
ROUNDS = 3
"""How often a put re-places what failed at its very end."""


class Shipment(NamedTuple):
    """A row on its way, to where it belonged when it left."""

    file: StoredFile
    row: Row
    node: NodeId
    generation: int
    length: int


def ship(file: StoredFile, row: Row, length: int) -> Shipment:
    """Send ``row``, a shard of ``length`` bytes, to where it belongs now."""
    return Shipment(file, row, row.node, row.generation, length)


class PutSession:
    """Stores files over one set of connections; use it as a context."""

    def __init__(
        self,
        nodes: Nodes,
        holdings: Holdings,
        *,
        clock: Clock,
        entropy: Entropy,
        kernel: Kernel,
        notice: Callable[[str], None],
        progress: ProgressSink,
        deals: Deals,
        needed: int = 1,
    ) -> None:
        """Store on ``nodes``, ``needed`` a file, paid by ``deals``; arithmetic is ``kernel``'s."""
        self.nodes, self.holdings, self._deals = nodes, holdings, deals
        self.pointers = Pointers(nodes)
        self.files: list[StoredFile] = []
        self._clock, self._entropy, self._rows = clock, entropy, Rows(kernel)
        self._notice, self._progress = notice, progress
        self._needed, self._candidates = needed, list[Candidate]()
        self._one_large_file = asyncio.Lock()
        self._receipts: set[ReceiptFuture] = set()
        self._under_way: Counter[NodeId] = Counter()

    async def __aenter__(self) -> Self:
        """Ask all nodes for their terms."""
        self._fleet = Fleet(
            self.nodes,
            self._deals,
            self._on_failure,
            lambda: all(file.upload.has_spares for file in self.files),
        )
        self._candidates = await self.nodes.survey(self._needed)
        self._fleet.width = len(self._candidates)
        await self.revise_all()  # whoever was away last time is told what to let go
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all streams."""
        await self._fleet.close()

    @property
    def alive(self) -> set[NodeId]:
        """Nodes that answered and did not fail since."""
        return {candidate.node for candidate in self._candidates} - self._fleet.failed

    @property
    def groups(self) -> int:
        """Placement groups with a node that answered and did not fail since."""
        return len({each.group for each in self._candidates if each.node in self.alive})

    def place(self, scheme: Scheme, size: int) -> Upload:
        """Choose nodes for a file of ``size`` bytes."""
        alive = [c for c in self._candidates if c.node not in self._fleet.failed]
        seed = int.from_bytes(self._entropy(16), "big")
        order = placement.choose(alive, scheme, _bytes_each(scheme, size), uniform(seed))
        return Upload(order, scheme.total)

    def explain(self, file: StoredFile) -> list[Reason]:
        """Why each node that answered holds ``file`` or not."""
        each = _bytes_each(file.scheme, file.size)
        return placement.explain(self._candidates, file.shards(), self._fleet.failed, each)

    async def put(self, file: StoredFile) -> None:
        """Store one file: every row and manifest copy has a receipt when this returns."""
        self.files.append(file)
        if file.source is None:
            await self._publish(file)
            return
        async with self._one_large_file:
            for segment in range(file.layout.segments):
                if segment not in file.seals:
                    await self._encode(file, segment)
            await self._complete(file)
            await self._limit_pending(file, SMALL_SHARD_BYTES)
            await self._publish(file)

    async def settle(self) -> None:
        """Sign for everything with every node, and read samples of it back.

        What a node fails here is placed anew, at most ``ROUNDS`` times.
        """
        for _ in range(ROUNDS):
            before = len(self._fleet.failed)
            await self.revise_all()
            await self._each(list(self._shards()), self._read_back)
            if len(self._fleet.failed) == before:
                return
            for file in self.files:
                if file.upload.pending() or self._fleet.failed & file.copies.keys():
                    async with self._one_large_file:
                        await self._complete(file)
                        await self._publish(file)

    async def revise_all(self) -> None:
        """Sign all noted changes with every node that answers; the others are told later."""
        await self._each(self.holdings.changed, self.holdings.revise)

    # rows

    async def _encode(self, file: StoredFile, segment: int) -> None:
        length = file.layout.segment(segment).shard_bytes
        await self._limit_pending(file, length)
        await self._reserve_rows(file)
        encoder = self._rows.encoder(file, segment, self._entropy(16))
        shipments = [ship(file, row, length) for row in file.upload.assign(segment)]
        groups = [self._fleet.group(each.node, length) for each in shipments]
        async for end, frames in self._rows.bands(encoder, file, segment):
            for group, frame in zip(groups, frames, strict=True):
                await group.send(frame)
            frames.clear()
            self._progress(Progress("put", self._plain_end(file, segment, encoder, end), file.size))
        file.seals[segment] = SegmentSeal(encoder.keys.salt, encoder.digest())
        for shipment, group, commit in zip(shipments, groups, encoder.commits(), strict=True):
            self._expect(await group.end(commit), shipment)

    @staticmethod
    def _plain_end(file: StoredFile, segment: int, encoder: SegmentEncoder, end: int) -> int:
        return file.layout.plain(segment).start + encoder.plain_range(0, end)[1]

    def _expect(self, receipt: ReceiptFuture, shipment: Shipment) -> None:
        self._receipts.add(receipt)
        self._under_way[shipment.node] += shipment.length
        receipt.add_done_callback(partial(self._stored, shipment))

    async def all_receipts(self) -> None:
        """Wait until nothing that was sent whole is owed a receipt."""
        while self._receipts:
            await asyncio.wait(self._receipts)
        self._fleet.check()

    def _stored(self, shipment: Shipment, receipt: ReceiptFuture) -> None:
        file, row, node, generation, length = shipment
        self._receipts.discard(receipt)
        self._under_way[node] -= length
        if receipt.cancelled() or receipt.exception() is not None:
            return
        if file.upload.stored(row, node, generation, receipt.result().commit, length):
            self._keep(file, node, receipt.result().commit, length)
            if file.journal is not None and file.upload.complete(row.segment):
                file.journal(row.segment)

    def _keep(self, file: StoredFile, node: NodeId, commit: Commit, length: int) -> None:
        file.sent_bytes += length
        self.holdings.add(node, commit, leaf_count(length))

    async def _complete(self, file: StoredFile) -> None:
        """Wait for all receipts; re-place rows as long as there are spares."""
        await self.all_receipts()
        while file.upload.pending():
            await self._reserve_rows(file)
            rows = file.upload.pending()
            for segment in sorted({row.segment for row in rows}):
                await self._resend(file, segment, [r for r in rows if r.segment == segment])
            await self.all_receipts()

    async def _resend(self, file: StoredFile, segment: int, rows: Sequence[Row]) -> None:
        """Make some rows of a sealed segment again, from the source."""
        encoder = await self._rows.again(file, segment)
        for row in rows:
            shipment, tree = ship(file, row, encoder.layout.shard_bytes), ShardHasher()
            group = self._fleet.group(shipment.node, shipment.length)
            async for frame in self._rows.frames(encoder, row, shipment.generation, tree):
                await group.send(frame)
            self._expect(await group.end(tree.commit()), shipment)

    async def _reserve_rows(self, file: StoredFile) -> None:
        """Have deals with all nodes of ``file``: spares step in for those that do not agree."""
        while fresh := [node for node in file.upload.nodes if node not in file.reserved]:
            file.reserved.update(fresh)
            await self._reserve(dict.fromkeys(fresh, file.row_bytes))

    async def _reserve(self, sizes: Mapping[NodeId, int]) -> None:
        """Lock what it costs to store ``sizes`` bytes, by node; those that refuse are given up.

        Raises:
            LimitReached: It is more than the account has, or than may be spent.
            Unreachable: ``ledger_unreachable``, and more has to be locked.
        """
        for node, refusal in (await self._deals.reserve(sizes)).items():
            self._fleet.fail(node, refusal)

    async def _limit_pending(self, file: StoredFile, coming_bytes: int) -> None:
        """Sign for what is stored before a node's bound on unsigned bytes is met."""
        full = [n for n in file.upload.nodes if not self._has_room(n, coming_bytes)]
        if full:
            await self.all_receipts()
            await self._each(full, self.holdings.revise)

    def _has_room(self, node: NodeId, coming_bytes: int) -> bool:
        signed_for = sum(self.holdings.added(node).values()) * LEAF_BYTES
        unsigned = signed_for + self._under_way[node] + coming_bytes
        return unsigned <= self.nodes.max_pending[node]

    # manifest

    async def _publish(self, file: StoredFile) -> None:
        """Store sealed copies of head and pages, and point to them."""
        while True:
            for node, copies in file.copies.items():
                self.holdings.drop(node, [commit for commit, _ in copies])
            file.copies.clear()
            holders = self._holders(file, min(file.scheme.manifest_copies, MAX_HOLDERS))
            if not holders:
                raise Unreachable("no node is left to hold the manifest", hint="try again")
            file.sequence = next_sequence(file.sequence, int(self._clock.now_s() * 1e6))
            boxes = seal_manifest(file, holders, file.sequence, self._entropy)
            pointer = sign_file_pointer(
                file, boxes, self.nodes.network.network_id, self._clock.now_s(), self._entropy
            )
            await self._store_boxes(file, boxes, pointer.encode())
            if len(file.copies) == len(holders):
                break
        small = all(len(copies[0].data) <= SMALL_SHARD_BYTES for copies in boxes.values())
        if small:
            self.pointers.add(pointer, holders)  # it travelled with the head
        else:
            await self.pointers.hold(pointer, holders)

    def _holders(self, file: StoredFile, wanted: int) -> list[NodeId]:
        nodes = [node for node in file.upload.nodes if node not in self._fleet.failed]
        turn = file.make_core().hash[0] % max(1, len(nodes))
        return (nodes[turn:] + nodes[:turn])[:wanted]

    async def _store_boxes(
        self, file: StoredFile, boxes: dict[NodeId, list[Box]], pointer: bytes
    ) -> None:
        """Store every holder's boxes; the pointer travels with the head."""
        await self._reserve(
            {node: sum(len(box.data) for box in each) for node, each in boxes.items()}
        )
        waits = {}
        for node, (head, *pages) in boxes.items():
            receipts = [await self._store(node, page) for page in pages]
            if len(head.data) <= SMALL_SHARD_BYTES:
                receipts.append(self._fleet.small(node).put(head.data, head.commit, pointer))
            else:
                receipts.append(await self._store(node, head))
            waits[node] = receipts
        for node, receipts in waits.items():
            results = await asyncio.gather(*receipts, return_exceptions=True)
            if all(isinstance(result, Receipt) for result in results):
                file.copies[node] = [(box.commit, len(box.data)) for box in boxes[node]]
                for box in boxes[node]:
                    self._keep(file, node, box.commit, len(box.data))
            else:
                self._fleet.check()

    async def _store(self, node: NodeId, box: Box) -> ReceiptFuture:
        group = self._fleet.group(node, len(box.data))
        for at in range(0, len(box.data), FRAME_BYTES):
            await group.send(box.data[at : at + FRAME_BYTES])
        return await group.end(box.commit)

    # nodes

    def _on_failure(self, node: NodeId, error: DsnError) -> None:
        touched = [file for file in self.files if file.touches(node)]
        moved = True
        for file in self.files:
            moved &= file.upload.fail(node)
        self.holdings.discard(node, moved=moved)
        if not touched:
            return
        after = "its shards go to a spare node" if moved else "no spare node is left"
        self._notice(f"node {short(node)} fails ({error.message}); {after}")

    async def _each(
        self, nodes: Iterable[NodeId], call: Callable[[NodeId], Awaitable[object]]
    ) -> None:
        """``call`` those of ``nodes`` that answer, side by side."""
        await self._fleet.each((node for node in nodes if node in self.alive), call)

    def _shards(self) -> dict[NodeId, dict[Commit, int]]:
        held: dict[NodeId, dict[Commit, int]] = {}
        for file in self.files:
            for node, shards in file.shards().items():
                held.setdefault(node, {}).update(shards)
        return held

    async def _read_back(self, node: NodeId) -> None:
        shards = self._shards()[node]
        leaves = {commit: leaf_count(length) for commit, length in shards.items()}
        async with self.nodes.peer(node, fresh=True) as peer:
            await read_back(
                peer,
                leaves,
                network=self.nodes.network.network_id,
                clock=self._clock,
                entropy=self._entropy,
            )


def _bytes_each(scheme: Scheme, size: int) -> int:
    """What a holder stores at most of a file of ``size`` bytes, its manifest copy included."""
    return size // scheme.required + size // 256 + 65_536
