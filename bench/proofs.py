"""What an epoch's answer costs a provider and a verifier, as one JSON line.

    python bench/proofs.py [--tib 1] [--epochs 24] [--deals 256] [--files 16]

The inventory is as large as that of a provider of so many TiB: every shard of 16 MiB has a commit
and a place of its own. Its bytes are those of a few real files but for the first leaf, so that a
machine with a small disk can stand for a large one; each opening reads its 64 KiB from a file,
which the page cache was told to let go. ``prove_ms`` is all that a node does an epoch: draw, build
the trees of drawn deals, read, open, check each opening as a stranger will.

``kib_a_day`` is what 24 answers take, ``kib_a_day_with_paths`` if each opening is asked for alone.
``beside`` has what others publish of their proofs; they prove other things (a SNARK, the end of a
contract, a satellite's own reading), so it says how much moves, and not who is better.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from calibration import calibrate

from dsn.apps.node.openings import Asked, Opener
from dsn.core import merkle
from dsn.core.hashing import sha256
from dsn.ids import Commit, DealId, NetworkId, NodeId
from dsn.kernels import leafhash
from dsn.ports import ShardState, StoredShard
from dsn.proofs.inventory import InventoryEntry, SumTree, holdings, inventory_leaf
from dsn.proofs.opening import DealPart, verify_opening
from dsn.proofs.por import answer_root
from dsn.proofs.post import (
    Link,
    beacon_hash,
    build_answer_path,
    drawn_indices,
    leaves_asked,
    verify_answer_path,
)
from dsn.units import GROUP_LEAVES, KIB, LEAF_BYTES, MIB

SHARD_BYTES = 16 * MIB
LEAVES = SHARD_BYTES // LEAF_BYTES
GROUP_BYTES = GROUP_LEAVES * LEAF_BYTES
SHARDS_A_TIB = (1 << 40) // SHARD_BYTES
EPOCHS_A_DAY = 24
NETWORK, NODE, NOBODY = NetworkId(b"n" * 32), NodeId(b"p" * 32), NodeId(b"c" * 32)
PUBLISHED = {
    "filecoin_pdp": "5 leaves of 32 bytes and their paths a data set and day, on chain",
    "filecoin_window_post": "192 bytes a partition of 2,349 sectors (73 TiB) and day, on chain; "
    "10 leaves a sector behind it",
    "sia": "1 segment of 64 bytes and its path a contract, once at its end, on chain",
    "storj": "1 stripe read from every holder of a drawn segment, 256 bytes each; no proof to keep",
}


class Base:
    """A real file, and what a node keeps of its tree; shards differ from it in leaf 0."""

    def __init__(self, path: Path) -> None:
        data = os.urandom(SHARD_BYTES)
        path.write_bytes(data)
        self.file = os.open(path, os.O_RDONLY)
        os.fsync(self.file)
        self.groups = merkle.ShardHasher.over(data).groups()
        self.first = data[:GROUP_BYTES]
        self.path = merkle.build_path(self.groups, LEAVES, 0, leafhash.leaves(self.first))

    def read(self, group: int) -> bytes:
        """64 KiB from the disk."""
        return os.pread(self.file, GROUP_BYTES, group * GROUP_BYTES)

    def forget(self) -> None:
        """Have the next read go to the disk."""
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_DONTNEED)


class Shelf:
    """A shard store of shards whose first leaf is made when it is read."""

    def __init__(self, folder: Path, files: int) -> None:
        self.bases = [Base(folder / f"{number}") for number in range(files)]
        self.numbers: dict[Commit, int] = {}
        self.roots: dict[Commit, bytes] = {}
        self.read_bytes = 0

    def _leaf(self, number: int) -> bytes:
        return number.to_bytes(8, "big") + self._base(number).first[8:LEAF_BYTES]

    def _base(self, number: int) -> Base:
        return self.bases[number % len(self.bases)]

    def add(self, number: int) -> Commit:
        """Shard ``number``: only the way from its first leaf up is hashed."""
        digest = merkle.leaf_hash(self._leaf(number))
        for sibling in self._base(number).path:
            digest = sha256(digest + sibling)
        commit = merkle.shard_commit(digest, LEAVES, SHARD_BYTES)
        self.numbers[commit], self.roots[commit] = number, digest
        return commit

    def stored(self, commit: Commit) -> StoredShard:
        """As the index has it."""
        return StoredShard(commit, self.roots[commit], SHARD_BYTES, NOBODY, ShardState.HELD, 0)

    async def sample(self, commit: Commit, groups: Sequence[int]) -> tuple[bytes, list[bytes]]:
        """As ``ShardStore.sample``, in a thread as it does."""
        return await asyncio.to_thread(self._sample, self.numbers[commit], groups)

    def _sample(self, number: int, groups: Sequence[int]) -> tuple[bytes, list[bytes]]:
        base, parts = self._base(number), list[bytes]()
        kept = base.groups
        self.read_bytes += len(kept) + GROUP_BYTES * len(groups)
        for group in groups:
            data = base.read(group)
            parts.append(data if group else self._leaf(number) + data[LEAF_BYTES:])
        first = leafhash.leaves(self._leaf(number) + base.first[LEAF_BYTES:])
        head = merkle.root_of_groups(first, GROUP_LEAVES * GROUP_LEAVES)
        return head + kept[32:], parts


class Provider:
    """Deals over shards, and the answers to epochs."""

    def __init__(self, shelf: Shelf, tib: float, deals: int) -> None:
        count = max(deals, round(tib * SHARDS_A_TIB))
        commits = [shelf.add(number) for number in range(count)]
        self.shelf, self.opener = shelf, Opener(shelf)  # type: ignore[arg-type]
        self.held: dict[DealId, list[tuple[Commit, int]]] = {}
        self.entries: dict[DealId, InventoryEntry] = {}
        for number in range(deals):
            deal = DealId(sha256(b"deal %d" % number))
            self.held[deal] = [(commit, LEAVES) for commit in commits[number::deals]]
            tree = holdings(self.held[deal])
            self.entries[deal] = InventoryEntry(deal, 1, tree.root, tree.total)
        self.tree = SumTree.build(
            (each.deal, inventory_leaf(*each), each.leaves) for each in self.entries.values()
        )

    def draft(self, epoch: int) -> tuple[Link, bytes]:
        """What the epoch asks, and its beacon."""
        beacon, total = sha256(b"beacon %d" % epoch), self.tree.total
        asked = leaves_asked(total)
        link = Link(epoch, beacon_hash(beacon), self.tree.root, total, asked, bytes(32))
        return link, beacon

    async def answer(self, epoch: int) -> tuple[Link, list[int], list[bytes]]:
        """Everything that a node does an epoch."""
        link, beacon = self.draft(epoch)
        drawn = drawn_indices(link, beacon, network=NETWORK, node=NODE)
        places: dict[DealId, list[int]] = {}
        located = [self.tree.locate(index) for index in drawn]
        for place, at in enumerate(located):
            places.setdefault(DealId(at.key), []).append(place)
        asked: dict[int, Asked] = {}
        for deal, some in places.items():
            tree = holdings(self.held[deal])
            for place in some:
                at = located[place]
                part = DealPart(self.entries[deal], at.steps)
                asked[place] = Asked(tree.locate(at.offset), part)
        wanted = [asked[place] for place in range(len(drawn))]
        shards = {each.commit: self.shelf.stored(each.commit) for each in wanted}
        openings, lost = await self.opener.open_all(wanted, shards)
        assert not lost
        verify(link, drawn, openings)
        return replace(link, answer_root=answer_root(openings)), drawn, openings


def verify(link: Link, drawn: Sequence[int], openings: Sequence[bytes]) -> None:
    """As any verifier does."""
    for index, opening in zip(drawn, openings, strict=True):
        verify_opening(opening, root=link.root, total=link.total, index=index, inventory=True)


def main() -> None:
    """Run what the flags ask for; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tib", type=float, default=1.0)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--deals", type=int, default=256)
    parser.add_argument("--files", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(measure(Path(folder), args))))


async def measure(folder: Path, args: argparse.Namespace) -> dict[str, object]:
    """Prove and verify so many epochs."""
    shelf = Shelf(folder, args.files)
    provider = Provider(shelf, args.tib, args.deals)
    prove, checks, sizes, served = list[float](), list[float](), list[int](), list[int]()
    calibration = calibrate()
    for epoch in range(1, args.epochs + 1):
        for base in shelf.bases:
            base.forget()
        began = time.perf_counter()
        link, drawn, openings = await provider.answer(epoch)
        prove.append(time.perf_counter() - began)
        began = time.perf_counter()
        verify(link, drawn, openings)
        checks.append((time.perf_counter() - began) / len(drawn))
        paths = [build_answer_path(openings, place) for place in range(len(openings))]
        for place, path in enumerate(paths):
            verify_answer_path(link, place, openings[place], path)
        sizes.append(sum(map(len, openings)))
        served.append(sizes[-1] + sum(32 * len(path) for path in paths))
    day = EPOCHS_A_DAY / KIB
    return {
        "bench": "proofs",
        "calibration": calibration,
        "tib": args.tib,
        "shards": len(shelf.numbers),
        "leaves_asked": len(drawn),
        "prove_ms": round(1e3 * statistics.median(prove), 1),
        "verify_ms": round(1e3 * statistics.median(checks) * len(drawn), 2),
        "verifications_per_s": round(1 / statistics.median(checks)),
        "opening_bytes": round(statistics.mean(sizes) / len(drawn)),
        "answer_kib": round(statistics.mean(sizes) / KIB, 1),
        "kib_a_day": round(day * statistics.mean(sizes)),
        "kib_a_day_a_tib": round(day * statistics.mean(sizes) / args.tib),
        "kib_a_day_with_paths": round(day * statistics.mean(served)),
        "link_bytes": len(link.encode()),
        "disk_reads_an_epoch": len(drawn),
        "disk_mib_an_epoch": round(shelf.read_bytes / args.epochs / MIB, 2),
        "beside": PUBLISHED,
    }


if __name__ == "__main__":
    main()
