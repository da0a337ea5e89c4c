"""Openings out of the store: what challenges, epochs and demands are answered with.

Every leaf is checked here as whoever asked will check it, so that rot is found at home.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from dsn.core import merkle
from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidProof, NotFound, ShardCorrupt
from dsn.ids import Commit
from dsn.kernels import leafhash
from dsn.ports import ShardStore, StoredShard
from dsn.proofs.inventory import Located
from dsn.proofs.opening import DealPart, ShardLeaf, build_opening
from dsn.units import GROUP_LEAVES, LEAF_BYTES

OnRot = Callable[[Commit], None]
"""Told of a shard that cannot be opened; not every call means that it is gone for good."""
READS_AT_ONCE: Final = 4
"""Half of a store's disk threads: the other half is left to those who read and write."""
GROUPS_AT_ONCE: Final = 64
"""Of one shard, 4 MiB: so all reads together hold 16 MiB, whatever is asked for."""


class Asked(NamedTuple):
    """A leaf to open: where it stands in the holdings, and these in an inventory, if in any."""

    at: Located
    deal: DealPart | None = None

    @property
    def commit(self) -> Commit:
        """The shard's."""
        return Commit(self.at.key)


class Opener:
    """Opens leaves of one store, a few at a time for all who ask."""

    def __init__(self, store: ShardStore, on_rot: OnRot | None = None) -> None:
        """Read from ``store``; tell ``on_rot`` what cannot be opened."""
        self._store, self._on_rot = store, on_rot
        self._places = asyncio.Semaphore(READS_AT_ONCE)

    async def open_all(
        self, asked: Sequence[Asked], shards: Mapping[Commit, StoredShard]
    ) -> tuple[list[bytes], list[Commit]]:
        """Open every leaf that is asked for.

        Args:
            asked: In any order; a shard is read once, however many of its leaves are asked for.
            shards: Every shard that is asked about.

        Returns:
            The openings in the order of ``asked``, and the shards that cannot be opened any more;
            there are no openings if there is such a shard.
        """
        by_shard: dict[Commit, list[int]] = {}
        for place, each in enumerate(asked):
            by_shard.setdefault(each.commit, []).append(place)
        openings, lost = dict[int, bytes](), list[Commit]()
        for commit, places in by_shard.items():
            wanted = {place: asked[place] for place in places}
            try:
                openings |= await self._open(shards[commit], wanted)
            except (ShardCorrupt, NotFound, InvalidProof):
                lost.append(commit)
                if self._on_rot is not None:
                    self._on_rot(commit)
        if lost:
            return [], lost
        return [openings[place] for place in range(len(asked))], []

    async def _open(self, shard: StoredShard, wanted: Mapping[int, Asked]) -> dict[int, bytes]:
        """The openings of one shard by their place in the answer.

        Raises:
            ShardCorrupt, NotFound: It cannot be read.
            InvalidProof: A leaf is not what it was: the disk rotted.
        """
        by_group: dict[int, list[int]] = {}
        for place, each in wanted.items():
            by_group.setdefault(each.at.offset // GROUP_LEAVES, []).append(place)
        numbers, openings = sorted(by_group), dict[int, bytes]()
        for start in range(0, len(numbers), GROUPS_AT_ONCE):
            some = numbers[start : start + GROUPS_AT_ONCE]
            async with self._places:
                kept, groups = await self._store.sample(shard.commit, some)
            tree = merkle.KeptTree(kept, shard.leaf_count)
            for number, group in zip(some, groups, strict=True):
                hashes = leafhash.leaves(group)
                for place in by_group[number]:
                    at, deal = wanted[place]
                    leaf = _leaf(shard, tree, at.offset, group, hashes)
                    openings[place] = build_opening(leaf, at.steps, deal)
        return openings


def _leaf(
    shard: StoredShard, tree: merkle.KeptTree, index: int, group: bytes, hashes: bytes
) -> ShardLeaf:
    """One leaf with its path, out of its ``group`` and the group's leaf hashes.

    Raises:
        InvalidProof: As ``merkle.verify_path``.
    """
    at = index % GROUP_LEAVES
    path = tree.path(index, hashes)
    leaf_hash = hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]
    merkle.verify_path(shard.root, index, shard.leaf_count, leaf_hash, path)
    return ShardLeaf(shard.root, shard.length, group[at * LEAF_BYTES : (at + 1) * LEAF_BYTES], path)
