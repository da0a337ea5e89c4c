"""Where the steps of long work go when there is no terminal: JSON lines, or nowhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
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
