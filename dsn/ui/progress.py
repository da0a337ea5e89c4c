"""Where the steps of long work are shown: bars, JSON lines, or nowhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.progress import TaskID

    from dsn.apps.results import Progress, ProgressSink

LINE_INTERVAL_S = 0.1
"""At most ten JSON lines a second and stage: enough for any screen, and no flood."""


@contextmanager
def silence() -> Iterator[ProgressSink]:
    """A sink that shows nothing."""
    yield lambda _: None


@contextmanager
def json_lines(out: TextIO) -> Iterator[ProgressSink]:
    """A sink that writes ``{"stage", "done", "total"}`` lines; a stage's last one always."""
    shown: dict[str, float] = {}

    def sink(step: Progress) -> None:
        now_s = time.monotonic()
        if step.done != step.total and now_s - shown.get(step.stage, 0.0) < LINE_INTERVAL_S:
            return
        shown[step.stage] = now_s
        fields = {"stage": step.stage, "done": step.done, "total": step.total}
        click.echo(json.dumps(fields), file=out)

    yield sink


class Bars:
    """One rich bar a stage, on standard error, gone when the work ends."""

    def __init__(self) -> None:
        """Prepare the bars; they appear on entry."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ProgressSink:
        """Show the bars."""
        self._bars.start()
        return self._show

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bars away, so that what follows starts on a clean line."""
        self._bars.stop()

    def _show(self, step: Progress) -> None:
        if step.stage not in self._tasks:
            self._tasks[step.stage] = self._bars.add_task(step.stage, total=step.total)
        self._bars.update(self._tasks[step.stage], completed=step.done, total=step.total)
