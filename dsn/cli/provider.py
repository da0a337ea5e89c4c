"""``dsn provider``: offer disk to a network."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from dsn.cli.losses import appeal, declare_loss
from dsn.cli.secrets import passphrase
from dsn.cli.session import Session, pass_session
from dsn.config import FILE_NAME, Settings, parse_size
from dsn.errors import ConfigError, Unreachable, UsageError
from dsn.store.home import Home
from dsn.ui.figures import format_date
from dsn.ui.table import fields, print_table
from dsn.ui.told import told_pair
from dsn.units import format_size

if TYPE_CHECKING:
    from dsn.apps.node.run import Ready
    from dsn.apps.provider import NodeConfig

CREDITS: Final = (
    "disk", "ingress", "egress", "relay", "slashed", "total", "unclaimed", "forecast",
    "earned", "available",
)  # fmt: skip
"""Fields that are amounts."""
_EARNINGS_S: Final = 20.0
_SHORT: Final = 12
SPACE = (
    "used", "reserved", "trash", "overhead", "free", "withheld", "capacity", "answers_bytes",
)  # fmt: skip
"""Fields that are bytes."""


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
    """Ask the running node of this home who it is and where its space went.

    The scores are those by the verifiers that client.verifiers names.
    """
    from dsn.runtime.control import ask_control

    home = Home.open(session.home_path())
    answer = session.run(ask_control(home.control_socket, "status"))
    answer["scores"] = _scores(session, home)
    session.emit(answer)
    session.say(fields(_readable(answer)))


@provider.command()
@pass_session
def takeover(session: Session) -> None:
    """Go on with this home after another home of the same node proved epochs without it.

    Only if that other home is gone for good: two homes of one node sign against each other. The
    node then proves nothing until a whole epoch has passed in which nobody else did.
    """
    from dsn.apps.ledger.light import no_ledger_here
    from dsn.store.answers import FOLDER, begin_takeover

    home = Home.open(session.home_path())
    network = home.network()
    if network.ledger_params is None:
        raise no_ledger_here(network)
    session.run(_locked(home, lambda: begin_takeover(home.state / FOLDER)))
    session.emit({"home": str(home.path), "waiting": True})
    session.say(
        "the node proves again once a whole epoch has passed without a link of another home"
    )
    session.notice("next: dsn provider run")


@provider.command()
@click.option("--deals", is_flag=True, help="Show every deal, too.")
@pass_session
def earnings(session: Session, deals: bool) -> None:
    """Show what this home has earned: settled on the ledger, promised, and to be expected.

    It works whether the node runs or not.
    """
    home = Home.open(session.home_path())
    answer = session.run(_earnings(home, lambda: passphrase(session, home)))
    session.emit(answer)
    rows = answer.pop("deals")
    session.say(fields(_readable(answer)))
    if deals and not session.json:
        headings = ("deal", "state", "end", "disk", "ingress", "egress", "total", "unclaimed")
        print_table(headings, [[_cell(row, name) for name in headings] for row in rows])


@provider.command()
@click.option(
    "--disk", metavar="N", type=click.IntRange(0), help="Credits a GiB stored for 30 days."
)
@click.option(
    "--ingress", metavar="N", type=click.IntRange(0), help="Credits a GiB sent to the node."
)
@click.option("--egress", metavar="N", type=click.IntRange(0), help="Credits a GiB read from it.")
@click.option("--repair", metavar="N", type=click.IntRange(0), help="Credits a GiB that it loses.")
@pass_session
def price(
    session: Session,
    disk: int | None,
    ingress: int | None,
    egress: int | None,
    repair: int | None,
) -> None:
    """Show what this home asks, or set it; a node that runs asks it from then on.

    Deals that are open keep the prices that both signed.
    """
    from dsn.apps.provider import price_rows, set_prices

    home = Home.open(session.home_path())
    given = {"disk": disk, "ingress": ingress, "egress": egress, "repair": repair}
    changes = {f"{name}_price": value for name, value in given.items() if value is not None}
    settings = session.settings(**{f"provider__{name}": v for name, v in changes.items()})
    if changes:
        set_prices(home.path / FILE_NAME, changes)
    params = home.network().ledger_params if home.network_file.exists() else None
    rows = price_rows(settings.provider, None if params is None else params.epoch_s)
    session.emit({row.name: row.fields() for row in rows})
    headings = ("price", "per GiB", "per TB", "per GiB and epoch")
    if not session.json:
        print_table(headings, [row.cells() for row in rows])
    if changes:
        session.notice(session.run(_ask_prices(home, given)))


provider.add_command(declare_loss)
provider.add_command(appeal)


def _scores(session: Session, home: Home) -> dict[str, float]:
    """What verifiers say of the node of ``home``, by verifier."""
    from dsn.apps.scores import own_scores
    from dsn.runtime.clock import SystemClock

    if not (verifiers := session.settings().client.verifiers):
        return {}
    root = home.load_root(passphrase(session, home))
    return session.run(own_scores(home, root, verifiers, SystemClock(), session.notice))


async def _earnings(home: Home, secret: Callable[[], bytes | None]) -> dict[str, Any]:
    """What the node of ``home`` answers, or the home itself if none runs."""
    from dsn.apps.ledger.light import no_ledger_here
    from dsn.apps.node.money import earnings_at_home
    from dsn.runtime.clock import SystemClock
    from dsn.runtime.control import ask_control

    network = home.network()
    if network.ledger_params is None:
        raise no_ledger_here(network)
    try:
        return await ask_control(home.control_socket, "earnings", timeout_s=_EARNINGS_S)
    except Unreachable:
        root = home.load_root(secret())
        return (await earnings_at_home(home, network, root, SystemClock())).fields()


async def _ask_prices(home: Home, given: Mapping[str, int | None]) -> str:
    """Tell the node of ``home`` new prices; gives what came of it."""
    from dsn.runtime.control import ask_control

    words = [f"{name}={value}" for name, value in given.items() if value is not None]
    try:
        answer = await ask_control(home.control_socket, " ".join(["price", *words]))
    except Unreachable:
        return "no node runs here: it asks this once it does"
    if "former_until_s" not in answer:
        return "the running node asks nothing: nobody pays on its network"
    until = format_date(answer["former_until_s"])
    return f"the running node asks this now; until {until} UTC deals by its former terms, too"


async def _locked(home: Home, work: Callable[[], None]) -> None:
    """Do ``work`` while no process serves ``home``."""
    async with home.lock(wait=False):
        work()


def _cell(row: dict[str, Any], name: str) -> str:
    if name in CREDITS:
        return f"{int(row[name]):,}"
    return str(row[name])[:_SHORT]


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
        home,
        int(offered.capacity),
        offered.listen,
        offered.address,
        settings.dht,
        secret,
        offered,
        settings.chain,
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
    return [_pair(*each) for each in answer.items()]


def _pair(key: str, value: Any) -> tuple[str, str]:
    """A field as people read it."""
    if key in SPACE:
        return key.removesuffix("_bytes"), format_size(value)
    if key == "next_proof_s":
        due = "nothing is held" if value is None else f"in {value} s" if value else "now"
        return "next proof", due
    return told_pair(key, int(value) if key in CREDITS else value, absent="unknown")
