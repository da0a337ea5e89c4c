"""What storing and reading cost, over all processes of a real network on this machine.

    python bench/datapath.py [--sizes 1,16,256] [--schemes 4/6,3/10,10/30] [--small 400] [--free]

Prints one JSON line. Core-seconds are user and system time of the client and of every node,
a GiB of the user's data; the client's figures leave out starting Python. The ledger's epochs are
long, so that none begins meanwhile: what an epoch costs is for ``bench/epochs.py`` to say.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from calibration import calibrate

MIB, GIB = 1 << 20, 1 << 30
EPOCH_S = 3_600
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run what the flags ask for; print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1,16,256", help="MiB, comma-separated")
    parser.add_argument("--schemes", default="4/6,3/10,10/30")
    parser.add_argument("--small", type=int, default=400, help="4 KiB files a run; 0 for none")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; medians are printed")
    parser.add_argument("--dir", default=None, help="where to work (default: a temporary folder)")
    parser.add_argument("--free", action="store_true", help="on a network where nobody pays")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        from dsn.runtime.loop import run

        print(json.dumps(run(work(json.loads(args.worker)))))
        return
    sizes = [int(size) for size in args.sizes.split(",") if size]
    result: dict[str, Any] = {"bench": "datapath", "calibration": calibrate(), "runs": []}
    for scheme in args.schemes.split(","):
        with tempfile.TemporaryDirectory(dir=args.dir) as folder:
            more = ["--free"] if args.free else ["--epoch-s", str(EPOCH_S)]
            result["runs"] += measure_scheme(
                scheme, sizes, args.small, args.repeats, Path(folder), more
            )
    result["kernels"] = kernel_names()
    print(json.dumps(result))


def kernel_names() -> dict[str, str]:
    """Which native code ran."""
    from dsn.kernels import isal, leafhash

    return {"galois": isal.load().name, "leafhash": leafhash.NAME}


def measure_scheme(
    scheme: str, sizes: list[int], small: int, repeats: int, folder: Path, more: list[str]
) -> list[dict[str, Any]]:
    """All figures of one scheme, on a network with as many nodes as it has shards."""
    nodes = int(scheme.split("/")[1])
    network = folder / "net"
    run_dsn("devnet", "up", "--dir", str(network), "--nodes", str(nodes), "--json", *more)
    try:
        about = json.loads((network / "devnet.json").read_text())
        pids = [p["pid"] for p in about["processes"]]
        job = {"home": about["client_home"], "scheme": scheme, "folder": str(folder)}
        runs = []
        for size in sizes:
            path = folder / f"{size}.bin"
            with path.open("wb") as file:
                for _ in range(size):
                    file.write(os.urandom(MIB))
            repeated = [
                measure(
                    {**job, "op": op, "path": str(path), "size": size * MIB, "turn": turn}, pids
                )
                for turn in range(repeats + 1)
                for op in ("put", "get")
            ]
            for op in ("put", "get"):  # the first turn touches fresh memory, and is left out
                mine = [run for run in repeated if run["op"] == op][1:]
                runs.append(medians(mine))
            path.unlink()
        files = {**job, "op": "small", "count": small, "size": 0, "turn": 0}
        for at_once in (1, 8) if small else ():
            runs.append(measure({**files, "at_once": at_once}, pids))
        return runs
    finally:
        run_dsn("devnet", "down", "--dir", str(network))


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row out of several: the median of every figure."""

    def middle(key: str) -> Any:
        values = sorted(run[key] for run in runs)
        return values[len(values) // 2]

    return {key: middle(key) for key in runs[0]}


def run_dsn(*words: str) -> str:
    """Run a dsn command; its standard output."""
    command = [sys.executable, "-m", "dsn", *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def measure(job: dict[str, Any], pids: list[int]) -> dict[str, Any]:
    """Run one job in a client process of its own; add what the nodes spent meanwhile."""
    before = sum(map(cpu_seconds, pids))
    command = [sys.executable, __file__, "--worker", json.dumps(job)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    run: dict[str, Any] = json.loads(done.stdout)
    run["nodes_cpu_s"] = sum(map(cpu_seconds, pids)) - before
    run["node_peak_mib"] = round(max(map(peak_mib, pids)))
    if job["size"]:
        gib = job["size"] / GIB
        run["core_s_gib_client"] = round(run["cpu_s"] / gib, 2)
        run["core_s_gib"] = round((run["cpu_s"] + run["nodes_cpu_s"]) / gib, 2)
        run["mib_s"] = round(job["size"] / MIB / run["seconds"], 1)
        run["size_mib"] = job["size"] // MIB
    return {key: round(v, 3) if isinstance(v, float) else v for key, v in run.items()}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def peak_mib(pid: int) -> float:
    """The most memory a process ever held."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def work(job: dict[str, Any]) -> dict[str, Any]:
    """One job, inside the client process."""
    from dsn.apps.client import Client
    from dsn.core.layout import Scheme
    from dsn.store.home import Home

    first: list[float] = []

    def progress(_: object) -> None:
        if not first:
            first.append(time.perf_counter())

    client = Client.open(Home(Path(job["home"])), notice=_tell, progress=progress)
    scheme = Scheme.parse(job["scheme"])
    async with client:
        await client.ls()
        began, spent = time.perf_counter(), _own_cpu()
        extra = await {"put": _put, "get": _get, "small": _small}[job["op"]](client, job, scheme)
        seconds = time.perf_counter() - began
        cpu_s = _own_cpu() - spent
    run = {"op": job["op"], "scheme": job["scheme"], "seconds": seconds, "cpu_s": cpu_s, **extra}
    run["client_peak_mib"] = round(peak_mib(os.getpid()))
    if job["op"] == "get":
        run["first_byte_ms"] = (first[0] - began) * 1000
    return run


async def _put(client: Any, job: dict[str, Any], scheme: Any) -> dict[str, Any]:
    from dsn.apps.targets import PutItem

    name = f"{job['size']}.{job['turn']}"
    (result,) = await client.put([PutItem(Path(job["path"]), name)], scheme=scheme)
    assert result.placed == result.total, result.warnings
    return {}


async def _get(client: Any, job: dict[str, Any], scheme: Any) -> dict[str, Any]:
    out = Path(job["folder"]) / "out"
    await client.get(f"{job['size']}.{job['turn']}", out, digest=False, force=True)
    assert out.stat().st_size == job["size"]
    out.unlink()
    return {}


async def _small(client: Any, job: dict[str, Any], scheme: Any) -> dict[str, Any]:
    count, at_once = job["count"], job["at_once"]
    names = [f"small.{job['turn']}.{at_once}.{number}" for number in range(count)]
    async with client.puts(scheme) as puts:
        began, spent = time.perf_counter(), _own_cpu()

        async def lane(mine: list[str]) -> None:
            for name in mine:
                await puts.put_bytes(os.urandom(4096), name)

        await asyncio.gather(*(lane(names[at::at_once]) for at in range(at_once)))
        seconds, cpu_s = time.perf_counter() - began, _own_cpu() - spent
        await puts.results()
        settled = time.perf_counter() - began
    return {
        "at_once": at_once,
        "files_s": round(count / seconds, 1),
        "files_s_settled": round(count / settled, 1),
        "client_ms_file": 1000 * cpu_s / count,
    }


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    main()
