"""From any exception to one line, one hint and one exit code."""

from __future__ import annotations

import errno
import json
import os
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from dsn.cli.session import Session
from dsn.errors import DsnError

USAGE_EXIT = 2
INTERNAL_EXIT = 70
"""``EX_SOFTWARE`` of sysexits.h: a bug is no check's verdict, so it shares no code with one."""
INTERRUPTED_EXIT = 130
BROKEN_PIPE_EXIT = 141
"""What a shell shows for a process that SIGPIPE ended."""

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_OS_FAILURES = {
    errno.ENOENT: ("not_found", 3, "no such file or directory", "check the path"),
    errno.EACCES: ("permission_denied", 2, "permission denied", "check its owner and mode"),
    errno.EPERM: ("permission_denied", 2, "not permitted", "check its owner and mode"),
    errno.EROFS: ("permission_denied", 2, "read-only file system", "choose another path"),
    errno.EISDIR: ("is_directory", 2, "is a directory", "name a file"),
    errno.ENOTDIR: ("not_directory", 2, "not a directory", "check the path"),
    errno.EEXIST: ("output_exists", 2, "already exists", "choose another path"),
    errno.ENAMETOOLONG: ("usage", 2, "name too long", "choose a shorter one"),
    errno.ENOSPC: ("no_space", 6, "the local disk is full", "free some space, then repeat"),
    errno.EDQUOT: ("no_space", 6, "the disk quota is used up", "free some space, then repeat"),
    errno.EMFILE: ("limit", 6, "too many open files", "raise 'ulimit -n', then repeat"),
}
"""What the system may refuse through no fault of ours: code, exit code, message, hint."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What a program (``--json``) and a person get to know of a failure."""

    code: str
    message: str
    hint: str
    peer: str
    exit: int


def describe(error: BaseException) -> Failure:
    """Name ``error`` for people and programs; anything unforeseen is an internal error."""
    cause = _leading(error)
    if isinstance(cause, DsnError):
        return Failure(cause.detail_code, cause.message, cause.hint, cause.peer, cause.exit_code)
    if isinstance(cause, click.ClickException):
        return _from_click(cause)
    if isinstance(cause, (KeyboardInterrupt, click.Abort)):
        return Failure(
            "interrupted", "interrupted", "resume with the same command", "", INTERRUPTED_EXIT
        )
    if isinstance(cause, OSError) and _is_foreseen(cause):
        return _from_system(cause)
    what = " ".join(f"{type(cause).__name__}: {cause}".split())
    return Failure(
        "internal", f"internal error: {what[:300]}; please report it", "", "", INTERNAL_EXIT
    )


def is_broken_pipe(error: BaseException) -> bool:
    """Whether the reader of our standard output went away: no fault, nothing to say."""
    return isinstance(_leading(error), BrokenPipeError)


def report(error: BaseException, failure: Failure, session: Session) -> int:
    """Print ``failure``: line and hint on standard error, the object on standard output.

    Returns:
        The exit code.
    """
    hint = failure.hint
    if failure.code == "internal":
        hint = _keep_details(error, session)
    click.echo(f"dsn: {failure.message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    if session.json:
        click.echo(json.dumps({"error": asdict(failure) | {"hint": hint}}))
    return failure.exit


def _leading(error: BaseException) -> BaseException:
    """The exception of a group that says most: ours first, then an interrupt, then any."""
    leaves = list(_leaves(error))
    ranked = (DsnError, KeyboardInterrupt, click.ClickException, OSError)
    for kind in ranked:
        for leaf in leaves:
            if isinstance(leaf, kind):
                return leaf
    return leaves[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _is_foreseen(error: OSError) -> bool:
    """A refusal that names its path, or a full disk; others come out of our own descriptors."""
    return error.errno in _OS_FAILURES and (error.filename is not None or error.errno in _DISK_FULL)


def _from_system(error: OSError) -> Failure:
    code, exit_code, message, hint = _OS_FAILURES[error.errno or 0]
    if error.filename is not None:
        message = f"{os.fsdecode(error.filename)}: {message}"
    return Failure(code, message, hint, "", exit_code)


def _from_click(error: click.ClickException) -> Failure:
    message = error.format_message().strip().rstrip(".")
    message = message[:1].lower() + message[1:]
    hint = "'dsn --help' lists all commands"
    context = getattr(error, "ctx", None)
    if context is not None:
        hint = f"'{context.command_path} --help' shows how it is used"
    if isinstance(error, click.NoSuchOption):
        message = f"no such option '{error.option_name}'"
    close = getattr(error, "possibilities", None)  # of a mistyped option or subcommand
    if close:
        message = message.split(". ")[0]
        hint = f"did you mean '{close[0]}'?"
    return Failure("usage", " ".join(message.split()), hint, "", USAGE_EXIT)


def _keep_details(error: BaseException, session: Session) -> str:
    """Put the traceback where a report can quote it, and say where that is."""
    details = "".join(traceback.format_exception(error))
    if session.verbose or os.environ.get("DSN_DEBUG"):
        click.echo(details, err=True)
        return ""
    log = session.home_path() / "log"
    try:
        if not log.parent.is_dir():
            return "the same command with --verbose shows the details"
        log.mkdir(mode=0o700, exist_ok=True)
        with open(log / "errors.log", "a", encoding="utf-8") as out:
            out.write(details + "\n")
    except OSError:
        return "the same command with --verbose shows the details"
    return f"the details are in {log / 'errors.log'}"
