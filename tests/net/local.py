"""Running the command line as its users do: a process, its two streams and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

TIMEOUT_S = 120


class Done(NamedTuple):
    """A command that ended."""

    code: int
    out: bytes
    err: list[str]

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.out.decode()

    @property
    def fields(self) -> Any:
        """The object on standard output."""
        return json.loads(self.out)

    def check(self, code: int = 0) -> Done:
        """Itself, if it ended with ``code`` and no traceback."""
        assert self.code == code, f"exit {self.code}\n{self.text}\n" + "\n".join(self.err)
        assert "Traceback" not in "\n".join(self.err)
        return self


def dsn(*args: str | Path, stdin: bytes = b"", home: Path | None = None) -> Done:
    """Run ``dsn`` to its end."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("DSN_")}
    if home is not None:
        environment["DSN_HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-m", "dsn", *map(str, args)],
        input=stdin,
        capture_output=True,
        env=environment,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode().splitlines())


def described(folder: Path) -> dict[str, Any]:
    """``devnet.json`` as any program may read it."""
    fields: dict[str, Any] = json.loads((folder / "devnet.json").read_text())
    return fields


def down(folder: Path) -> None:
    """End a network if it is there, so that no test leaves a process behind."""
    if (folder / "devnet.json").exists():
        dsn("devnet", "down", "--dir", folder).check()
