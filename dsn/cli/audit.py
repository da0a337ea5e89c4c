"""``dsn audit``: have every holder of a file prove it now, and keep the proof."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import click

from dsn.apps.results import LOSSES, AuditResult
from dsn.cli.session import Session, pass_session
from dsn.errors import NotFound
from dsn.ui.figures import count, format_seconds
from dsn.ui.table import columns, fields
from dsn.units import format_size

MOST_LEAVES = 512
"""Of one audit: its bundle still travels in one message."""


@click.command()
@click.argument("target", metavar="CAP|NAME")
@click.option(
    "--leaves",
    type=click.IntRange(1, MOST_LEAVES),
    default=80,
    show_default=True,
    help="Leaves asked for in all, shared out by what each node holds; at least 4 of each.",
)
@click.option(
    "--bundle",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what proves it to FILE (*.dsnproof.json), for 'dsn verify'.",
)
@pass_session
def audit(session: Session, target: str, leaves: int, bundle: Path | None) -> int:
    """Have every node that holds a file prove it now; a verify link is enough.

    Exits with 0 if all of them do, with 1 if one does not, with 7 if none answers.
    """
    if bundle is not None and not bundle.absolute().parent.is_dir():
        raise NotFound(f"{bundle.parent}: no such directory", hint="check the path")
    result = session.with_client(lambda client: client.audit(target, leaves=leaves))
    if bundle is not None:
        from dsn.store.files import write_atomic

        write_atomic(bundle.absolute(), result.bundle, 0o644)
    session.say(report(target, result, bundle))
    session.emit(to_fields(result))
    return exit_code(result)


def exit_code(result: AuditResult) -> int:
    """0 if all holders proved what they hold, 7 if none said anything, else 1."""
    if result.held == len(result.holders):
        return 0
    said_lost = any(holder.reason in LOSSES for holder in result.holders)
    return 1 if result.held or result.wrong or said_lost else 7


def to_fields(result: AuditResult) -> dict[str, object]:
    """The stable output of an audit."""
    known = dataclasses.asdict(result)
    del known["bundle"]
    known["bytes"], known["verdicts"] = known.pop("moved_bytes"), list(known.pop("holders"))
    return known


def report(target: str, result: AuditResult, bundle: Path | None) -> Iterator[str]:
    """A line a holder, and the figures below."""
    rows = [("NODE", "ADDRESS", "VERDICT", "LEAVES", "HOLDS", "RESPONSE", "REASON")]
    rows += [
        (
            holder.node[:16],
            holder.address,
            holder.outcome,
            f"{holder.leaves} of {holder.asked}",
            format_size(holder.held_bytes),
            f"{holder.response_ms:,} ms",
            holder.reason,
        )
        for holder in result.holders
    ]
    yield from columns(rows)
    yield ""
    tally = f"{result.held} held, {result.wrong} wrong, {result.silent} silent"
    if result.unclear:
        tally += f", {result.unclear} unclear (they count other leaves)"
    moved = f"{format_size(result.moved_bytes)} moved in {format_seconds(result.seconds)}"
    pairs = [
        ("file", target),
        ("verdicts", tally),
        ("leaves", f"{count(result.leaves, 'leaf', 'leaves')} proven, {moved}"),
        ("confidence", result.confidence),
    ]
    if bundle is not None:
        pairs.append(("bundle", f"{bundle} ({format_size(len(result.bundle))})"))
    yield from fields(pairs)
