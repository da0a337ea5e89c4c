"""What rebuilding lost shards costs, over all processes of a real network on this machine.

    python bench/repair.py [--size 256] [--scheme 4/8] [--nodes 14] [--gone 4] [--repeats 3]

A home with nothing but the repair link and credits of its own rebuilds what killed nodes held.
Prints one JSON line. Core-seconds are user and system time of the repairer and of every node, a
GiB of rebuilt shards; the repairer's leave out starting Python. Tahoe-LAFS 1.20 on such a
machine: 24 MiB/s, 54 core-seconds a GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from calibration import calibrate
from datapath import GIB, MIB, cpu_seconds, kernel_names, medians, peak_mib, run_dsn

TAHOE = {"mib_s": 24, "core_s_gib": 54}


def main() -> None:
    """Run what the flags ask for; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="MiB of the file")
    parser.add_argument("--scheme", default="4/8")
    parser.add_argument("--nodes", type=int, default=14)
    parser.add_argument("--gone", type=int, default=4, help="holders that are killed")
    parser.add_argument("--repeats", type=int, default=3, help="runs; medians are printed")
    parser.add_argument("--dir", default=None, help="where to work (default: a temporary folder)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        from dsn.runtime.loop import run

        print(json.dumps(run(work(json.loads(args.worker)))))
        return
    runs = []
    for _ in range(args.repeats):
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            runs.append(measure(args, Path(folder)))
    middle = medians(runs)
    result = {"bench": "repair", "calibration": calibrate(), "run": middle, "tahoe": TAHOE}
    result["times_faster"] = round(middle["mib_s"] / TAHOE["mib_s"], 1)
    result["times_cheaper"] = round(TAHOE["core_s_gib"] / middle["core_s_gib"], 1)
    result["kernels"] = kernel_names()
    print(json.dumps(result))


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One repair on a network of its own."""
    network, path = folder / "net", folder / "file"
    run_dsn("devnet", "up", "--dir", str(network), "--nodes", str(args.nodes))
    try:
        about = json.loads((network / "devnet.json").read_text())
        with path.open("wb") as file:
            for _ in range(args.size):
                file.write(os.urandom(MIB))
        owner = ["--home", about["client_home"], "--json"]
        put = json.loads(run_dsn(*owner, "put", str(path), "--scheme", args.scheme))
        info = json.loads(run_dsn(*owner, "info", "file"))
        other = str(folder / "other")
        run_dsn("--home", other, "init", "--network", about["network_file"])
        run_dsn("--home", other, "join", about["network_file"])
        nodes = [each for each in about["processes"] if each["role"] == "node"]
        holders = [holder["node"] for holder in info["holders"]]
        first = nodes[0]["node_id"]  # the only one that the other home knows
        victims = [node for node in holders if node != first][: args.gone]
        for each in nodes:
            if each["node_id"] in victims:
                os.kill(each["pid"], signal.SIGKILL)
        pids = [each["pid"] for each in nodes if each["node_id"] not in victims]
        run = repaired({"home": other, "link": put["repair"]}, pids)
        run_dsn(*owner, "get", "file", "-o", str(folder / "out"))
        assert (folder / "out").read_bytes() == path.read_bytes()
        return run
    finally:
        run_dsn("devnet", "down", "--dir", str(network))


def repaired(job: dict[str, str], pids: list[int]) -> dict[str, Any]:
    """Repair in a process of its own; add what the nodes spent meanwhile."""
    before = sum(map(cpu_seconds, pids))
    command = [sys.executable, __file__, "--worker", json.dumps(job)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    run: dict[str, Any] = json.loads(done.stdout)
    nodes_cpu_s = sum(map(cpu_seconds, pids)) - before
    gib = run.pop("bytes") / GIB
    run["mib_s"] = round(gib * 1024 / run["seconds"], 1)
    run["core_s_gib"] = round((run["cpu_s"] + nodes_cpu_s) / gib, 2)
    run["core_s_gib_repairer"] = round(run["cpu_s"] / gib, 2)
    run["rebuilt_mib"] = round(gib * 1024)
    return {key: round(v, 3) if isinstance(v, float) else v for key, v in run.items()}


async def work(job: dict[str, str]) -> dict[str, Any]:
    """The repair, inside its process."""
    from dsn.apps.client import Client
    from dsn.apps.results import FileState
    from dsn.store.home import Home

    client = Client.open(Home(Path(job["home"])), notice=_tell, progress=lambda _: None)
    async with client:
        began, spent = time.perf_counter(), time.process_time()
        result = await client.repair(job["link"], dry_run=False, days=None, budget=None)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - spent
    assert result.state is FileState.HEALTHY, result
    return {
        "rebuilt": result.rebuilt,
        "bytes": result.bytes,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "repairer_peak_mib": round(peak_mib(os.getpid())),
    }


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
