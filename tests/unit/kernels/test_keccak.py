"""Keccak-256 by either library: the digests that EVM chains compute, not those of SHA-3."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from dsn.kernels.keccak import keccak256

EMPTY = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
"""Of the empty string: what Ethereum says of an account without code."""
ABC = "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"
BLOCK = 136
LENGTHS = [0, 1, 32, 64, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK]


def backend(name: str) -> Callable[[bytes], bytes]:
    found: Callable[[bytes], bytes] = import_module(f"eth_hash.backends.{name}").keccak256
    return found


@pytest.mark.parametrize(("data", "expected"), [(b"", EMPTY), (b"abc", ABC)])
def test_known_digests(data: bytes, expected: str) -> None:
    assert keccak256(data).hex() == expected


@pytest.mark.parametrize("length", LENGTHS)
def test_it_is_not_sha_3_and_both_libraries_agree(length: int) -> None:
    data = random.Random(length).randbytes(length)
    assert keccak256(data) == backend("pycryptodome")(data) != hashlib.sha3_256(data).digest()


def test_one_library_is_enough(repository: Path) -> None:
    """Also where some other module has the quicker one's name."""
    script = (
        "import sys, types; sys.modules['sha3'] = types.ModuleType('sha3')\n"
        "from dsn.kernels.keccak import keccak256\n"
        "print(keccak256.__module__, keccak256(b'').hex())"
    )
    run = [sys.executable, "-c", script]
    out = subprocess.run(run, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["eth_hash.backends.pycryptodome", EMPTY]
