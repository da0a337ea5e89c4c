"""Starting and ending the processes of a local network, and knowing when they serve."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from dsn.apps.devnet import Devnet, Process, announce, forget_dead, free_port
from dsn.apps.processes import Activity, end, send, spawn
from dsn.config import FILE_NAME
from dsn.core.keys import KEY_BYTES, SigningKey
from dsn.errors import ConfigError, TransportError
from dsn.ids import format_node_id
from dsn.ports import Entropy
from dsn.rpc.channel import Connections, NodePeer
from dsn.store.files import write_atomic

NODE_ROLE = ("provider", "run")
START_TIMEOUT_S = 60.0
"""Long enough for hundreds of processes on two cores; one that fails is seen at once."""
STOP_GRACE_S = 10.0
POLL_S = 0.05
LOG_TAIL_BYTES = 4096


def launch(devnet: Devnet, chosen: Sequence[Process]) -> Devnet:
    """Start ``chosen``; one whose port was taken meanwhile gets a new one, and all are told.

    Returns:
        The network with the new pids; none of them is known to serve yet.
    """
    placed = [_with_free_port(process) for process in chosen]
    moved = [(old, new) for old, new in zip(chosen, placed, strict=True) if old != new]
    devnet = devnet.updated(placed)
    for old, new in moved:
        _readdress(old, new)
    if moved:
        announce(devnet)
    started = [
        replace(process, pid=spawn(Path(process.home), NODE_ROLE, process.log))
        for process in placed
    ]
    devnet = devnet.updated(started)
    devnet.save()
    return devnet


async def wait_ready(devnet: Devnet, chosen: Sequence[Process], entropy: Entropy) -> None:
    """Return when every one of ``chosen`` serves.

    Raises:
        ConfigError: ``start_failed``: one ended, or did not serve in ``START_TIMEOUT_S``.
    """
    network = devnet.network()
    contacts = {format_node_id(one.node_id): one for one in network.contacts}
    caller = SigningKey(entropy(KEY_BYTES))
    async with (
        Connections(caller, network.network_id) as connections,
        asyncio.TaskGroup() as tasks,
    ):
        for process in chosen:
            peer = connections.peer(contacts[process.node_id])
            tasks.create_task(_wait_serving(process, peer))


async def bring_up(devnet: Devnet, chosen: Sequence[Process], entropy: Entropy) -> Devnet:
    """Start those of ``chosen`` that are stopped, wake the frozen, and wait until all serve.

    What was started here ends again if one of them fails.
    """
    idle = [process for process in chosen if process.activity is Activity.STOPPED]
    _wake(process for process in chosen if process.activity is Activity.FROZEN)
    devnet = launch(devnet, idle)
    try:
        await wait_ready(devnet, [devnet.named(process.name) for process in chosen], entropy)
    except BaseException:
        stop(devnet, [devnet.named(process.name) for process in idle])
        raise
    return devnet


def _wake(frozen: Iterable[Process]) -> None:
    for process in frozen:
        if process.pid is not None:
            send(process.pid, Path(process.home), signal.SIGCONT)


def stop(devnet: Devnet, chosen: Sequence[Process]) -> tuple[Devnet, list[str]]:
    """End ``chosen``, frozen ones too.

    Returns:
        The network as it is now, and the names of those that had to be killed.
    """
    killed = end([(one.pid, Path(one.home)) for one in chosen if one.pid], grace_s=STOP_GRACE_S)
    devnet = devnet.updated(forget_dead(process) for process in chosen)
    devnet.save()
    return devnet, [process.name for process in chosen if process.pid in killed]


async def _wait_serving(process: Process, peer: NodePeer) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await _accepts(process.address):
                if process.activity is Activity.STOPPED:
                    raise _start_failed(process, "ended at its start")
                await asyncio.sleep(POLL_S)
            await peer.get_terms(timeout_s=START_TIMEOUT_S)
    except (TimeoutError, TransportError) as error:
        reason = f"does not serve after {START_TIMEOUT_S:.0f} s"
        raise _start_failed(process, reason) from error


async def _accepts(address: str) -> bool:
    """Whether somebody listens at ``address``."""
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


def _start_failed(process: Process, reason: str) -> ConfigError:
    return ConfigError(
        f"{process.name} {reason}: {_last_line(process.log)}",
        hint=f"its log is {process.log}",
        code="start_failed",
    )


def _with_free_port(process: Process) -> Process:
    """``process`` as it is, or with a new port when another program took its own."""
    host, _, port = process.address.rpartition(":")
    try:
        socket.create_server((host, int(port))).close()
    except OSError:
        return replace(process, address=f"{host}:{free_port(host)}")
    return process


def _readdress(old: Process, new: Process) -> None:
    """Let a node listen where it is now; whatever else its owner set stays as it is."""
    path = Path(new.home) / FILE_NAME
    text = path.read_text(encoding="utf-8").replace(f'"{old.address}"', f'"{new.address}"')
    write_atomic(path, text.encode())


def _last_line(log: Path) -> str:
    """The last line that a process wrote, for a message of one line."""
    with log.open("rb") as lines:
        lines.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        text = lines.read().decode(errors="replace").strip()
    return text.rpartition("\n")[2] or "its log is empty"
