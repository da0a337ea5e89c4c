"""A local network of real node processes in one folder, and the client home that uses it.

Everything is under the folder: ``node1`` .. ``nodeN`` and ``client`` are homes, ``network.toml``
is what all of them joined and names one node to start from, ``devnet.json`` tells programs
where everything is.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from dsn.apps.processes import Activity, activity
from dsn.apps.provider import configure
from dsn.config import FILE_NAME
from dsn.core.keys import KEY_BYTES, IdentityKeys, SigningKey, node_id_of
from dsn.dht.contact import Contact
from dsn.dht.network import (
    Genesis,
    Network,
    PlacementGroup,
    format_network,
    parse_network,
    sign_network,
)
from dsn.errors import NotFound, UsageError
from dsn.ids import format_node_id
from dsn.ports import Clock, Entropy
from dsn.store.files import write_atomic
from dsn.store.home import Home
from dsn.store.lock import FileLock

DESCRIPTION = "devnet.json"
NETWORK_FILE = "network.toml"
OPERATOR_KEY = "operator.key"
CLIENT = "client"
VOLUME = "volume"
LOCK_FILE = "devnet.lock"
MAX_NODES = 250
"""Node N has the address 127.0.N.1."""
DEFAULT_CAPACITY_BYTES = 100 * 10**9


@dataclass(frozen=True, slots=True)
class Process:
    """One process as ``devnet.json`` lists it; ``pid`` is ``None`` while it is stopped."""

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
        return Path(self.home) / "log" / "node.log"


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
        last = self.processes[-1].name
        raise NotFound(f"no process '{name}' in this network", hint=f"they are node1 .. {last}")

    def alive(self) -> list[Process]:
        """Those that run or are frozen."""
        return [one for one in self.processes if one.activity is not Activity.STOPPED]

    def running(self) -> list[Process]:
        """Those that are alive and not frozen."""
        return [one for one in self.processes if one.activity is Activity.RUNNING]

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


def create(
    directory: Path,
    *,
    nodes: int,
    group: PlacementGroup,
    capacity_bytes: int | None,
    clock: Clock,
    entropy: Entropy,
) -> Devnet:
    """Make the homes, keys and network file of a new local network; nothing runs yet.

    Args:
        directory: Empty, or not there yet.
        nodes: 1 to ``MAX_NODES``.
        group: What may hold at most one shard of a segment.
        capacity_bytes: What each node offers; by default 100 GB, or its part of the free disk.
        clock: Dates the network.
        entropy: Makes the keys.

    Raises:
        UsageError: ``not_empty``: something else is in ``directory``.
    """
    _refuse_foreign(directory)
    capacity_bytes = capacity_bytes or _share_of_disk(directory, nodes)
    with _emptied_on_failure(directory):
        seed = entropy(KEY_BYTES)
        operator = SigningKey(seed)
        made = [_create_node(directory, number, capacity_bytes, entropy) for number in _upto(nodes)]
        first, public = made[0]
        genesis = Genesis(
            "devnet", int(clock.now_s()), operator.public, group, address_limits=False
        )
        write_atomic(directory / OPERATOR_KEY, seed)
        devnet = Devnet(directory, tuple(process for process, _ in made))
        Home.create(devnet.client_home, entropy(KEY_BYTES))
        contacts = [Contact(public, first.address)]
        _publish(devnet, sign_network(genesis, contacts, operator.sign))
        devnet.save()
        return devnet


@contextmanager
def _emptied_on_failure(directory: Path) -> Iterator[None]:
    """Leave nothing in ``directory`` if what follows fails."""
    try:
        yield
    except BaseException:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def create_client(path: Path, network: Network, entropy: Entropy) -> Home:
    """A new home with its own keys that has joined ``network``."""
    home = Home.create(path, entropy(KEY_BYTES))
    home.save_network(format_network(network))
    return home


def _no_network(directory: Path) -> NotFound:
    return NotFound(
        f"no local network in {directory}", hint=f"create one: dsn devnet up --dir {directory}"
    )


def _refuse_foreign(directory: Path) -> None:
    present = sorted(entry.name for entry in directory.iterdir() if entry.name != LOCK_FILE)
    if present:
        raise UsageError(
            f"{directory} holds {present[0]} and is no local network",
            hint="choose an empty folder",
            code="not_empty",
        )


def _share_of_disk(directory: Path, nodes: int) -> int:
    """What each of ``nodes`` can offer of the one disk they share; a tenth stays for others."""
    return min(DEFAULT_CAPACITY_BYTES, shutil.disk_usage(directory).free * 9 // 10 // nodes)


def _create_node(
    directory: Path, number: int, capacity_bytes: int, entropy: Entropy
) -> tuple[Process, bytes]:
    """Make the home of node ``number``; returns it and its public key."""
    root, host = entropy(KEY_BYTES), _host(number)
    public = SigningKey(IdentityKeys.derive(root).identity_seed).public
    home = Home.create(directory / f"node{number}", root)
    process = Process(
        name=f"node{number}",
        role="node",
        node_id=format_node_id(node_id_of(public)),
        address=f"{host}:{free_port(host)}",
        home=str(home.path),
        volume=str(home.path / VOLUME),
        pid=None,
    )
    configure(home, capacity_bytes, process.address, "", home.path / FILE_NAME)
    return process, public


def readdress_bootstrap(devnet: Devnet) -> None:
    """Sign the network file anew, with the address that its one contact has now."""
    key = SigningKey((devnet.directory / OPERATOR_KEY).read_bytes())
    network = devnet.network()
    moved = replace(network.contacts[0], address=devnet.processes[0].address)
    _publish(devnet, sign_network(network.genesis, [moved], key.sign))


def _publish(devnet: Devnet, network: Network) -> None:
    """Hand the network file to every home."""
    text = format_network(network)
    write_atomic(devnet.network_file, text.encode())
    for path in (devnet.client_home, *(Path(process.home) for process in devnet.processes)):
        Home(path).save_network(text)


def _upto(nodes: int) -> range:
    return range(1, nodes + 1)


def _host(number: int) -> str:
    """Node N's own loopback address where the system has them all, so that subnets differ."""
    return f"127.0.{number}.1" if sys.platform == "linux" else "127.0.0.1"


def free_port(host: str) -> int:
    """A port of ``host`` that nobody listens on."""
    with socket.create_server((host, 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def forget_dead(process: Process) -> Process:
    """``process`` without its pid if that is not alive any more."""
    return process if process.activity is not Activity.STOPPED else replace(process, pid=None)
