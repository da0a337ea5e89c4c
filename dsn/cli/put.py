"""``dsn put``: paths in, capabilities out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsn.apps.results import PutResult
from dsn.cli.paying import (
    Spending,
    budget_option,
    days_option,
    days_until,
    format_credits,
    paid_fields,
    quote_fields,
    quote_pairs,
    spending,
)
from dsn.cli.session import Session, pass_session
from dsn.errors import NotFound, UsageError
from dsn.runtime.clock import SystemClock
from dsn.ui.figures import count, format_date, format_seconds, format_speed
from dsn.ui.table import columns, fields
from dsn.units import format_size

if TYPE_CHECKING:
    from dsn.apps.client import Client
    from dsn.core.layout import Scheme
    from dsn.dht.contact import Contact

STDIN = "-"
OWN_VERIFIER = "verifier"
"""Of ``--confirm-by``: the first that the settings name."""


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Store directories with all they hold.")
@click.option("--as", "name", metavar="NAME", help="Store under this name (one PATH only).")
@click.option(
    "--scheme", metavar="REQUIRED/TOTAL", help="Any REQUIRED of TOTAL shards give the file back."
)
@days_option
@click.option("--until", metavar="DATE", help="As --days, up to the end of DATE (2027-03-31).")
@click.option("--renew", is_flag=True, help="Have later puts keep it from expiring.")
@budget_option
@click.option("--dry-run", is_flag=True, help="Only say what it would cost; nothing is sent.")
@click.option(
    "--confirm-by",
    metavar="KEY@HOST:PORT",
    help="Have a verifier find every holder too; 'verifier': the first of client.verifiers.",
)
@click.option("--explain", is_flag=True, help="Show why each node holds the file, or does not.")
@pass_session
def put(
    session: Session,
    paths: Sequence[str],
    recursive: bool,
    name: str | None,
    scheme: str | None,
    days: int | None,
    until: str | None,
    renew: bool,
    budget: int | None,
    dry_run: bool,
    confirm_by: str | None,
    explain: bool,
) -> int:
    """Store files and directories; - is standard input.

    Standard output gets one line a PATH: its read capability, and with several PATHs its name.
    Exits with 1 if all is stored, and a verifier that was to confirm it does not.
    """
    from dsn.apps.targets import PutItem

    chosen = choose_scheme(session.settings(client__scheme=scheme).client.scheme)
    paid = spending(session, term_days(days, until), budget)
    items = [
        PutItem(path=path, name=stored, recursive=recursive)
        for path, stored in name_sources(paths, recursive, name)
    ]
    if dry_run:
        show_quote(session, total_size([item.path for item in items]), chosen, paid)
        return 0
    verifier = None if confirm_by is None else choose_verifier(session, confirm_by)

    async def work(client: Client) -> list[PutResult]:
        results = await client.put(
            items,
            scheme=chosen,
            days=paid.days,
            budget=paid.budget,
            renew=renew,
            confirm_by=verifier,
        )
        await client.renew_due()
        return results

    results = session.with_client(work)
    for result in results:
        describe(session, result)
        if explain:
            for line in explained(result):
                session.notice(line)
    session.say(
        [results[0].read] if len(results) == 1 else [f"{r.read}  {r.name}" for r in results]
    )
    session.emit(to_fields(results, explain=explain))
    return 1 if any(result.confirmed is False for result in results) else 0


def choose_verifier(session: Session, text: str) -> Contact:
    """The verifier that ``text`` names; the first that the settings name for ``verifier``.

    Raises:
        UsageError: ``bad_verifier``, ``no_verifier``.
    """
    from dsn.apps.scores import parse_verifier

    if text != OWN_VERIFIER:
        return parse_verifier(text)
    known = session.settings().client.verifiers
    if not known:
        raise UsageError(
            "client.verifiers names no verifier",
            hint="name one there, or here as KEY@HOST:PORT",
            code="no_verifier",
        )
    return parse_verifier(known[0])


def term_days(days: int | None, until: str | None) -> int | None:
    """What ``--days`` and ``--until`` say, if one of them is given.

    Raises:
        UsageError: Both are, or ``bad_date``.
    """
    if until is None:
        return days
    if days is not None:
        raise UsageError("--days and --until both say how long", hint="give one of them")
    return days_until(until, datetime.fromtimestamp(SystemClock().now_s(), UTC).date())


def total_size(paths: Sequence[Path | None]) -> int:
    """Bytes of all files in and below ``paths``.

    Raises:
        UsageError: Standard input, whose size nobody knows before it is read.
    """
    if None in paths:
        raise UsageError(
            "standard input has no size before it is read", hint="dsn quote SIZE tells its cost"
        )
    files = (
        file
        for path in paths
        if path is not None
        for file in ([path] if path.is_file() else path.rglob("*"))
    )
    return sum(file.lstat().st_size for file in files if file.is_file() and not file.is_symlink())


def show_quote(session: Session, size: int, scheme: Scheme | None, paid: Spending) -> None:
    """Say what storing ``size`` bytes would cost."""
    quote = session.with_client(lambda client: client.quote(size, scheme=scheme, days=paid.days))
    session.say(fields(list(quote_pairs(quote, durability=True))))
    session.emit(quote_fields(quote))


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
    if result.cost is not None and result.expires_s is not None:
        session.notice(
            f"{format_credits(result.cost)} until it expires, {format_date(result.expires_s)} UTC"
        )
    if result.confirmed:
        session.notice("a verifier found it on every node that holds it")
    for warning in result.warnings:
        session.warn(warning)


def explained(result: PutResult) -> Iterator[str]:
    """A table of the nodes that were asked: what each offered, and what came of it."""
    yield f"placement of {result.name} as {result.scheme}:"
    rows = [("NODE", "ADDRESS", "GROUP", "FREE", "LATENCY", "SCORE", "PROVEN", "WEIGHT", "VERDICT")]
    rows += [
        (
            placed.node[:16],
            placed.address,
            placed.group[:18],
            format_size(placed.free_bytes),
            f"{placed.latency_ms:.1f} ms",
            f"{placed.score:.2f}",
            f"{placed.proven:.3f}",
            f"{placed.weight:.1%}",
            placed.verdict + (", deal open" if placed.dealt else ""),
        )
        for placed in result.explained
    ]
    yield from columns(rows)


def to_fields(results: Sequence[PutResult], *, explain: bool = False) -> dict[str, object]:
    """The stable output: the object of one put, or all of them under ``files``."""
    objects: list[dict[str, object]] = []
    for result in results:
        known = dataclasses.asdict(result)
        del known["expires_s"]
        if not explain:
            del known["explained"]
        objects.append(known | paid_fields(result.cost, result.expires_s))
    if len(objects) == 1:
        return objects[0]
    costs = [result.cost for result in results if result.cost is not None]
    return {
        "files": objects,
        "size": sum(result.size for result in results),
        "uploaded_bytes": sum(result.uploaded_bytes for result in results),
        **paid_fields(sum(costs) if costs else None, None),
    }
