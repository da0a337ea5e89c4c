"""How quickly real node processes on this machine find one another, whole and hurt.

    python bench/dht.py [--nodes 50] [--kill 0.2] [--seed 1]

Starts a local network of so many processes that know one bootstrap address. Then every node
looks up every node's record: with all alive, right after a part of them was killed at once,
and again after that. Last, one node is started on a new port and looked up by all. Prints one
JSON line; milliseconds are those of the searching node's own clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from calibration import calibrate

from dsn.ids import format_base32, parse_node_id
from dsn.runtime.control import ask_control

TRACE_S = 120.0


def main() -> None:
    """Run what the flags ask for; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--kill", type=float, default=0.2, help="part that is killed at once")
    parser.add_argument("--seed", type=int, default=1, help="chooses who is killed")
    args = parser.parse_args()
    result = {"bench": "dht", "calibration": calibrate(), "nodes": args.nodes, "seed": args.seed}
    with tempfile.TemporaryDirectory() as folder:
        try:
            began_s = time.perf_counter()
            dsn("devnet", "up", "--free", "--dir", folder, "--nodes", str(args.nodes))
            result["start_s"] = round(time.perf_counter() - began_s, 1)
            result |= asyncio.run(measure(Path(folder), args.kill, random.Random(args.seed)))
        finally:
            dsn("devnet", "down", "--dir", folder)
    print(json.dumps(result))


async def measure(folder: Path, kill: float, rng: random.Random) -> dict[str, Any]:
    """All phases, in their order."""
    processes = described(folder)
    result: dict[str, Any] = {"rss_mib": sum(map(rss_mib, processes)) // len(processes)}
    result["all_alive"] = await all_pairs(processes, processes)
    dead = rng.sample(processes, round(len(processes) * kill))
    for process in dead:
        os.kill(process["pid"], signal.SIGKILL)
    alive = [one for one in processes if one not in dead]
    result["killed"] = [one["name"] for one in dead]
    result["after_kill"] = await all_pairs(alive, alive)
    result["later"] = await all_pairs(alive, alive)
    result["moved"] = await move(folder, alive, dead[0]["name"])
    return result


async def move(folder: Path, searching: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Start a dead node while its old port is taken; who finds it where it is now?"""
    old = next(one for one in described(folder) if one["name"] == name)
    host, _, port = old["address"].rpartition(":")
    with socket.create_server((host, int(port))):
        dsn("devnet", "start", name, "--dir", str(folder))
    new = next(one for one in described(folder) if one["name"] == name)
    assert new["address"] != old["address"]
    return await all_pairs(searching, [new])


async def all_pairs(
    searching: list[dict[str, Any]], sought: list[dict[str, Any]]
) -> dict[str, Any]:
    """Have each of ``searching`` look up the record of each of ``sought``."""
    keys = " ".join(format_base32(parse_node_id(one["node_id"])) for one in sought)
    took_ms: list[float] = []
    calls = failed = 0
    for process in searching:
        socket_path = Path(process["home"]) / "run" / "control.sock"
        answer = await ask_control(socket_path, f"trace 1 {keys}", timeout_s=TRACE_S)
        for one, found in zip(sought, answer["traces"], strict=True):
            addresses = {a for record in found["found"] for a in record.get("addresses", ())}
            failed += addresses != {one["address"]}
            took_ms.append(found["milliseconds"])
            calls += found["calls"]
    took_ms.sort()
    return {
        "lookups": len(took_ms),
        "failed": failed,
        "calls_mean": round(calls / len(took_ms), 2),
        "p50_ms": took_ms[len(took_ms) // 2],
        "p99_ms": took_ms[len(took_ms) * 99 // 100],
        "max_ms": took_ms[-1],
    }


def described(folder: Path) -> list[dict[str, Any]]:
    """The processes of the network."""
    fields: list[dict[str, Any]] = json.loads((folder / "devnet.json").read_text())["processes"]
    return fields


def rss_mib(process: dict[str, Any]) -> int:
    """Memory that the process has in use."""
    pages = int(Path(f"/proc/{process['pid']}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") >> 20


def dsn(*args: str) -> None:
    """Run a command; its remarks go to standard error."""
    subprocess.run([sys.executable, "-m", "dsn", *args], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
