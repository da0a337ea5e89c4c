"""How many entries a second a ledger takes, as one JSON line.

    python bench/ledger.py [--entries 20000] [--accounts 2000] [--rounds 3]

Payments among many accounts, signed in advance. Each is decoded, its signature recovered, the
rules run, the state root and the log brought up to date, and all of it is on disk, in batches,
before it counts. In the same rounds: bare secp256k1 recovery of the same signatures by one thread
(``ratio`` is the ledger's rate as a part of that), the ledger without a disk, and a PostgreSQL
server if this machine can run one. Medians of the rounds, by the clock; ``cpu_s_per_1000`` is what
all threads of the ledger on SQLite took, and says more on a machine that has other work.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from calibration import calibrate

from dsn.apps.ledger.batch import Accepted, Batch, Submission
from dsn.apps.ledger.engine import BATCH, genesis_of, open_sequencer
from dsn.apps.ledger.memory import Memory
from dsn.apps.ledger.tail import NO_LOG
from dsn.core.hashing import sha256
from dsn.ids import NetworkId
from dsn.kernels.recovery import NAME
from dsn.ledger.bodies import Transfer
from dsn.ledger.entry import Entry
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey, recover
from dsn.ledger.state import genesis
from dsn.ledger.typed import Domain, digest
from dsn.store.ledger import create_ledger

NETWORK = NetworkId(b"\x01" * 32)
DOMAIN = Domain(NETWORK, 0, NO_ADDRESS)
PG_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


class Work:
    """Accounts, and payments between them that are good in this order."""

    def __init__(self, entries: int, accounts: int) -> None:
        keys = [SettlementKey(sha256(b"%d" % n)) for n in range(accounts)]
        allocation = tuple((key.address, 1 << 40) for key in keys)
        self.params = LedgerParams(
            DOMAIN, keys[0].address, entry_fee=1, min_bond=1, allocation=allocation
        )
        self.submissions, self.signed = list[Submission](), list[tuple[bytes, bytes]]()
        for at in range(entries):
            key, to = keys[at % accounts], keys[(at * 7 + 1 + at // accounts) % accounts]
            if to is key:
                to = keys[(at + 1) % accounts]
            entry = Entry(NETWORK, key.address, at // accounts + 1, Transfer(to.address, 5))
            what = digest(DOMAIN, entry)
            self.signed.append((what, key.sign(what)))
            self.submissions.append(Submission(entry.encode(), self.signed[-1][1]))


def main() -> None:
    """Run what the flags ask for; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--entries", type=int, default=20_000)
    parser.add_argument("--accounts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    work, cpu_s = Work(args.entries, args.accounts), list[float]()
    with tempfile.TemporaryDirectory(prefix="dsn-bench-") as folder, server() as address:
        places = iter(range(1 << 30))
        tasks: dict[str, Callable[[], float]] = {
            "recover_per_s": lambda: recover_rate(work),
            "memory_per_s": lambda: memory_rate(work),
            "sqlite_per_s": lambda: store_rate(work, f"{folder}/{next(places)}", cpu_s),
        }
        if address:
            tasks["postgresql_per_s"] = lambda: store_rate(work, address(next(places)), [])
        rounds = [{name: task() for name, task in tasks.items()} for _ in range(args.rounds)]
    rates = {name: round(statistics.median(each[name] for each in rounds)) for name in tasks}
    ratios = [each["sqlite_per_s"] / each["recover_per_s"] for each in rounds]
    result = {"bench": "ledger", "calibration": calibrate(), "entries": args.entries}
    result |= {"accounts": args.accounts, "batch": BATCH, "recovery": NAME} | rates
    result |= {"cpu_s_per_1000": round(1_000 * statistics.median(cpu_s) / args.entries, 3)}
    print(json.dumps(result | {"ratio": round(statistics.median(ratios), 3)}))


def recover_rate(work: Work) -> float:
    """Bare signatures a second."""
    some = work.signed[:5_000]
    began_s = time.perf_counter()
    for what, signature in some:
        recover(what, signature)
    return len(some) / (time.perf_counter() - began_s)


def memory_rate(work: Work) -> float:
    """Entries a second, all but the disk."""
    memory, tail = Memory(genesis(work.params).cells.values()), NO_LOG
    state = memory.state(work.params)
    with ThreadPoolExecutor(1) as elsewhere:
        began_s = time.perf_counter()
        for start in range(0, len(work.submissions), BATCH):
            batch = Batch(state, tail, lambda tile: b"", 0)
            for outcome in batch.take_all(work.submissions[start : start + BATCH], elsewhere):
                assert isinstance(outcome, Accepted)
            tail, _ = batch.finish()
            state = memory.absorb(batch.state)
        return len(work.submissions) / (time.perf_counter() - began_s)


def store_rate(work: Work, place: str, cpu_s: list[float]) -> float:
    """Entries a second, acknowledged after they are durable; adds the processors' time."""
    create_ledger(place, *genesis_of(work.params))
    with open_sequencer(place) as sequencer:
        began_s, busy_s = time.perf_counter(), time.process_time()
        for outcome in sequencer.submit(work.submissions):
            assert isinstance(outcome, Accepted)
        cpu_s.append(time.process_time() - busy_s)
        return len(work.submissions) / (time.perf_counter() - began_s)


@contextmanager
def server() -> Iterator[Callable[[int], str] | None]:
    """Gives addresses on a PostgreSQL server that syncs its disk; ``None`` if there is none."""
    if not PG_PROGRAMS:
        yield None
        return
    import psycopg

    with tempfile.TemporaryDirectory(prefix="dsn-pg-") as folder:
        user = "nobody" if os.geteuid() == 0 else None
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        quiet = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL}
        quiet["stderr"] = subprocess.DEVNULL
        initdb = [PG_PROGRAMS[-1] / "initdb", "-D", "data", "-U", "dsn", "-A", "trust"]
        subprocess.run(initdb, check=True, **quiet)
        postgres = [PG_PROGRAMS[-1] / "postgres", "-D", "data", "-k", folder, "-h", ""]
        process = subprocess.Popen(postgres, **quiet)
        try:
            place = f"postgresql://dsn@/postgres?host={folder}"

            def address(number: int) -> str:
                with psycopg.connect(host=folder, user="dsn", dbname="postgres") as connection:
                    connection.execute(f"CREATE SCHEMA s{number}")
                return f"{place}&options=-csearch_path%3Ds{number}"

            while not list(Path(folder).glob(".s.PGSQL.*")) and process.poll() is None:
                time.sleep(0.05)
            time.sleep(0.5)
            yield address
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(Path(folder) / "data", ignore_errors=True)


if __name__ == "__main__":
    main()
