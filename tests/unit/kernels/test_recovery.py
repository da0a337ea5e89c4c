"""Keys behind signatures: every kernel that runs here finds what coincurve finds."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from coincurve import PrivateKey

from dsn.kernels import recovery
from dsn.kernels.recovery import KEY_BYTES, Kernel, agrees, portable, public_keys
from tests.support.lock import lets_others_run

KERNELS = recovery.implementations()
NATIVE = [name for name in KERNELS if name != "portable"]
NOBODY = bytes(65)


def signed(count: int, seed: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Digests, signatures, and the keys that made them."""
    draw = random.Random(seed)
    keys = [PrivateKey(draw.randbytes(32)) for _ in range(count)]
    digests = [draw.randbytes(32) for _ in keys]
    pairs = zip(keys, digests, strict=True)
    signatures = [key.sign_recoverable(digest, hasher=None) for key, digest in pairs]
    return digests, signatures, [key.public_key.format(compressed=False)[1:] for key in keys]


@pytest.fixture(params=KERNELS.values(), ids=list(KERNELS))
def kernel(request: pytest.FixtureRequest) -> Kernel:
    found: Kernel = request.param
    return found


@pytest.mark.parametrize("count", [0, 1, 2, 33])
def test_it_finds_who_signed(kernel: Kernel, count: int) -> None:
    digests, signatures, keys = signed(count, seed=count)
    assert kernel(b"".join(digests), b"".join(signatures)) == b"".join(keys)


def test_a_signature_by_no_key_spoils_no_other(kernel: Kernel) -> None:
    digests, signatures, keys = signed(3, seed=7)
    signatures[1] = NOBODY
    found = kernel(b"".join(digests), b"".join(signatures))
    assert found == keys[0] + bytes(KEY_BYTES) + keys[2]


def test_any_bytes_mean_the_same_to_all_kernels(kernel: Kernel) -> None:
    """Most random r stand for a point, and then there is a key; half of them do not."""
    draw = random.Random(11)
    digests = draw.randbytes(32 * 64)
    noise = b"".join(draw.randbytes(64) + bytes((draw.randrange(4),)) for _ in range(64))
    found = kernel(digests, noise)
    assert found == portable(digests, noise)
    none = sum(found[at : at + KEY_BYTES] == bytes(KEY_BYTES) for at in range(0, 4096, KEY_BYTES))
    assert 16 < none < 64, none


@pytest.mark.parametrize(
    ("digests", "signatures"),
    [(32, 0), (0, 65), (31, 65), (33, 65), (32, 64), (32, 66), (64, 65), (32, 130)],
)
def test_sizes_that_do_not_fit(kernel: Kernel, digests: int, signatures: int) -> None:
    with pytest.raises(ValueError, match=f"{digests} bytes of digests, {signatures} of signatures"):
        kernel(bytes(digests), bytes(signatures))


@pytest.mark.parametrize("name", NATIVE)
def test_a_last_byte_that_the_library_would_abort_at(name: str) -> None:
    with pytest.raises(ValueError, match="a parity of 4, 0 to 3 needed"):
        KERNELS[name](bytes(64), NOBODY + bytes(64) + b"\x04")


@pytest.mark.parametrize("name", NATIVE)
def test_others_run_meanwhile(name: str) -> None:
    digests, signatures, _ = signed(64, seed=3)
    flat = b"".join(digests), b"".join(signatures)
    assert lets_others_run(lambda: KERNELS[name](*flat))


def test_keys_one_by_one() -> None:
    digests, signatures, keys = signed(3, seed=5)
    signatures[0] = NOBODY
    assert public_keys(digests, signatures) == [b"", *keys[1:]]
    assert public_keys([], []) == []


def test_the_quickest_comes_first() -> None:
    assert next(iter(KERNELS)) == recovery.NAME
    assert "portable" in KERNELS


def test_portable_serves_where_the_extension_was_not_built(repository: Path) -> None:
    script = (
        "import sys; sys.modules['dsn.kernels._recovery'] = None\n"
        "from dsn.kernels import recovery\n"
        "print(recovery.NAME, *recovery.implementations())"
    )
    run = [sys.executable, "-c", script]
    out = subprocess.run(run, cwd=repository, capture_output=True, text=True, check=True).stdout
    assert out.split() == ["portable", "portable"]


def blind(digests: bytes, signatures: bytes) -> bytes:
    """Never finds anybody."""
    return bytes(len(signatures) // 65 * KEY_BYTES)


def credulous(digests: bytes, signatures: bytes) -> bytes:
    """Repeats the last key where there is none."""
    return portable(digests[:32], signatures[:65]) * (len(digests) // 32)


@pytest.mark.parametrize("wrong", [blind, credulous])
def test_a_kernel_that_disagrees_is_noticed(wrong: Kernel) -> None:
    assert agrees(portable)
    assert not agrees(wrong)
