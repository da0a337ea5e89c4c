"""The deals of one home on disk: a small file each, whole or not at all.

A deal is written down before it is entered into the ledger, so that after a crash this home finds
out there what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from dsn.core.codec import Reader, Writer
from dsn.core.hashing import sha256
from dsn.ids import ID_BYTES, DealId, NodeId, format_base32, parse_base32
from dsn.ledger.bandwidth import Traffic
from dsn.ledger.bodies import Agreed, SignedVoucher, encode_optional, read_agreed, read_optional
from dsn.ledger.cells import CellKind, DealCell, DealState, decode_cell
from dsn.ledger.deal import Deal
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.machines.settle import Purse
from dsn.store.files import write_atomic

FOLDER: Final = "deals"
"""Below a home's state."""
SUFFIX: Final = ".deal"
SEEN: Final = "epoch"
_MAX_CELL_BYTES: Final = 2_048


class Stage(IntEnum):
    """How far a deal of this home has come."""

    DRAFT = 0
    """Nobody has signed it; never on disk."""
    SIGNED = 1
    """Both signed; the ledger may have it or not."""
    OPEN = 2
    """The ledger has it."""


@dataclass(slots=True)
class ClientDeal:
    """One deal of this home with one node.

    Attributes:
        node: The other party's identity.
        agreed: What both signed.
        cell: The deal as the ledger has it, or will have it once ``agreed`` is entered.
        stage: Whether it is entered.
        purse: What was moved under it and promised for that.
        newest: The highest voucher signed.
        leaves: Held under the newest revision that both signed.
        coming: Leaves reserved since then; not kept on disk.
        by_delegate: Whether this home is not its client but its delegate.
    """

    node: NodeId
    agreed: Agreed[Deal]
    cell: DealCell
    stage: Stage
    purse: Purse
    newest: SignedVoucher | None = None
    leaves: int = 0
    coming: int = 0
    by_delegate: bool = False

    @property
    def payer(self) -> Address:
        """Whose key signs vouchers and revisions here."""
        return self.terms.delegate if self.by_delegate else self.terms.client

    @property
    def reserved(self) -> bool:
        """Whether it is there for a delegate, and nothing of this home's own belongs in it."""
        return self.terms.delegate != NO_ADDRESS and not self.by_delegate

    @property
    def deal(self) -> DealId:
        """Its id."""
        return self.cell.deal

    @property
    def terms(self) -> Deal:
        """What both signed."""
        return self.cell.terms

    @property
    def end(self) -> int:
        """The last epoch before the grace."""
        return self.cell.end

    def take(self, cell: DealCell) -> None:
        """The ledger has the deal as ``cell``."""
        self.cell, self.stage = cell, Stage.OPEN
        self.purse.limit = _limit(cell, self.by_delegate)

    def encode(self) -> bytes:
        """The fixed encoding, which ends with a hash of the rest."""
        writer = Writer().raw(self.node, ID_BYTES).u8(self.stage).var(self.cell.encode())
        body = writer.done() + self.agreed.encode() + encode_optional(self.newest)
        traffic, purse = self.purse.traffic, self.purse
        writer = Writer().u64(traffic.ingress_bytes).u64(traffic.egress_bytes)
        body += writer.u64(purse.credits).u64(self.leaves).done()
        return body + sha256(body)

    @classmethod
    def decode(cls, raw: bytes, me: Address = NO_ADDRESS) -> ClientDeal:
        """Read what ``encode`` wrote; ``me`` is whose account this home's is.

        Raises:
            MalformedMessage: The file is damaged.
        """
        body, check = raw[:-ID_BYTES], raw[-ID_BYTES:]
        reader = Reader(body, "deal file")
        if sha256(body) != check:
            raise reader.refuse("its hash does not match")
        node, stage = NodeId(reader.raw(ID_BYTES)), Stage(reader.u8())
        cell = decode_cell(CellKind.DEAL, reader.var(_MAX_CELL_BYTES))
        assert isinstance(cell, DealCell)
        agreed = read_agreed(reader, Deal)
        newest = read_optional(reader, lambda: SignedVoucher.read(reader))
        traffic, credits, leaves = Traffic(reader.u64(), reader.u64()), reader.u64(), reader.u64()
        reader.end()
        by_delegate = me == cell.terms.delegate != NO_ADDRESS
        purse = Purse(cell.terms, traffic, credits, _limit(cell, by_delegate))
        return cls(node, agreed, cell, stage, purse, newest, leaves, by_delegate=by_delegate)


def _limit(cell: DealCell, by_delegate: bool) -> int:
    """What vouchers can reach: of a delegate's, no more than the deal grants."""
    if by_delegate:
        left = cell.bandwidth_escrow + cell.delegate_paid
        return min(cell.terms.delegate_credits, left)
    return cell.bandwidth_escrow + cell.voucher_paid


def new_deal(
    node: NodeId,
    deal: DealId,
    agreed: Agreed[Deal],
    epoch: int,
    stage: Stage,
    *,
    by_delegate: bool = False,
) -> ClientDeal:
    """A deal that nobody has entered yet, as it will be if that happens in ``epoch``."""
    terms = agreed.statement
    cell = DealCell(
        deal,
        terms,
        DealState.OPEN,
        end=terms.end,
        grace=terms.grace,
        settled=epoch,
        disk_escrow=terms.disk_escrow,
        bandwidth_escrow=terms.bandwidth_escrow,
    )
    purse = Purse(terms, Traffic(), 0, _limit(cell, by_delegate))
    return ClientDeal(node, agreed, cell, stage, purse, by_delegate=by_delegate)


class Seen(NamedTuple):
    """The epoch that the ledger was in when it was asked last, at a time in Unix seconds."""

    epoch: int = 0
    at_s: int = 0


class DealFolder:
    """The files of a home's deals, by deal id."""

    def __init__(self, path: Path, me: Address = NO_ADDRESS) -> None:
        """Keep those of the account ``me`` in ``path``, made when there is something to keep."""
        self._path, self._me = path, me
        self._kept: dict[Path, bytes] = {}

    def load(self) -> list[ClientDeal]:
        """All of them.

        Raises:
            MalformedMessage: A file is damaged.
        """
        files = (self._file(deal).read_bytes() for deal in self.ids())
        return [ClientDeal.decode(raw, self._me) for raw in files]

    def ids(self) -> list[DealId]:
        """Their ids, sorted."""
        names = sorted(each.name for each in self._path.glob(f"*{SUFFIX}"))
        return [DealId(parse_base32(name.removesuffix(SUFFIX))) for name in names]

    def seen(self) -> Seen:
        """What ``keep_seen`` kept."""
        try:
            reader = Reader((self._path / SEEN).read_bytes(), "deals' epoch")
        except FileNotFoundError:
            return Seen()
        return Seen(reader.u64(), reader.u64())

    def keep_seen(self, seen: Seen) -> None:
        """Keep which epoch the ledger was in."""
        self._write(self._path / SEEN, Writer().u64(seen.epoch).u64(seen.at_s).done())

    def save(self, deal: ClientDeal) -> None:
        """Keep ``deal``; it survives a crash once this returns."""
        self._write(self._file(deal.deal), deal.encode())

    def remove(self, deal: DealId) -> None:
        """Forget a deal that is over for good, or never was."""
        self._file(deal).unlink(missing_ok=True)

    def _write(self, path: Path, data: bytes) -> None:
        if self._kept.get(path) != data:
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomic(path, data)
            self._kept[path] = data

    def _file(self, deal: DealId) -> Path:
        return self._path / f"{format_base32(deal)}{SUFFIX}"
