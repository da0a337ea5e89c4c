"""``dsn net``: the network's file, who is in it, and how things are found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from dsn.cli.net_file import create, update
from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError
from dsn.ids import format_base32
from dsn.ui.figures import count
from dsn.ui.table import print_table

if TYPE_CHECKING:
    pass

TRACE_S = 60.0
MOST_TRACED = 256
"""Keys in one command: what a node looks up in that time, even if many are not there."""


@click.group()
def net() -> None:
    """A network as a whole: make its file, see who is in it, follow a search."""


net.add_command(create)
net.add_command(update)


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
