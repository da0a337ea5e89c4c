"""hashlib's SHA-3 under the name that merkletools imports."""

from hashlib import sha3_224, sha3_256, sha3_384, sha3_512, shake_128, shake_256

__all__ = ["sha3_224", "sha3_256", "sha3_384", "sha3_512", "shake_128", "shake_256"]
