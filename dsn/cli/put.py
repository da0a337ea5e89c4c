"""``dsn put``: paths in, capabilities out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsn.apps.results import PutResult
from dsn.cli.session import Session, pass_session
from dsn.errors import NotFound, UsageError
from dsn.ui.figures import count, format_seconds, format_speed
from dsn.ui.table import columns
from dsn.units import format_size

if TYPE_CHECKING:
    from dsn.core.layout import Scheme

STDIN = "-"
NOT_YET_PRICED = {"cost": None, "expires": None}
"""Fields of the stable output that stay null until there is a ledger to fill them."""


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Store directories with all they hold.")
@click.option("--as", "name", metavar="NAME", help="Store under this name (one PATH only).")
@click.option(
    "--scheme", metavar="REQUIRED/TOTAL", help="Any REQUIRED of TOTAL shards give the file back."
)
@click.option("--explain", is_flag=True, help="Show why each node holds the file, or does not.")
@pass_session
def put(
    session: Session,
    paths: Sequence[str],
    recursive: bool,
    name: str | None,
    scheme: str | None,
    explain: bool,
) -> None:
    """Store files and directories; - is standard input.

    Standard output gets one line a PATH: its read capability, and with several PATHs its name.
    """
    from dsn.apps.client import PutItem

    chosen = choose_scheme(session.settings(client__scheme=scheme).client.scheme)
    items = [
        PutItem(path=path, name=stored, recursive=recursive)
        for path, stored in name_sources(paths, recursive, name)
    ]
    results = session.with_client(lambda client: client.put(items, scheme=chosen))
    for result in results:
        describe(session, result)
        if explain:
            for line in explained(result):
                session.notice(line)
    session.say(
        [results[0].read] if len(results) == 1 else [f"{r.read}  {r.name}" for r in results]
    )
    session.emit(to_fields(results, explain=explain))


def choose_scheme(text: str) -> Scheme | None:
    """The scheme ``text`` names; ``None`` for ``auto``, where the nodes decide."""
    from dsn.core.layout import Scheme

    return None if text == "auto" else Scheme.parse(text)


def name_sources(
    paths: Sequence[str], recursive: bool, name: str | None
) -> list[tuple[Path | None, str]]:
    """What to read and the name it is stored under, checked before anything is opened.

    Raises:
        NotFound: A path that is not there.
        UsageError: A directory without ``-r``, a name for several paths, or a name twice.
    """
    if name is not None and len(paths) > 1:
        raise UsageError(
            f"--as names one file, {len(paths)} paths given", hint="put them one by one"
        )
    if name == "":
        raise UsageError("an empty name", hint="leave --as out for the path's own name")
    sources = [(_check_source(path, recursive), name or _default_name(path)) for path in paths]
    seen: dict[str, str] = {}
    for path, (_, stored) in zip(paths, sources, strict=True):
        if stored in seen:
            raise UsageError(
                f"{seen[stored]} and {path} would both be named '{stored}'",
                hint="put them one by one, with --as NAME",
                code="name_taken",
            )
        seen[stored] = path
    return sources


def _check_source(text: str, recursive: bool) -> Path | None:
    if text == STDIN:
        return None
    path = Path(text)
    if not path.exists():
        raise NotFound(f"{text}: no such file or directory", hint="check the path")
    if path.is_dir() and not recursive:
        raise UsageError(
            f"{text} is a directory", hint="add -r to store all it holds", code="is_directory"
        )
    if not path.is_dir() and not path.is_file():
        raise UsageError(
            f"{text} is neither a file nor a directory",
            hint=f"store what comes out of it: dsn put - --as NAME < {text}",
            code="not_a_file",
        )
    return path


def _default_name(text: str) -> str:
    name = "stdin" if text == STDIN else Path(text).absolute().resolve().name
    if not name:
        raise UsageError(f"{text} has no name of its own", hint="add --as NAME")
    return name


def describe(session: Session, result: PutResult) -> None:
    """Say on standard error what became of one put."""
    session.notice(
        f"stored {result.name}: {format_size(result.size)} as {result.scheme}, "
        f"{count(result.segments, 'segment')}, {result.placed} of {result.total} shards placed, "
        f"{format_size(result.uploaded_bytes)} sent in {format_seconds(result.seconds)} "
        f"({format_speed(result.size, result.seconds)})"
    )
    for warning in result.warnings:
        session.warn(warning)


def explained(result: PutResult) -> Iterator[str]:
    """A table of the nodes that were asked: what each offered, and what came of it."""
    yield f"placement of {result.name} as {result.scheme}:"
    rows = [("NODE", "ADDRESS", "GROUP", "FREE", "LATENCY", "SCORE", "WEIGHT", "VERDICT")]
    rows += [
        (
            placed.node[:16],
            placed.address,
            placed.group[:18],
            format_size(placed.free_bytes),
            f"{placed.latency_ms:.1f} ms",
            f"{placed.score:.2f}",
            f"{placed.weight:.1%}",
            placed.verdict,
        )
        for placed in result.explained
    ]
    yield from columns(rows)


def to_fields(results: Sequence[PutResult], *, explain: bool = False) -> dict[str, object]:
    """The stable output: the object of one put, or all of them under ``files``."""
    objects: list[dict[str, object]] = []
    for result in results:
        fields = dataclasses.asdict(result) | NOT_YET_PRICED
        if not explain:
            del fields["explained"]
        objects.append(fields)
    if len(objects) == 1:
        return objects[0]
    return {
        "files": objects,
        "size": sum(result.size for result in results),
        "uploaded_bytes": sum(result.uploaded_bytes for result in results),
        "cost": None,
    }
