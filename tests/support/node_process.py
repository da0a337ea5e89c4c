"""A node as operators run it: ``dsn provider run`` in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dsn.apps.provider import configure, identity
from dsn.config import FILE_NAME
from dsn.core.keys import SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import Genesis, format_network, sign_network
from dsn.ids import NetworkId
from dsn.rpc.channel import Connections
from dsn.store.home import Home
from dsn.units import GIB
from tests.support.node_world import Client

OPERATOR = SigningKey(b"O" * 32)
GENESIS = Genesis("test", 0, OPERATOR.public, "node", address_limits=False)
START_S = 20.0


def prepare(path: Path, *, listen: str = "127.0.0.1:0", capacity: int = GIB) -> Home:
    """A home that is ready to run a node."""
    home = Home.create(path, b"R" * 32)
    home.save_network(format_network(sign_network(GENESIS, (), OPERATOR.sign)))
    configure(home, capacity, listen, "", path / FILE_NAME)
    return home


def dsn(home: Home, *words: str) -> list[str]:
    """A command line on ``home``."""
    return [sys.executable, "-m", "dsn", "--home", str(home.path), *words]


@dataclass
class NodeProcess:
    """A process that serves."""

    home: Home
    process: Process
    contact: Contact

    @asynccontextmanager
    async def client(self, seed: int = 1) -> AsyncIterator[Client]:
        """A client with its own identity and connection."""
        key = SigningKey(bytes([seed]) * 32)
        async with Connections(key, self.network) as connections:
            yield Client(key, connections.peer(self.contact), self.network)

    @property
    def network(self) -> NetworkId:
        return GENESIS.network_id

    def peak_bytes(self) -> int:
        """Most memory the process ever had (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    async def end(self, number: signal.Signals) -> int:
        """Signal the process and wait for it; gives its exit code."""
        self.process.send_signal(number)
        return await self.process.wait()


@asynccontextmanager
async def running_process(home: Home) -> AsyncIterator[NodeProcess]:
    """Run the node of ``home``; it is killed if the block leaves it alive."""
    process = await asyncio.create_subprocess_exec(
        *dsn(home, "--json", "provider", "run"), stdout=PIPE, env=environment()
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_S):
            ready = json.loads(await process.stdout.readline())
        contact = Contact(identity(home, None).public, ready["address"])
        yield NodeProcess(home, process, contact)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def environment() -> dict[str, str]:
    """Ours, with our import path and without settings of our own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DSN_")}
    return kept | {"PYTHONPATH": os.pathsep.join(sys.path)}
