"""``dsn net``: the network's file, who is in it, and how things are found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dsn.cli.secrets import passphrase
from dsn.cli.session import Session, pass_session
from dsn.dht.network import PLACEMENT_GROUPS, Network, PlacementGroup
from dsn.errors import UsageError
from dsn.ids import format_base32
from dsn.ui.figures import count
from dsn.ui.table import print_table

if TYPE_CHECKING:
    from dsn.core.keys import SigningKey

TRACE_S = 60.0
MOST_TRACED = 256
"""Keys in one command: what a node looks up in that time, even if many are not there."""

contact_option = click.option(
    "--contact",
    "contacts",
    metavar="KEY@HOST:PORT",
    multiple=True,
    help="A node to start from, as 'dsn provider init' prints it; may be repeated.",
)
dns_option = click.option(
    "--dns",
    metavar="NAME",
    multiple=True,
    help="A DNS name whose TXT records hold node records ('dsn net txt'); may be repeated.",
)


@click.group()
def net() -> None:
    """A network as a whole: make its file, see who is in it, follow a search."""


@net.command()
@click.argument("name")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Where the network file goes.",
)
@contact_option
@dns_option
@click.option(
    "--group",
    type=click.Choice(PLACEMENT_GROUPS),
    default="subnet",
    show_default=True,
    help="What holds at most one shard of a segment.",
)
@click.option("--loopback", is_flag=True, help="For one machine: no limits on addresses.")
@click.option("--shard-records", is_flag=True, help="Nodes announce each shard (for repair).")
@click.option("--force", is_flag=True, help="Replace FILE.")
@pass_session
def create(
    session: Session,
    name: str,
    output: Path,
    contacts: Sequence[str],
    dns: Sequence[str],
    group: PlacementGroup,
    loopback: bool,
    shard_records: bool,
    force: bool,
) -> None:
    """Found the network NAME: write its file, signed by this home's identity key.

    Whoever has the file can join; the same home signs it anew when contacts change.
    """
    from dsn.apps.networks import found, parse_contact
    from dsn.runtime.clock import SystemClock

    if output.exists() and not force:
        raise UsageError(
            f"{output} exists",
            code="output_exists",
            hint="a new file is a new network; 'dsn net update' changes one, --force replaces it",
        )
    network = found(
        name,
        _operator(session),
        created_s=int(SystemClock().now_s()),
        group=group,
        address_limits=not loopback,
        shard_records=shard_records,
        contacts=[parse_contact(text) for text in contacts],
        dns=dns,
    )
    _write(session, output, network)


@net.command()
@click.argument("network_file", type=click.Path(path_type=Path))
@contact_option
@dns_option
@click.option(
    "--drop",
    metavar="HOST:PORT|NAME",
    multiple=True,
    help="A contact's address or a DNS name to leave out from now on; may be repeated.",
)
@pass_session
def update(
    session: Session,
    network_file: Path,
    contacts: Sequence[str],
    dns: Sequence[str],
    drop: Sequence[str],
) -> None:
    """Change where newcomers to a network start; only its founder's home can.

    The network stays the same: nobody has to join again.
    """
    from dsn.apps.networks import change, parse_contact, read_network

    network = change(
        read_network(network_file),
        _operator(session),
        contacts=[parse_contact(text) for text in contacts],
        dns=dns,
        drop=drop,
    )
    _write(session, network_file, network)


@net.command()
@pass_session
def peers(session: Session) -> None:
    """Show the nodes that this home's node, or else this client, is in touch with."""
    answer = _ask(session, "peers", "peers") or {"peers": session.with_client(lambda c: c.peers())}
    session.emit(answer)
    rows = answer["peers"]
    if not session.json:
        headings = ("NODE", "ADDRESS", "SOURCE", "LATENCY", "SCORE")
        print_table(headings, [_peer_row(row) for row in rows])
    session.notice(count(len(rows), "node"))


@net.command()
@click.argument("targets", metavar="KEY|NODE|CAP...", nargs=-1, required=True)
@click.option(
    "--paths",
    type=click.IntRange(1, 8),
    default=1,
    show_default=True,
    help="Disjoint paths; each goes on until it has a record.",
)
@pass_session
def trace(session: Session, targets: Sequence[str], paths: int) -> int:
    """Search for records and show each step: who was asked, and how long it took.

    Exits with 3 if one of them is not found.
    """
    from dsn.apps.networks import parse_key

    if len(targets) > MOST_TRACED:
        raise UsageError(
            f"{len(targets)} keys, at most {MOST_TRACED} in one command", hint="ask for fewer"
        )
    keys = [parse_key(text) for text in targets]
    words = " ".join(map(format_base32, keys))
    answer = _ask(session, f"trace {paths} {words}", "traces")
    if answer is None:
        traces = session.with_client(lambda client: client.trace(keys, paths=paths))
        answer = {"traces": traces}
    session.emit(answer)
    for target, found in zip(targets, answer["traces"], strict=True):
        if not session.json:
            print_table(
                ("PATH", "HOP", "NODE", "ADDRESS", "BITS", "AT", "TOOK", "OUTCOME"),
                [_hop_row(hop) for hop in found["hops"]],
            )
        session.say(_summary(target, found))
    return 0 if all(found["found"] for found in answer["traces"]) else 3


@net.command()
@pass_session
def txt(session: Session) -> None:
    """Print the DNS TXT record that leads newcomers to this home's running node."""
    from dsn.apps.bootstrap.dns import format_txt
    from dsn.errors import Unreachable
    from dsn.ids import parse_base32

    answer = _ask(session, "record", "record")
    if answer is None:
        raise Unreachable(
            f"no node runs on {session.home_path()}", code="not_running", hint="dsn provider run"
        )
    text = format_txt(parse_base32(answer["record"]))
    session.emit({"txt": text})
    session.say(text)


def _operator(session: Session) -> SigningKey:
    from dsn.apps.provider import identity
    from dsn.store.home import Home

    home = Home.open(session.home_path())
    return identity(home, passphrase(session, home))


def _write(session: Session, path: Path, network: Network) -> None:
    from dsn.dht.network import format_network
    from dsn.store.files import write_atomic

    write_atomic(path, format_network(network).encode())
    fields = {
        "file": str(path),
        "name": network.genesis.name,
        "network": format_base32(network.network_id),
        "contacts": [each.address for each in network.contacts],
        "dns": list(network.dns),
    }
    session.emit(fields)
    session.say(f"{path}: {network.genesis.name}, {count(len(network.contacts), 'contact')}")
    if not network.contacts and not network.dns:
        session.notice("nobody can find it yet: dsn net update FILE --contact KEY@HOST:PORT")


def _ask(session: Session, question: str, field: str) -> dict[str, Any] | None:
    """What the process that runs on this home answers, with ``field``; ``None`` without one."""
    from dsn.errors import MalformedMessage, Unreachable
    from dsn.runtime.control import ask_control
    from dsn.store.home import Home

    path = Home.open(session.home_path()).control_socket
    if not path.exists():
        return None
    try:
        answer = session.run(ask_control(path, question, timeout_s=TRACE_S))
    except Unreachable:
        return None
    if field not in answer:
        raise MalformedMessage(
            f"{path} answers without {field}", hint="restart it: it may be of another version"
        )
    return answer


def _peer_row(row: dict[str, Any]) -> tuple[str, ...]:
    latency = "" if row["latency_ms"] is None else f"{row['latency_ms']:.1f} ms"
    return row["node_id"][:16], row["address"], row["source"], latency, f"{row['score']:.2f}"


def _hop_row(hop: dict[str, Any]) -> tuple[str, ...]:
    outcome = "record" if hop["records"] else hop["outcome"]
    return (
        str(hop["path"] + 1),
        str(hop["depth"]),
        hop["node_id"][:16],
        hop["address"],
        str(hop["shared_bits"]),
        f"{hop['asked_ms']:.1f} ms",
        f"{hop['took_ms']:.1f} ms",
        outcome,
    )


def _summary(target: str, found: dict[str, Any]) -> str:
    kinds = ", ".join(sorted({record["kind"] for record in found["found"]})) or "nothing"
    at = {address for record in found["found"] for address in record.get("addresses", ())}
    where = f" at {', '.join(sorted(at))}" if at else ""
    return (
        f"{target[:16]}: {kinds}{where}, {count(found['calls'], 'call')} in "
        f"{found['milliseconds']:.1f} ms"
    )
