"""Settlement keys: secp256k1, so that any EVM chain can judge what they signed.

A signature is r ‖ s ‖ v over a 32-byte digest, and only one spelling of it is accepted: s in the
lower half of the group's order, v 27 or 28. Otherwise anyone could turn a signature into
another one that verifies as well, and bytes that name an entry would not be unique.

Spec: docs/spec/economy.md#settlement-key; SEC 1 4.1.6, RFC 6979, EIP-2, EIP-55.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NewType

from coincurve import PrivateKey

from dsn.core import tags
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import KEY_BYTES, hkdf
from dsn.errors import InvalidSignature, UsageError
from dsn.kernels.keccak import keccak256
from dsn.kernels.recovery import public_keys

Address = NewType("Address", bytes)
"""20 bytes: who signs for money, here and on any EVM chain."""

ADDRESS_BYTES: Final = 20
NO_ADDRESS: Final = Address(bytes(ADDRESS_BYTES))
"""Nobody: no key has this address."""
SETTLEMENT_SIGNATURE_BYTES: Final = 65
_HALF_ORDER: Final = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0
_V: Final = 27
"""What Ethereum adds to the parity of the point that r stands for."""
_TEXT: Final = re.compile("0x[0-9A-Fa-f]{40}")


class SettlementKey:
    """A secp256k1 key that signs digests; never printed."""

    __slots__ = ("_key", "address")

    def __init__(self, seed: bytes) -> None:
        """Make the key whose secret is the 32-byte ``seed``.

        Raises:
            UsageError: ``bad_settlement_key``: zero, or not below the group's order (one seed in
                2^128).
        """
        assert len(seed) == KEY_BYTES
        try:
            self._key = PrivateKey(seed)
        except ValueError as error:
            raise UsageError(
                "the seed is no secp256k1 key: zero, or not below the order",
                code="bad_settlement_key",
                hint="make another key",
            ) from error
        self.address = _address_of(self._key.public_key.format(compressed=False)[1:])

    @classmethod
    def derive(cls, root: bytes) -> SettlementKey:
        """The key that follows from the 32-byte ``root`` behind a recovery phrase."""
        assert len(root) == KEY_BYTES
        return cls(hkdf(root, tags.SETTLEMENT))

    def sign(self, digest: bytes) -> bytes:
        """The 65-byte signature over a 32-byte ``digest``; the same one every time (RFC 6979).

        Cost: about 40 us.
        """
        assert len(digest) == HASH_BYTES
        signature = self._key.sign_recoverable(digest, hasher=None)
        return signature[:64] + bytes([signature[64] + _V])


def recover(digest: bytes, signature: bytes) -> Address:
    """Whose key signed ``digest``: for a signature over anything else, some other address.

    Args:
        digest: 32 bytes that the caller computed.
        signature: Untrusted.

    Raises:
        InvalidSignature: ``invalid_signature``: another size, or by no key at all;
            ``malleated_signature``: a second spelling, with s in the upper half or v neither 27
            nor 28.

    Cost: about 50 us.
    """
    assert len(digest) == HASH_BYTES
    (key,) = public_keys([digest], [_compact(signature)])
    if not key:
        raise InvalidSignature("the signature is by no key")
    return _address_of(key)


def recover_all(digests: Sequence[bytes], signatures: Sequence[bytes]) -> list[Address | None]:
    """As ``recover`` of each digest and its signature (untrusted); ``None`` where that raises.

    Cost: about 50 us each; other threads run meanwhile.
    """
    assert all(len(digest) == HASH_BYTES for digest in digests)
    keys = public_keys(digests, [_compact_or_zeros(each) for each in signatures])
    return [_address_of(key) if key else None for key in keys]


def _compact(signature: bytes) -> bytes:
    """r, s and parity of a signature in its one spelling."""
    if len(signature) != SETTLEMENT_SIGNATURE_BYTES:
        raise InvalidSignature(
            f"a signature of {len(signature)} bytes, {SETTLEMENT_SIGNATURE_BYTES} needed"
        )
    parity = signature[64] - _V
    if parity not in (0, 1):
        raise _malleated(f"v is {signature[64]}, 27 or 28 needed")
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        raise _malleated("s is in the upper half of the order")
    return signature[:64] + bytes((parity,))


def _compact_or_zeros(signature: bytes) -> bytes:
    try:
        return _compact(signature)
    except InvalidSignature:
        return bytes(SETTLEMENT_SIGNATURE_BYTES)


def format_address(address: Address) -> str:
    """``0x`` and 40 hexadecimal digits, whose case is a checksum (EIP-55)."""
    digits = address.hex()
    check = keccak256(digits.encode("ascii")).hex()
    pairs = zip(digits, check, strict=False)
    return "0x" + "".join(digit.upper() if over >= "8" else digit for digit, over in pairs)


def parse_address(text: str) -> Address:
    """Read what ``format_address`` wrote, and nothing else.

    Args:
        text: Untrusted.

    Raises:
        UsageError: ``bad_settlement_address``: it is no address, or its checksum does not match.
    """
    if not _TEXT.fullmatch(text):
        raise UsageError(
            f"{text[:50]!r} is no address",
            code="bad_settlement_address",
            hint="0x and 40 hexadecimal digits",
        )
    address = Address(bytes.fromhex(text[2:]))
    if format_address(address) != text:
        raise UsageError(
            f"{text} is mistyped: upper and lower case do not match its digits",
            code="bad_settlement_address",
            hint="copy it again as its owner's wallet shows it",
        )
    return address


def _address_of(key: bytes) -> Address:
    """Of both coordinates of a public key."""
    return Address(keccak256(key)[-ADDRESS_BYTES:])


def _malleated(reason: str) -> InvalidSignature:
    return InvalidSignature(
        f"a second spelling of a signature: {reason}", code="malleated_signature"
    )
