"""What derives from what, and what each kind of link may not do."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl.signing import VerifyKey

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.core.keys import (
    FileKeys,
    IdentityKeys,
    Kind,
    SigningKey,
    head_key,
    hkdf,
    node_id_of,
    verify_signature,
)
from dsn.errors import InvalidSignature, UsageError

OWNER_KEY = bytes(range(16))


def reference(key: bytes, info: bytes, size: int) -> bytes:
    return HKDF(SHA256(), size, None, info).derive(key)


@pytest.mark.parametrize("size", [1, 16, 31, 32])
def test_hkdf_is_rfc_5869(size: int) -> None:
    for key, info in [(b"", b""), (b"k" * 16, b"i"), (b"k" * 100, b"i" * 200)]:
        assert hkdf(key, info, size) == reference(key, info, size)


def test_hkdf_does_not_stretch() -> None:
    with pytest.raises(AssertionError):
        hkdf(b"k", b"i", 33)


def test_every_key_derives_as_the_design_says() -> None:
    keys = FileKeys.owner(OWNER_KEY)
    read_key = reference(OWNER_KEY, tags.READ, 16)
    mask_key = reference(read_key, tags.MASK_KEY, 16)
    assert keys.owner_key == OWNER_KEY
    assert keys.read_key == read_key
    assert keys.place_seed == reference(OWNER_KEY, tags.PLACE, 32)
    assert keys.content_key == reference(read_key, tags.CONTENT, 32)
    assert keys.mask_key == mask_key
    assert keys.verify_key == reference(mask_key, tags.VERIFY, 16)
    assert keys.head_key == reference(keys.verify_key, tags.HEAD_KEY, 32)
    assert keys.head_key == head_key(keys.verify_key)


def test_weaker_keys_agree_with_the_owners() -> None:
    owner = FileKeys.owner(OWNER_KEY)
    read = FileKeys.read(owner.read_key)
    repair = FileKeys.repair(owner.mask_key, owner.place_seed)
    verify = FileKeys.verify(owner.verify_key)
    assert read.content_key == owner.content_key
    assert read.mask_key == repair.mask_key == owner.mask_key
    assert repair.place_seed == owner.place_seed
    assert owner.verify_key == read.verify_key == repair.verify_key == verify.verify_key


OWNER = FileKeys.owner(OWNER_KEY)
FORBIDDEN = [
    (FileKeys.read(OWNER.read_key), Kind.READ, ["owner_key", "place_seed"]),
    (
        FileKeys.repair(OWNER.mask_key, OWNER.place_seed),
        Kind.REPAIR,
        ["owner_key", "read_key", "content_key"],
    ),
    (
        FileKeys.verify(OWNER.verify_key),
        Kind.VERIFY,
        ["owner_key", "read_key", "content_key", "mask_key", "place_seed"],
    ),
]


@pytest.mark.parametrize(("keys", "kind", "missing"), FORBIDDEN)
def test_a_link_does_not_give_more(keys: FileKeys, kind: Kind, missing: list[str]) -> None:
    assert keys.kind is kind
    for name in missing:
        with pytest.raises(UsageError) as caught:
            getattr(keys, name)
        assert caught.value.detail_code == "bad_capability"
        assert f"this is a {kind.value} link" in caught.value.message


def test_no_key_is_ever_printed() -> None:
    for value in (OWNER, IdentityKeys.derive(bytes(32)), SigningKey(bytes(32))):
        assert "\\x" not in repr(value)
        assert "b'" not in repr(value)


def test_identity_keys_differ_and_follow_from_the_root() -> None:
    keys = IdentityKeys.derive(bytes(32))
    assert keys.identity_seed == reference(bytes(32), tags.IDENTITY, 32)
    assert keys.slot_seed == reference(bytes(32), tags.SLOT_KEY, 32)
    assert keys.slot_seal_key == reference(bytes(32), tags.SLOT_SEAL, 32)
    assert len({keys.identity_seed, keys.slot_seed, keys.slot_seal_key}) == 3


def test_a_signature_is_ed25519_over_the_message() -> None:
    key = SigningKey(bytes(32))
    signature = key.sign(b"message")
    VerifyKey(key.public).verify(b"message", signature)
    verify_signature(key.public, b"message", signature)
    assert node_id_of(key.public) == tagged(tags.NODE, key.public)


def test_a_changed_signature_key_or_message_is_refused() -> None:
    key, other = SigningKey(bytes(32)), SigningKey(bytes([1]) * 32)
    signature = key.sign(b"message")
    bad = bytes([signature[0] ^ 1]) + signature[1:]
    for public, message, given in [
        (key.public, b"message", bad),
        (key.public, b"massage", signature),
        (other.public, b"message", signature),
        (key.public, b"message", signature[:-1]),
        (key.public, b"message", signature + b"\0"),
        (key.public[:-1], b"message", signature),
        (bytes(32), b"message", signature),
        (key.public, b"message", b""),
        (b"", b"message", signature),
    ]:
        with pytest.raises(InvalidSignature):
            verify_signature(public, message, given)


def test_a_key_of_small_order_signs_nothing() -> None:
    identity_point = bytes([1]) + bytes(31)
    with pytest.raises(InvalidSignature):
        verify_signature(identity_point, b"any", identity_point + bytes(32))
