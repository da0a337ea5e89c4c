"""Who stands for what: an identity for its settlement key, the operator for the log.

Spec: docs/spec/economy.md#key-binding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from dsn.core import tags
from dsn.core.codec import Reader
from dsn.core.keys import SIGNATURE_BYTES, verify_signature
from dsn.errors import PeerError
from dsn.ids import NetworkId
from dsn.ledger.settlement import SETTLEMENT_SIGNATURE_BYTES, Address, SettlementKey
from dsn.ledger.typed import Domain, Statement, Struct, sign_typed, verify_typed


@dataclass(frozen=True, slots=True)
class KeyBinding(Statement):
    """An identity key and a settlement key have one owner; both sign it.

    Attributes:
        identity: The Ed25519 public key.
        settlement: The secp256k1 key's address.
        network: The only network where it holds.
        not_before_s: Unix seconds: from then on, for those who have a clock.
        serial: The higher one of an account counts.
    """

    struct: ClassVar[Struct] = Struct(
        "KeyBinding(bytes32 identity,address settlement,bytes32 network,uint64 not_before_s,"
        "uint64 serial)"
    )

    identity: bytes
    settlement: Address
    network: NetworkId
    not_before_s: int
    serial: int

    def preimage(self) -> bytes:
        """What the identity key signs; the settlement key signs typed data."""
        return tags.BINDING + self.encode()


@dataclass(frozen=True, slots=True)
class SignedBinding:
    """A binding with the signatures of both its keys."""

    binding: KeyBinding
    identity_signature: bytes
    settlement_signature: bytes

    def encode(self) -> bytes:
        """The binding, the 64 bytes by the identity key, the 65 by the settlement key."""
        return self.binding.encode() + self.identity_signature + self.settlement_signature

    @classmethod
    def decode(cls, raw: bytes) -> SignedBinding:
        """Read what ``encode`` wrote; ``verify_binding`` judges it.

        Args:
            raw: Untrusted.

        Raises:
            MalformedMessage: Short or long.
        """
        reader = Reader(raw, "key binding")
        binding = KeyBinding.read(reader)
        signed = cls(binding, reader.raw(SIGNATURE_BYTES), reader.raw(SETTLEMENT_SIGNATURE_BYTES))
        reader.end()
        return signed


def sign_binding(
    binding: KeyBinding, domain: Domain, sign: Callable[[bytes], bytes], key: SettlementKey
) -> SignedBinding:
    """Sign ``binding`` with both its keys; ``sign`` uses the identity key."""
    return SignedBinding(binding, sign(binding.preimage()), sign_typed(binding, domain, key))


def verify_binding(signed: SignedBinding, domain: Domain, *, identity: bool = True) -> None:
    """Check that the owner of both keys made this binding, for the reader's ``domain``.

    Args:
        signed: Untrusted.
        domain: The reader's own.
        identity: Whether the identity key's signature is looked at, too.

    Raises:
        PeerError: ``other_network``.
        InvalidSignature: ``invalid_signature``: one of the keys did not sign;
            ``malleated_signature``.
    """
    binding = signed.binding
    if binding.network != domain.network:
        raise PeerError("key binding: it is of another network", code="other_network")
    if identity:
        verify_signature(binding.identity, binding.preimage(), signed.identity_signature)
    verify_typed(binding, domain, signed.settlement_signature, binding.settlement)


@dataclass(frozen=True, slots=True)
class LedgerRoot(Statement):
    """The operator's word, for a chain, that the log of ``size`` entries has these roots.

    Two of one size that differ are equivocation, and two signature checks prove it anywhere.
    """

    struct: ClassVar[Struct] = Struct(
        "LedgerRoot(uint64 size,bytes32 root,bytes32 state_root,uint64 epoch)"
    )

    size: int
    root: bytes
    state_root: bytes
    epoch: int
