"""Starting and ending the processes of a local network, and knowing when they serve."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from dsn.apps import devnet_chain, evmnode
from dsn.apps.devnet import Devnet, Process, forget_dead, free_port, publish, sign
from dsn.apps.processes import Activity, end, send, spawn, start
from dsn.config import FILE_NAME
from dsn.errors import ConfigError, TimedOut, Unreachable, UsageError
from dsn.runtime.control import ask_control
from dsn.store.files import write_atomic
from dsn.store.home import Home

ROLES = {
    "node": ("provider", "run"),
    "ledger": ("ledger", "run"),
    "witness": ("witness", "run"),
    "verifier": ("verifier", "run"),
}
"""The command that runs each role."""
ORDER = ((evmnode.ROLE,), ("ledger", "witness"), ("node", "verifier"))
"""Those before are up before and down after: a ledger settles, and nodes are paid when they end."""
START_TIMEOUT_S = 180.0
"""Long enough for hundreds of processes on two cores; one that fails is seen at once."""
STOP_GRACE_S = 10.0
PORT_PATIENCE_S = 1.0
"""A process that was killed a moment ago may still be letting its port go."""
POLL_S = 0.05
LOG_TAIL_BYTES = 4096
ERROR_MARK = "dsn: "
"""How a command begins the line that says why it failed."""


def launch(devnet: Devnet, chosen: Sequence[Process]) -> Devnet:
    """Start ``chosen``; one whose port was taken meanwhile gets a new one.

    Nobody is told of it but through the DHT, unless the network file names it.

    Returns:
        The network with the new pids; none of them is known to serve yet.
    """
    placed = [_with_free_port(process) for process in chosen]
    for old, new in zip(chosen, placed, strict=True):
        if old != new:
            for home in _told_of(devnet, new):
                _readdress(old, new, home)
    before, devnet = devnet, devnet.updated(placed)
    if _named(before) != _named(devnet):
        publish(devnet, sign(devnet, devnet.network().genesis))
    started = [replace(process, pid=_start(process)) for process in placed]
    devnet = devnet.updated(started)
    devnet.save()
    return devnet


async def wait_ready(chosen: Sequence[Process]) -> None:
    """Return when every one of ``chosen`` is ready for whoever needs it.

    Raises:
        ConfigError: ``start_failed``: one ended, or did not get so far in ``START_TIMEOUT_S``.
    """
    async with asyncio.TaskGroup() as tasks:
        for process in chosen:
            tasks.create_task(_wait_ready(process))


async def bring_up(devnet: Devnet, chosen: Sequence[Process]) -> Devnet:
    """Start those of ``chosen`` that are stopped, wake the frozen, and wait until all serve.

    Homes that have no account on the ledger yet get one before their processes start; a chain
    gets the network's contracts before anybody asks for them. What was started here ends again if
    something fails.
    """
    idle = [process for process in chosen if process.activity is Activity.STOPPED]
    _wake(process for process in chosen if process.activity is Activity.FROZEN)
    try:
        for wave in _waves(idle):
            devnet = launch(devnet, wave)
            await wait_ready([devnet.named(process.name) for process in wave])
            roles = {process.role for process in wave}
            if evmnode.ROLE in roles:
                await devnet_chain.settle(devnet)
            if "ledger" in roles:
                await _enrol_all(devnet)
        await wait_ready([devnet.named(process.name) for process in chosen])
    except BaseException:
        stop(devnet, [devnet.named(process.name) for process in idle])
        raise
    return devnet


def _waves(chosen: Iterable[Process]) -> list[list[Process]]:
    """``chosen`` in the order they start in; those of one wave start together."""
    waiting = list(chosen)
    waves = [[each for each in waiting if each.role in roles] for roles in ORDER]
    return [wave for wave in waves if wave]


async def _enrol_all(devnet: Devnet) -> None:
    """Give every home that pays or is paid an account, with credits from the faucet."""
    from dsn.apps.wallet import enrol

    if devnet.of_role(evmnode.ROLE):
        await _wait_deposit(devnet.operator)
    paid = [*devnet.of_role("node"), *devnet.of_role("verifier")]
    homes = [devnet.client_home, *(Path(process.home) for process in paid)]
    async with asyncio.TaskGroup() as group:
        for path in homes:
            group.create_task(enrol(Home(path)))


async def _wait_deposit(operator: Home) -> None:
    """Return once the ledger has what the operator paid into the vault.

    Raises:
        TimedOut: Not in ``START_TIMEOUT_S``.
    """
    from dsn.apps.wallet import ENROL_PATIENCE_S, opened

    try:
        async with (
            asyncio.timeout(START_TIMEOUT_S),
            opened(operator, patience_s=ENROL_PATIENCE_S) as wallet,
        ):
            account = (await wallet.light.accounts([wallet.address]))[wallet.address]
            while not account.deposits:
                await asyncio.sleep(POLL_S)
                account = (await wallet.light.accounts([wallet.address]))[wallet.address]
    except TimeoutError as error:
        raise TimedOut(
            f"the ledger has not taken up the operator's deposit after {START_TIMEOUT_S:.0f} s",
            hint=f"its log is {operator.path / 'log'}",
        ) from error


async def wait_epochs(devnet: Devnet, epochs: int) -> int:
    """Return when ``epochs`` more epochs have ended; gives the one that began then.

    Raises:
        UsageError: ``no_ledger_here``: there are none.
        Unreachable: The ledger does not run.
    """
    ledgers = devnet.of_role("ledger")
    if not ledgers:
        raise UsageError("this network has no ledger", code="no_ledger_here")
    socket_path = Home(Path(ledgers[0].home)).control_socket
    epoch = int((await ask_control(socket_path, "status"))["epoch"])
    end = epoch + epochs
    while epoch < end:
        await asyncio.sleep(POLL_S)
        epoch = int((await ask_control(socket_path, "status"))["epoch"])
    return epoch


def _wake(frozen: Iterable[Process]) -> None:
    for process in frozen:
        if process.pid is not None:
            send(process.pid, Path(process.home), signal.SIGCONT)


def stop(devnet: Devnet, chosen: Sequence[Process]) -> tuple[Devnet, list[str]]:
    """End ``chosen``, frozen ones too.

    Returns:
        The network as it is now, and the names of those that had to be killed.
    """
    killed = list[int]()
    for wave in reversed(_waves(chosen)):
        running = [(one.pid, Path(one.home)) for one in wave if one.pid]
        killed += end(running, grace_s=STOP_GRACE_S)
    devnet = devnet.updated(forget_dead(process) for process in chosen)
    devnet.save()
    return devnet, [process.name for process in chosen if process.pid in killed]


async def _wait_ready(process: Process) -> None:
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await _is_ready(process):
                if process.activity is Activity.STOPPED:
                    raise _start_failed(process, "ended at its start")
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        reason = f"is not ready after {START_TIMEOUT_S:.0f} s"
        raise _start_failed(process, reason) from error


async def _is_ready(process: Process) -> bool:
    """Whether a node has joined the others, a ledger has published, a witness or chain serves."""
    if process.role == evmnode.ROLE:
        return await evmnode.serves(process.address)
    try:
        status = await ask_control(Home(Path(process.home)).control_socket, "status")
    except Unreachable:
        return False
    match process.role:
        case "node":
            return bool(status.get("joined"))
        case "ledger":
            return bool(status.get("published"))
    return True


def _named(devnet: Devnet) -> list[str]:
    """The addresses that the network file says."""
    fixed = [devnet.processes[0], *devnet.of_role("ledger"), *devnet.of_role("witness")]
    return [process.address for process in fixed]


def _start_failed(process: Process, reason: str) -> ConfigError:
    return ConfigError(
        f"{process.name} {reason}: {_last_line(process.log)}",
        hint=f"its log is {process.log}",
        code="start_failed",
    )


def _with_free_port(process: Process) -> Process:
    """``process`` as it is, or with a new port when another program took its own."""
    host, _, port = process.address.rpartition(":")
    deadline_s = time.monotonic() + PORT_PATIENCE_S
    while time.monotonic() < deadline_s:
        with suppress(OSError):
            socket.create_server((host, int(port))).close()
            return process
        time.sleep(POLL_S)
    return replace(process, address=f"{host}:{free_port(host)}")


def _start(process: Process) -> int:
    """Start a process; returns its pid."""
    home = Path(process.home)
    if process.role == evmnode.ROLE:
        return start(evmnode.words(home, process.address), process.log)
    return spawn(home, ROLES[process.role], process.log)


def _told_of(devnet: Devnet, process: Process) -> list[Path]:
    """The homes whose settings say where ``process`` listens."""
    match process.role:
        case evmnode.ROLE:
            return [home.path for home in devnet.homes()]
        case "verifier":
            return [Path(process.home), devnet.client_home]
    return [Path(process.home)]


def _readdress(old: Process, new: Process, home: Path) -> None:
    """Let a home's settings say where a process listens now; what else is in them stays."""
    path = home / FILE_NAME
    text = path.read_text(encoding="utf-8").replace(f'{old.address}"', f'{new.address}"')
    write_atomic(path, text.encode())


def _last_line(log: Path) -> str:
    """What a process said of its end: its last error, or the last line that it wrote."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_TAIL_BYTES))
        text = file.read().decode(errors="replace").strip()
    lines = text.splitlines() or ["its log is empty"]
    errors = [line.removeprefix(ERROR_MARK) for line in lines if line.startswith(ERROR_MARK)]
    return (errors or lines)[-1]
