"""``dsn ls``, ``dsn info`` and ``dsn rm``: the names this home keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import click

from dsn.apps.results import FileInfo, Holder, ListedFile
from dsn.cli.paying import format_credits, paid_fields, warn_expiring
from dsn.cli.session import Session, pass_session
from dsn.runtime.clock import SystemClock
from dsn.ui.figures import count, format_date
from dsn.ui.table import fields, print_table
from dsn.units import format_size

_REACHED = {True: "yes", False: "no", None: "not asked"}


@click.command()
@pass_session
def ls(session: Session) -> None:
    """List what is stored; the state is the one seen last, nothing is asked anew."""
    files = session.with_client(lambda client: client.ls())
    session.emit([listed_fields(file) for file in files])
    warn_expiring(session, files, SystemClock().now_s())
    if session.json:
        return
    if not files:
        session.notice("nothing is stored yet; 'dsn put PATH' stores a file")
        return
    headings = ["NAME", "SIZE", "STATE", "SCHEME", "ADDED (UTC)"]
    if any(file.expires_s is not None for file in files):
        headings += ["EXPIRES (UTC)", "COST"]
    print_table(headings, (_listed_row(file)[: len(headings)] for file in files))


@click.command()
@click.argument("target", metavar="CAP|NAME")
@pass_session
def info(session: Session, target: str) -> None:
    """Show one file, as far as the capability opens it, and who holds it."""
    found = session.with_client(lambda client: client.info(target))
    session.emit(info_fields(found))
    if session.json:
        return
    session.say(fields(list(_info_pairs(found))))
    session.say("")
    print_table(("NODE", "ADDRESS", "SHARDS", "SIZE", "ANSWERS"), map(_holder_row, found.holders))


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@pass_session
def rm(session: Session, names: Sequence[str]) -> None:
    """Remove files and free their space; links to them open nothing any more."""
    removed = session.with_client(lambda client: client.rm(names))
    for result in removed:
        session.say(f"removed {result.name}, {format_size(result.freed_bytes)} freed")
        if result.pending_nodes:
            nodes = ", ".join(result.pending_nodes)
            session.warn(
                f"{count(len(result.pending_nodes), 'node')} did not answer and will be told "
                f"at the next change: {nodes}"
            )
    session.emit({"removed": [dataclasses.asdict(result) for result in removed]})


def listed_fields(file: ListedFile) -> dict[str, object]:
    """The stable output of one line of ``ls``."""
    known = dataclasses.asdict(file) | {"state": file.state.value}
    del known["expires_s"]
    return known | paid_fields(file.cost, file.expires_s)


def info_fields(found: FileInfo) -> dict[str, object]:
    """The output of ``info``."""
    known = dataclasses.asdict(found) | {"state": found.state.value}
    del known["expires_s"]
    return known | paid_fields(found.cost, found.expires_s)


def _listed_row(file: ListedFile) -> tuple[str, ...]:
    name = f"{file.name}/" if file.kind == "directory" else file.name
    return (
        name,
        format_size(file.size),
        file.state.value,
        file.scheme,
        format_date(file.added_s),
        "-" if file.expires_s is None else format_date(file.expires_s),
        "-" if file.cost is None else f"{file.cost:,}",
    )


def _holder_row(holder: Holder) -> tuple[str, ...]:
    return (
        holder.node,
        holder.address,
        str(holder.shards),
        format_size(holder.bytes),
        _REACHED[holder.reachable],
    )


def _info_pairs(found: FileInfo) -> Iterator[tuple[str, str]]:
    if found.name is not None:
        yield "name", found.name
    yield "file id", found.file_id
    if found.kind is not None:
        yield "kind", found.kind
    yield "size", f"{format_size(found.size)} ({found.size:,} bytes)"
    yield "scheme", f"{found.scheme}, {count(found.segments, 'segment')}"
    if found.media_type:
        yield "type", found.media_type
    if found.mtime_s is not None:
        yield "modified", f"{format_date(found.mtime_s)} UTC"
    yield "state", found.state.value
    if found.cost is not None and found.expires_s is not None:
        yield "expires", f"{format_date(found.expires_s)} UTC"
        yield "cost", f"{format_credits(found.cost)} up to then"
