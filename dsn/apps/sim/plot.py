"""Pictures of what the simulator found, as PNG files.

matplotlib is an extra and imported only here, when a picture is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dsn.apps.sim.lookups import Figures
from dsn.apps.sim.split import LINK, History
from dsn.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = (
    "#2a9d8f", "#4f83c4", "#27488f", "#f0a04b", "#c65b1c", "#e0718c", "#a3234e", "#7b6fa8",
)  # fmt: skip
LINES: Final = (("#8a919c", "s"), ("#2a9d8f", "o"), ("#f0a04b", "^"))
INK: Final = "#2b303a"
FAINT: Final = "#dfe3e8"
DPI: Final = 150
TICKS_MS: Final = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)


def require_matplotlib() -> None:
    """See to it that pictures can be drawn, before anything long begins.

    Raises:
        ConfigError: ``missing_extra``: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "pictures need matplotlib", code="missing_extra", hint="pip install 'dsn[plots]'"
        ) from error


def draw_lookups(figures: Sequence[Figures], nodes: int, file: Path) -> None:
    """Draw how many lookups succeeded, and how long they took, scenario by scenario."""
    figure = _figure(f"Lookups among {nodes:,} nodes, {len(figures[0].lookups):,} in a scenario")
    left, right = figure.subplots(1, 2, width_ratios=(4, 5))
    colours = [COLOURS[at % len(COLOURS)] for at in range(len(figures))]
    _draw_success(left, figures, colours)
    for each, colour in zip(figures, colours, strict=True):
        ended_ms = sorted(one.latency_ms for one in each.lookups)
        percents = [100 * at / len(ended_ms) for at in range(1, len(ended_ms) + 1)]
        right.plot(ended_ms, percents, color=colour, linewidth=1.8)
    _tidy(
        right,
        "Time until a lookup ended, in the same colours",
        "virtual milliseconds",
        "% of lookups",
    )
    right.set_xscale("log")
    right.set_xticks(TICKS_MS, [f"{tick:,}" for tick in TICKS_MS])
    right.set_xlim(20, max(2_000, *(one.latency_ms for each in figures for one in each.lookups)))
    right.set_ylim(0, 101)
    right.minorticks_off()
    figure.savefig(file, dpi=DPI, format="png")


def draw_split(histories: Sequence[History], nodes: int, file: Path) -> None:
    """Draw how whole a network is before, during and after a split, and what upkeep costs."""
    figure = _figure(f"{nodes:,} nodes, in two halves for an hour, then joined by one link")
    left, right = figure.subplots(1, 2)
    for history, (colour, marker) in zip(histories, LINES, strict=True):
        refreshes = [each for each in history.moments if each.name != LINK]
        for axes, moments, values in (
            (left, history.moments, [100 * each.recall for each in history.moments]),
            (right, refreshes, [each.calls for each in refreshes]),
        ):
            names = [each.name for each in moments]
            (line,) = axes.plot(names, values, color=colour, marker=marker, linewidth=2)
            line.set_label(history.habits)
    _tidy(left, "Recall: what a lookup finds of the true nearest", "", "%")
    _tidy(right, "Calls of a node in a refresh", "", "")
    left.set_ylim(0, 104)
    right.set_ylim(0)
    for axes in (left, right):
        axes.tick_params(axis="x", labelrotation=30)
    left.legend(frameon=False, fontsize=9, loc="lower right", labelcolor=INK)
    figure.savefig(file, dpi=DPI, format="png")


def _draw_success(axes: Axes, figures: Sequence[Figures], colours: Sequence[str]) -> None:
    success = [100 * each.success for each in figures]
    bars = axes.barh([_label(each) for each in figures], success, color=colours, height=0.66)
    printed = [f"{math.floor(10 * each) / 10:.1f}" for each in success]
    axes.bar_label(bars, printed, padding=4, fontsize=8, color=INK)
    _tidy(axes, "Lookups that found the record", "%", "")
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 25))
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")


def _figure(title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK)
    return figure


def _tidy(axes: Axes, title: str, across: str, up: str) -> None:
    """Give ``axes`` their words, and take all lines away that say nothing."""
    axes.set_title(title, fontsize=10, color=INK, loc="left")
    axes.set_xlabel(across, fontsize=9, color=INK)
    axes.set_ylabel(up, fontsize=9, color=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(labelsize=8, labelcolor=INK, length=0)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)


def _label(figures: Figures) -> str:
    trouble = figures.trouble
    return trouble.name if trouble.paths == 1 else f"{trouble.name}, {trouble.paths} paths"
