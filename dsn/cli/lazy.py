"""A click group that imports a command only when it runs, so that ``dsn --help`` is quick."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from dsn.cli.session import add_global_options
from dsn.errors import UsageError

Sections = Mapping[str, Mapping[str, tuple[str, str]]]
"""Heading -> command -> (``module:attribute``, one line of help)."""


class LazyGroup(click.Group):
    """The root group: a table of commands instead of imported ones."""

    def __init__(self, *args: Any, sections: Sections, **kwargs: Any) -> None:
        """Keep the table and take the global options."""
        super().__init__(*args, **kwargs)
        self.sections = sections
        self._targets = {
            name: target for commands in sections.values() for name, target in commands.items()
        }
        add_global_options(self, hidden=False)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name, in the table's order."""
        return list(self._targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module, or return ``None`` for a name that is not in the table."""
        if cmd_name not in self._targets:
            return None
        module, attribute = self._targets[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        add_global_options(command, hidden=True)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a name that is not there gets the nearest one as a hint."""
        name = args[0]
        if name not in self._targets and not ctx.resilient_parsing and not name.startswith("-"):
            raise UsageError(f"no such command '{name}'", hint=_nearest(name, self._targets))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the table by section, without importing anything."""
        width = max(map(len, self._targets))
        for heading, commands in self.sections.items():
            with formatter.section(heading):
                rows = [(name.ljust(width), text) for name, (_, text) in commands.items()]
                formatter.write_dl(rows)


def _nearest(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean 'dsn {close[0]}'?" if close else "'dsn --help' lists all commands"
