"""A throwaway PostgreSQL server a test process, reached by a socket in its own directory."""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from urllib.parse import quote

import pytest

PROGRAMS = ("initdb", "postgres")
START_S = 60
_schemas = itertools.count(1)


def fresh_schema() -> str:
    """The address of an empty schema on this process's server; skips the test without one."""
    directory = _server()
    if isinstance(directory, str):
        pytest.skip(directory)
    import psycopg

    name = f"ledger_{next(_schemas)}"
    with psycopg.connect(host=str(directory), user="dsn", dbname="postgres") as connection:
        connection.execute(f"CREATE SCHEMA {name}")
    return f"postgresql://dsn@/postgres?host={directory}&options={quote(f'-csearch_path={name}')}"


@cache
def _server() -> Path | str:
    """Where the server's socket is, or what is missing to run one."""
    found = {name: _program(name) for name in PROGRAMS}
    if missing := [name for name, path in found.items() if path is None]:
        return f"no {' and '.join(missing)} here: apt-get install postgresql"
    directory = Path(tempfile.mkdtemp(prefix="dsn-pg-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    user = None
    if os.geteuid() == 0:  # the server refuses to run as root
        user = "nobody"
        os.chown(directory, pwd.getpwnam(user).pw_uid, -1)
    quiet = {"user": user, "cwd": directory, "stdout": subprocess.DEVNULL}
    subprocess.run(
        [found["initdb"], "-D", directory / "data", "-U", "dsn", "-A", "trust", "--no-sync"],
        check=True,
        **quiet,
    )
    options = ["-D", directory / "data", "-k", directory, "-h", "", "-F"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen([found["postgres"], *options], stderr=log, **quiet)
    atexit.register(_stop, server)
    _wait(directory, server)
    return directory


def _program(name: str) -> str | None:
    """Debian keeps a server's programs out of the path."""
    installed = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))
    return installed[-1] if installed else shutil.which(name)


def _wait(directory: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    end_s = time.monotonic() + START_S
    while True:
        try:
            psycopg.connect(host=str(directory), user="dsn", dbname="postgres").close()
            return
        except psycopg.OperationalError:
            log = (directory / "log").read_text("utf-8")
            assert server.poll() is None and time.monotonic() < end_s, log
            time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    server.wait()
