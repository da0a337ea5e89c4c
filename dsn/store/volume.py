"""One volume: a directory on one disk, with its secret, its lock and its layout.

::

    VOLUME/volume          what this is, and the key of the log's checksums
    VOLUME/lock            held by the process that serves the volume
    VOLUME/log/*.log       the truth
    VOLUME/index.db        where everything is, rebuilt from the log when it is missing
    VOLUME/shards/ab/*     large shards, each followed by its kept hashes
    VOLUME/tmp/*           shards being received
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from dsn.errors import ConfigError
from dsn.ids import Commit
from dsn.ports import Entropy
from dsn.store.direct import direct_flag
from dsn.store.files import PRIVATE_DIRECTORY, sync_directory, write_atomic
from dsn.store.lock import FileLock
from dsn.store.log import KEY_BYTES, key_of_segment

_FIRST_LINE = "dsn volume 1"


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume that this process holds the lock of."""

    root: Path
    key: bytes
    lock: FileLock
    direct: int
    """``O_DIRECT`` if the file system takes it, else 0."""

    @property
    def log(self) -> Path:
        """The directory of log segments."""
        return self.root / "log"

    @property
    def index(self) -> Path:
        """The database."""
        return self.root / "index.db"

    @property
    def temporary(self) -> Path:
        """The directory of shards being received."""
        return self.root / "tmp"

    @property
    def identity(self) -> bytes:
        """What tells this volume's index from another's."""
        return blake3(self.key).digest()

    def fan(self, first_byte: int) -> Path:
        """The directory of large shards whose commit starts with ``first_byte``."""
        return self.root / "shards" / f"{first_byte:02x}"

    def file(self, commit: Commit) -> Path:
        """The file of a large shard."""
        return self.fan(commit[0]) / commit.hex()


def open_volume(root: Path, entropy: Entropy, *, create: bool) -> Volume:
    """Lock the volume in ``root``.

    Args:
        root: Its directory.
        entropy: For the key of a new volume.
        create: Whether an empty or missing directory becomes a volume. Otherwise it is an
            error: a disk that is not mounted must not look like one that lost everything.

    Raises:
        ConfigError: ``home_in_use``, ``no_volume`` or ``bad_volume``.
    """
    marker = root / "volume"
    if not create and not marker.exists() and not (root / "log").exists():
        raise ConfigError(
            f"no volume in {root}",
            hint="mount the disk, or run dsn provider init",
            code="no_volume",
        )
    try:
        return _open(root, marker, entropy)
    except OSError as error:
        raise ConfigError(
            f"{error.filename or root} cannot be used: {error.strerror}",
            hint="choose a directory that this user may write",
            code="bad_volume",
        ) from error


def _open(root: Path, marker: Path, entropy: Entropy) -> Volume:
    _lay_out(root)
    lock = FileLock(root / "lock", what=f"the volume {root}", wait=False)
    lock.acquire()
    try:
        key = _key(marker, root / "log", entropy)
        return Volume(root, key, lock, direct_flag(root / "tmp"))
    except BaseException:
        lock.release()
        raise


def _lay_out(root: Path) -> None:
    root.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    for name in ("tmp", "shards", *(f"shards/{first:02x}" for first in range(256)), "log"):
        (root / name).mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    sync_directory(root / "shards")
    sync_directory(root)
    sync_directory(root.parent)


def _key(marker: Path, log: Path, entropy: Entropy) -> bytes:
    """The volume's key: from its own file, else from a segment, else a new one."""
    key = _parse(marker) if marker.exists() else None
    segments = sorted(log.iterdir())
    for segment in segments if key is None else ():
        with segment.open("rb") as file:
            key = key or key_of_segment(file.read(64))
    if key is None and any(segment.stat().st_size for segment in segments):
        raise ConfigError(
            f"{marker} is damaged and no log segment names its key",
            hint="restore that one file from a backup",
            code="bad_volume",
        )
    key = key or entropy(KEY_BYTES)
    if not marker.exists() or _parse(marker) != key:
        write_atomic(marker, f"{_FIRST_LINE}\n{key.hex()}\n".encode())
    return key


def _parse(marker: Path) -> bytes | None:
    lines = marker.read_bytes().decode("ascii", "replace").splitlines()
    try:
        key = bytes.fromhex(lines[1]) if lines[:1] == [_FIRST_LINE] else b""
    except (ValueError, IndexError):
        return None
    return key if len(key) == KEY_BYTES else None
