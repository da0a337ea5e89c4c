"""A process that stores, revises and compacts until it is killed, and says what was promised.

Every line on stdout is ``try`` or ``done`` and an operation; a ``done`` is written only after
the store has acknowledged it. Operations are named so that a reader can make them again::

    put LENGTH SEED · record KEY VALUE · revise NUMBER ADD DROP   (comma-separated LENGTH/SEED)
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from pathlib import Path
from random import Random

from shard_stores import ALICE, DEAL, disk_store, put, shard  # a sibling: we run as a script

from dsn.store.shards import DiskStore

LENGTHS = [40, 1_500, 4_096, 30_000, 65_536, 65_537, 200_000, 65_537, 70_000, 1_100_000]


def say(text: str) -> None:
    os.write(1, text.encode() + b"\n")


class Worker:
    def __init__(self, store: DiskStore, run: int, seed: int, revision: int) -> None:
        self.store, self.random = store, Random(seed)
        self.seeds = itertools.count(run * 1_000_000)
        self.pending: list[tuple[int, int]] = []
        self.held: list[tuple[int, int]] = []
        self.revision = revision

    async def put_forever(self) -> None:
        while True:
            name = self.random.choice(LENGTHS), next(self.seeds)
            say("try put {} {}".format(*name))
            await put(self.store, shard(*name))
            say("done put {} {}".format(*name))
            self.pending.append(name)

    async def put_records_forever(self) -> None:
        for value in self.seeds:
            key = self.random.randrange(4)
            say(f"try record {key} {value}")
            await self.store.put_records([(bytes([key]) * 32, b"%d" % value)])
            say(f"done record {key} {value}")

    async def revise_forever(self) -> None:
        while True:
            await asyncio.sleep(0)
            if len(self.pending) < 4:
                continue
            taken, self.pending = self.pending, []
            add, drop = taken[::2], taken[1::2]
            self.random.shuffle(self.held)
            while len(self.held) > 20:
                drop.append(self.held.pop())
            self.held += add
            self.revision += 1
            names = [",".join(f"{a}/{b}" for a, b in some) for some in (add, drop)]
            text = f"revise {self.revision} {names[0]} {names[1]}"
            say("try " + text)
            commits = [[shard(*name).commit for name in some] for some in (add, drop)]
            await self.store.revise(ALICE, DEAL, *commits, b"%d" % self.revision)
            say("done " + text)
            await self.store.compact()


async def main(root: Path, segment_bytes: int, run: int, seed: int) -> None:
    async with disk_store(root, segment_bytes=segment_bytes) as store:
        revision = int(await store.revision(ALICE, DEAL) or b"0")
        worker = Worker(store, run, seed, revision)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(6):
                tasks.create_task(worker.put_forever())
            tasks.create_task(worker.put_records_forever())
            tasks.create_task(worker.revise_forever())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
