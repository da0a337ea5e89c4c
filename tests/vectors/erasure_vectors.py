"""Makes the golden vectors of erasure coding: ``python -m tests.vectors.erasure_vectors``."""

from __future__ import annotations

from typing import Any

from dsn.core.erasure import Erasure
from dsn.kernels import isal
from dsn.kernels.isal import Galois
from tests.support.vectors import hexed, save
from tests.vectors.core_vectors import data

SCHEMES = ((1, 3), (3, 10), (4, 6), (4, 8), (10, 30), (29, 80), (128, 255))
LENGTH = 40
ABOUT = (
    "parity of required data shards of 40 bytes, data('erasure', 40 x required) one after the "
    "other; matrix: its rows below the identity, row-major; refused: what the code says to "
    "schemes and to shard indices of 4/8"
)
REFUSED = [
    {"required": 0, "total": 5, "code": "bad_scheme"},
    {"required": 9, "total": 4, "code": "bad_scheme"},
    {"required": 300, "total": 400, "code": "bad_scheme"},
    {"required": 4, "total": 8, "have": [0, 1, 7], "want": [2], "code": "not_enough_shards"},
    {"required": 4, "total": 8, "have": [0, 1, 7, 7], "want": [2], "code": "not_enough_shards"},
    {"required": 4, "total": 8, "have": [0, 1, 2, 3, 4], "want": [5], "code": "bad_index"},
    {"required": 4, "total": 8, "have": [0, 1, 2, 8], "want": [5], "code": "bad_index"},
    {"required": 4, "total": 8, "have": [0, 1, 2, 3], "want": [8], "code": "bad_index"},
]


def shards(required: int) -> list[memoryview]:
    whole = memoryview(data("erasure", LENGTH * required))
    return [whole[at * LENGTH :][:LENGTH] for at in range(required)]


def scheme(required: int, total: int, galois: Galois) -> dict[str, Any]:
    parity = [memoryview(bytearray(LENGTH)) for _ in range(total - required)]
    Erasure(required, total, galois).parity(shards(required), parity)
    return {
        "required": required,
        "total": total,
        "matrix": galois.cauchy(required, total)[required * required :],
        "parity": [bytes(shard) for shard in parity],
    }


def make(galois: Galois) -> dict[str, Any]:
    schemes = [scheme(required, total, galois) for required, total in SCHEMES]
    made: dict[str, Any] = hexed({"about": ABOUT, "schemes": schemes, "refused": REFUSED})
    return made


if __name__ == "__main__":
    save("erasure", make(isal.load()))
