"""``dsn get`` and ``dsn cat``: a capability or a name in, bytes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsn.apps.results import GetResult
from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError
from dsn.ui.figures import format_seconds, format_speed
from dsn.units import format_size

if TYPE_CHECKING:
    from dsn.apps.client import Client

STDOUT = "-"
_RANGE = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)


def parse_range(text: str) -> tuple[int, int]:
    """Read ``A-B`` (untrusted): the bytes from A up to, but not including, B.

    Raises:
        UsageError: ``bad_range``.
    """
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UsageError(
            f"'{text}' is no byte range",
            hint="--range 0-1000 reads the first 1,000 bytes",
            code="bad_range",
        )
    start, end = int(match[1]), int(match[2])
    if start >= end:
        raise UsageError(
            f"range {start}-{end} holds no byte",
            hint="A-B is byte A up to, but not including, byte B",
            code="bad_range",
        )
    return start, end


range_option = click.option(
    "--range",
    "range_",
    metavar="A-B",
    callback=lambda _ctx, _param, text: None if text is None else parse_range(text),
    help="Only bytes A up to, but not including, B, counted from 0.",
)


@click.command()
@click.argument("target", metavar="CAP|NAME")
@click.option("-o", "--output", metavar="PATH|-", help="Where to write; - is standard output.")
@range_option
@click.option("--force", is_flag=True, help="Replace a file that is already there.")
@pass_session
def get(
    session: Session, target: str, output: str | None, range_: tuple[int, int] | None, force: bool
) -> None:
    """Read a file or directory back, by capability or by name.

    Without -o it lands in the current folder under its own name. The same command again
    resumes an interrupted one.
    """
    if output == STDOUT:
        to_stdout(session, target, range_)
        return

    async def work(client: Client) -> tuple[Path, GetResult]:
        path = await landing_path(client, target, Path(output or "."))
        return path, await client.get(target, path, range_=range_, force=force)

    path, result = session.with_client(work)
    session.notice(f"read {_figures(result)} into {path}")
    _finish(session, result)
    session.emit({"path": str(path), **to_fields(result)})


@click.command()
@click.argument("target", metavar="CAP|NAME")
@range_option
@pass_session
def cat(session: Session, target: str, range_: tuple[int, int] | None) -> None:
    """Write a file's bytes to standard output."""
    to_stdout(session, target, range_)


def to_stdout(session: Session, target: str, range_: tuple[int, int] | None) -> None:
    """Write the file's bytes, and nothing else, to standard output."""
    if session.json:
        raise UsageError(
            "the bytes and the --json object cannot share standard output",
            hint="use 'dsn get -o PATH --json'",
        )
    result = session.with_client(
        lambda client: client.get(target, None, range_=range_, force=False)
    )
    _finish(session, result)


async def landing_path(client: Client, target: str, asked: Path) -> Path:
    """Where the file lands: ``asked`` itself, or below it under the file's own name.

    The name comes out of a capability that anybody may have made, so only its last
    component counts, and never one that leads out of ``asked``.
    """
    if not asked.is_dir():
        return asked
    info = await client.info(target)
    name = Path((info.name or "").replace("\\", "/")).name
    usable = name not in ("", ".", "..") and name.isprintable()
    return asked / (name if usable else info.file_id)


def to_fields(result: GetResult) -> dict[str, object]:
    """The stable output of a get."""
    return {
        "size": result.size,
        "sha256": result.sha256,
        "seconds": result.seconds,
        "warnings": list(result.warnings),
    }


def _figures(result: GetResult) -> str:
    return (
        f"{format_size(result.size)} in {format_seconds(result.seconds)} "
        f"({format_speed(result.size, result.seconds)})"
    )


def _finish(session: Session, result: GetResult) -> None:
    for warning in result.warnings:
        session.warn(warning)
