"""The cells that the ledger's state is made of, and the bytes that its root commits to.

Four kinds: the network, an account, a node, a deal. An entry reads and writes whole cells and
touches at most five of them beside the network's, so that any step can be judged alone.

Spec: docs/spec/economy.md#cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import ClassVar, Final

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES, tagged
from dsn.ids import ID_BYTES, DealId, NetworkId, NodeId
from dsn.ledger.deal import Deal
from dsn.ledger.log import TreeHead
from dsn.ledger.settlement import ADDRESS_BYTES, Address
from dsn.proofs.inventory import EMPTY_ROOT
from dsn.proofs.post import Link

KEPT_BITS: Final = 720
"""Epochs that an account remembers as proven or not: 30 days of hours."""
NO_NODE: Final = NodeId(bytes(ID_BYTES))
_BITS_BYTES: Final = KEPT_BITS // 8
_AMOUNT_BYTES: Final = 16
_ACCOUNT_BYTES: Final = ADDRESS_BYTES + 3 * _AMOUNT_BYTES + 6 * 8 + _BITS_BYTES + 3 * HASH_BYTES


class CellKind(IntEnum):
    """What a cell is of; part of its key."""

    NETWORK = 1
    ACCOUNT = 2
    NODE = 3
    DEAL = 4


class Phase(IntEnum):
    """Between ``OPEN`` and ``SHUT`` links are taken."""

    SHUT = 0
    OPEN = 1


class DealState(IntEnum):
    """``OPEN`` goes to ``ENDED`` or ``SLASHED``, ``ENDED`` may be ``SLASHED``, all ``CLOSED``."""

    OPEN = 1
    ENDED = 2
    SLASHED = 3
    CLOSED = 4


@lru_cache(maxsize=1 << 16)
def cell_key(kind: CellKind, name: bytes) -> bytes:
    """Where the state tree keeps the cell of ``name``: a network, address, node or deal id."""
    return tagged(tags.CELL_KEY, bytes([kind]), name)


def _amount(writer: Writer, *values: int) -> Writer:
    for value in values:
        writer.raw(value.to_bytes(_AMOUNT_BYTES, "big"), _AMOUNT_BYTES)
    return writer


def _words(writer: Writer, *values: int) -> Writer:
    for value in values:
        writer.u64(value)
    return writer


def _read_amounts(reader: Reader, count: int) -> tuple[int, ...]:
    return tuple(int.from_bytes(reader.raw(_AMOUNT_BYTES), "big") for _ in range(count))


def _read_words(reader: Reader, count: int) -> tuple[int, ...]:
    return tuple(reader.u64() for _ in range(count))


@dataclass(frozen=True, slots=True)
class NetworkCell:
    """Where time stands. ``beacon`` is the hash of the newest beacon value.

    ``epoch`` is the one that is open, or the next to be opened; ``closed`` is the log as it stood
    when the last epoch before the newest open was shut; ``round`` is the one of drand that the
    last shut fixed, 0 where there is none.
    """

    kind: ClassVar[CellKind] = CellKind.NETWORK
    network: NetworkId
    epoch: int
    phase: Phase
    beacon: bytes
    closed: TreeHead
    round: int = 0

    @property
    def key(self) -> bytes:
        """Its key in the state tree."""
        return cell_key(self.kind, self.network)

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().raw(self.network, ID_BYTES).u64(self.epoch).u8(self.phase)
        writer.raw(self.beacon, HASH_BYTES).u64(self.closed.size)
        return writer.raw(self.closed.root, HASH_BYTES).u64(self.round).done()

    @classmethod
    def read(cls, reader: Reader) -> NetworkCell:
        """Take one cell out of ``reader``."""
        network, epoch = NetworkId(reader.raw(ID_BYTES)), reader.u64()
        phase, beacon = Phase(reader.u8()), reader.raw(HASH_BYTES)
        closed = TreeHead(reader.u64(), reader.raw(HASH_BYTES))
        return cls(network, epoch, phase, beacon, closed, reader.u64())


@dataclass(frozen=True, slots=True)
class AccountCell:
    """Who has how much; as a provider, what is held and what was proven.

    Attributes:
        address: Whose.
        available: Base units free to spend.
        withdrawn: Base units ever taken out; the chain pays the rise.
        burned: Base units ever burned as fees.
        nonce: Entries signed so far.
        deposits: Deposits so far.
        deals: Deals as client or provider that are not closed.
        node: The identity that is bound, or ``NO_NODE``.
        rolled: The epoch that ``bits`` and ``frozen`` speak of.
        bits: Bit i says that epoch ``rolled - i`` was proven, or that there was nothing to prove.
        live: Root of the installed inventory.
        live_leaves: Leaves in it.
        frozen: Root of the inventory that epoch ``rolled`` asks about.
        frozen_leaves: Leaves in that one.
    """

    kind: ClassVar[CellKind] = CellKind.ACCOUNT
    address: Address
    available: int = 0
    withdrawn: int = 0
    burned: int = 0
    nonce: int = 0
    deposits: int = 0
    deals: int = 0
    node: NodeId = NO_NODE
    rolled: int = 0
    bits: int = 0
    live: bytes = EMPTY_ROOT
    live_leaves: int = 0
    frozen: bytes = EMPTY_ROOT
    frozen_leaves: int = 0

    @property
    def key(self) -> bytes:
        """Its key in the state tree."""
        return cell_key(self.kind, self.address)

    def proven(self, epoch: int) -> bool:
        """Whether ``epoch``, not after ``rolled``, was proven; those forgotten count as not."""
        return self.bits >> (self.rolled - epoch) & 1 == 1

    def encode(self) -> bytes:
        """The fields, in order; the bits as 90 bytes, the newest epoch last."""
        raw = b"".join(
            (
                self.address,
                self.available.to_bytes(_AMOUNT_BYTES, "big"),
                self.withdrawn.to_bytes(_AMOUNT_BYTES, "big"),
                self.burned.to_bytes(_AMOUNT_BYTES, "big"),
                self.nonce.to_bytes(8, "big"),
                self.deposits.to_bytes(8, "big"),
                self.deals.to_bytes(8, "big"),
                self.node,
                self.rolled.to_bytes(8, "big"),
                self.bits.to_bytes(_BITS_BYTES, "big"),
                self.live,
                self.live_leaves.to_bytes(8, "big"),
                self.frozen,
                self.frozen_leaves.to_bytes(8, "big"),
            )
        )
        assert len(raw) == _ACCOUNT_BYTES
        return raw

    @classmethod
    def read(cls, reader: Reader) -> AccountCell:
        """Take one cell out of ``reader``."""
        address = Address(reader.raw(ADDRESS_BYTES))
        amounts, counts = _read_amounts(reader, 3), _read_words(reader, 3)
        node, rolled = NodeId(reader.raw(ID_BYTES)), reader.u64()
        bits = int.from_bytes(reader.raw(_BITS_BYTES), "big")
        live = reader.raw(HASH_BYTES), reader.u64()
        frozen = reader.raw(HASH_BYTES), reader.u64()
        make: Callable[..., AccountCell] = cls
        return make(address, *amounts, *counts, node, rolled, bits, *live, *frozen)


@dataclass(frozen=True, slots=True)
class NodeCell:
    """Which account an identity belongs to; ``serial`` is its newest binding's."""

    kind: ClassVar[CellKind] = CellKind.NODE
    node: NodeId
    account: Address
    serial: int

    @property
    def key(self) -> bytes:
        """Its key in the state tree."""
        return cell_key(self.kind, self.node)

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().raw(self.node, ID_BYTES).raw(self.account, ADDRESS_BYTES)
        return writer.u64(self.serial).done()

    @classmethod
    def read(cls, reader: Reader) -> NodeCell:
        """Take one cell out of ``reader``."""
        node, account = NodeId(reader.raw(ID_BYTES)), Address(reader.raw(ADDRESS_BYTES))
        return cls(node, account, reader.u64())


@dataclass(frozen=True, slots=True)
class Pending:
    """A demand that waits: leaf ``index`` of the deal's holdings, or of a link's inventory.

    Attributes:
        asker: Who put the bond at stake.
        deadline: The last epoch in which it can be served.
        index: The leaf's number under its anchor.
        link: The link whose opening number ``place`` it is, or ``None``.
        place: That number; 0 without a link.
    """

    asker: Address
    deadline: int
    index: int
    link: Link | None = None
    place: int = 0

    def encode(self) -> bytes:
        """The fields, in order; the link's 116 bytes only if there is one."""
        writer = Writer().raw(self.asker, ADDRESS_BYTES).u64(self.deadline).u64(self.index)
        if self.link is None:
            return writer.u8(0).done()
        return writer.u8(1).done() + self.link.encode() + self.place.to_bytes(4, "big")

    @classmethod
    def read(cls, reader: Reader) -> Pending:
        """Take one demand out of ``reader``."""
        asker = Address(reader.raw(ADDRESS_BYTES))
        deadline, index = reader.u64(), reader.u64()
        if not reader.u8():
            return cls(asker, deadline, index)
        return cls(asker, deadline, index, Link.read(reader), reader.u32())


@dataclass(frozen=True, slots=True)
class DealCell:
    """A deal: its terms, what is held, what was paid, and what is still locked.

    Attributes:
        deal: Its id.
        terms: What both signed; ``end`` and ``grace`` below are the ones in force.
        state: See ``DealState``.
        end: The last epoch before the grace.
        grace: Epochs of grace.
        settled: Disk pay is settled up to and with this epoch.
        serial: Extensions so far.
        ended: The epoch in which it ended; 0 before.
        missed: Epochs that were settled unproven while something was held.
        number, shards, leaves, root: The installed revision.
        leaf_epochs: Leaves times proven epochs, summed.
        disk_paid: Taken from the disk escrow so far; what of it is burned or kept included.
        voucher_paid: Paid on the client's vouchers.
        delegate_paid: Paid on the delegate's.
        disk_escrow, bandwidth_escrow: Still locked.
        collateral: The provider's, locked.
        refund: The client's, once the deal is closed.
        bond: The asker's, while a demand is pending.
        burned: Burned of this deal's money so far.
        demand: The pending one.
    """

    kind: ClassVar[CellKind] = CellKind.DEAL
    deal: DealId
    terms: Deal
    state: DealState
    end: int
    grace: int
    settled: int
    serial: int = 0
    ended: int = 0
    missed: int = 0
    number: int = 0
    shards: int = 0
    leaves: int = 0
    root: bytes = EMPTY_ROOT
    leaf_epochs: int = 0
    disk_paid: int = 0
    voucher_paid: int = 0
    delegate_paid: int = 0
    disk_escrow: int = 0
    bandwidth_escrow: int = 0
    collateral: int = 0
    refund: int = 0
    bond: int = 0
    burned: int = 0
    demand: Pending | None = None

    @property
    def key(self) -> bytes:
        """Its key in the state tree."""
        return cell_key(self.kind, self.deal)

    @property
    def last(self) -> int:
        """The last epoch that is paid for, the grace included."""
        return self.end + self.grace

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().raw(self.deal, ID_BYTES)
        writer.raw(self.terms.encode(), Deal.struct.size).u8(self.state)
        _words(writer, self.end, self.grace, self.settled, self.serial, self.ended, self.missed)
        _words(writer, self.number, self.shards, self.leaves).raw(self.root, HASH_BYTES)
        _amount(writer, self.leaf_epochs, self.disk_paid, self.voucher_paid, self.delegate_paid)
        _amount(writer, self.disk_escrow, self.bandwidth_escrow, self.collateral)
        _amount(writer, self.refund, self.bond, self.burned)
        if self.demand is None:
            return writer.u8(0).done()
        return writer.u8(1).done() + self.demand.encode()

    @classmethod
    def read(cls, reader: Reader) -> DealCell:
        """Take one cell out of ``reader``."""
        deal, terms, state = DealId(reader.raw(ID_BYTES)), Deal.read(reader), reader.u8()
        words, root = _read_words(reader, 9), reader.raw(HASH_BYTES)
        amounts = _read_amounts(reader, 10)
        demand = Pending.read(reader) if reader.u8() else None
        make: Callable[..., DealCell] = cls
        return make(deal, terms, DealState(state), *words, root, *amounts, demand)


Cell = NetworkCell | AccountCell | NodeCell | DealCell
_CELLS: Final[dict[CellKind, type[Cell]]] = {
    cell.kind: cell for cell in (NetworkCell, AccountCell, NodeCell, DealCell)
}


def cell_digest(cell: Cell) -> bytes:
    """What the state tree's leaf for ``cell`` is.

    Raises:
        OverflowError: A field is beyond its size.
    """
    return tagged(tags.CELL, cell.key, cell.encode())


def decode_cell(kind: CellKind, raw: bytes) -> Cell:
    """Read what ``encode`` wrote.

    Args:
        kind: Which cell it is.
        raw: Untrusted; whoever has it from others compares ``cell_digest`` with a proof.

    Raises:
        MalformedMessage: Short, long, or not what it would encode to again.
    """
    reader = Reader(raw, f"{kind.name.lower()} cell")
    try:
        cell = _CELLS[kind].read(reader)
    except ValueError as error:
        raise reader.refuse("a phase or state that does not exist") from error
    reader.end()
    if cell.encode() != raw:
        raise reader.refuse("another spelling of the same cell")
    return cell
