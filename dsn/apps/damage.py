"""What a story does to a network: processes killed, disks rotted."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dsn.apps.devnet import Process
from dsn.apps.processes import send, wait_for_end

KILL_TIMEOUT_S: Final = 10.0


def kill_now(victims: Iterable[Process]) -> None:
    """SIGKILL, and return when all are gone."""
    alive = [(one.pid, Path(one.home)) for one in victims if one.pid is not None]
    for pid, home in alive:
        send(pid, home, signal.SIGKILL)
    wait_for_end(alive, timeout_s=KILL_TIMEOUT_S)


def rot(volume: Path) -> tuple[Path, int]:
    """Flip one byte in the middle of a shard's own file, behind the node's back."""
    path = max(
        (volume / "shards").rglob("*"), key=lambda each: each.stat().st_size * each.is_file()
    )
    offset = path.stat().st_size // 2
    with path.open("r+b") as shard:
        shard.seek(offset)
        old = shard.read(1)[0]
        shard.seek(offset)
        shard.write(bytes([old ^ 0xFF]))
        shard.flush()
        os.fsync(shard.fileno())
    return path, offset
