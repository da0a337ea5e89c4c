"""``dsn devnet``: a network of real node processes in one folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from dsn.apps import devnet_run, evmnode
from dsn.apps.devnet import Devnet, Process, exists, lock
from dsn.apps.devnet_make import create
from dsn.cli.session import Session, pass_session
from dsn.config import parse_size
from dsn.errors import UsageError
from dsn.runtime.clock import SystemClock
from dsn.runtime.entropy import system_entropy
from dsn.ui.figures import count, format_seconds
from dsn.ui.table import fields, print_table

DEFAULT_NODES = 12
DEFAULT_EPOCH_S = 5

directory_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--dir",
    "directory",
    metavar="D",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    callback=lambda _ctx, _param, path: path.absolute(),
    help="The folder the network lives in.",
)


@click.group()
def devnet() -> None:
    """Run a local network of real nodes; it stays until 'down', and its data after that."""


@devnet.command()
@directory_option
@click.option(
    "--nodes", type=click.IntRange(1, 250), metavar="N", help=f"How many; {DEFAULT_NODES} at first."
)
@click.option(
    "--group",
    type=click.Choice(["node", "subnet"]),
    help="What may hold at most one shard of a segment; node at first.",
)
@click.option("--capacity", metavar="SIZE", help="What each node offers at first, such as 2GB.")
@click.option(
    "--epoch-s",
    type=click.IntRange(2),
    metavar="S",
    help=f"How long an epoch of the ledger lasts; {DEFAULT_EPOCH_S} at first.",
)
@click.option("--free", is_flag=True, help="Without a ledger: nobody pays for anything.")
@click.option(
    "--chain", is_flag=True, help="Its ledger settles on a local EVM chain (needs anvil of npm)."
)
@pass_session
def up(
    session: Session,
    directory: Path,
    nodes: int | None,
    group: str | None,
    capacity: str | None,
    epoch_s: int | None,
    free: bool,
    chain: bool,
) -> None:
    """Create the network in D, or start what does not run of the one there.

    Beside N nodes it runs a ledger, two witnesses and a verifier. It is ready when the command
    returns.
    """
    if free and (epoch_s is not None or chain):
        raise UsageError("--epoch-s and --chain are the ledger's, --free has none")
    directory.mkdir(parents=True, exist_ok=True)
    with lock(directory):
        if exists(directory):
            network = Devnet.load(directory)
            _tell_ignored(session, nodes, group, capacity, epoch_s, free or chain or None)
        else:
            seconds = None if free else epoch_s or DEFAULT_EPOCH_S
            network = _create(
                directory, nodes or DEFAULT_NODES, group or "node", capacity, seconds, chain
            )
        _bring_up(session, network)


def _create(
    directory: Path,
    nodes: int,
    group: str,
    capacity: str | None,
    epoch_s: int | None,
    chain: bool,
) -> Devnet:
    return create(
        directory,
        nodes=nodes,
        group="subnet" if group == "subnet" else "node",
        capacity_bytes=None if capacity is None else parse_size(capacity),
        epoch_s=epoch_s,
        chain=chain,
        clock=SystemClock(),
        entropy=system_entropy,
    )


def _bring_up(session: Session, network: Devnet) -> None:
    began_s, ran = time.monotonic(), len(network.running())
    network = session.run(devnet_run.bring_up(network, network.processes))
    session.emit(network.fields())
    everyone = _everyone(network)
    if ran == len(network.processes):
        session.say(f"already running: {everyone}")
    else:
        session.say(f"{everyone} serving after {format_seconds(time.monotonic() - began_s)}")
    session.say(fields(_places(network)))


@devnet.command()
@directory_option
@pass_session
def down(session: Session, directory: Path) -> None:
    """Stop every process, frozen ones too; the data stays for the next 'up'."""
    with lock(directory):
        network = Devnet.load(directory)
        alive = network.alive()
        network, killed = devnet_run.stop(network, alive)
    session.emit(network.fields())
    session.say(f"{count(len(alive), 'process', 'processes')} stopped; the data is kept")
    _tell_killed(session, killed)


@devnet.command()
@directory_option
@pass_session
def status(session: Session, directory: Path) -> None:
    """Show every process and whether it runs."""
    network = Devnet.load(directory)
    states = {one.name: one.activity.value for one in network.processes}
    session.emit(network.fields() | {"states": states})
    if session.json:
        return
    print_table(("NAME", "STATE", "PID", "ADDRESS", "NODE"), map(_row, network.processes))
    session.say(fields([("client home", str(network.client_home))]))


@devnet.command()
@click.argument("name")
@directory_option
@pass_session
def stop(session: Session, name: str, directory: Path) -> None:
    """Stop one process."""
    with lock(directory):
        network = Devnet.load(directory)
        process = network.named(name)
        if process.pid is None:
            raise UsageError(
                f"{name} does not run", hint="'dsn devnet status' shows what does", code="stopped"
            )
        network, killed = devnet_run.stop(network, [process])
    session.emit(network.fields())
    session.say(f"{name} stopped")
    _tell_killed(session, killed)


@devnet.command()
@click.argument("name")
@directory_option
@pass_session
def start(session: Session, name: str, directory: Path) -> None:
    """Start one process, or let a frozen one go on; returns when it serves."""
    with lock(directory):
        network = Devnet.load(directory)
        network = session.run(devnet_run.bring_up(network, [network.named(name)]))
    session.emit(network.fields())
    session.say(f"{name} serves at {network.named(name).address}")


def _everyone(network: Devnet) -> str:
    """``12 nodes, a ledger, 2 witnesses and a verifier``."""
    nodes = count(len(network.of_role("node")), "node")
    if not network.of_role("ledger"):
        return nodes
    others = [nodes, "a ledger", count(len(network.of_role("witness")), "witness", "witnesses")]
    if network.of_role("verifier"):
        others.append("a verifier")
    if network.of_role(evmnode.ROLE):
        others.append("a chain")
    return f"{', '.join(others[:-1])} and {others[-1]}"


@devnet.command()
@directory_option
@click.option(
    "--epochs", type=click.IntRange(1), default=1, show_default=True, help="How many have to end."
)
@pass_session
def wait(session: Session, directory: Path, epochs: int) -> None:
    """Wait until some epochs of the ledger have passed."""
    epoch = session.run(devnet_run.wait_epochs(Devnet.load(directory), epochs))
    session.emit({"epoch": epoch})
    session.say(f"epoch {epoch}")


def _places(network: Devnet) -> list[tuple[str, str]]:
    chains = network.of_role(evmnode.ROLE)
    return [
        ("client home", str(network.client_home)),
        ("network file", str(network.network_file)),
        ("bootstrap", network.processes[0].address),
        *(("chain", evmnode.url_of(each.address)) for each in chains),
        ("try", f"dsn --home {network.client_home} put FILE"),
    ]


def _row(process: Process) -> tuple[str, ...]:
    pid = "-" if process.pid is None else str(process.pid)
    return process.name, process.activity.value, pid, process.address, process.node_id


def _tell_ignored(session: Session, *given: object) -> None:
    if any(value is not None for value in given):
        flags = "--nodes, --group, --capacity, --epoch-s, --free, --chain"
        session.notice(f"note: the network is there; {flags} do nothing now")


def _tell_killed(session: Session, killed: Sequence[str]) -> None:
    if killed:
        session.notice(f"killed, because it did not stop when asked: {', '.join(killed)}")
