"""How fast this machine is right now: figures to divide others by."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable

MIB = 1 << 20


def best_seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The shortest of some runs: what the machine can do when nobody disturbs it."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def calibrate() -> dict[str, float]:
    """Memory copies, flat SHA-256 and a loopback socket, in MB/s."""
    data, target = os.urandom(64 * MIB), bytearray(64 * MIB)
    view = memoryview(target)

    def copy() -> None:
        view[:] = data

    return {
        "memcpy_mb_s": round(64 * MIB / best_seconds(copy) / 1e6),
        "sha256_mb_s": round(
            16 * MIB / best_seconds(lambda: hashlib.sha256(data[: 16 * MIB])) / 1e6
        ),
        "loopback_mb_s": round(256 * MIB / best_seconds(lambda: _loopback(data, 4), 3) / 1e6),
    }


def _loopback(data: bytes, times: int) -> None:
    server = socket.create_server(("127.0.0.1", 0))

    def receive() -> None:
        connection, _ = server.accept()
        buffer = bytearray(MIB)
        while connection.recv_into(buffer):
            pass
        connection.close()

    thread = threading.Thread(target=receive)
    thread.start()
    with socket.create_connection(server.getsockname()) as client:
        for _ in range(times):
            client.sendall(data)
    thread.join()
    server.close()
