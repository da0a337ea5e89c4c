"""Sealing plaintext into boxes, masking shards, and the boxes that carry manifests.

Symbols and masks are the hot path (GB/s): everything writes into the caller's buffers and
makes one cipher object a segment or shard, never one a call.

Spec: docs/spec/data.md#sealing, docs/spec/data.md#masking.
"""

from __future__ import annotations

import struct
from typing import Protocol

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

from dsn.core import tags
from dsn.core.keys import hkdf
from dsn.errors import PeerError, ShardCorrupt

Buffer = bytes | bytearray | memoryview
SALT_BYTES = 16
NONCE_BYTES = 12
BOX_EXTRA_BYTES = NONCE_BYTES + 16
"""What ``seal_box`` adds: the nonce before, the tag behind."""
_AES_BLOCK_BYTES = 16
_SYMBOL_NONCE = struct.Struct(">III")
_SEGMENT_CONTEXT = struct.Struct(">I16s")
_MASK_CONTEXT = struct.Struct(">16sIHH")


class SegmentCipher:
    """Seals and opens the symbols of one sealing attempt of one segment.

    The nonce holds the symbol's number and whether it is the file's last, so truncation,
    reordering and splicing fail; the key holds a fresh salt, so no nonce is used twice.
    """

    __slots__ = ("_aead", "_segment")

    def __init__(self, content_key: bytes, segment: int, salt: bytes) -> None:
        """Derive the segment's key.

        Args:
            content_key: 32 bytes.
            segment: The segment's number in the file.
            salt: 16 bytes, drawn afresh for every sealing attempt.
        """
        context = _SEGMENT_CONTEXT.pack(segment, salt)
        self._aead = AESGCM(hkdf(content_key, tags.SEGMENT + context))
        self._segment = segment

    def seal(self, symbol: int, last: bool, plain: Buffer, out: bytearray | memoryview) -> None:
        """Write the box of ``plain`` to ``out``, which is exactly 16 bytes longer.

        Args:
            symbol: The symbol's number in the segment.
            last: Whether this is the file's last symbol.
            plain: 1 to 65,520 bytes.
            out: Written whole.
        """
        self._aead.encrypt_into(_SYMBOL_NONCE.pack(0, symbol, last), plain, None, out)

    def open(self, symbol: int, last: bool, box: Buffer, out: bytearray | memoryview) -> None:
        """Write the plaintext of ``box`` (untrusted) to ``out``, exactly 16 bytes shorter.

        Raises:
            ShardCorrupt: The box was not sealed as this symbol of this segment.
        """
        try:
            self._aead.decrypt_into(_SYMBOL_NONCE.pack(0, symbol, last), box, None, out)
        except InvalidTag as error:
            raise ShardCorrupt(
                f"symbol {symbol} of segment {self._segment} does not open"
            ) from error

    @staticmethod
    def segment_hasher() -> blake3:
        """BLAKE3-256, for the segment's unpadded ciphertext with the boxes in order."""
        return blake3()


class MaskStream(Protocol):
    """A key stream at a position; each call masks or unmasks the next bytes."""

    def update(self, data: Buffer) -> bytes:
        """The masked bytes."""
        ...

    def update_into(self, data: Buffer, buf: Buffer) -> int:
        """Write the masked bytes to ``buf`` (may be ``data`` itself); how many."""
        ...


def mask_stream(
    mask_key: bytes, salt: bytes, segment: int, index: int, generation: int, start: int = 0
) -> MaskStream:
    """The AES-256-CTR key stream of one shard and generation, from byte ``start`` on.

    After a re-placement the generation differs, so that a departed holder's bytes are
    worthless to its replacement.

    Args:
        mask_key: 16 bytes.
        salt: The segment's 16-byte salt.
        segment: The segment's number.
        index: The shard's, in ``[0, total)``.
        generation: Counts re-placements of this shard.
        start: A multiple of 16.
    """
    counter, inside = divmod(start, _AES_BLOCK_BYTES)
    assert inside == 0
    key = hkdf(mask_key, tags.MASK + _MASK_CONTEXT.pack(salt, segment, index, generation))
    return Cipher(AES256(key), CTR(counter.to_bytes(_AES_BLOCK_BYTES, "big"))).encryptor()


def _private_cipher(content_key: bytes) -> AESGCM:
    return AESGCM(hkdf(content_key, tags.PRIVATE))


def seal_private(content_key: bytes, plain: bytes) -> bytes:
    """Seal a core's private part: once a file, hence a nonce of zeros."""
    return _private_cipher(content_key).encrypt(bytes(NONCE_BYTES), plain, None)


def open_private(content_key: bytes, sealed: bytes) -> bytes:
    """Open a core's private part.

    Raises:
        PeerError: ``sealed_box``, it was not sealed under this key.
    """
    return _open(_private_cipher(content_key), bytes(NONCE_BYTES), sealed, b"")


def seal_box(key: bytes, plain: bytes, nonce: bytes, aad: bytes = b"") -> bytes:
    """Seal ``plain`` for readers of ``key``; the box starts with its own nonce.

    Args:
        key: 32 bytes.
        plain: Of any size.
        nonce: 12 random bytes, never used twice under ``key``.
        aad: Context that must be the same when the box is opened.
    """
    assert len(nonce) == NONCE_BYTES
    return nonce + AESGCM(key).encrypt(nonce, plain, aad)


def open_box(key: bytes, box: bytes, aad: bytes = b"") -> bytes:
    """Open a box (untrusted).

    Raises:
        PeerError: ``sealed_box``, it was not sealed under this key and context.
    """
    return _open(AESGCM(key), box[:NONCE_BYTES], box[NONCE_BYTES:], aad)


def _open(cipher: AESGCM, nonce: bytes, sealed: bytes, aad: bytes) -> bytes:
    if len(nonce) < NONCE_BYTES:
        raise PeerError(
            f"a sealed box of {len(nonce)} bytes, at least {BOX_EXTRA_BYTES} needed",
            code="sealed_box",
        )
    try:
        return cipher.decrypt(nonce, sealed, aad)
    except InvalidTag as error:
        raise PeerError("a sealed box does not open under this key", code="sealed_box") from error
