"""Giving a node back the leaves that rotted: rebuilt from other shards, judged by the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence

from dsn.apps.client_parts import Parts
from dsn.apps.feeds import GIVE_UP_S, Feed
from dsn.apps.manifests import Manifest
from dsn.apps.repair_look import Damage, Held
from dsn.core.erasure import Erasure
from dsn.core.rebuild import restore_range
from dsn.core.segment import SegmentKeys
from dsn.errors import DsnError
from dsn.kernels import isal
from dsn.units import LEAF_BYTES


class Leaves:
    """Returns rotten leaves of one file."""

    def __init__(self, manifest: Manifest, parts: Parts) -> None:
        """Restore shards of the file of ``manifest``, whose keys must unmask them."""
        self._manifest, self._parts = manifest, parts
        scheme = manifest.core.scheme
        self._erasure = Erasure(scheme.required, scheme.total, isal.load())

    async def give_back(self, damage: Damage) -> int:
        """Mend what can be mended; what cannot moves to ``damage.bad``.

        Returns:
            Leaves that nodes took back.
        """
        returned, placement = 0, self._manifest.placement
        for segment, row in enumerate(placement.rows):
            for index, place in enumerate(row):
                node = placement.holder(segment, index)
                shard = None if node is None else Held(node, place.commit)
                if shard is None or shard not in damage.rotten:
                    continue
                if await self._mend(segment, index, shard, damage):
                    returned += len(damage.rotten.pop(shard))
                    self._parts.faults.clear(shard.commit)
        damage.bad |= damage.rotten.keys()
        damage.rotten.clear()
        return returned

    async def _mend(self, segment: int, index: int, shard: Held, damage: Damage) -> bool:
        """Whether the shard is whole once its node has its leaves back."""
        given: dict[int, bytes] = {}
        for first, end in runs(damage.rotten[shard]):
            data = await self._restore(segment, index, first, end, damage)
            if data is None:
                return False
            for leaf in range(first, end):
                at = (leaf - first) * LEAF_BYTES
                given[leaf] = data[at : at + LEAF_BYTES]
        try:
            reply = await self._parts.nodes.peer(shard.node).put_leaves(shard.commit, given)
        except DsnError:
            return False
        return not reply.rotten

    async def _restore(
        self, segment: int, index: int, first: int, end: int, damage: Damage
    ) -> bytes | None:
        """Leaves ``[first, end)`` of one shard, as those of the others give them."""
        start, stop = first * LEAF_BYTES, end * LEAF_BYTES
        sources = self._sources(segment, index, range(first, end), damage)
        read = await asyncio.gather(*(self._read(segment, i, start, stop) for i in sources))
        ranges = {i: data for i, data in zip(sources, read, strict=True) if data is not None}
        core, row = self._manifest.core, self._manifest.placement.rows[segment]
        salt = core.segments[segment].salt
        keys = SegmentKeys(b"", self._manifest.keys.mask_key, segment, salt, False)
        generations = [place.generation for place in row]
        return await self._parts.kernel.run(
            restore_range, keys, self._erasure, ranges, generations, index, start
        )

    def _sources(
        self, segment: int, index: int, leaves: Collection[int], damage: Damage
    ) -> list[int]:
        """Shards that have ``leaves``, whatever else of them has rotted."""
        placement, sources = self._manifest.placement, []
        for other, place in enumerate(placement.rows[segment]):
            node = placement.holder(segment, other)
            if node is None or node in damage.silent or other == index:
                continue
            shard = Held(node, place.commit)
            if shard not in damage.bad and not set(damage.rotten.get(shard, ())) & set(leaves):
                sources.append(other)
        return sources

    async def _read(self, segment: int, index: int, start: int, stop: int) -> bytes | None:
        """A range of one shard, unless its node fails."""
        place = self._manifest.placement.rows[segment][index]
        node = self._manifest.placement.nodes[place.node]
        feed = Feed(self._parts.nodes, self._parts.deals, node, place.commit, start, stop)
        try:
            return await feed.take(stop - start, within_s=GIVE_UP_S)
        except DsnError:
            return None
        finally:
            feed.close()


def runs(leaves: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Sorted leaf numbers as ranges ``[first, end)``."""
    first = end = -1
    for leaf in leaves:
        if leaf != end:
            if end > first:
                yield first, end
            first = leaf
        end = leaf + 1
    if end > first:
        yield first, end
