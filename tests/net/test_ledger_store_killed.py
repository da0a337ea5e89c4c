"""What a ledger acknowledged survives SIGKILL at any moment: real processes, real disk."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom

import pytest

from dsn.apps.ledger.check import check_store
from dsn.apps.ledger.engine import genesis_of
from dsn.ledger.log import EMPTY_ROOT, Frontier, TreeHead
from dsn.ledger.tiles import hashes_of_tiles
from dsn.ports import LedgerStore
from dsn.store.ledger import create_ledger, open_ledger
from tests.support.ledger_stores import PLACES
from tests.support.ledger_worker import PARAMS, payment

KILLS = {"sqlite": 36, "postgresql": 12}
REPOSITORY = Path(__file__).parents[2]
WORKER = REPOSITORY / "tests" / "support" / "ledger_worker.py"


@dataclass
class Promises:
    """What all workers so far have tried and were told."""

    tried: int = 0
    done: int = 0
    signed: list[TreeHead] = field(default_factory=lambda: [TreeHead(0, EMPTY_ROOT)])

    def hear(self, line: str) -> None:
        verb, first, *rest = line.split(" ")
        if verb == "try":
            self.tried = max(self.tried, int(rest[0]))
        elif verb == "done":
            assert int(first) >= self.done, "nothing is acknowledged twice"
            self.done = int(first) + 1
        else:
            self.signed.append(TreeHead(int(first), bytes.fromhex(rest[0])))


def work_until_killed(place: str, random: Random, promises: Promises) -> None:
    """Let a worker run until it has said a random number of lines."""
    lines = random.choice([0, 1, 10, 100, 600]) + random.randrange(60)
    command = [sys.executable, str(WORKER), place, str(random.randrange(1 << 30))]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as worker:
        assert worker.stdout is not None
        for _ in range(lines):
            promises.hear(worker.stdout.readline().decode().rstrip("\n"))
        worker.kill()
        *rest, torn = worker.stdout.read().decode().split("\n")
        assert torn == ""
        for line in rest:
            promises.hear(line)


def check(store: LedgerStore, promises: Promises, *, whole: bool) -> None:
    head = store.head()
    assert promises.done <= head.size <= promises.tried
    stored = [(leaf.entry, leaf.signature) for leaf in store.leaves(0, head.size + 1)]
    assert stored == [payment(number) for number in range(head.size)]
    hashes = hashes_of_tiles(store.tile, head.size)
    for signed in promises.signed:
        assert Frontier.at(hashes, signed.size).head == signed
    assert promises.signed[-1].size <= store.fenced().size <= head.size
    if whole:
        assert check_store(store).fault is None


@pytest.mark.parametrize("kind", KILLS)
def test_what_was_acknowledged_survives_sigkill(kind: str, tmp_path: Path) -> None:
    seed = SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    random, promises, place = Random(seed), Promises(), PLACES[kind](tmp_path)
    create_ledger(place, *genesis_of(PARAMS))
    for kill in range(1, KILLS[kind] + 1):
        work_until_killed(place, random, promises)
        with closing(open_ledger(place, signer=False)) as store:
            check(store, promises, whole=kill % 6 == 0)
    assert promises.done > 100
    assert len(promises.signed) > 2
