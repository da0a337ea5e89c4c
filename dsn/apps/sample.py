"""A real file that every machine with Python has: its own standard library, as one tar."""

from __future__ import annotations

import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from dsn.units import MIB

SAMPLE_BYTES = 48 * MIB
"""More than a segment, little enough for a minute on any machine."""
NOT_THE_LIBRARY = frozenset({"site-packages", "__pycache__"})


def sample_tar(path: Path, limit_bytes: int = SAMPLE_BYTES) -> int:
    """Pack this machine's own Python standard library into a tar at ``path``.

    Args:
        path: The tar.
        limit_bytes: Of the files in it.

    Returns:
        How many files there are in it.
    """
    files, room = 0, limit_bytes
    library = Path(sysconfig.get_path("stdlib"))
    with tarfile.open(path, "w") as tar:
        for source in _library_files(library):
            size = source.stat().st_size
            if size <= room:
                tar.add(source, arcname=f"python/{source.relative_to(library)}")
                files, room = files + 1, room - size
    return files


def _library_files(library: Path) -> Iterator[Path]:
    for path in sorted(library.rglob("*")):
        if not NOT_THE_LIBRARY & set(path.parts) and path.is_file():
            yield path
