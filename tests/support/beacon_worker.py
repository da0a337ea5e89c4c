"""Mutated beacon evidence, in a process of its own: C code may answer odd bytes with a crash.

``beacon_worker.py SEED COUNT BITS`` prints how many were believed.
"""

from __future__ import annotations

import random
import sys

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.errors import InvalidProof
from dsn.ids import NetworkId
from dsn.proofs.beacon import EVIDENCE_BYTES, FORM_BYTES, next_value, verify_value

NETWORK, ROOT, ITERATIONS = NetworkId(b"n" * 32), b"r" * 32, 1_000


def mutated(evidence: bytes, rng: random.Random) -> bytes:
    """Evidence that is wrong in one of the ways that a decoder of forms can meet."""
    raw, first = bytearray(evidence), rng.choice((0, FORM_BYTES))
    match rng.randrange(7):
        case 0:
            raw[rng.randrange(EVIDENCE_BYTES)] ^= 1 << rng.randrange(8)
        case 1:
            raw[first : first + 3] = rng.randbytes(3)
        case 2:
            raw[first : first + FORM_BYTES] = rng.randbytes(FORM_BYTES)
        case 3:
            raw[first : first + FORM_BYTES] = bytes([rng.randrange(256)]) * FORM_BYTES
        case 4:
            raw[first : first + FORM_BYTES] = bytes([rng.randrange(256)]) + bytes(FORM_BYTES - 1)
        case 5:
            end = rng.randrange(EVIDENCE_BYTES)
            raw[end:] = bytes(EVIDENCE_BYTES - end)
        case _:
            raw[first : first + FORM_BYTES] = raw[FORM_BYTES - first : 2 * FORM_BYTES - first]
    return bytes(raw)


def believed(evidence: bytes, bits: int) -> bool:
    """Whether it passes, with the value that goes with it."""
    value = tagged(tags.VDF_OUT, evidence[:FORM_BYTES])
    try:
        verify_value(NETWORK, 3, ROOT, value, evidence, iterations=ITERATIONS, bits=bits)
    except InvalidProof:
        return False
    return True


def main(seed: int, count: int, bits: int) -> None:
    """Try ``count`` mutations, and the evidence itself."""
    _, evidence = next_value(NETWORK, 3, ROOT, iterations=ITERATIONS, bits=bits)
    assert believed(evidence, bits)
    rng = random.Random(seed)
    raws = (mutated(evidence, rng) for _ in range(count))
    print(sum(believed(raw, bits) for raw in raws if raw != evidence))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
