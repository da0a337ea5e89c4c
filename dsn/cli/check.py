"""``dsn check``: have the holders prove a file, and say how sure that makes us."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

import click

from dsn.apps.results import CheckResult, FileState
from dsn.cli.session import Session, pass_session
from dsn.ui.figures import count
from dsn.ui.table import fields
from dsn.units import format_size

EXIT_CODES = {
    FileState.HEALTHY: 0,
    FileState.DEGRADED: 1,
    FileState.AT_RISK: 1,
    FileState.LOST: 5,
    FileState.UNKNOWN: 7,
}
NOT_YET_KNOWN = {"loss_per_year": None, "loss_per_year_shock": None}
"""Fields of the stable output that need nodes with a history; null until there is one."""


@click.command()
@click.argument("target", metavar="CAP|NAME")
@click.option("--deep", is_flag=True, help="Have every leaf read and decoded, not a sample.")
@pass_session
def check(session: Session, target: str, deep: bool) -> int:
    """Have the holders prove a file; exits with 0 only when it is healthy.

    A sample by default, large enough to see a loss of 1 % of the file with 99 %.
    """
    result = session.with_client(lambda client: client.check(target, deep=deep))
    session.say(fields(list(report(target, result))))
    session.emit(to_fields(result))
    return EXIT_CODES[result.state]


def to_fields(result: CheckResult) -> dict[str, object]:
    """The stable output of a check."""
    return dataclasses.asdict(result) | {"state": result.state.value} | NOT_YET_KNOWN


def report(target: str, result: CheckResult) -> Iterator[tuple[str, str]]:
    """The check's verdict and the figures behind it."""
    yield "file", target
    yield "state", result.state.value
    tally = Counter(result.segments)
    for segment in sorted(tally, key=lambda seen: seen.good):
        shards = f"{segment.good} of {segment.total} shards good ({segment.required} needed)"
        yield "segments", f"{tally[segment]:,} with {shards}"
    copies = result.manifest
    yield "manifest", f"{copies.good} of {copies.total} copies good ({copies.required} needed)"
    how = "read and decoded" if result.deep else "asked and proven"
    yield "leaves", f"{count(result.leaves, 'leaf', 'leaves')} {how}, {format_size(result.bytes)}"
    yield "confidence", result.confidence
    for fault in result.faults:
        yield "fault", fault
    for node in result.silent:
        yield "silent", node
