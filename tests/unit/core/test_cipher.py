"""Boxes open only as what they were sealed as; masks differ where they must."""

from __future__ import annotations

import struct

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dsn.core.cipher import (
    BOX_EXTRA_BYTES,
    SegmentCipher,
    mask_stream,
    open_box,
    open_private,
    seal_box,
    seal_private,
)
from dsn.errors import PeerError, ShardCorrupt
from dsn.units import SYMBOL_PLAIN_BYTES

CONTENT_KEY = bytes(range(32))
MASK_KEY = bytes(range(16))
SALT = bytes(range(100, 116))
NONCE = bytes(range(12))


def sealed(
    symbol: int = 3,
    last: bool = False,
    segment: int = 7,
    salt: bytes = SALT,
    plain: bytes = b"text",
) -> bytes:
    out = bytearray(len(plain) + 16)
    SegmentCipher(CONTENT_KEY, segment, salt).seal(symbol, last, plain, out)
    return bytes(out)


def test_a_symbol_is_sealed_as_the_design_says() -> None:
    info = b"dsn/segment/v1\0\0" + struct.pack(">I", 7) + SALT
    key = HKDF(SHA256(), 32, None, info).derive(CONTENT_KEY)
    for last in (False, True):
        nonce = struct.pack(">III", 0, 3, last)
        assert sealed(last=last) == AESGCM(key).encrypt(nonce, b"text", None)


def test_a_whole_symbol_opens_in_place() -> None:
    plain = bytes(range(256)) * 256
    plain = plain[:SYMBOL_PLAIN_BYTES]
    box, out = sealed(plain=plain), bytearray(2 * SYMBOL_PLAIN_BYTES)
    view = memoryview(out)[SYMBOL_PLAIN_BYTES:]
    SegmentCipher(CONTENT_KEY, 7, SALT).open(3, False, memoryview(box), view)
    assert out == bytes(SYMBOL_PLAIN_BYTES) + plain


@pytest.mark.parametrize(
    ("symbol", "last", "segment", "salt"),
    [
        (4, False, 7, SALT),
        (3, True, 7, SALT),
        (3, False, 8, SALT),
        (3, False, 7, bytes(16)),
    ],
)
def test_a_symbol_opens_nowhere_else(symbol: int, last: bool, segment: int, salt: bytes) -> None:
    with pytest.raises(ShardCorrupt, match=f"symbol {symbol} of segment {segment}"):
        SegmentCipher(CONTENT_KEY, segment, salt).open(symbol, last, sealed(), bytearray(4))


def test_a_flipped_bit_does_not_open() -> None:
    cipher = SegmentCipher(CONTENT_KEY, 7, SALT)
    for at in range(20):
        box = bytearray(sealed())
        box[at] ^= 1
        with pytest.raises(ShardCorrupt):
            cipher.open(3, False, box, bytearray(4))


def test_the_segment_hash_is_blake3() -> None:
    hasher = SegmentCipher(CONTENT_KEY, 7, SALT).segment_hasher()
    hasher.update(b"ab")
    hasher.update(memoryview(b"c"))
    assert hasher.digest() == blake3(b"abc").digest()


def test_a_mask_is_aes_ctr_as_the_design_says() -> None:
    info = b"dsn/mask/v1\0\0\0\0\0" + SALT + struct.pack(">IHH", 7, 200, 5)
    key = HKDF(SHA256(), 32, None, info).derive(MASK_KEY)
    expected = Cipher(AES(key), CTR(bytes(16))).encryptor().update(bytes(100))
    assert mask_stream(MASK_KEY, SALT, 7, 200, 5).update(bytes(100)) == expected


def test_masking_twice_gives_the_shard_back() -> None:
    shard = bytes(range(256)) * 20
    masked = mask_stream(MASK_KEY, SALT, 0, 1, 2).update(memoryview(shard))
    assert masked != shard
    assert mask_stream(MASK_KEY, SALT, 0, 1, 2).update(masked) == shard


@pytest.mark.parametrize("start", [0, 16, 1_024, 65_536, 1 << 36])
def test_a_mask_starts_anywhere(start: int) -> None:
    if start < 1 << 20:
        whole = mask_stream(MASK_KEY, SALT, 0, 1, 2).update(bytes(start + 64))
        assert mask_stream(MASK_KEY, SALT, 0, 1, 2, start).update(bytes(64)) == whole[start:]
    else:  # the counter has 128 bits: no wrap at 2^32 positions of 16 bytes
        near = mask_stream(MASK_KEY, SALT, 0, 1, 2, start - 16).update(bytes(32))
        assert mask_stream(MASK_KEY, SALT, 0, 1, 2, start).update(bytes(16)) == near[16:]
        assert near[16:] != mask_stream(MASK_KEY, SALT, 0, 1, 2).update(bytes(16))


def test_a_mask_starts_at_whole_cipher_units_only() -> None:
    with pytest.raises(AssertionError):
        mask_stream(MASK_KEY, SALT, 0, 1, 2, 8)


def test_a_mask_works_in_place_and_goes_on() -> None:
    stream, data = mask_stream(MASK_KEY, SALT, 0, 1, 2), bytearray(48)
    for at in (0, 16, 32):
        view = memoryview(data)[at : at + 16]
        assert stream.update_into(view, view) == 16
    assert bytes(data) == mask_stream(MASK_KEY, SALT, 0, 1, 2).update(bytes(48))


def test_every_part_of_a_masks_name_changes_it() -> None:
    names = [
        (MASK_KEY, SALT, 0, 1, 2),
        (bytes(16), SALT, 0, 1, 2),
        (MASK_KEY, bytes(16), 0, 1, 2),
        (MASK_KEY, SALT, 1, 1, 2),
        (MASK_KEY, SALT, 0, 2, 2),
        (MASK_KEY, SALT, 0, 1, 3),
    ]
    assert len({mask_stream(*name).update(bytes(32)) for name in names}) == len(names)


def test_the_private_part_opens_under_its_key_only() -> None:
    box = seal_private(CONTENT_KEY, b"name")
    assert open_private(CONTENT_KEY, box) == b"name"
    for key, bad in [(bytes(32), box), (CONTENT_KEY, box[:-1]), (CONTENT_KEY, b"")]:
        with pytest.raises(PeerError) as caught:
            open_private(key, bad)
        assert caught.value.detail_code == "sealed_box"


def test_a_box_opens_under_its_key_and_context_only() -> None:
    box = seal_box(CONTENT_KEY, b"head", NONCE, b"context")
    assert len(box) == len(b"head") + BOX_EXTRA_BYTES
    assert box[:12] == NONCE
    assert open_box(CONTENT_KEY, box, b"context") == b"head"
    flipped = bytes([box[0] ^ 1]) + box[1:]
    for key, bad, aad in [
        (bytes(32), box, b"context"),
        (CONTENT_KEY, box, b""),
        (CONTENT_KEY, flipped, b"context"),
        *((CONTENT_KEY, box[:size], b"context") for size in range(len(box))),
    ]:
        with pytest.raises(PeerError) as caught:
            open_box(key, bad, aad)
        assert caught.value.detail_code == "sealed_box"


def test_copies_of_one_head_differ() -> None:
    assert seal_box(CONTENT_KEY, b"head", NONCE) != seal_box(CONTENT_KEY, b"head", bytes(12))
