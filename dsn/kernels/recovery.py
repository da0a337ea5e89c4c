"""The secp256k1 keys behind signatures, many in one call while other threads run.

Each of coincurve's calls recovers one and then waits for the interpreter's lock: too little work
for another thread to be worth it. The C extension has the library inside coincurve do a whole
batch; without it coincurve gives the same bytes.

Spec: docs/spec/economy.md#settlement-key, SEC 1 section 4.1.6.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from coincurve import PrivateKey, PublicKey, _libsecp256k1

DIGEST_BYTES: Final = 32
SIGNATURE_BYTES: Final = 65
"""r, s, and one byte: which of the points that r may stand for, 0 to 3."""
KEY_BYTES: Final = 64
"""Both coordinates."""

_NO_KEY: Final = bytes(KEY_BYTES)

Kernel = Callable[[bytes, bytes], bytes]
"""Takes digests and as many signatures, gives keys, all of them one after another.

Zeros stand where no key signed so. ``ValueError`` when sizes do not fit.
"""


def portable(digests: bytes, signatures: bytes) -> bytes:
    """The kernel that is coincurve, call by call."""
    count = len(digests) // DIGEST_BYTES
    if (len(digests), len(signatures)) != (count * DIGEST_BYTES, count * SIGNATURE_BYTES):
        raise ValueError(f"{len(digests)} bytes of digests, {len(signatures)} of signatures")
    keys = list[bytes]()
    for at in range(count):
        digest = digests[at * DIGEST_BYTES :][:DIGEST_BYTES]
        signature = signatures[at * SIGNATURE_BYTES :][:SIGNATURE_BYTES]
        key = _NO_KEY
        with suppress(ValueError):
            found = PublicKey.from_signature_and_message(signature, digest, hasher=None)
            key = found.format(compressed=False)[1:]
        keys.append(key)
    return b"".join(keys)


def agrees(kernel: Kernel) -> bool:
    """Whether it does as coincurve does, for a good signature and for one by no key."""
    digest = hashlib.sha256(b"recovery").digest()
    signature = PrivateKey(digest).sign_recoverable(digest, hasher=None)
    sample = digest + digest, signature + bytes(SIGNATURE_BYTES)
    return kernel(*sample) == portable(*sample)


@functools.cache
def implementations() -> dict[str, Kernel]:
    """Every kernel that runs here and agrees with coincurve, by name, the quickest first."""
    usable: dict[str, Kernel] = {"portable": portable}
    with suppress(ImportError):
        from dsn.kernels import _recovery

        _recovery.load(_libsecp256k1.__file__)
        usable = {"native": _recovery.public_keys, **usable}
    return {name: each for name, each in usable.items() if agrees(each)}


NAME, _BEST = next(iter(implementations().items()))
"""The kernel in use."""


def public_keys(digests: Sequence[bytes], signatures: Sequence[bytes]) -> list[bytes]:
    """Whose key signed each of ``digests``: 64 bytes, or none where no key did.

    Args:
        digests: 32 bytes each.
        signatures: As many, 65 bytes each; of untrusted ones the last byte was checked.

    Raises:
        ValueError: Sizes do not fit, or a last byte is beyond 3.
    """
    raw = _BEST(b"".join(digests), b"".join(signatures))
    keys = [raw[at : at + KEY_BYTES] for at in range(0, len(raw), KEY_BYTES)]
    return [key if key != _NO_KEY else b"" for key in keys]
