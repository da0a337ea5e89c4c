"""Every key of a file and of a person, and what derives from what.

``owner_key`` -> ``read_key`` and ``place_seed``; ``read_key`` -> ``content_key`` and
``mask_key``; ``mask_key`` -> ``verify_key``. A reader can verify but cannot re-place:
otherwise any holder of a read link could destroy the file.

Spec: docs/spec/data.md#keys-and-capabilities.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from enum import Enum

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey as _Ed25519Key
from nacl.signing import VerifyKey as _Ed25519PublicKey

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.errors import InvalidSignature, UsageError
from dsn.ids import NodeId

LINK_KEY_BYTES = 16
"""A key that travels in a capability: 128 bits suffice."""
KEY_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_NO_SALT = bytes(32)


def hkdf(key: bytes, info: bytes, size: int = KEY_BYTES) -> bytes:
    """HKDF-SHA256 (RFC 5869) with an empty salt, for at most one block of output.

    Args:
        key: The input key.
        info: A tag from ``tags`` and the context.
        size: Bytes wanted, at most 32.
    """
    assert size <= hashlib.sha256().digest_size
    extracted = hmac.digest(_NO_SALT, key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")[:size]


class SigningKey:
    """An Ed25519 key that signs; never printed."""

    __slots__ = ("_key", "public")

    def __init__(self, seed: bytes) -> None:
        """Make the key pair of a 32-byte ``seed``."""
        self._key = _Ed25519Key(seed)
        self.public = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over ``message``."""
        return self._key.sign(message).signature


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check an Ed25519 ``signature``; key and signature may be of any size (untrusted).

    Raises:
        InvalidSignature: It does not verify.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        raise InvalidSignature(
            f"a key of {len(public_key)} and a signature of {len(signature)} bytes, "
            f"{PUBLIC_KEY_BYTES} and {SIGNATURE_BYTES} needed"
        )
    try:
        _Ed25519PublicKey(public_key).verify(message, signature)
    except BadSignatureError as error:
        raise InvalidSignature("the signature is not by the key it claims") from error


def node_id_of(public_key: bytes) -> NodeId:
    """The node id of an Ed25519 identity key."""
    return NodeId(tagged(tags.NODE, public_key))


@dataclass(frozen=True, slots=True)
class IdentityKeys:
    """What one recovery phrase gives: who a home is, and where its catalogue is found."""

    identity_seed: bytes = field(repr=False)
    slot_seed: bytes = field(repr=False)
    slot_seal_key: bytes = field(repr=False)

    @classmethod
    def derive(cls, root: bytes) -> IdentityKeys:
        """All keys of the 32-byte ``root`` behind a phrase."""
        assert len(root) == KEY_BYTES
        return cls(hkdf(root, tags.IDENTITY), hkdf(root, tags.SLOT_KEY), hkdf(root, tags.SLOT_SEAL))


class Kind(Enum):
    """What a file's keys allow."""

    OWNER = "owner"
    READ = "read"
    REPAIR = "repair"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class FileKeys:
    """The keys of one file that its holder has; using one that is missing names the link needed.

    Made by ``owner``, ``read``, ``repair`` or ``verify`` only, each of which derives
    everything weaker.
    """

    kind: Kind
    verify_key: bytes = field(repr=False)
    _owner_key: bytes | None = field(default=None, repr=False)
    _read_key: bytes | None = field(default=None, repr=False)
    _content_key: bytes | None = field(default=None, repr=False)
    _mask_key: bytes | None = field(default=None, repr=False)
    _place_seed: bytes | None = field(default=None, repr=False)

    @classmethod
    def owner(cls, owner_key: bytes) -> FileKeys:
        """Everything, from the 16 random bytes that are never shared."""
        assert len(owner_key) == LINK_KEY_BYTES
        read_key = hkdf(owner_key, tags.READ, LINK_KEY_BYTES)
        return cls._reading(Kind.OWNER, read_key, owner_key, hkdf(owner_key, tags.PLACE))

    @classmethod
    def read(cls, read_key: bytes) -> FileKeys:
        """Plaintext and verification."""
        assert len(read_key) == LINK_KEY_BYTES
        return cls._reading(Kind.READ, read_key, None, None)

    @classmethod
    def _reading(
        cls, kind: Kind, read_key: bytes, owner_key: bytes | None, place_seed: bytes | None
    ) -> FileKeys:
        mask_key = hkdf(read_key, tags.MASK_KEY, LINK_KEY_BYTES)
        return cls(
            kind,
            _verify_key(mask_key),
            owner_key,
            read_key,
            hkdf(read_key, tags.CONTENT),
            mask_key,
            place_seed,
        )

    @classmethod
    def repair(cls, mask_key: bytes, place_seed: bytes) -> FileKeys:
        """Rebuild and re-place shards, sign placements; no plaintext, no name."""
        assert len(mask_key) == LINK_KEY_BYTES
        assert len(place_seed) == KEY_BYTES
        return cls(Kind.REPAIR, _verify_key(mask_key), _mask_key=mask_key, _place_seed=place_seed)

    @classmethod
    def verify(cls, verify_key: bytes) -> FileKeys:
        """Roots, holders, sizes."""
        assert len(verify_key) == LINK_KEY_BYTES
        return cls(Kind.VERIFY, verify_key)

    @property
    def owner_key(self) -> bytes:
        """16 bytes."""
        return self._need(self._owner_key, "this needs the file's owner")

    @property
    def read_key(self) -> bytes:
        """16 bytes."""
        return self._need(self._read_key, "reading needs a read link")

    @property
    def content_key(self) -> bytes:
        """32 bytes: seals segments and the private part."""
        return self._need(self._content_key, "reading needs a read link")

    @property
    def mask_key(self) -> bytes:
        """16 bytes: masks shards."""
        return self._need(self._mask_key, "unmasking shards needs a read or repair link")

    @property
    def place_seed(self) -> bytes:
        """32 bytes: the Ed25519 seed that signs placements."""
        return self._need(self._place_seed, "placing shards needs a repair link")

    @property
    def head_key(self) -> bytes:
        """32 bytes: seals each stored copy of the head and its pages."""
        return head_key(self.verify_key)

    def _need(self, key: bytes | None, otherwise: str) -> bytes:
        if key is None:
            raise UsageError(
                f"{otherwise}, this is a {self.kind.value} link",
                code="bad_capability",
                hint="ask its sender for the other link",
            )
        return key


def _verify_key(mask_key: bytes) -> bytes:
    return hkdf(mask_key, tags.VERIFY, LINK_KEY_BYTES)


def head_key(verify_key: bytes) -> bytes:
    """The 32-byte key that seals each stored copy of a file's head and pages."""
    return hkdf(verify_key, tags.HEAD_KEY)
