"""What may keep dsn from working on this machine, each with its fix."""

from __future__ import annotations

import resource
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsn.apps.dht import Dht
from dsn.apps.entrance import Entrance
from dsn.apps.ledger.light import LightClient
from dsn.apps.wallet import CHECKPOINT_FILE
from dsn.config import DhtSettings
from dsn.core.keys import KEY_BYTES, SigningKey, node_id_of
from dsn.dht.network import Network
from dsn.dht.routing import BUCKET_SIZE
from dsn.errors import DsnError, Unreachable
from dsn.kernels import isal, leafhash
from dsn.ports import Clock, Entropy
from dsn.rpc.channel import Connections
from dsn.runtime.control import ask_control
from dsn.store.home import Home
from dsn.units import GIB, format_size

if TYPE_CHECKING:
    from dsn.apps.bootstrap.sources import Report

LEAST_FREE_BYTES = GIB
LEDGER_PATIENCE_S = 3.0
LEAST_OPEN_FILES = 1024
"""A connection a node, a file a shard on its way: some hundreds at once."""
CLOCK_SLACK_S = 30
MOST_NAMED = 5
PORTABLE = "portable"
NO_NODES = "start one, or check the firewall; a local network: dsn devnet up"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: ``fix`` says what to do where it is not ``ok``, or could be better."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


async def examine(
    home: Path, clock: Clock, entropy: Entropy, ways: DhtSettings | None = None
) -> AsyncIterator[Finding]:
    """Look at everything, in the order in which a newcomer needs it.

    Args:
        home: The home to look at; it may be missing.
        clock: Of this machine.
        entropy: Makes a passing identity to call nodes with.
        ways: With these, every way into the network is tried, and the home's node is asked.
    """
    yield _erasure_kernel()
    yield _hash_kernel()
    yield _disk(home)
    yield _open_files()
    try:
        opened = Home.open(home)
    except DsnError as error:
        yield _failed("home", error)
        return
    yield Finding("home", True, str(home))
    try:
        network = opened.network()
    except DsnError as error:
        yield _failed("network", error)
        return
    yield Finding("network", True, f"{network.genesis.name}, {_starts(network)}")
    yield _clock(network, clock)
    identity = SigningKey(entropy(KEY_BYTES))
    async with Connections(identity, network.network_id) as connections:
        me, book = node_id_of(identity.public), opened.book(network)
        dht = Dht(connections, network, me, book, clock=clock, entropy=entropy)
        if ways is not None:
            async for report in Entrance(dht, ways, clock).look():
                yield _way(report)
        yield await _nodes(dht, clock)
        if network.ledger_params is not None:
            yield await _ledger(opened, network, connections, clock)
    if ways is not None and (status := await _own_node(opened)):
        yield _reachable(status)
        yield _keeping(status)


def _failed(name: str, error: DsnError) -> Finding:
    return Finding(name, False, error.message, error.hint)


def _erasure_kernel() -> Finding:
    name = isal.load().name
    fix = "pip install 'pyeclib>=1.8,<1.9' (Linux) brings a quicker one"
    return Finding("erasure coding", True, f"kernel {name}", fix if name == PORTABLE else "")


def _hash_kernel() -> Finding:
    fix = "install dsn again with a C compiler for a quicker one"
    name = leafhash.NAME
    return Finding("leaf hashes", True, f"kernel {name}", fix if name == PORTABLE else "")


def _disk(home: Path) -> Finding:
    place = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(place).free
    detail = f"{format_size(free)} free at {place}"
    fix = f"free {format_size(LEAST_FREE_BYTES)} there, or choose another disk with --home"
    return _judged("disk", free >= LEAST_FREE_BYTES, detail, fix)


def _open_files() -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = limit == resource.RLIM_INFINITY or limit >= LEAST_OPEN_FILES
    return _judged("open files", enough, f"limit {limit:,}", f"ulimit -n {LEAST_OPEN_FILES}")


def _clock(network: Network, clock: Clock) -> Finding:
    """No clock to compare with is at hand, but the network was not founded in the future."""
    now_s, founded_s = clock.now_s(), network.genesis.created_s
    detail = f"{_date(now_s)} UTC, the network was founded {_date(founded_s)}"
    fix = "set the clock, and let NTP keep it: timedatectl set-ntp true"
    return _judged("clock", now_s >= founded_s - CLOCK_SLACK_S, detail, fix)


def _starts(network: Network) -> str:
    """Where newcomers start, in a few words."""
    names = [each.address for each in network.contacts] + list(network.dns)
    return "starts at " + ", ".join(names[:MOST_NAMED]) if names else "names no contacts"


def _way(report: Report) -> Finding:
    """One way in: it is in order if it leads to somebody, or has nothing to offer."""
    detail = f"{len(report.answered)} of {len(report.found)} contacts answer"
    if report.problems:
        detail += "; " + "; ".join(report.problems[:MOST_NAMED])
    fix = "start the nodes it names, or correct it" if report.found else "see what went wrong"
    ok = bool(report.answered) or not (report.found or report.problems)
    return _judged(f"way in: {report.name}", ok, detail, fix)


async def _nodes(dht: Dht, clock: Clock) -> Finding:
    """Whether the network lets somebody in, and how many nodes are nearby."""
    began_s = clock.monotonic_s()
    found = (await dht.find_nodes(dht.table.me)).lookup.closest()
    if not found:
        return _judged("nodes", False, dht.nobody().message, NO_NODES)
    took_ms = (clock.monotonic_s() - began_s) * 1e3
    detail = f"{len(found)} nodes answer, found in {took_ms:.0f} ms"
    if len(found) >= BUCKET_SIZE:
        detail = f"{detail}; there are more"
    return Finding("nodes", True, detail)


async def _ledger(home: Home, network: Network, connections: Connections, clock: Clock) -> Finding:
    """Whether the ledger answers, and a quorum of its witnesses cosigned what it says."""
    file = home.state / CHECKPOINT_FILE
    try:
        light = LightClient(network, connections, file, clock, patience_s=LEDGER_PATIENCE_S)
        newest = await light.refresh()
    except DsnError as error:
        return _failed("ledger", error)
    quorum = light.params.quorum
    return Finding(
        "ledger", True, f"{newest.size:,} entries, epoch {newest.epoch}, {quorum} cosigned"
    )


async def _own_node(home: Home) -> dict[str, Any] | None:
    """What the node that runs on this home says of itself; ``None`` if none runs."""
    if not home.control_socket.exists():
        return None
    try:
        return await ask_control(home.control_socket, "status")
    except Unreachable:
        return None


def _reachable(status: dict[str, Any]) -> Finding:
    detail = f"{status['reach']}, {status['contacts']} contacts"
    fix = (
        "open its port in the firewall, forward it in the router, or say where others reach it: "
        "dsn provider init --address HOST:PORT"
    )
    detail += " can call it" if status["reachable"] else "; none can call it"
    return _judged("own node", bool(status["joined"] and status["reachable"]), detail, fix)


def _keeping(status: dict[str, Any]) -> Finding:
    refused = status["refused_records"]
    told = ", ".join(f"{count} {code}" for code, count in sorted(refused.items())) or "none"
    records = status["records"]
    detail = f"keeps {records} record{'s' * (records != 1)} for others; refused: {told}"
    return Finding("records", True, detail)


def _judged(name: str, ok: bool, detail: str, fix: str) -> Finding:
    return Finding(name, ok, detail, "" if ok else fix)


def _date(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")
