"""``dsn sim``: whole networks in virtual time, larger or unluckier than any at hand."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from dsn.apps.results import Progress
from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError
from dsn.ui.figures import count, format_seconds
from dsn.ui.table import print_table
from dsn.units import KIB, MIB, format_size

if TYPE_CHECKING:
    from dsn.apps.sim.lookups import Figures, Trouble
    from dsn.apps.sim.split import History

NODES, SPLIT_NODES = 10_000, 200
LEAST_NODES, MOST_NODES, MOST_SPLIT_NODES = 10, 100_000, 2_000
LOOKUPS, MOST_LOOKUPS = 1_000, 100_000
MOST_TROUBLED = 0.9
"""Of all nodes: the dead and the malicious together."""
LOOKUP_HEADINGS = (
    "SCENARIO", "PATHS", "SUCCESS", "HOPS p50 p99", "CALLS mean p99", "MS p50 p95 p99", "TOOK",
)  # fmt: skip


class Row(NamedTuple):
    """A scenario's figures and the seconds they took."""

    figures: Figures
    seconds: float


@click.group()
def sim() -> None:
    """Try the protocols at a scale no machine holds, in virtual time."""


@sim.command()
@click.option(
    "--nodes",
    type=click.IntRange(LEAST_NODES, MOST_NODES),
    metavar="N",
    help=f"How many; {NODES:,}, or {SPLIT_NODES} with --split.",
)
@click.option(
    "--lookups",
    type=click.IntRange(1, MOST_LOOKUPS),
    metavar="N",
    help=f"In a scenario; {LOOKUPS:,}.",
)
@click.option(
    "--dead",
    type=click.FloatRange(0, MOST_TROUBLED),
    metavar="SHARE",
    help="Of the nodes, die at once: such as 0.5.",
)
@click.option(
    "--malicious",
    type=click.FloatRange(0, MOST_TROUBLED),
    metavar="SHARE",
    help="Of the nodes, lie: such as 0.2.",
)
@click.option(
    "--paths", type=click.IntRange(1, 8), metavar="N", help="Disjoint paths of a lookup; 1."
)
@click.option("--churn/--no-churn", default=None, help="Whether nodes come and go.")
@click.option("--split", is_flag=True, help="Break a network in two, and see it heal.")
@click.option("--seed", type=int, default=1, show_default=True, metavar="N")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Draw it, too.",
)
@pass_session
def dht(
    session: Session,
    nodes: int | None,
    lookups: int | None,
    dead: float | None,
    malicious: float | None,
    paths: int | None,
    churn: bool | None,
    split: bool,
    seed: int,
    plot: Path | None,
) -> None:
    """Look records up in a simulated network with production lookups and routing tables.

    Without a flag that names some trouble: a table of all kinds. The same seed gives the same
    figures, but for the time it took.
    """
    _check_plot(plot)
    trouble = (dead, malicious, paths, churn)
    if split:
        if any(each is not None for each in (*trouble, lookups)):
            raise UsageError("--split goes with --nodes, --seed and --plot only")
        if nodes is not None and nodes > MOST_SPLIT_NODES:
            raise UsageError(
                f"{nodes:,} nodes, {MOST_SPLIT_NODES:,} at most with --split",
                hint="it has every node live for hours",
            )
        _run_split(session, nodes or SPLIT_NODES, seed, plot)
        return
    troubles = _troubles(dead, malicious, paths, churn)
    _run_lookups(session, troubles, nodes or NODES, lookups or LOOKUPS, seed, plot)


def _run_lookups(
    session: Session,
    troubles: Sequence[Trouble],
    nodes: int,
    lookups: int,
    seed: int,
    plot: Path | None,
) -> None:
    from dsn.apps.sim.lookups import run_lookups

    rows: list[Row] = []
    began_s = last_s = time.monotonic()
    with _progress(session, "lookups", len(troubles) * lookups) as tell:
        for figures in run_lookups(troubles, nodes, lookups, seed, tell):
            last_s, before_s = time.monotonic(), last_s
            rows.append(Row(figures, last_s - before_s))
    cost = _cost(last_s - began_s)
    session.emit(lookups_fields(rows, nodes, lookups, seed) | cost)
    if not session.json:
        print_table(LOOKUP_HEADINGS, map(lookup_cells, rows))
    session.say(f"{count(nodes, 'node')}, {count(lookups, 'lookup')} each; {_told(seed, cost)}")
    if plot is not None:
        from dsn.apps.sim.plot import draw_lookups

        draw_lookups([row.figures for row in rows], nodes, plot)
        session.say(f"picture: {plot}")


def _run_split(session: Session, nodes: int, seed: int, plot: Path | None) -> None:
    from dsn.apps.sim.split import COMPARED, REFRESHES, run_split

    began_s = time.monotonic()
    with _progress(session, "refreshes", len(COMPARED) * REFRESHES) as tell:
        histories = [run_split(habits, nodes, seed, tell=tell) for habits in COMPARED]
    cost = _cost(time.monotonic() - began_s)
    session.emit(split_fields(histories, nodes, seed) | cost)
    if not session.json:
        print_table(split_headings(histories), split_cells(histories))
    session.say(f"{count(nodes, 'node')}, in halves for an hour; {_told(seed, cost)}")
    if plot is not None:
        from dsn.apps.sim.plot import draw_split

        draw_split(histories, nodes, plot)
        session.say(f"picture: {plot}")


def lookups_fields(rows: Sequence[Row], nodes: int, lookups: int, seed: int) -> dict[str, object]:
    """The stable output of lookups."""
    scenarios = [
        {
            "scenario": trouble.name,
            "dead": trouble.dead,
            "malicious": trouble.malicious,
            "churn": trouble.churn,
            "paths": trouble.paths,
            **figures.summary(),
            "seconds": seconds,
        }
        for figures, seconds in rows
        for trouble in (figures.trouble,)
    ]
    return {"nodes": nodes, "lookups": lookups, "seed": seed, "scenarios": scenarios}


def lookup_cells(row: Row) -> tuple[str, ...]:
    """A scenario as a line of the table."""
    figure = row.figures.summary()
    return (
        row.figures.trouble.name,
        str(row.figures.trouble.paths),
        f"{_cut(100 * figure['success'], 1)} %",
        f"{figure['hops_p50']} {figure['hops_p99']}",
        f"{figure['calls_mean']:.1f} {figure['calls_p99']}",
        " ".join(f"{figure[f'latency_ms_{each}']:,.0f}" for each in ("p50", "p95", "p99")),
        format_seconds(row.seconds),
    )


def split_fields(histories: Sequence[History], nodes: int, seed: int) -> dict[str, object]:
    """The stable output of a split."""
    return {"nodes": nodes, "seed": seed, "histories": [asdict(each) for each in histories]}


def split_headings(histories: Sequence[History]) -> list[str]:
    """A pair of columns for each of ``histories``."""
    pairs = ((each.habits.upper(), "CALLS") for each in histories)
    return ["RECALL", *chain.from_iterable(pairs)]


def split_cells(histories: Sequence[History]) -> Iterator[list[str]]:
    """The histories side by side, a line for each moment."""
    for moments in zip(*(each.moments for each in histories), strict=True):
        pairs = ((_cut(each.recall, 3), f"{each.calls:.0f}") for each in moments)
        yield [moments[0].name, *chain.from_iterable(pairs)]


def _cut(value: float, digits: int) -> str:
    """``value`` rounded down: what is not all never reads as if it were."""
    unit = 10**digits
    return f"{math.floor(value * unit + 1e-9) / unit:.{digits}f}"


def _troubles(
    dead: float | None, malicious: float | None, paths: int | None, churn: bool | None
) -> Sequence[Trouble]:
    """The one scenario that the flags describe, or the standard ones if there are none."""
    from dsn.apps.sim.lookups import STANDARD, Trouble

    if all(each is None for each in (dead, malicious, paths, churn)):
        return STANDARD
    gone, bad = dead or 0.0, malicious or 0.0
    if gone + bad > MOST_TROUBLED:
        raise UsageError(
            f"{100 * (gone + bad):g} % dead or malicious, {100 * MOST_TROUBLED:g} % at most"
        )
    named = ((gone, "dead"), (bad, "malicious"))
    names = [f"{100 * each:g} % {what}" for each, what in named if each]
    name = ", ".join([*names, *(["churn"] if churn else [])]) or "healthy"
    return (Trouble(name, dead=gone, malicious=bad, paths=paths or 1, churn=bool(churn)),)


def _check_plot(plot: Path | None) -> None:
    """Fail before the work, not after it."""
    if plot is None:
        return
    if plot.suffix != ".png":
        raise UsageError(f"{plot}: a picture is a PNG file", hint="name it FILE.png")
    if not plot.parent.is_dir():
        raise UsageError(f"{plot.parent}: no such folder", hint="create it first")
    from dsn.apps.sim.plot import require_matplotlib

    require_matplotlib()


@contextmanager
def _progress(session: Session, stage: str, total: int) -> Iterator[Callable[[], None]]:
    """Something to call after each of ``total`` things."""
    with session.progress() as sink:
        numbers = iter(range(1, total + 1))
        yield lambda: sink(Progress(stage, next(numbers), total))


def _cost(seconds: float) -> dict[str, float]:
    """What the run took of this machine."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else KIB
    return {"seconds": seconds, "peak_memory_mib": peak * unit / MIB}


def _told(seed: int, cost: Mapping[str, float]) -> str:
    memory = format_size(round(cost["peak_memory_mib"] * MIB))
    return f"seed {seed}, {format_seconds(cost['seconds'])}, {memory} at most"
