"""Small helpers around files that must be there after a crash, whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700


def sync_directory(directory: Path) -> None:
    """Make names that came, went or changed in ``directory`` survive a crash."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_all(handle: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``; the system may take it in parts."""
    view = memoryview(data)
    while view:
        done = os.pwrite(handle, view, offset)
        view, offset = view[done:], offset + done


def write_atomic(
    path: Path, data: bytes, mode: int = PRIVATE_FILE, *, replace: bool = True
) -> None:
    """Put ``data`` under ``path``: readers and crashes see the old file or the new one.

    Args:
        path: The file; its directory exists.
        data: The whole content.
        mode: Permissions, never wider than these at any moment.
        replace: Whether a file may be there already.

    Raises:
        FileExistsError: A file is there, and ``replace`` is false.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        try:
            os.fchmod(handle, mode)
            write_all(handle, data, 0)
            os.fsync(handle)
        finally:
            os.close(handle)
        _publish(Path(name), path, replace)
    finally:
        Path(name).unlink(missing_ok=True)
    sync_directory(path.parent)


def _publish(temporary: Path, path: Path, replace: bool) -> None:
    if replace:
        temporary.replace(path)
    else:
        os.link(temporary, path)
