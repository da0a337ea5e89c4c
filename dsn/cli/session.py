"""What all commands share: the global options, and how words and results leave the process."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dsn.apps.client import Client
    from dsn.apps.results import ProgressSink
    from dsn.config import Settings

Result = TypeVar("Result")


@dataclass(slots=True)
class Session:
    """The global options of this call; every command gets it by ``pass_session``."""

    home: str | None = None
    json: bool = False
    json_progress: bool = False
    quiet: bool = False
    verbose: bool = False

    def home_path(self) -> Path:
        """Where the home is: ``--home``, else ``DSN_HOME``, else the platform's data folder."""
        named = self.home or os.environ.get("DSN_HOME")
        if named:
            return Path(named).expanduser().absolute()
        from dsn.store.home import default_home

        return default_home()

    def settings(self, **flags: object) -> Settings:
        """Settings of this home; ``flags`` are ``section__key=value``, ``None`` is not given."""
        from dsn.config import load

        return load(self.home_path(), {k: v for k, v in flags.items() if v is not None}).settings

    def notice(self, text: str) -> None:
        """Say something a person should know, on standard error."""
        if self.json_progress:
            click.echo(json.dumps({"notice": text}), err=True)
        elif not self.quiet:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Say on standard error what must be known whatever the options."""
        click.echo(
            json.dumps({"warning": text}) if self.json_progress else f"warning: {text}", err=True
        )

    def progress(self) -> AbstractContextManager[ProgressSink]:
        """A sink for the steps of long work: bars on a terminal, lines with ``--json-progress``."""
        from dsn.ui.progress import json_lines, silence

        if self.json_progress:
            return json_lines(sys.stderr)
        if self.quiet or not sys.stderr.isatty():
            return silence()
        from dsn.ui.bars import Bars

        return Bars()

    def say(self, lines: Iterable[str] | str) -> None:
        """Print a result's text on standard output, unless ``--json`` asks for the object."""
        if not self.json:
            for line in (lines,) if isinstance(lines, str) else lines:
                click.echo(line)

    def emit(self, fields: object) -> None:
        """Print a result's object on standard output when ``--json`` asks for it."""
        if self.json:
            click.echo(json.dumps(fields, ensure_ascii=False))

    def with_client(self, work: Callable[[Client], Coroutine[Any, Any, Result]]) -> Result:
        """Open this home's client, run ``work`` with it and close it again."""
        from dsn.cli.opening import run_with_client

        return run_with_client(self, work)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a command's coroutine; Ctrl-C cancels it before it is reported."""
        from dsn.runtime.loop import run

        return run(work)


pass_session = click.make_pass_decorator(Session, ensure=True)


def _keep(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value and param.name:
        setattr(ctx.ensure_object(Session), param.name, value)


_GLOBAL_OPTIONS: tuple[tuple[list[str], dict[str, Any]], ...] = (
    (["--home"], {"metavar": "DIR", "help": "The home to work on (DSN_HOME)."}),
    (["--json"], {"is_flag": True, "help": "One JSON object on standard output."}),
    (["--json-progress"], {"is_flag": True, "help": "Progress as JSON lines on standard error."}),
    (["--quiet"], {"is_flag": True, "help": "No progress and no remarks."}),
    (["--verbose"], {"is_flag": True, "help": "Details of an internal error (DSN_DEBUG)."}),
)


def add_global_options(command: click.Command, *, hidden: bool) -> None:
    """Let ``command``, and all below it, take the global options too.

    Args:
        command: Changed in place; a second call changes nothing.
        hidden: Keep them out of its help, which then points to ``dsn --help``.
    """
    taken = {opt for param in command.params for opt in param.opts}
    for names, extra in _GLOBAL_OPTIONS:
        if names[0] not in taken:
            option = click.Option(names, expose_value=False, callback=_keep, hidden=hidden, **extra)
            command.params.append(option)
    if hidden and not command.epilog:
        command.epilog = "Also: --home, --json, --json-progress, --quiet, --verbose ('dsn --help')."
    if hidden and isinstance(command, click.Group):
        for inner in command.commands.values():
            add_global_options(inner, hidden=True)
