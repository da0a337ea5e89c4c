"""What a store has acknowledged survives SIGKILL at any moment: real processes, real disk."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

from dsn.ids import Commit
from dsn.store.shards import DiskStore
from tests.support.shard_stores import ALICE, DEAL, disk_store, read_all, shard

KILLS = 30
SEGMENT = 100_000
REPOSITORY = Path(__file__).parents[2]
WORKER = REPOSITORY / "tests" / "support" / "store_worker.py"
Name = tuple[int, int]


def names(text: str) -> list[Name]:
    pairs = [each.split("/") for each in text.split(",") if each]
    return [(int(length), int(seed)) for length, seed in pairs]


@dataclass
class Promises:
    """What all workers so far have tried and were told."""

    tried: set[Name] = field(default_factory=set)
    put: set[Name] = field(default_factory=set)
    revisions: dict[int, tuple[list[Name], list[Name]]] = field(default_factory=dict)
    revised: int = 0
    records: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    recorded: dict[int, int] = field(default_factory=dict)

    def hear(self, line: str) -> None:
        verb, kind, *words = line.split(" ")
        done = verb == "done"
        if kind == "put":
            (self.put if done else self.tried).add((int(words[0]), int(words[1])))
        elif kind == "record":
            key, value = int(words[0]), int(words[1])
            if done:
                self.recorded[key] = value
            else:
                self.records[key].append(value)
        elif done:
            self.revised = int(words[0])
        else:
            self.revisions[int(words[0])] = names(words[1]), names(words[2])


def work_until_killed(root: Path, run: int, random: Random, promises: Promises) -> None:
    """Let a worker run until it has said a random number of lines."""
    lines = random.choice([1, 10, 100]) + random.randrange(60)
    numbers = map(str, (SEGMENT, run, random.randrange(1 << 30)))
    command = [sys.executable, str(WORKER), str(root), *numbers]
    python_path = {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | python_path) as worker:
        assert worker.stdout is not None
        for _ in range(lines):
            promises.hear(worker.stdout.readline().decode().rstrip("\n"))
        worker.kill()
        *rest, torn = worker.stdout.read().decode().split("\n")
        assert torn == ""
        for line in rest:
            promises.hear(line)


@functools.cache
def commit_of(name: Name) -> Commit:
    return shard(*name).commit


async def check(store: DiskStore, promises: Promises, random: Random) -> None:
    damage = store.damage()
    assert (damage.records, damage.lost, damage.orphans) == (0, 0, 0)
    newest = int(await store.revision(ALICE, DEAL) or b"0")
    assert promises.revised <= newest <= max(promises.revisions, default=0)
    held: set[Name] = set()
    dropped: set[Name] = set()
    for number in range(1, newest + 1):
        add, drop = promises.revisions[number]
        held = (held | set(add)) - set(drop)
        dropped |= set(drop)
    expected = sorted((commit_of(name), -(-name[0] // 1_024)) for name in held)
    assert await store.holdings(ALICE, DEAL) == expected
    stored = await store.stats([commit_of(name) for name in promises.tried])
    here = {name for name in promises.tried if commit_of(name) in stored}
    assert not here & dropped
    assert promises.put - dropped <= here
    assert store.count == len(here)
    for name in random.sample(sorted(here), min(len(here), 60)):
        assert await read_all(store, shard(*name)) == shard(*name).data
    for key, tried in promises.records.items():
        value = int(await store.get_record(bytes([key]) * 32) or b"0")
        acknowledged = promises.recorded.get(key, 0)
        assert value in tried or value == acknowledged == 0
        assert tried.index(value) >= tried.index(acknowledged) if acknowledged else True


async def test_what_was_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    seed = SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    random, promises = Random(seed), Promises()
    volume = tmp_path / "volume"
    for run in range(1, KILLS + 1):
        work_until_killed(volume, run, random, promises)
        async with disk_store(volume, segment_bytes=SEGMENT) as store:
            await check(store, promises, random)
            newest = int(await store.revision(ALICE, DEAL) or b"0")
        promises.revisions = {n: r for n, r in promises.revisions.items() if n <= newest}
