"""A local network of real processes in one folder, and the client home that uses it.

Everything is under the folder: ``node1`` .. ``nodeN``, ``witness1``, ``witness2``, ``verifier``,
``operator`` (who founded the network and runs its ledger) and ``client`` are homes, ``chain`` keeps
the state of a local chain if there is one;
``network.toml`` is what all of them joined and names one node to start from, ``devnet.json`` tells
programs where everything is.
"""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dsn.apps.processes import Activity, activity
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.contact import Contact
from dsn.dht.network import (
    Genesis,
    Network,
    format_network,
    parse_network,
    sign_network,
)
from dsn.errors import NotFound
from dsn.store.files import write_atomic
from dsn.store.home import Home
from dsn.store.lock import FileLock

DESCRIPTION = "devnet.json"
NETWORK_FILE = "network.toml"
OPERATOR = "operator"
CLIENT = "client"
LOCK_FILE = "devnet.lock"
PORTS = range(16_384, 32_768)
"""Linux gives outgoing connections others: none of them can take the port of a stopped node."""
PORT_TRIES = 64


@dataclass(frozen=True, slots=True)
class Process:
    """One process as ``devnet.json`` lists it; ``pid`` is ``None`` while it is stopped.

    A local chain has no identity, and ``node_id`` is empty.
    """

    name: str
    role: str
    node_id: str
    address: str
    home: str
    volume: str
    pid: int | None

    @property
    def activity(self) -> Activity:
        """What it is doing now."""
        return activity(self.pid, Path(self.home))

    @property
    def log(self) -> Path:
        """Where it writes its log."""
        return Path(self.home) / "log" / f"{self.role}.log"


@dataclass(frozen=True, slots=True)
class Devnet:
    """A local network as it stands in its folder."""

    directory: Path
    processes: tuple[Process, ...]

    @classmethod
    def load(cls, directory: Path) -> Devnet:
        """Read what ``save`` wrote; a process that is not alive has no pid.

        Raises:
            NotFound: There is no local network in ``directory``.
        """
        try:
            fields = json.loads((directory / DESCRIPTION).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise _no_network(directory) from None
        read = (Process(**process) for process in fields["processes"])
        return cls(directory, tuple(map(forget_dead, read)))

    def save(self) -> None:
        """Write ``devnet.json``."""
        write_atomic(
            self.directory / DESCRIPTION, json.dumps(self.fields(), indent=2).encode() + b"\n"
        )

    def fields(self) -> dict[str, object]:
        """The stable description, as ``devnet.json`` and ``--json`` give it."""
        return {
            "client_home": str(self.client_home),
            "bootstrap": self.processes[0].address,
            "network_file": str(self.network_file),
            "processes": [asdict(process) for process in self.processes],
        }

    @property
    def client_home(self) -> Path:
        """The home with which files are put and got."""
        return self.directory / CLIENT

    @property
    def network_file(self) -> Path:
        """Which network it is, and the one node to start from."""
        return self.directory / NETWORK_FILE

    @property
    def operator(self) -> Home:
        """The home that founded the network."""
        return Home(self.directory / OPERATOR)

    def homes(self) -> list[Home]:
        """Every home; a local chain has none."""
        paths = {Path(process.home) for process in self.processes if process.node_id}
        return [Home(path) for path in sorted(paths | {self.client_home, self.operator.path})]

    def of_role(self, role: str) -> list[Process]:
        """Those of one role: ``node``, ``ledger``, ``witness``, ``verifier`` or ``chain``."""
        return [process for process in self.processes if process.role == role]

    def network(self) -> Network:
        """The network as last signed."""
        return parse_network(self.network_file.read_text(encoding="utf-8"))

    def named(self, name: str) -> Process:
        """The process called ``name``.

        Raises:
            NotFound: There is none.
        """
        for process in self.processes:
            if process.name == name:
                return process
        names = ", ".join(process.name for process in self.processes)
        raise NotFound(f"no process '{name}' in this network", hint=f"they are {names}")

    def alive(self) -> list[Process]:
        """Those that run or are frozen."""
        return [one for one in self.processes if one.activity is not Activity.STOPPED]

    def running(self) -> list[Process]:
        """Those that are alive and not frozen."""
        return [one for one in self.processes if one.activity is Activity.RUNNING]

    def with_process(self, process: Process) -> Devnet:
        """With ``process`` after the others."""
        return replace(self, processes=(*self.processes, process))

    def updated(self, changed: Iterable[Process]) -> Devnet:
        """With ``changed`` in place of those of the same name."""
        new = {process.name: process for process in changed}
        return replace(self, processes=tuple(new.get(one.name, one) for one in self.processes))


def lock(directory: Path) -> FileLock:
    """What a command that changes the network in ``directory`` holds meanwhile.

    Raises:
        NotFound: There is no such folder.
    """
    if not directory.is_dir():
        raise _no_network(directory)
    return FileLock(directory / LOCK_FILE, what=f"the network in {directory}", wait=False)


def exists(directory: Path) -> bool:
    """Whether there is a local network in ``directory``."""
    return (directory / DESCRIPTION).exists()


def _no_network(directory: Path) -> NotFound:
    return NotFound(
        f"no local network in {directory}", hint=f"create one: dsn devnet up --dir {directory}"
    )


def sign(devnet: Devnet, genesis: Genesis) -> Network:
    """The network file as the operator signs it, with the addresses that processes have now."""
    operator = SigningKey(IdentityKeys.derive(devnet.operator.load_root()).identity_seed)
    first, *_ = devnet.of_role("node")
    return sign_network(
        genesis,
        [_contact(first)],
        operator.sign,
        ledger=next(map(_contact, devnet.of_role("ledger")), None),
        witnesses=list(map(_contact, devnet.of_role("witness"))),
    )


def publish(devnet: Devnet, network: Network) -> None:
    """Hand the network file to every home."""
    text = format_network(network)
    write_atomic(devnet.network_file, text.encode())
    for home in devnet.homes():
        home.save_network(text)


def _contact(process: Process) -> Contact:
    keys = IdentityKeys.derive(Home(Path(process.home)).load_root())
    return Contact(SigningKey(keys.identity_seed).public, process.address)


def free_port(host: str) -> int:
    """A port of ``host`` that nobody listens on, nor is likely to have when it is needed again."""
    for _ in range(PORT_TRIES):
        with suppress(OSError):
            port = secrets.choice(PORTS)
            socket.create_server((host, port)).close()
            return port
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])


def forget_dead(process: Process) -> Process:
    """``process`` without its pid if that is not alive any more."""
    return process if process.activity is not Activity.STOPPED else replace(process, pid=None)
