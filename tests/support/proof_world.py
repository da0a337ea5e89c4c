"""Real shards, holdings and inventories to prove things about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dsn.core import merkle
from dsn.ids import Commit, DealId
from dsn.proofs.inventory import InventoryEntry, Located, SumTree, holdings, inventory_leaf
from dsn.proofs.opening import DealPart, ShardLeaf, build_opening
from dsn.units import GROUP_LEAVES, LEAF_BYTES, leaf_count
from tests.vectors.core_vectors import data


class Shard:
    """A stored shard."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.leaves = leaf_count(len(raw))
        hasher = merkle.ShardHasher.over(raw)
        self.root, self.groups, self.commit = hasher.root(), hasher.groups(), hasher.commit()

    def leaf_data(self, leaf: int) -> bytes:
        return self.raw[leaf * LEAF_BYTES : (leaf + 1) * LEAF_BYTES]

    def leaf(self, leaf: int) -> ShardLeaf:
        first = leaf // GROUP_LEAVES * GROUP_LEAVES
        group = range(first, min(first + GROUP_LEAVES, self.leaves))
        hashes = b"".join(merkle.leaf_hash(self.leaf_data(each)) for each in group)
        path = merkle.build_path(self.groups, self.leaves, leaf, hashes)
        return ShardLeaf(self.root, len(self.raw), self.leaf_data(leaf), path)


class Holdings:
    """Shards under one holdings root."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = {shard.commit: shard for shard in shards}
        self.pairs = [(shard.commit, shard.leaves) for shard in shards]
        self.tree = holdings(self.pairs)

    @classmethod
    def of(cls, *lengths: int, name: str = "h") -> Holdings:
        return cls([Shard(data(f"{name}.{n}", size)) for n, size in enumerate(lengths)])

    def opening(self, index: int, deal: DealPart | None = None) -> bytes:
        return self.opened(self.tree.locate(index), deal)

    def opened(self, at: Located, deal: DealPart | None = None) -> bytes:
        return build_opening(self.shards[Commit(at.key)].leaf(at.offset), at.steps, deal)


@dataclass
class Inventory:
    """Deals under one inventory root: ``(deal, number, holdings)``."""

    deals: Sequence[tuple[DealId, int, Holdings]]

    @cached_property
    def entries(self) -> dict[bytes, InventoryEntry]:
        return {
            deal: InventoryEntry(deal, number, held.tree.root, held.tree.total)
            for deal, number, held in self.deals
        }

    @cached_property
    def tree(self) -> SumTree:
        entries = self.entries.values()
        return SumTree.build((each.deal, inventory_leaf(*each), each.leaves) for each in entries)

    def opening(self, index: int) -> bytes:
        at = self.tree.locate(index)
        held = next(held for deal, _, held in self.deals if deal == at.key)
        return held.opening(at.offset, DealPart(self.entries[at.key], at.steps))


def prototype_world(deals: Sequence[dict[str, object]]) -> Inventory:
    """The world of ``proofs.json``: shard data by the deals' numbers, in their order."""
    lengths = ((1,), (1024, 5000), (3072, 1025, 7168, 64), (2048, 4096, 6144, 1023, 10240, 512))
    by_number = sorted(deals, key=lambda deal: int(str(deal["number"])))
    return Inventory(
        [
            (
                DealId(bytes.fromhex(str(deal["deal"]))),
                int(str(deal["number"])),
                Holdings.of(*sizes, name=f"w{n}"),
            )
            for n, (deal, sizes) in enumerate(zip(by_number, lengths, strict=True))
        ]
    )
