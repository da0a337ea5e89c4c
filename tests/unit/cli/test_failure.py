"""From any exception to one line and one code."""

from __future__ import annotations

import errno

import click
import pytest

from dsn.cli.failure import describe, is_broken_pipe
from dsn.errors import (
    ConfigError,
    DataLost,
    DsnError,
    LimitReached,
    NotEnoughShards,
    NotFound,
    PeerError,
    TransportError,
    UsageError,
)


@pytest.mark.parametrize(
    ("kind", "exit_code"),
    [
        (UsageError, 2), (ConfigError, 2), (NotFound, 3), (PeerError, 4), (DataLost, 5),
        (LimitReached, 6), (TransportError, 7),
    ],
)  # fmt: skip
def test_our_errors_carry_their_exit_code(kind: type[DsnError], exit_code: int):
    failure = describe(kind("it went wrong", hint="do this", peer="nabc"))
    assert failure.exit == exit_code
    assert (failure.message, failure.hint, failure.peer) == ("it went wrong", "do this", "nabc")
    assert failure.code == kind.code


def test_the_narrow_code_wins():
    assert describe(UsageError("x", code="bad_range")).code == "bad_range"


def test_a_group_is_told_by_the_error_that_says_most():
    inner = ExceptionGroup("inner", [OSError(errno.ENOENT, "x", "path"), NotEnoughShards("3 of 4")])
    failure = describe(ExceptionGroup("outer", [ValueError("noise"), inner]))
    assert (failure.code, failure.exit) == ("not_enough_shards", 5)


def test_an_interrupt_in_a_group_is_an_interrupt():
    group = BaseExceptionGroup("tasks", [ValueError("noise"), KeyboardInterrupt()])
    assert describe(group).exit == 130


def test_click_abort_is_an_interrupt():
    assert describe(click.Abort()).exit == 130


@pytest.mark.parametrize(
    ("number", "code", "exit_code"),
    [
        (errno.ENOENT, "not_found", 3),
        (errno.EACCES, "permission_denied", 2),
        (errno.ENOSPC, "no_space", 6),
        (errno.EISDIR, "is_directory", 2),
    ],
)
def test_what_the_system_refuses_names_the_path(number, code, exit_code):
    failure = describe(OSError(number, "as the system says it", "/some/path"))
    assert (failure.code, failure.exit) == (code, exit_code)
    assert failure.message.startswith("/some/path: ")


def test_a_full_disk_needs_no_path():
    assert describe(OSError(errno.ENOSPC, "full")).code == "no_space"


def test_a_stray_descriptor_error_is_a_bug():
    assert describe(OSError(errno.ENOENT, "no path")).code == "internal"
    assert describe(OSError(errno.EBADF, "bad", "path")).code == "internal"


def test_a_bug_stays_on_one_line_of_bounded_length():
    failure = describe(ValueError("a\n" * 5000))
    assert failure.exit == 70
    assert "\n" not in failure.message
    assert len(failure.message) < 400


def test_a_closed_pipe_is_recognised_in_a_group_too():
    assert is_broken_pipe(BrokenPipeError())
    assert is_broken_pipe(ExceptionGroup("tasks", [BrokenPipeError(errno.EPIPE, "gone")]))
    assert not is_broken_pipe(OSError(errno.ENOENT, "x"))
