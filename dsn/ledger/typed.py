"""EIP-712 typed data: what a chain may judge is signed in the chain's own format.

A struct type is declared by its EIP-712 type string and nothing else. Its type hash, the
digest that is signed and the fixed encoding that travels all follow from that one line, so they
cannot disagree.

Spec: docs/spec/economy.md#typed-data; EIP-712.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol, Self

from dsn.core.codec import Reader
from dsn.core.hashing import HASH_BYTES
from dsn.errors import InvalidSignature
from dsn.ids import NetworkId
from dsn.kernels.keccak import keccak256
from dsn.ledger.settlement import (
    ADDRESS_BYTES,
    Address,
    SettlementKey,
    format_address,
    recover,
)

Value = int | bytes
_WORD: Final = 32
_INTEGERS: Final = {"uint8": 1, "uint64": 8, "uint128": 16, "uint256": 32}
_ATOMS: Final = _INTEGERS | {"address": ADDRESS_BYTES, "bytes32": HASH_BYTES}
_HASHED: Final = frozenset({"bytes", "string"})


@dataclass(frozen=True, slots=True)
class Member:
    """One field of a struct type; ``size`` bytes in the fixed encoding, or 0 if it is hashed."""

    kind: str
    name: str
    size: int

    def encode(self, value: Value) -> bytes:
        """The ``size`` bytes of a field that is not hashed."""
        if isinstance(value, int):
            return value.to_bytes(self.size, "big")
        assert len(value) == self.size, self.name
        return value

    def word(self, value: Value) -> bytes:
        """The 32 bytes that stand for ``value`` in the hash."""
        if self.size:
            return self.encode(value).rjust(_WORD, b"\0")
        assert isinstance(value, bytes)
        return keccak256(value)

    def read(self, reader: Reader) -> Value:
        """What ``encode`` wrote."""
        raw = reader.raw(self.size)
        return int.from_bytes(raw, "big") if self.kind in _INTEGERS else raw


class Struct:
    """A struct type, from its type string: ``Voucher(bytes32 deal,uint64 credits)``."""

    __slots__ = ("name", "members", "size", "_type_hash")

    def __init__(self, declared: str) -> None:
        """Read the type string; ours, so a mistake in it is a bug."""
        self.name, _, rest = declared.partition("(")
        pairs = [member.split(" ") for member in rest.removesuffix(")").split(",")]
        assert all(kind in _ATOMS or kind in _HASHED for kind, _ in pairs), declared
        self.members = tuple(Member(kind, name, _ATOMS.get(kind, 0)) for kind, name in pairs)
        self.size = sum(member.size for member in self.members)
        """Bytes of the fixed encoding, where no field is hashed."""
        self._type_hash = keccak256(declared.encode("ascii"))

    def hash(self, values: Iterable[Value]) -> bytes:
        """EIP-712's hashStruct of ``values``, which are in the order of the type string."""
        words = (member.word(value) for member, value in zip(self.members, values, strict=True))
        return keccak256(self._type_hash + b"".join(words))


class Typed(Protocol):
    """Whatever has a struct type and can be signed."""

    struct: ClassVar[Struct]

    def values(self) -> Iterable[Value]:
        """The fields in the order of the type string."""
        ...


class Statement:
    """A value whose fields are all atomic: signed as typed data, carried as the fixed encoding.

    A subclass is a frozen dataclass with the fields that its ``struct`` names, in that order.
    """

    __slots__ = ()
    struct: ClassVar[Struct]

    def values(self) -> Iterable[Value]:
        """The fields in the order of the type string."""
        return (getattr(self, member.name) for member in self.struct.members)

    def encode(self) -> bytes:
        """The fields one after another, big-endian: ``struct.size`` bytes."""
        pairs = zip(self.struct.members, self.values(), strict=True)
        return b"".join(member.encode(value) for member, value in pairs)

    @classmethod
    def read(cls, reader: Reader) -> Self:
        """Take one statement out of ``reader``, whose bytes are untrusted.

        Raises:
            MalformedMessage: Short.
        """
        make: Callable[..., Self] = cls
        return make(*(member.read(reader) for member in cls.struct.members))

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Read what ``encode`` wrote.

        Args:
            raw: Untrusted.

        Raises:
            MalformedMessage: Short or long.
        """
        reader = Reader(raw, cls.struct.name.lower())
        statement = cls.read(reader)
        reader.end()
        return statement


_DOMAIN: Final = Struct(
    "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract,"
    "bytes32 salt)"
)


@dataclass(frozen=True, slots=True)
class Domain:
    """Where a signature holds: one network, and the vault it settles in.

    Attributes:
        network: The network id; EIP-712's salt.
        chain_id: Of the EVM chain, below 2^256; 0 without one.
        vault: The vault's address there; ``NO_ADDRESS`` without a chain.
    """

    network: NetworkId
    chain_id: int
    vault: Address
    separator: bytes = field(init=False, compare=False, repr=False)
    """What every digest of this domain starts from."""

    def __post_init__(self) -> None:
        """Hash the domain once; every signature needs it."""
        values = (b"dsn", b"1", self.chain_id, self.vault, self.network)
        object.__setattr__(self, "separator", _DOMAIN.hash(values))


def digest(domain: Domain, message: Typed) -> bytes:
    """The 32 bytes that are signed for ``message``."""
    return keccak256(b"\x19\x01" + domain.separator + message.struct.hash(message.values()))


def sign_typed(message: Typed, domain: Domain, key: SettlementKey) -> bytes:
    """The 65-byte signature of ``key`` over ``message``."""
    return key.sign(digest(domain, message))


def verify_typed(message: Typed, domain: Domain, signature: bytes, signer: Address) -> None:
    """Check that ``signer`` signed ``message``, for this domain only.

    Args:
        message: Untrusted.
        domain: The reader's own.
        signature: Untrusted.
        signer: Who must have signed.

    Raises:
        InvalidSignature: ``invalid_signature``: somebody else did, or signed something else;
            ``malleated_signature``: a second spelling of a signature.
    """
    check_signer(message, recover(digest(domain, message), signature), signer)


def check_signer(message: Typed, found: Address, signer: Address) -> None:
    """Check that ``found``, who was recovered from the signature of ``message``, is ``signer``.

    Raises:
        InvalidSignature: ``invalid_signature``.
    """
    if found != signer:
        raise InvalidSignature(
            f"{message.struct.name.lower()}: signed by {format_address(found)}, "
            f"{format_address(signer)} expected"
        )
