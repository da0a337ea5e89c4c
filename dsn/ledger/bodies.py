"""What entries say of accounts, epochs and deals; ``disputes`` has the rest.

Each body has one fixed encoding: where something may be absent a byte says so, and nothing can
be spelled in two ways. A body is data only; what it may do is for ``rules``.

Spec: docs/spec/economy.md#entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, Generic, Protocol, TypeVar

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES
from dsn.ids import ID_BYTES, DealId
from dsn.ledger.binding import KeyBinding, SignedBinding
from dsn.ledger.deal import Close, Deal, Extension
from dsn.ledger.log import MAX_ENTRY_BYTES, TreeHead
from dsn.ledger.pledge import Pledge
from dsn.ledger.settlement import SETTLEMENT_SIGNATURE_BYTES, Address
from dsn.ledger.typed import Statement, Struct
from dsn.ledger.voucher import Voucher
from dsn.proofs.post import BEACON_BYTES, Link

SALT_BYTES: Final = 32
_BINDING_BYTES: Final = KeyBinding.struct.size + SIGNATURE_BYTES + SETTLEMENT_SIGNATURE_BYTES

_T = TypeVar("_T")
_S = TypeVar("_S", bound=Statement)


class Encodable(Protocol):
    """Whatever has a fixed encoding."""

    def encode(self) -> bytes:
        """The bytes."""
        ...


class Kind(IntEnum):
    """The first byte of an entry."""

    OPEN_EPOCH = 1
    SHUT_EPOCH = 2
    BIND = 3
    DEPOSIT = 4
    WITHDRAW = 5
    TRANSFER = 6
    OPEN = 7
    TOP_UP = 8
    LINK = 9
    CLAIM = 10
    LOSS = 11
    QUIT = 12
    CLOSE = 13
    DEMAND = 14
    SERVE = 15
    SLASH_WRONG = 16
    SLASH_MISSED = 17
    SLASH_UNSERVED = 18
    SLASH_JUDGED = 19


@dataclass(frozen=True, slots=True)
class OpenEpoch:
    """Epoch ``epoch`` has the beacon ``value``, made over the log at ``closed``."""

    kind: ClassVar[Kind] = Kind.OPEN_EPOCH
    epoch: int
    closed: TreeHead
    value: bytes
    evidence: bytes

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().u64(self.epoch).u64(self.closed.size).raw(self.closed.root, HASH_BYTES)
        return writer.raw(self.value, BEACON_BYTES).var(self.evidence).done()

    @classmethod
    def read(cls, reader: Reader) -> OpenEpoch:
        """Take one body out of ``reader`` (untrusted)."""
        epoch, closed = reader.u64(), TreeHead(reader.u64(), reader.raw(HASH_BYTES))
        return cls(epoch, closed, reader.raw(BEACON_BYTES), reader.var(MAX_ENTRY_BYTES))


@dataclass(frozen=True, slots=True)
class Salt:
    """32 random bytes that a witness gives to an epoch, signed with its Ed25519 key."""

    witness: bytes
    salt: bytes
    signature: bytes

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().raw(self.witness, PUBLIC_KEY_BYTES).raw(self.salt, SALT_BYTES)
        return writer.raw(self.signature, SIGNATURE_BYTES).done()

    @classmethod
    def read(cls, reader: Reader) -> Salt:
        """Take one salt out of ``reader`` (untrusted)."""
        witness, salt = reader.raw(PUBLIC_KEY_BYTES), reader.raw(SALT_BYTES)
        return cls(witness, salt, reader.raw(SIGNATURE_BYTES))


@dataclass(frozen=True, slots=True)
class ShutEpoch:
    """Epoch ``epoch`` is over, and the inventories stand as they are."""

    kind: ClassVar[Kind] = Kind.SHUT_EPOCH
    epoch: int
    salts: tuple[Salt, ...]

    def encode(self) -> bytes:
        """The fields, in order."""
        return Writer().u64(self.epoch).done() + encode_several(self.salts)

    @classmethod
    def read(cls, reader: Reader) -> ShutEpoch:
        """Take one body out of ``reader`` (untrusted)."""
        return cls(reader.u64(), read_several(reader, Salt.read))


@dataclass(frozen=True, slots=True)
class Bind:
    """The signer's identity is the one in the binding."""

    kind: ClassVar[Kind] = Kind.BIND
    signed: SignedBinding

    def encode(self) -> bytes:
        """The binding with both signatures."""
        return self.signed.encode()

    @classmethod
    def read(cls, reader: Reader) -> Bind:
        """Take one body out of ``reader`` (untrusted)."""
        return cls(SignedBinding.decode(reader.raw(_BINDING_BYTES)))


@dataclass(frozen=True, slots=True)
class Deposit(Statement):
    """The vault took ``amount`` base units for ``account``, its deposit number ``serial``."""

    kind: ClassVar[Kind] = Kind.DEPOSIT
    struct: ClassVar[Struct] = Struct("Deposit(address account,uint64 amount,uint64 serial)")
    account: Address
    amount: int
    serial: int


@dataclass(frozen=True, slots=True)
class Withdraw(Statement):
    """The signer takes ``amount`` base units out, to be paid on chain."""

    kind: ClassVar[Kind] = Kind.WITHDRAW
    struct: ClassVar[Struct] = Struct("Withdraw(uint64 amount)")
    amount: int


@dataclass(frozen=True, slots=True)
class Transfer(Statement):
    """The signer gives ``amount`` base units to ``to``."""

    kind: ClassVar[Kind] = Kind.TRANSFER
    struct: ClassVar[Struct] = Struct("Transfer(address to,uint64 amount)")
    to: Address
    amount: int


@dataclass(frozen=True, slots=True)
class Agreed(Generic[_S]):
    """A statement that client and provider of a deal both signed."""

    statement: _S
    client_signature: bytes
    provider_signature: bytes

    def encode(self) -> bytes:
        """The statement and both signatures."""
        return self.statement.encode() + self.client_signature + self.provider_signature


def read_agreed(reader: Reader, kind: type[_S]) -> Agreed[_S]:
    """Take a statement and two signatures out of ``reader`` (untrusted)."""
    return Agreed(kind.read(reader), read_signature(reader), read_signature(reader))


@dataclass(frozen=True, slots=True)
class Open:
    """The client opens a deal."""

    kind: ClassVar[Kind] = Kind.OPEN
    agreed: Agreed[Deal]

    def encode(self) -> bytes:
        """The deal and both signatures."""
        return self.agreed.encode()

    @classmethod
    def read(cls, reader: Reader) -> Open:
        """Take one body out of ``reader`` (untrusted)."""
        return cls(read_agreed(reader, Deal))


@dataclass(frozen=True, slots=True)
class TopUp:
    """The client adds to a deal's escrows, and to its term if the provider agreed."""

    kind: ClassVar[Kind] = Kind.TOP_UP
    deal: DealId
    disk: int
    bandwidth: int
    extension: Agreed[Extension] | None

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().raw(self.deal, ID_BYTES).u64(self.disk).u64(self.bandwidth)
        return writer.done() + encode_optional(self.extension)

    @classmethod
    def read(cls, reader: Reader) -> TopUp:
        """Take one body out of ``reader`` (untrusted)."""
        deal, disk, bandwidth = read_deal(reader), reader.u64(), reader.u64()
        return cls(
            deal, disk, bandwidth, read_optional(reader, lambda: read_agreed(reader, Extension))
        )


@dataclass(frozen=True, slots=True)
class SubmitLink:
    """The provider answered this epoch's challenge."""

    kind: ClassVar[Kind] = Kind.LINK
    link: Link

    def encode(self) -> bytes:
        """The link: 116 bytes."""
        return self.link.encode()

    @classmethod
    def read(cls, reader: Reader) -> SubmitLink:
        """Take one body out of ``reader`` (untrusted)."""
        return cls(Link.read(reader))


@dataclass(frozen=True, slots=True)
class SignedPledge:
    """A revision as client (or delegate) and provider signed it."""

    pledge: Pledge
    by_delegate: bool
    signature: bytes
    provider_signature: bytes

    def encode(self) -> bytes:
        """The fields, in order."""
        flag = bytes([self.by_delegate])
        return self.pledge.encode() + flag + self.signature + self.provider_signature

    @classmethod
    def read(cls, reader: Reader) -> SignedPledge:
        """Take one pledge out of ``reader`` (untrusted)."""
        pledge, by_delegate = Pledge.read(reader), read_flag(reader)
        return cls(pledge, by_delegate, read_signature(reader), read_signature(reader))


@dataclass(frozen=True, slots=True)
class SignedVoucher:
    """A voucher as client or delegate signed it; each of them has a stream of its own."""

    voucher: Voucher
    by_delegate: bool
    signature: bytes

    def encode(self) -> bytes:
        """The fields, in order."""
        return self.voucher.encode() + bytes([self.by_delegate]) + self.signature

    @classmethod
    def read(cls, reader: Reader) -> SignedVoucher:
        """Take one voucher out of ``reader`` (untrusted)."""
        return cls(Voucher.read(reader), read_flag(reader), read_signature(reader))


@dataclass(frozen=True, slots=True)
class Claim:
    """A deal is settled, a voucher redeemed, a revision installed; each of the two if there."""

    kind: ClassVar[Kind] = Kind.CLAIM
    deal: DealId
    revision: SignedPledge | None
    voucher: SignedVoucher | None

    def encode(self) -> bytes:
        """The fields, in order."""
        return self.deal + encode_optional(self.revision) + encode_optional(self.voucher)

    @classmethod
    def read(cls, reader: Reader) -> Claim:
        """Take one body out of ``reader`` (untrusted)."""
        deal = read_deal(reader)
        revision = read_optional(reader, lambda: SignedPledge.read(reader))
        return cls(deal, revision, read_optional(reader, lambda: SignedVoucher.read(reader)))


@dataclass(frozen=True, slots=True)
class Loss:
    """The provider lost shards, proves which, and pays for their repair."""

    kind: ClassVar[Kind] = Kind.LOSS
    deal: DealId
    number: int
    deletions: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().raw(self.deal, ID_BYTES).u64(self.number).u32(len(self.deletions))
        for proof in self.deletions:
            writer.var(proof)
        return writer.done()

    @classmethod
    def read(cls, reader: Reader) -> Loss:
        """Take one body out of ``reader`` (untrusted)."""
        deal, number = read_deal(reader), reader.u64()
        return cls(deal, number, read_several(reader, lambda r: r.var(MAX_ENTRY_BYTES)))


@dataclass(frozen=True, slots=True)
class Quit(Statement):
    """A party gives notice on a deal that holds nothing."""

    kind: ClassVar[Kind] = Kind.QUIT
    struct: ClassVar[Struct] = Struct("Quit(bytes32 deal)")
    deal: DealId


@dataclass(frozen=True, slots=True)
class CloseDeal:
    """A party ends a deal that ran out (or that both end now), or releases one that ended."""

    kind: ClassVar[Kind] = Kind.CLOSE
    deal: DealId
    agreed: Agreed[Close] | None

    def encode(self) -> bytes:
        """The fields, in order."""
        return self.deal + encode_optional(self.agreed)

    @classmethod
    def read(cls, reader: Reader) -> CloseDeal:
        """Take one body out of ``reader`` (untrusted)."""
        deal = read_deal(reader)
        return cls(deal, read_optional(reader, lambda: read_agreed(reader, Close)))


def read_deal(reader: Reader) -> DealId:
    """A deal's id."""
    return DealId(reader.raw(ID_BYTES))


def read_signature(reader: Reader) -> bytes:
    """65 bytes, not judged."""
    return reader.raw(SETTLEMENT_SIGNATURE_BYTES)


def read_flag(reader: Reader) -> bool:
    """A byte that is 0 or 1."""
    flag = reader.u8()
    if flag > 1:
        raise reader.refuse(f"a flag of {flag}, 0 or 1 needed")
    return flag == 1


def encode_optional(part: Encodable | None) -> bytes:
    """A byte that says whether ``part`` is there, and its encoding if so."""
    return b"\0" if part is None else b"\1" + part.encode()


def read_optional(reader: Reader, read: Callable[[], _T]) -> _T | None:
    """What ``encode_optional`` wrote."""
    return read() if read_flag(reader) else None


def encode_several(parts: Sequence[Encodable]) -> bytes:
    """A u32 count and the encodings."""
    return Writer().u32(len(parts)).done() + b"".join(part.encode() for part in parts)


def read_several(reader: Reader, read: Callable[[Reader], _T]) -> tuple[_T, ...]:
    """What ``encode_several`` wrote; every part takes a byte at least, which bounds the count."""
    return tuple(read(reader) for _ in range(reader.u32()))
