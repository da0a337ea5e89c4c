"""``dsn repair``: bring a file back to all its shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import click

from dsn.apps.results import FileState, RepairResult
from dsn.cli.check import EXIT_CODES
from dsn.cli.paying import budget_option, days_option, format_credits, spending
from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError
from dsn.ui.figures import format_seconds, format_speed
from dsn.ui.table import fields
from dsn.units import format_size


@click.command()
@click.argument("target", metavar="CAP|NAME")
@days_option
@budget_option
@click.option("--dry-run", is_flag=True, help="Only say what it would do and cost.")
@click.option(
    "--deals",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Pay from the deals that the owner opened: 'dsn share --repair --to'.",
)
@pass_session
def repair(
    session: Session,
    target: str,
    days: int | None,
    budget: int | None,
    dry_run: bool,
    deals: str | None,
) -> int:
    """Make lost shards of a file again, on other nodes, and give back leaves that rotted.

    A repair link is enough, and shows neither content nor name. The new shards are paid by this
    home. The same command again resumes an interrupted one.
    """
    paid, text = spending(session, days, budget), read_deals(deals) if deals else ""
    result = session.with_client(
        lambda client: client.repair(
            target, dry_run=dry_run, days=paid.days, budget=paid.budget, deals=text
        )
    )
    session.say(fields(list(report(target, result, dry_run))))
    session.emit(to_fields(result, dry_run))
    return 0 if dry_run else EXIT_CODES[result.state]


def read_deals(path: str) -> str:
    """A file of deals, as far as one can be long.

    Raises:
        UsageError: ``bad_deals_file``: it is no text.
    """
    from dsn.apps.delegation import MAX_FILE_CHARS

    try:
        with click.open_file(path, encoding="utf-8") as file:
            text: str = file.read(MAX_FILE_CHARS + 1)
            return text
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no file of deals", code="bad_deals_file") from error


def to_fields(result: RepairResult, dry_run: bool) -> dict[str, object]:
    """The stable output of a repair; credits are decimal strings."""
    texts = {
        name: None if amount is None else str(amount)
        for name, amount in (("cost", result.cost), ("locked", result.locked))
    }
    about = {"state": result.state.value, "seconds": round(result.seconds, 3), "dry_run": dry_run}
    return dataclasses.asdict(result) | texts | about


def report(target: str, result: RepairResult, dry_run: bool) -> Iterator[tuple[str, str]]:
    """What was done, or would be, for people."""
    yield "file", target
    yield ("state now" if dry_run else "state"), result.state.value
    verb = "to be " if dry_run else ""
    moved = f", {result.moved:,} of them on another node" if result.rebuilt else ""
    yield "shards", f"{result.rebuilt:,} {verb}rebuilt{moved}"
    yield "leaves", f"{result.leaves:,} {verb}given back"
    size = format_size(result.bytes)
    if dry_run:
        yield "to send", size
    elif result.rebuilt:
        speed = format_speed(result.bytes, result.seconds)
        yield "sent", f"{size} in {format_seconds(result.seconds)} ({speed})"
    if result.cost is not None and (result.rebuilt or dry_run):
        yield "cost", f"{format_credits(result.cost)} until they expire"
        least = " at least" if dry_run else ""
        yield "locked", f"{format_credits(result.locked or 0)}{least}"
    for node in result.silent:
        yield "silent", node
    if result.state is not FileState.HEALTHY and not dry_run:
        yield "missing", "no node takes the rest: start more nodes, and repair it again"
