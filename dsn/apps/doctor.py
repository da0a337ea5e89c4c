"""What may keep dsn from working on this machine, each with its fix."""

from __future__ import annotations

import asyncio
import resource
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dsn.core.keys import KEY_BYTES, SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import Network
from dsn.errors import DsnError
from dsn.kernels import isal, leafhash
from dsn.ports import Clock, Entropy
from dsn.rpc.channel import Connections
from dsn.store.home import Home
from dsn.units import GIB, format_size

LEAST_FREE_BYTES = GIB
LEAST_OPEN_FILES = 1024
"""A connection a node, a file a shard on its way: some hundreds at once."""
CLOCK_SLACK_S = 30
ANSWER_S = 4.0
MOST_NAMED = 5
PORTABLE = "portable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: ``fix`` says what to do where it is not ``ok``, or could be better."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


async def examine(home: Path, clock: Clock, entropy: Entropy) -> AsyncIterator[Finding]:
    """Look at everything, in the order in which a newcomer needs it."""
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
    yield Finding("network", True, f"{network.genesis.name}, {len(network.contacts)} nodes listed")
    yield _clock(network, clock)
    yield await _nodes(network, entropy)


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


async def _nodes(network: Network, entropy: Entropy) -> Finding:
    identity = SigningKey(entropy(KEY_BYTES))
    async with Connections(identity, network.network_id) as connections:
        asked = [_answers(connections, contact) for contact in network.contacts]
        silent = [name for name in await asyncio.gather(*asked) if name]
    good = len(asked) - len(silent)
    detail = f"{good} of {len(asked)} nodes answer"
    if silent:
        detail += f"; silent: {', '.join(silent[:MOST_NAMED])}"
        detail += " ..." if len(silent) > MOST_NAMED else ""
    fix = "start them, or check the firewall; a local network: dsn devnet up"
    return _judged("nodes", not silent and good > 0, detail, fix)


async def _answers(connections: Connections, contact: Contact) -> str:
    """The address of a node that does not answer, else nothing."""
    try:
        await connections.peer(contact).get_terms(timeout_s=ANSWER_S)
    except DsnError as error:
        return f"{contact.address} ({error.detail_code})"
    return ""


def _judged(name: str, ok: bool, detail: str, fix: str) -> Finding:
    return Finding(name, ok, detail, "" if ok else fix)


def _date(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M")
