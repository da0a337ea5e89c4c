"""From a capability to a manifest: the newest pointer, one good head, its pages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from dsn.apps.deals import Deals
from dsn.apps.faults import Faults
from dsn.apps.feeds import HEDGE_S, read_whole
from dsn.apps.nodes import Nodes
from dsn.core.cipher import BOX_EXTRA_BYTES, open_box
from dsn.core.keys import FileKeys
from dsn.core.manifest import Core, Head, verify_head
from dsn.core.placement import Placement, Row, decode_page, page_hash, page_segments
from dsn.dht.record import PointerBody, PointerRecord, Record, newer
from dsn.errors import DsnError, MalformedMessage, NotFound, ShardCorrupt, Unreachable
from dsn.ids import Commit, FileId, NodeId
from dsn.units import leaf_count

PAGE_PLACE_BYTES = 36
HOLDERS_ASKED, HOLDERS_ENOUGH = 4, 2
"""Holders asked for a newer pointer, and answers after which the others are not waited for."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Copies:
    """One holder's copies: its sealed head and its sealed pages, as (commit, length)."""

    node: NodeId
    shards: tuple[tuple[Commit, int], ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that a file's keys open of it, and where everything is."""

    file_id: FileId
    keys: FileKeys
    sequence: int
    core: Core
    placement: Placement
    copies: tuple[Copies, ...]
    head: Head

    def shards(self, segments: Iterable[int] | None = None) -> dict[NodeId, dict[Commit, int]]:
        """Stored shards, manifest copies included: length by commit, by node.

        Args:
            segments: Of these only; ``None``: of the whole file.
        """
        held: dict[NodeId, dict[Commit, int]] = {}
        for copy in self.copies:
            held.setdefault(copy.node, {}).update(copy.shards)
        for segment in range(len(self.placement.rows)) if segments is None else segments:
            row = self.placement.rows[segment]
            length = self.core.layout.segment(segment).shard_bytes
            for place in row:
                if place.held:
                    held.setdefault(self.placement.nodes[place.node], {})[place.commit] = length
        return held

    def leaves(self, segments: Iterable[int] | None = None) -> dict[NodeId, dict[Commit, int]]:
        """As ``shards``, with leaf counts."""
        return {
            node: {commit: leaf_count(length) for commit, length in shards.items()}
            for node, shards in self.shards(segments).items()
        }


async def first_good(calls: Sequence[Callable[[], Awaitable[_Value]]]) -> _Value:
    """The first result of ``calls``, tried in order; the next one starts early if one is slow.

    Raises:
        DsnError: All failed; the last one's error.
    """
    waiting: set[asyncio.Future[_Value]] = set()
    rest = list(calls)
    error: DsnError | None = None
    try:
        while rest or waiting:
            if rest:
                waiting.add(asyncio.ensure_future(rest.pop(0)()))
            done, waiting = await asyncio.wait(
                waiting, timeout=HEDGE_S if rest else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                try:
                    return task.result()
                except DsnError as failure:
                    error = failure
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    raise error or NotFound("nothing to ask")


class Manifests:
    """Fetches manifests through the network, and remembers who sent wrong copies."""

    def __init__(self, nodes: Nodes, faults: Faults, *, deals: Deals) -> None:
        """Ask ``nodes``, paid by ``deals`` if they have to be; note in ``faults``."""
        self._nodes, self._faults, self._deals = nodes, faults, deals

    async def fetch(self, file_id: FileId, keys: FileKeys) -> Manifest:
        """The newest manifest of a file.

        Raises:
            NotFound: No node knows the file.
            Unreachable: No node, or no holder of a copy, answers.
        """
        body, head = await self._newest_head(file_id, keys)
        core = head.core
        pages = await asyncio.gather(
            *(self._page(head, keys, number) for number in range(len(head.pages)))
        )
        placement = Placement(head.nodes, tuple(row for page in pages for row in page))
        await self._nodes.reach(head.nodes)
        copies = self._copies(head, body)
        return Manifest(file_id, keys, head.sequence, core, placement, copies, head)

    async def _newest_head(self, file_id: FileId, keys: FileKeys) -> tuple[PointerBody, Head]:
        """The head that the newest pointer names, of those in the DHT and with its holders.

        Who sits near the file's key may hide a newer record; its holders have it first.
        """
        record = await self.newest(file_id)
        while True:
            if not record.body:
                raise NotFound("its owner removed this file", code="removed")
            body = PointerBody.decode(open_box(keys.head_key, record.body))
            await self._nodes.reach(node for node, _ in body.holders)
            held = asyncio.create_task(self._newest_held(record, body))
            try:
                head = await self._head(file_id, keys, body)
            except Unreachable:
                if (newest := await held) is record:
                    raise
            else:
                if (newest := await held) is record:
                    return body, head
            finally:
                held.cancel()
            record = newest

    async def _newest_held(self, record: PointerRecord, body: PointerBody) -> PointerRecord:
        """``record``, or a newer one that one of the first holders to answer keeps."""
        late = self._nodes.late
        holders = [node for node, _ in body.holders if node not in late][:HOLDERS_ASKED]

        async def ask(node: NodeId) -> Record | None:
            raw = await self._nodes.peer(node).get_pointer(record.key)
            found = self._nodes.dht.judge(record.key, [raw] if raw else [])
            return found[0] if found else None

        answers = await self._nodes.each(ask, enough=HOLDERS_ENOUGH, among=holders)
        newest = record
        for each in answers.values():
            if isinstance(each, PointerRecord) and newer(each, newest):
                newest = each
        return newest

    async def newest(self, key: bytes) -> PointerRecord:
        """The newest valid pointer record under ``key`` that disjoint searches find.

        Raises:
            NotFound: Nobody has one.
            Unreachable: Nobody answers.
        """
        found = await self._nodes.find_record(key)
        if not isinstance(found, PointerRecord):
            raise NotFound("no node knows this file", hint="check the link, or the network")
        return found

    async def _head(self, file_id: FileId, keys: FileKeys, body: PointerBody) -> Head:
        def call(node: NodeId, commit: Commit) -> Callable[[], Awaitable[Head]]:
            async def read() -> Head:
                box = await self._copy(node, commit, body.head_length)
                head = Head.decode(open_box(keys.head_key, box))
                verify_head(head, file_id)
                return head

            return read

        holders = sorted(body.holders, key=lambda holder: holder[0] in self._nodes.late)
        try:
            return await first_good([call(*holder) for holder in holders])
        except DsnError as error:
            raise Unreachable(
                f"none of {len(holders)} copies of the manifest can be had ({error.message})",
                hint="start the nodes that hold it and try again",
            ) from error

    async def _page(self, head: Head, keys: FileKeys, number: int) -> tuple[Row, ...]:
        core, ref = head.core, head.pages[number]
        segments = page_segments(number, len(core.segments))
        plain_bytes = segments * core.scheme.total * PAGE_PLACE_BYTES

        def call(node: NodeId, commit: Commit) -> Callable[[], Awaitable[tuple[Row, ...]]]:
            async def read() -> tuple[Row, ...]:
                box = await self._copy(node, commit, plain_bytes + BOX_EXTRA_BYTES)
                plain = open_box(keys.head_key, box)
                if page_hash(plain) != ref.hash:
                    raise MalformedMessage("a page is not the one its head names")
                return decode_page(
                    plain, segments=segments, total=core.scheme.total, nodes=len(head.nodes)
                )

            return read

        copies = [(head.nodes[copy.node], copy.commit) for copy in ref.copies]
        copies.sort(key=lambda copy: copy[0] in self._nodes.late)
        try:
            return await first_good([call(*copy) for copy in copies])
        except DsnError as error:
            raise Unreachable(
                f"none of {len(copies)} copies of placement page {number} can be had "
                f"({error.message})",
                hint="start the nodes that hold it and try again",
            ) from error

    async def _copy(self, node: NodeId, commit: Commit, length: int) -> bytes:
        try:
            return await read_whole(self._nodes, self._deals, node, commit, length)
        except ShardCorrupt:
            self._faults.note(node, commit, "wrong", "a copy of the manifest")
            raise
        except NotFound:
            self._faults.note(node, commit, "lost", "a copy of the manifest")
            raise

    @staticmethod
    def _copies(head: Head, body: PointerBody) -> tuple[Copies, ...]:
        segments, total = len(head.core.segments), head.core.scheme.total
        held: dict[NodeId, list[tuple[Commit, int]]] = {}
        for node, commit in body.holders:
            held.setdefault(node, []).append((commit, body.head_length))
        for number, ref in enumerate(head.pages):
            length = page_segments(number, segments) * total * PAGE_PLACE_BYTES + BOX_EXTRA_BYTES
            for copy in ref.copies:
                held.setdefault(head.nodes[copy.node], []).append((copy.commit, length))
        return tuple(Copies(node, tuple(shards)) for node, shards in held.items())
