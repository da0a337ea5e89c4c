"""A settlement key as a file that other wallets open: Ethereum's key store, version 3.

Spec: the Web3 Secret Storage Definition (ethereum.org).
"""

from __future__ import annotations

import hashlib
import json
from typing import Final
from uuid import UUID

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from eth_hash.backends.pycryptodome import keccak256

from dsn.ledger.settlement import Address
from dsn.ports import Entropy

_LOG_COST: Final = 18
_COST, _WIDTH, _LANES = 1 << _LOG_COST, 8, 1
"""scrypt's: about a second and 256 MiB a guess."""
_MEMORY_BYTES: Final = 2 * 128 * _WIDTH * _COST
_KEY_BYTES: Final = 32


def seal_key(address: Address, seed: bytes, passphrase: bytes, entropy: Entropy) -> str:
    """The file's text.

    Args:
        address: Whose.
        seed: The secret, 32 bytes.
        passphrase: Opens the file again.
        entropy: Salts it.
    """
    salt, start, name = entropy(32), entropy(16), UUID(bytes=entropy(16), version=4)
    key = hashlib.scrypt(
        passphrase, salt=salt, n=_COST, r=_WIDTH, p=_LANES, maxmem=_MEMORY_BYTES, dklen=_KEY_BYTES
    )
    encryptor = Cipher(AES(key[:16]), CTR(start)).encryptor()
    sealed = encryptor.update(seed) + encryptor.finalize()
    fields = {
        "version": 3,
        "id": str(name),
        "address": address.hex(),
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": {"iv": start.hex()},
            "ciphertext": sealed.hex(),
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": _KEY_BYTES, "n": _COST, "r": _WIDTH, "p": _LANES, "salt": salt.hex(),
            },
            "mac": keccak256(key[16:] + sealed).hex(),
        },
    }  # fmt: skip
    return json.dumps(fields, indent=2) + "\n"
