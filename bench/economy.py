"""Whether three books agree to the unit after a mixed run with restarts, as one JSON line.

    python bench/economy.py [--minutes 5] [--nodes 8] [--epoch-s 3] [--seed 1]

A local network with a ledger and two witnesses. For so many minutes one home stores, reads and
removes files of 1 KiB to 8 MiB, while every few seconds a node, the ledger or a witness is
stopped or killed and started again. Then, once all vouchers are redeemed: what providers' screens
say, what the client's wallet says, and what the ledger has, replayed from its beginning.
``agrees`` is whether all three are equal; commands that failed while something was down are
counted, files that could not be read at the end are ``lost``.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from threading import Event, Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from calibration import calibrate

from dsn.apps.devnet import Devnet
from dsn.apps.devnet_run import stop
from dsn.apps.processes import send, wait_for_end
from dsn.apps.settled import settlement

KIB, MIB = 1 << 10, 1 << 20
PAUSE_S = 8.0
"""Between two restarts."""


def main() -> None:
    """Run what the flags ask for; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--epoch-s", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "net"
        dsn(
            "devnet", "up", "--dir", folder, "--nodes", args.nodes, "--capacity", "1GB",
            "--epoch-s", args.epoch_s,
        )  # fmt: skip
        try:
            result = run(folder, args.minutes * 60, random.Random(args.seed))
        finally:
            dsn("devnet", "down", "--dir", folder)
    arguments = {"minutes": args.minutes, "nodes": args.nodes, "seed": args.seed}
    print(json.dumps({"bench": "economy", **arguments, "calibration": calibrate(), **result}))


def run(folder: Path, seconds: float, rng: random.Random) -> dict[str, Any]:
    """The mixed run, and what the books say after it."""
    counts: Counter[str] = Counter()
    stopped = Event()
    trouble = Thread(target=make_trouble, args=(folder, stopped, random.Random(7), counts))
    trouble.start()
    try:
        files = work(folder, seconds, rng, counts)
    finally:
        stopped.set()
        trouble.join()
    dsn("devnet", "up", "--dir", folder)
    home = Devnet.load(folder).client_home
    lost = [name for name in files if not same(home, name, files[name])]
    network = Devnet.load(folder)
    network, _ = stop(network, network.of_role("node"))
    found = asyncio.run(settlement(network))
    amounts = asdict(found)
    del amounts["earners"]
    earned = {name: sum(getattr(each, name) for each in found.earners) for name in PARTS}
    return {
        "counts": dict(counts), "files": len(files), "lost": len(lost), "agrees": found.agrees,
        **amounts, **earned,
    }  # fmt: skip


PARTS = ("disk", "ingress", "egress", "slashed", "unclaimed", "on_ledger")


def work(
    folder: Path, seconds: float, rng: random.Random, counts: Counter[str]
) -> dict[str, bytes]:
    """Store, read and remove; the files that are there at the end, by name."""
    home = Devnet.load(folder).client_home
    files: dict[str, bytes] = {}
    end_s, number = time.monotonic() + seconds, 0
    while time.monotonic() < end_s:
        step = rng.random()
        if step < 0.45 or not files:
            number += 1
            data = rng.randbytes(rng.choice([KIB, 40 * KIB, 300 * KIB, 2 * MIB, 8 * MIB]))
            path = folder.parent / f"file{number}"
            path.write_bytes(data)
            if attempt(home, counts, "put", str(path), "--scheme", "3/6"):
                files[path.name] = data
        elif step < 0.9:
            name = rng.choice(sorted(files))
            counts["get " + ("good" if same(home, name, files[name]) else "failed")] += 1
        else:
            name = rng.choice(sorted(files))
            if attempt(home, counts, "rm", name):
                del files[name]
    return files


def make_trouble(folder: Path, stopped: Event, rng: random.Random, counts: Counter[str]) -> None:
    """Stop or kill one process after the other, and start it again."""
    while not stopped.wait(PAUSE_S):
        process = rng.choice(Devnet.load(folder).processes)
        if rng.random() < 0.5 and process.pid is not None:
            send(process.pid, Path(process.home), signal.SIGKILL)
            wait_for_end([(process.pid, Path(process.home))], timeout_s=10)
            counts[f"killed {process.role}"] += 1
        else:
            dsn("devnet", "stop", process.name, "--dir", folder)
            counts[f"stopped {process.role}"] += 1
        dsn("devnet", "start", process.name, "--dir", folder)


def attempt(home: Path, counts: Counter[str], *command: str) -> bool:
    """Run a client's command; counts it, and says whether it was done."""
    done = client(home, *command)
    counts[f"{command[0]} {'done' if done.returncode == 0 else 'failed'}"] += 1
    return done.returncode == 0


def same(home: Path, name: str, data: bytes) -> bool:
    """Whether a file can be read, and is what was stored."""
    done = client(home, "cat", name)
    return done.returncode == 0 and done.stdout == data


def client(home: Path, *command: str) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-P", "-m", "dsn", "--home", str(home), "--quiet", *command]
    return subprocess.run(line, capture_output=True, check=False, env=environment())


def dsn(*words: object) -> None:
    line = [sys.executable, "-P", "-m", "dsn", *map(str, words), "--json"]
    subprocess.run(line, stdout=subprocess.DEVNULL, check=True, env=environment())


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}


if __name__ == "__main__":
    main()
