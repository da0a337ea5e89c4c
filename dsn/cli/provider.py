"""``dsn provider``: offer disk to a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsn.cli.secrets import passphrase
from dsn.cli.session import Session, pass_session
from dsn.config import FILE_NAME, Settings, parse_size
from dsn.errors import ConfigError, UsageError
from dsn.store.home import Home
from dsn.ui.table import fields
from dsn.units import format_size

if TYPE_CHECKING:
    from dsn.apps.node.run import Ready
    from dsn.apps.provider import NodeConfig

SPACE = ("used", "reserved", "trash", "overhead", "free", "withheld", "capacity")


@click.group()
def provider() -> None:
    """Offer disk to a network: set it up, run the node, see how it stands."""


@provider.command()
@click.option("--capacity", metavar="SIZE", help="What to offer, such as 500GB.")
@click.option(
    "--listen", metavar="HOST:PORT", help="Where the node listens; 0.0.0.0:7077 at first."
)
@click.option(
    "--address", metavar="HOST:PORT", help="Where others reach it, if not where it listens."
)
@click.option(
    "--network", metavar="FILE", type=click.Path(path_type=Path), help="Join this network at once."
)
@pass_session
def init(
    session: Session,
    capacity: str | None,
    listen: str | None,
    address: str | None,
    network: Path | None,
) -> None:
    """Set this home up as a node: what it offers, and where it listens.

    The home's keys must be there ('dsn init' makes them); they are the node's identity.
    """
    from dsn.apps.networks import format_contact, is_wildcard
    from dsn.apps.provider import configure, identity
    from dsn.core.keys import node_id_of
    from dsn.dht.contact import Contact
    from dsn.ids import format_base32, format_node_id

    home = Home.open(session.home_path())
    key = identity(home, passphrase(session, home))
    if network is not None:
        home.save_network(network.read_text(encoding="utf-8", errors="replace"))
    given = {"provider__listen": listen, "provider__address": address}
    settings = session.settings(**given).provider
    offered = parse_size(capacity) if capacity else int(settings.capacity)
    if not offered:
        raise UsageError("missing option '--capacity'", hint="say what to offer, such as 500GB")
    reach = settings.address or settings.listen
    configure(home, offered, settings.listen, settings.address, home.path / FILE_NAME)
    offer = {
        "home": str(home.path),
        "node_id": format_node_id(node_id_of(key.public)),
        "public_key": format_base32(key.public),
        "listen": settings.listen,
        "contact": None if is_wildcard(reach) else format_contact(Contact(key.public, reach)),
        "capacity": offered,
    }
    session.emit(offer)
    session.say(fields(_readable({k: v for k, v in offer.items() if v is not None})))
    if offer["contact"] is None:
        session.notice("others start from a node only if it says where it is: --address HOST:PORT")
    session.notice("next: dsn provider run")


@provider.command()
@click.option("--listen", metavar="HOST:PORT", help="Listen here instead of where init said.")
@click.option("--capacity", metavar="SIZE", help="Offer this much instead of what init said.")
@pass_session
def run(session: Session, listen: str | None, capacity: str | None) -> None:
    """Run the node until it is told to stop; what it acknowledged survives any end."""
    from dsn.runtime.logs import configure_logs
    from dsn.runtime.process import silence_grpc, tune_allocator

    settings = session.settings(provider__listen=listen, provider__capacity=capacity)
    silence_grpc()
    config = _node_config(session, settings)
    configure_logs(settings.log.level, as_json=not sys.stderr.isatty())
    tune_allocator()
    session.run(_serve(session, config))


@provider.command()
@pass_session
def status(session: Session) -> None:
    """Ask the running node of this home who it is and where its space went."""
    from dsn.runtime.control import ask_control

    home = Home.open(session.home_path())
    answer = session.run(ask_control(home.control_socket, "status"))
    session.emit(answer)
    session.say(fields(_readable(answer)))


def _node_config(session: Session, settings: Settings) -> NodeConfig:
    from dsn.apps.provider import NodeConfig

    home, offered = Home.open(session.home_path()), settings.provider
    if not offered.capacity:
        raise ConfigError(
            f"{home.path} offers no capacity yet",
            hint="dsn provider init --capacity 500GB",
            code="no_capacity",
        )
    secret = passphrase(session, home)
    return NodeConfig(
        home, int(offered.capacity), offered.listen, offered.address, settings.dht, secret
    )


async def _serve(session: Session, config: NodeConfig) -> None:
    from dsn.apps.node.run import run_node
    from dsn.runtime.clock import SystemClock
    from dsn.runtime.entropy import system_entropy
    from dsn.runtime.process import stop_signals

    def say(ready: Ready) -> None:
        session.emit({"node_id": ready.node_id, "address": ready.address})
        session.say(f"node {ready.node_id} serves on {ready.address}")
        sys.stdout.flush()

    with stop_signals() as stopped:
        await run_node(
            config, clock=SystemClock(), entropy=system_entropy, stopped=stopped, on_ready=say
        )


def _readable(answer: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (key.replace("_", " "), format_size(value) if key in SPACE else str(value))
        for key, value in answer.items()
    ]
