"""What entries say when somebody doubts: demands, what serves them, and slashes.

Spec: docs/spec/economy.md#entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.ids import ID_BYTES, DealId
from dsn.ledger.bodies import Kind, read_deal, read_flag
from dsn.ledger.log import MAX_ENTRY_BYTES, LogLeaf
from dsn.ledger.settlement import Address
from dsn.ledger.typed import Statement, Struct
from dsn.proofs.post import BEACON_BYTES

Path = tuple[bytes, ...]
"""Sibling hashes, bottom up."""


def _write_path(writer: Writer, path: Path) -> Writer:
    writer.u8(len(path))
    for sibling in path:
        writer.raw(sibling, HASH_BYTES)
    return writer


def _read_path(reader: Reader) -> Path:
    return tuple(reader.raw(HASH_BYTES) for _ in range(reader.u8()))


@dataclass(frozen=True, slots=True)
class DrawnOpening:
    """Opening ``place`` of a link that stands in the log, and that it falls in a deal.

    Attributes:
        leaf: The link's leaf of the log.
        index: Its number there.
        path: Its inclusion proof under the last closed log.
        beacon: The beacon value of the link's epoch.
        place: Which opening, in draw order.
        bracket: The bracket of an opening at ``place``: the way to the deal in the inventory.
    """

    leaf: LogLeaf
    index: int
    path: Path
    beacon: bytes
    place: int
    bracket: bytes

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().var(self.leaf.encode()).u64(self.index)
        writer = _write_path(writer, self.path).raw(self.beacon, BEACON_BYTES)
        return writer.u32(self.place).var(self.bracket).done()

    @classmethod
    def read(cls, reader: Reader) -> DrawnOpening:
        """Take one out of ``reader`` (untrusted)."""
        leaf, index = LogLeaf.decode(reader.var(MAX_ENTRY_BYTES)), reader.u64()
        path, beacon = _read_path(reader), reader.raw(BEACON_BYTES)
        return cls(leaf, index, path, beacon, reader.u32(), reader.var(MAX_ENTRY_BYTES))


@dataclass(frozen=True, slots=True)
class Demand:
    """Show this under a bond: an opening of a link, or leaf ``target`` of the holdings."""

    kind: ClassVar[Kind] = Kind.DEMAND
    deal: DealId
    bond: int
    target: DrawnOpening | int

    def encode(self) -> bytes:
        """The fields, in order; a byte before the target tells which it is."""
        writer = Writer().raw(self.deal, ID_BYTES).u64(self.bond)
        if isinstance(self.target, int):
            return writer.u8(0).u64(self.target).done()
        return writer.u8(1).done() + self.target.encode()

    @classmethod
    def read(cls, reader: Reader) -> Demand:
        """Take one body out of ``reader`` (untrusted)."""
        deal, bond = read_deal(reader), reader.u64()
        target = DrawnOpening.read(reader) if read_flag(reader) else reader.u64()
        return cls(deal, bond, target)


@dataclass(frozen=True, slots=True)
class ServedOpening:
    """The opening that was demanded; ``path`` leads to the answer root, if a link's was."""

    opening: bytes
    path: Path

    def encode(self) -> bytes:
        """The fields, in order."""
        return _write_path(Writer().var(self.opening), self.path).done()

    @classmethod
    def read(cls, reader: Reader) -> ServedOpening:
        """Take one out of ``reader`` (untrusted)."""
        return cls(reader.var(MAX_ENTRY_BYTES), _read_path(reader))


@dataclass(frozen=True, slots=True)
class ShardLost:
    """The demanded leaf's shard is lost; ``deletion`` proves which one it is."""

    number: int
    deletion: bytes

    def encode(self) -> bytes:
        """The fields, in order."""
        return Writer().u64(self.number).var(self.deletion).done()

    @classmethod
    def read(cls, reader: Reader) -> ShardLost:
        """Take one out of ``reader`` (untrusted)."""
        return cls(reader.u64(), reader.var(MAX_ENTRY_BYTES))


@dataclass(frozen=True, slots=True)
class AllLost:
    """Everything under the deal is given up."""

    number: int

    def encode(self) -> bytes:
        """The number."""
        return Writer().u64(self.number).done()

    @classmethod
    def read(cls, reader: Reader) -> AllLost:
        """Take one out of ``reader`` (untrusted)."""
        return cls(reader.u64())


Service = ServedOpening | ShardLost | AllLost
_SERVICES: tuple[type[Service], ...] = (ServedOpening, ShardLost, AllLost)


@dataclass(frozen=True, slots=True)
class Serve:
    """The provider's answer to the pending demand."""

    kind: ClassVar[Kind] = Kind.SERVE
    deal: DealId
    service: Service

    def encode(self) -> bytes:
        """The fields, in order; a byte tells which service it is."""
        which = _SERVICES.index(type(self.service))
        return self.deal + bytes([which]) + self.service.encode()

    @classmethod
    def read(cls, reader: Reader) -> Serve:
        """Take one body out of ``reader`` (untrusted)."""
        deal, which = read_deal(reader), reader.u8()
        if which >= len(_SERVICES):
            raise reader.refuse(f"a service of kind {which}, 0 to {len(_SERVICES) - 1} known")
        return cls(deal, _SERVICES[which].read(reader))


@dataclass(frozen=True, slots=True)
class SlashWrong:
    """An opening under a link fails."""

    kind: ClassVar[Kind] = Kind.SLASH_WRONG
    deal: DealId
    drawn: DrawnOpening
    answer: ServedOpening

    def encode(self) -> bytes:
        """The fields, in order."""
        return self.deal + self.drawn.encode() + self.answer.encode()

    @classmethod
    def read(cls, reader: Reader) -> SlashWrong:
        """Take one body out of ``reader`` (untrusted)."""
        return cls(read_deal(reader), DrawnOpening.read(reader), ServedOpening.read(reader))


@dataclass(frozen=True, slots=True)
class SlashMissed(Statement):
    """More epochs were missed than the deal allows."""

    kind: ClassVar[Kind] = Kind.SLASH_MISSED
    struct: ClassVar[Struct] = Struct("SlashMissed(bytes32 deal)")
    deal: DealId


@dataclass(frozen=True, slots=True)
class SlashUnserved(Statement):
    """A demand was not served in time."""

    kind: ClassVar[Kind] = Kind.SLASH_UNSERVED
    struct: ClassVar[Struct] = Struct("SlashUnserved(bytes32 deal)")
    deal: DealId


@dataclass(frozen=True, slots=True)
class SlashJudged(Statement):
    """The chain slashed: nobody showed there what ``asker`` demanded under revision ``number``."""

    kind: ClassVar[Kind] = Kind.SLASH_JUDGED
    struct: ClassVar[Struct] = Struct("SlashJudged(bytes32 deal,uint64 number,address asker)")
    deal: DealId
    number: int
    asker: Address
