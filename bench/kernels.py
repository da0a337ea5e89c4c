"""The kernels' speed, as one JSON line: ``python bench/kernels.py [--repeats N]``.

MB/s (10^6 bytes of user data a second) of one thread unless a unit says otherwise, the median
and the best of the repeats. Machines are noisy, so memcpy and flat SHA-256 are timed in the same
rounds, and ``to_memcpy`` and ``to_sha256`` give each median as a multiple of theirs.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from hashlib import sha256, shake_128
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.signing import SigningKey

from dsn.core.erasure import Erasure
from dsn.kernels import isal, leafhash
from dsn.units import FRAME_BYTES, SYMBOL_BYTES, SYMBOL_PLAIN_BYTES

SCHEMES = ((4, 6), (3, 10), (10, 30), (29, 80))
ROUND_S = 0.03  # of each measurement in each round
NATIVE_BAND, PORTABLE_BAND = 1 << 20, 1 << 16  # bytes of each shard in one call

Task = tuple[str, int, Callable[[], object]]  # name, bytes or operations a call, the call


def noise(size: int) -> bytes:
    return shake_128(b"bench").digest(min(size, 1 << 20)) * -(-size // (1 << 20))


def views(count: int, length: int) -> list[memoryview]:
    whole = memoryview(bytearray(noise(count * length)))
    return [whole[at * length :][:length] for at in range(count)]


def calibration() -> list[Task]:
    source, target = memoryview(noise(8 << 20)), memoryview(bytearray(8 << 20))
    return [
        ("memcpy", len(source), lambda: target.__setitem__(slice(None), source)),
        ("sha256", FRAME_BYTES, lambda: sha256(source[:FRAME_BYTES]).digest()),
    ]


def erasure(kernel: isal.Galois) -> list[Task]:
    tasks: list[Task] = []
    length = NATIVE_BAND if isinstance(kernel, isal.Isal) else PORTABLE_BAND
    for required, total in SCHEMES:
        code, shards = Erasure(required, total, kernel), views(total, length)
        data, parity, out = shards[:required], shards[required:], views(required, length)
        code.parity(data, parity)
        lost = min(required, total - required)
        have, want = tuple(range(lost, lost + required)), tuple(range(required))
        plan, at_hand = code.decode_plan(have, want), shards[lost : lost + required]
        name = f"{kernel.name} {required}/{total}"
        tasks += [
            (f"encode {name}", required * length, lambda c=code, d=data, p=parity: c.parity(d, p)),
            (f"decode {name}", required * length, lambda p=plan, s=at_hand, o=out: p.run(s, o)),
        ]
    return tasks


def trees() -> list[Task]:
    frame, group = noise(FRAME_BYTES), noise(SYMBOL_BYTES)
    tasks: list[Task] = []
    for name, kernel in leafhash.implementations().items():
        tasks += [
            (f"tree {name} 1 MiB", FRAME_BYTES, lambda k=kernel: k.subtree(frame)),
            (f"tree {name} 64 KiB", SYMBOL_BYTES, lambda k=kernel: k.subtree(group)),
        ]
    return tasks


def ciphers() -> list[Task]:
    gcm, nonce, plain = AESGCM(noise(32)), bytes(12), memoryview(noise(SYMBOL_PLAIN_BYTES))
    box, opened = bytearray(SYMBOL_BYTES), bytearray(SYMBOL_PLAIN_BYTES)
    sealed = gcm.encrypt(nonce, plain, None)
    ctr = Cipher(algorithms.AES(noise(32)), modes.CTR(bytes(16))).encryptor()
    frame, masked = memoryview(noise(FRAME_BYTES)), bytearray(FRAME_BYTES)
    return [
        ("aes-256-gcm seal", len(plain), lambda: gcm.encrypt_into(nonce, plain, None, box)),
        ("aes-256-gcm open", len(plain), lambda: gcm.decrypt_into(nonce, sealed, None, opened)),
        ("aes-256-ctr into", FRAME_BYTES, lambda: ctr.update_into(frame, masked)),
        ("aes-256-ctr new bytes", FRAME_BYTES, lambda: ctr.update(frame)),
        ("blake3", FRAME_BYTES, lambda: blake3(frame).digest()),
    ]


def signatures() -> list[Task]:
    key, message = SigningKey(noise(32)), noise(200)
    check, signature = key.verify_key, key.sign(message).signature
    return [
        ("ed25519 sign", 1, lambda: key.sign(message)),
        ("ed25519 verify", 1, lambda: check.verify(message, signature)),
    ]


def rate(task: Task) -> float:
    """Bytes or operations a second over about ``ROUND_S``."""
    _, amount, call = task
    calls, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < ROUND_S or not calls:
        call()
        calls += 1
    return amount * calls / spent


def measure(tasks: list[Task], repeats: int) -> dict[str, list[float]]:
    """The rates of each task, round by round, so that all share the machine's moods."""
    for _, _, call in tasks:
        call()
    rounds = [[rate(task) for task in tasks] for _ in range(repeats)]
    return {task[0]: [each[at] for each in rounds] for at, task in enumerate(tasks)}


def speeds(tasks: list[Task], rates: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    units = {name: ("per_s", 1) if amount == 1 else ("mb_per_s", 1e6) for name, amount, _ in tasks}
    return {name: speed(name, rates, *units[name]) for name, _, _ in tasks}


def speed(name: str, rates: dict[str, list[float]], unit: str, scale: float) -> dict[str, Any]:
    median = statistics.median(rates[name])
    figures: dict[str, Any] = {unit: round(median / scale), "best": round(max(rates[name]) / scale)}
    if scale > 1:
        for base in ("memcpy", "sha256"):
            figures[f"to_{base}"] = round(median / statistics.median(rates[base]), 3)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default: %(default)s)")
    repeats = parser.parse_args().repeats
    tasks = calibration() + trees() + ciphers() + signatures()
    for kernel in isal.kernels():
        tasks += erasure(kernel)
    rates = measure(tasks, repeats)
    report = {
        "bench": "kernels",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "galois": isal.load().name,
        "leafhash": leafhash.NAME,
        "repeats": repeats,
        "speeds": speeds(tasks, rates),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
