"""Write errors.md, commands.md and settings.md from the code (``make docs``).

``tests/docs/test_reference.py`` fails when what stands in the pages is not what this writes.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

import dsn
from dsn import config
from dsn.cli import failure
from dsn.cli.main import EPILOG, SECTIONS, cli
from dsn.errors import DsnError, EntryRefused
from dsn.wire import status

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "dsn"
GENERATED = "<!-- written by `make docs`; do not edit -->"


class Known(NamedTuple):
    """One stable code: whose it is, how the process ends, what it says."""

    code: str
    error: str
    exit_code: int
    text: str


def classes() -> dict[str, type[DsnError]]:
    """Every error class by name, wherever it is defined."""
    for module in pkgutil.walk_packages(dsn.__path__, "dsn."):
        if not module.name.endswith(("__main__", "_leafhash", "_recovery")):
            importlib.import_module(module.name)
    ours = (error for error in below(DsnError) if error.__module__.startswith("dsn."))
    return {error.__name__: error for error in ours}


def below(error: type[DsnError]) -> Iterator[type[DsnError]]:
    """``error`` and all its subclasses."""
    yield error
    for narrower in error.__subclasses__():
        yield from below(narrower)


def known_errors() -> list[Known]:
    """Every code a program can meet, each once, sorted."""
    named = classes()
    rows = {c.code: Known(c.code, n, c.exit_code, summary(c)) for n, c in named.items() if own(c)}
    for code, error, text in sorted(raised(named), key=clarity, reverse=True):
        rows.setdefault(code, Known(code, error.__name__, error.exit_code, text))
    for row in status.TABLE:
        rows.setdefault(row.code, Known(row.code, row.error.__name__, row.error.exit_code, ""))
    for code, exit_code, text, _ in failure._OS_FAILURES.values():
        rows.setdefault(code, Known(code, "", exit_code, f"…: {text}"))
    rows["interrupted"] = Known("interrupted", "", failure.INTERRUPTED_EXIT, "Ctrl-C.")
    rows["internal"] = Known("internal", "", failure.INTERNAL_EXIT, "A bug; please report it.")
    return sorted(rows.values())


def clarity(found: tuple[str, type[DsnError], str]) -> tuple[int, str]:
    """How much a message says without its figures; of several one is shown."""
    _, _, text = found
    return len(text.replace("…", "").strip(" .:=()")), text


def own(error: type[DsnError]) -> bool:
    """Whether the class names a code itself."""
    return "code" in vars(error)


def summary(thing: object) -> str:
    """The first line of a docstring."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("``", "`")


def raised(named: dict[str, type[DsnError]]) -> Iterator[tuple[str, type[DsnError], str]]:
    """Each ``SomeError(message, code="...")`` and ``refuse(code, message)`` in the sources."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and (error := named.get(called(node.func))):
                for keyword in node.keywords:
                    if keyword.arg == "code":
                        for code in texts(keyword.value):
                            yield code, error, message(node.args[0]) if node.args else ""
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "refuse":
                for code in texts(node.args[0]):
                    yield code, EntryRefused, message(node.args[1])


def called(function: ast.expr) -> str:
    """The last part of a called name."""
    return getattr(function, "id", "") or getattr(function, "attr", "")


def texts(value: ast.expr) -> Iterator[str]:
    """The code, or both codes of a conditional one."""
    match value:
        case ast.Constant(value=str(code)):
            yield code
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body)
            yield from texts(orelse)


def message(value: ast.expr) -> str:
    """A message as a template: what varies becomes an ellipsis."""
    match value:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(message(part) for part in parts)
        case _:
            return "…"


def errors_page() -> str:
    """errors.md."""
    statuses = {row.code: row.status.name for row in status.TABLE}
    lines = [
        "# Errors",
        "",
        GENERATED,
        "",
        "A failed command prints one line and one hint on standard error and ends with the exit",
        "code. With `--json` standard output gets `{error: {code, message, hint, peer, exit}}`.",
        "Between nodes the code travels in an `ErrorDetail` (`dsn-error-bin` in the trailing",
        "metadata) beside the gRPC status. Codes are stable; texts are not.",
        "",
        EPILOG,
        "",
        "| code | exit | gRPC status | class | says |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row.code}` | {row.exit_code} | {statuses.get(row.code, '')} "
        f"| {row.error} | {escape(row.text)} |"
        for row in known_errors()
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that may stand in a table's cell."""
    shown = " ".join(text.split()).replace("|", "\\|")
    return shown if shown.strip("… .:=()") else ""


def commands() -> Iterator[tuple[click.Context, click.Command]]:
    """Every command in the order of ``dsn --help``, parents before children."""
    root = click.Context(cli, info_name="dsn")
    for section in SECTIONS.values():
        for name in section:
            command = cli.get_command(root, name)
            assert command is not None
            yield from descend(click.Context(command, info_name=name, parent=root), command)


def descend(
    context: click.Context, command: click.Command
) -> Iterator[tuple[click.Context, click.Command]]:
    """``command`` and all below it."""
    yield context, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            if not inner.hidden:
                yield from descend(click.Context(inner, info_name=name, parent=context), inner)


def commands_page() -> str:
    """commands.md."""
    root = click.Context(cli, info_name="dsn")
    lines = ["# Commands", "", GENERATED, "", *described(root, cli, "Options before or after")]
    for context, command in commands():
        depth = "##" if context.parent is not None and context.parent.parent is None else "###"
        lines += ["", f"{depth} {context.command_path}", "", *described(context, command, "Option")]
    return "\n".join(lines) + "\n"


def described(context: click.Context, command: click.Command, title: str) -> list[str]:
    """Usage, help and options of one command."""
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    text = inspect.cleandoc(command.help or "").replace("\f", "").strip()
    lines = [f"`{usage}`", "", text]
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if options:
        lines += ["", f"| {title.lower()} | |", "|---|---|"]
        lines += [option_row(option, context) for option in options]
    return lines


def option_row(option: click.Option, context: click.Context) -> str:
    """One option, with its metavar and help."""
    names = ", ".join(option.opts) + "".join(f" / {opt}" for opt in option.secondary_opts)
    value = "" if option.is_flag or option.count else f" {option.make_metavar(context)}"
    return f"| `{escape(names + value)}` | {escape(option.help or '')} |"


def settings_page() -> str:
    """settings.md."""
    lines = [
        "# Settings",
        "",
        GENERATED,
        "",
        "Defaults < `dsn.toml` in the home < `DSN_SECTION__KEY` < flags. `dsn config show` prints",
        "each value and where it came from.",
        "",
        "| key | type | default | meaning |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{k.key}` | {escape(k.kind)} | `{k.default or ' '}` | {escape(k.text)} |"
        for k in config.reference()
    ]
    return "\n".join(lines) + "\n"


PAGES = {"errors.md": errors_page, "commands.md": commands_page, "settings.md": settings_page}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
