"""Tables and fields: drawn on a terminal, aligned plain text everywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

import click

GAP = "  "

STATE_STYLES = {
    "healthy": "green",
    "running": "green",
    "ok": "green",
    "degraded": "yellow",
    "at_risk": "red",
    "lost": "bold red",
    "fault": "red",
    "stopped": "yellow",
    "frozen": "yellow",
    "unknown": "dim",
}
"""Words that carry a colour on a terminal."""


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print ``rows`` under ``headings``; with rich on a terminal, as plain columns in a pipe."""
    body = [list(row) for row in rows]
    if sys.stdout.isatty():
        _draw(headings, body)
        return
    for line in columns([list(headings), *body]):
        click.echo(line)


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """``rows`` as lines whose columns line up, without trailing blanks."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def fields(pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """``name  value`` lines whose values line up."""
    return columns([list(pair) for pair in pairs])


def _draw(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    Console().print(table)
