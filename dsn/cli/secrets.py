"""The passphrase that opens a home's keys: from a file or a person, never from a flag."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dsn.cli.session import Session
from dsn.errors import ConfigError
from dsn.store.home import Home

_OTHERS = 0o077


def passphrase(session: Session, home: Home) -> bytes | None:
    """What opens the keys of ``home``: nothing, a file's content, or what is typed.

    Raises:
        ConfigError: It is needed, and there is neither a file nor anybody to ask.
    """
    if not home.needs_passphrase:
        return None
    file = session.settings().keys.passphrase_file
    if file:
        return read_secret(Path(file).expanduser())
    if not sys.stdin.isatty():
        raise ConfigError(
            f"the keys in {home.path} need a passphrase",
            hint="name a file that holds it: DSN_KEYS__PASSPHRASE_FILE=PATH",
            code="passphrase_needed",
        )
    typed: str = click.prompt("passphrase", hide_input=True, err=True)
    return typed.encode()


def read_secret(path: Path) -> bytes:
    """The secret in a file that only its owner can read, without the line's end.

    Raises:
        ConfigError: ``keys_readable``: others can read it.
    """
    mode = path.stat().st_mode
    if mode & _OTHERS:
        raise ConfigError(
            f"others can read {path} (mode {mode & 0o777:04o}, 0600 needed)",
            hint=f"chmod 600 {path}",
            code="keys_readable",
        )
    return path.read_bytes().rstrip(b"\r\n")
