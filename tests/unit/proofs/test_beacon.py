from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import chiavdf
import pytest

from dsn.core import tags
from dsn.core.hashing import sha256, tagged
from dsn.ids import NetworkId
from dsn.proofs.beacon import EVIDENCE_BYTES, FORM_BYTES, next_value, verify_value
from tests.support.signing import refusal

NETWORK, ROOT = NetworkId(sha256(b"network")), sha256(b"log")
ITERATIONS, BITS = 1_000, 256
SEED, MUTATIONS, HANGS_S = 4, 10_000, 240


def check(
    value: bytes,
    evidence: bytes,
    *,
    network: NetworkId = NETWORK,
    epoch: int = 3,
    root: bytes = ROOT,
    iterations: int = ITERATIONS,
    bits: int = BITS,
) -> None:
    verify_value(network, epoch, root, value, evidence, iterations=iterations, bits=bits)


@pytest.fixture(scope="module")
def made() -> tuple[bytes, bytes]:
    return next_value(NETWORK, 3, ROOT, iterations=ITERATIONS, bits=BITS)


@pytest.mark.parametrize("bits", [256, 512, 1024])
@pytest.mark.parametrize("iterations", [1, 2, 777])
def test_what_is_made_is_accepted(bits: int, iterations: int) -> None:
    value, evidence = next_value(NETWORK, 1, ROOT, iterations=iterations, bits=bits)
    assert (len(value), len(evidence)) == (32, EVIDENCE_BYTES)
    check(value, evidence, epoch=1, iterations=iterations, bits=bits)


def test_it_is_the_hash_of_what_the_squarings_of_its_input_end_at(
    made: tuple[bytes, bytes],
) -> None:
    group = sha256(b"dsn/vdfin/v1\0\0\0\0" + NETWORK + (3).to_bytes(8, "big") + ROOT)
    evidence = chiavdf.prove(group, b"\x08" + bytes(99), BITS, ITERATIONS, "")
    assert made == (sha256(b"dsn/vdfout/v1\0\0\0" + evidence[:FORM_BYTES]), evidence)


def test_nobody_has_a_choice_the_value_is_always_the_same(made: tuple[bytes, bytes]) -> None:
    assert next_value(NETWORK, 3, ROOT, iterations=ITERATIONS, bits=BITS) == made


@pytest.mark.parametrize(
    "other",
    [
        {"network": NetworkId(sha256(b"another"))},
        {"epoch": 4},
        {"root": sha256(b"another log")},
        {"iterations": ITERATIONS + 1},
        {"iterations": ITERATIONS - 1},
        {"bits": 264},
    ],
)
def test_it_is_of_one_network_epoch_log_and_delay(
    made: tuple[bytes, bytes], other: dict[str, Any]
) -> None:
    assert refusal(lambda: check(*made, **other)) == "bad_beacon"


def test_the_value_must_be_the_one_of_its_evidence(made: tuple[bytes, bytes]) -> None:
    value, evidence = made
    assert refusal(lambda: check(bytes(32), evidence)) == "bad_beacon"
    assert refusal(lambda: check(value[:-1], evidence)) == "bad_beacon"


@pytest.mark.parametrize("size", [0, 1, 99, 100, 199, 201, 300, 400, 70_000])
def test_evidence_of_another_size_never_reaches_the_library(
    made: tuple[bytes, bytes], size: int
) -> None:
    evidence = (made[1] * (size // EVIDENCE_BYTES + 1))[:size]
    value = tagged(tags.VDF_OUT, evidence[:FORM_BYTES])
    assert refusal(lambda: check(value, evidence)) == "bad_beacon"


def test_no_mutation_is_believed_and_none_ends_the_process(repository: Path) -> None:
    worker = repository / "tests" / "support" / "beacon_worker.py"
    run = subprocess.run(
        [sys.executable, worker, str(SEED), str(MUTATIONS), str(BITS)],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=HANGS_S,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, "0\n"), f"seed {SEED}: {run.stderr}"


def test_an_element_has_one_spelling() -> None:
    """chiavdf 1.2.0 ignores five bits of a 1,024-bit form; each would give another value."""
    value, evidence = next_value(NETWORK, 3, ROOT, iterations=ITERATIONS, bits=1_024)
    check(value, evidence, bits=1_024)
    edges = [at + offset for at in (0, FORM_BYTES - 4, FORM_BYTES, -4) for offset in range(4)]
    for at, bit in itertools.product(edges, range(8)):
        raw = bytearray(evidence)
        raw[at] ^= 1 << bit
        value = tagged(tags.VDF_OUT, raw[:FORM_BYTES])
        assert refusal(partial(check, value, bytes(raw), bits=1_024)) == "bad_beacon", (at, bit)
