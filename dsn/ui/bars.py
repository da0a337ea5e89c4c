"""Progress bars on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from dsn.ui.figures import format_amount

if TYPE_CHECKING:
    from dsn.apps.results import Progress, ProgressSink


class _Amount(ProgressColumn):
    """How much of what is done, in the units that results are told in."""

    def render(self, task: Task) -> Text:
        """The column's text."""
        total = None if task.total is None else int(task.total)
        return Text(format_amount(task.description, int(task.completed), total, task.speed))


class Bars:
    """One bar a stage, on standard error, gone when the work ends."""

    def __init__(self, console: Console | None = None) -> None:
        """Prepare the bars; they appear on entry, on ``console`` or on standard error."""
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            _Amount(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
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
