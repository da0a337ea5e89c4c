"""What an account did and what became of its credits, from the log itself.

All entries are applied again, from the first one or from where the last look ended, and what comes
out must be the state that the newest checkpoint commits to. So nothing here rests on what a ledger
says: every figure follows from entries, and they add up to the proven cells to the unit. Rules are
applied to all entries; the signatures of those that touch the account are verified once more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from dsn.apps.ledger.light import LightClient
from dsn.apps.ledger.reading import read_leaves
from dsn.apps.ledger.remembered import Remembered
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES, sha256
from dsn.errors import DsnError, InvalidProof, MalformedMessage
from dsn.ids import DealId
from dsn.ledger.bodies import Kind, Transfer
from dsn.ledger.cells import AccountCell, CellKind, DealCell, decode_cell
from dsn.ledger.checkpoint import Checkpoint
from dsn.ledger.entry import Body, Entry, SignedEntry
from dsn.ledger.log import Frontier, LogLeaf
from dsn.ledger.money import burned_of
from dsn.ledger.params import LedgerParams
from dsn.ledger.rules.moves import apply
from dsn.ledger.rules.signatures import check_signatures
from dsn.ledger.settlement import Address, format_address
from dsn.ledger.state import Changes, State, genesis
from dsn.store.files import PRIVATE_DIRECTORY, write_atomic

_MAGIC: Final = b"dsn history 2\n"
_MAX_BYTES: Final = 1 << 31
_TRANSFER: Final = Kind.TRANSFER.name.lower()
_DEPOSIT: Final = Kind.DEPOSIT.name.lower()


@dataclass(frozen=True, slots=True)
class Line:
    """One entry that touched the account; amounts in base units.

    Attributes:
        index: The entry's number in the log.
        epoch: The network's, after it.
        kind: The entry's kind in lower case.
        other: Who signed it, or who got a transfer: an address, if not the account's own.
        deal: The deal concerned, in hexadecimal, or empty.
        change: Of what is available, the fee included.
        fee: What of it was burned as a fee.
        locked: Of what is locked for the account in its deals.
        balance: What was available after it.
    """

    index: int
    epoch: int
    kind: str
    other: str
    deal: str
    change: int
    fee: int
    locked: int
    balance: int


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where an account's credits came from and where they are, in base units.

    ``total`` is ``allocated + deposited + received + earned_bandwidth + earned_disk + disputes -
    sent - spent_bandwidth - spent_disk - fees - withdrawn``.

    Attributes:
        available: Free to spend.
        escrow: Locked as a client: escrows, refunds to come, bonds.
        collateral: Locked as a provider.
        allocated: At genesis.
        deposited: From the chain.
        received: By transfers, the faucet's too.
        sent: By transfers.
        withdrawn: To the chain.
        fees: Burned.
        spent_bandwidth: Paid on vouchers as a client.
        spent_disk: Paid for disk as a client.
        earned_bandwidth: Paid on vouchers as a provider.
        earned_disk: Paid for disk as a provider, what was burned of it left out.
        disputes: What losses, slashes and bonds brought, or took.
    """

    available: int
    escrow: int
    collateral: int
    allocated: int
    deposited: int
    received: int
    sent: int
    withdrawn: int
    fees: int
    spent_bandwidth: int
    spent_disk: int
    earned_bandwidth: int
    earned_disk: int
    disputes: int

    @property
    def total(self) -> int:
        """Available, escrow and collateral."""
        return self.available + self.escrow + self.collateral


@dataclass(frozen=True, slots=True)
class History:
    """All that touched ``address``, up to ``checkpoint``."""

    params: LedgerParams
    address: Address
    checkpoint: Checkpoint
    account: AccountCell
    deals: tuple[DealCell, ...]
    """Those in which it is or was a party, closed ones too."""
    lines: tuple[Line, ...]

    def accounting(self) -> Accounting:
        """What it all comes to."""
        account, paid = self.account, _paid(self.deals, self.address, self.params.burn_ppm)
        allocated = allocated_to(self.params, self.address)
        moves = [line.change + line.fee for line in self.lines if line.kind == _TRANSFER]
        received, sent = sum(m for m in moves if m > 0), -sum(m for m in moves if m < 0)
        deposited = sum(line.change + line.fee for line in self.lines if line.kind == _DEPOSIT)
        collateral = sum(d.collateral for d in self.deals if d.terms.provider == self.address)
        escrow = sum(locked(deal, self.address) for deal in self.deals) - collateral
        known = Accounting(
            account.available, escrow, collateral, allocated, deposited, received, sent,
            account.withdrawn, account.burned, *paid, 0,
        )  # fmt: skip
        came = allocated + deposited + received + known.earned_bandwidth + known.earned_disk
        went = sent + known.spent_bandwidth + known.spent_disk + known.fees + known.withdrawn
        return replace(known, disputes=known.total - came + went)


def allocated_to(params: LedgerParams, address: Address) -> int:
    """What an account has at genesis, base units."""
    return dict(params.allocation).get(address, 0)


def locked(deal: DealCell, address: Address) -> int:
    """What of ``address`` is in ``deal``, base units."""
    amount = 0
    if address == deal.terms.client:
        amount += deal.disk_escrow + deal.bandwidth_escrow + deal.refund
    if address == deal.terms.provider:
        amount += deal.collateral
    if deal.demand is not None and deal.demand.asker == address:
        amount += deal.bond
    return amount


async def read_history(light: LightClient, address: Address, file: Path) -> History:
    """Everything that touched ``address``, up to the newest cosigned checkpoint.

    Args:
        light: Reads the ledger.
        address: Whose.
        file: What an earlier look left, which need not be there; kept up to date.

    Raises:
        InvalidProof: ``bad_entry``, ``state_root``: the log breaks the network's rules, though
            witnesses cosigned it; ``other_log``: what is served is not the log.
        As ``LightClient.refresh``.

    Cost: where nothing is new, to read the file. Else about 0.1 ms a new entry, and 10 us and a
    kilobyte of memory for every cell of the ledger.
    """
    newest, params = await light.refresh(), light.params
    known = _load(file, params, address)
    if known is None or not known.is_at(newest):
        known = await _follow(light, address, newest, known)
        file.parent.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        write_atomic(file, known.encode(params))
    return History(params, address, newest, known.account, known.deals, known.lines)


async def _follow(
    light: LightClient, address: Address, newest: Checkpoint, known: _Known | None
) -> _Known:
    """What is known at ``newest``; raises as ``read_history``."""
    try:
        return await _Replay(light.params, address, known).follow(light, newest)
    except InvalidProof:
        if known is None:
            raise
    return await _Replay(light.params, address, None).follow(light, newest)  # the file may be wrong


@dataclass(frozen=True, slots=True)
class _Known:
    """An account after some entry, and all cells of the ledger for the next look."""

    frontier: Frontier
    state_root: bytes
    account: AccountCell
    deals: tuple[DealCell, ...]
    lines: tuple[Line, ...]
    cells: bytes
    """As ``Remembered`` encodes them."""

    def is_at(self, checkpoint: Checkpoint) -> bool:
        """Whether it is of the very log and state of ``checkpoint``."""
        here = self.frontier.head, self.state_root
        return here == (checkpoint.head, checkpoint.state_root)

    def encode(self, params: LedgerParams) -> bytes:
        """What ``decode`` reads; it ends with a hash of the rest."""
        writer = _head(params, self.account.address).u64(self.frontier.size)
        for hash_ in (*self.frontier.peaks, self.state_root):
            writer.raw(hash_, HASH_BYTES)
        writer.var(self.account.encode()).u32(len(self.deals))
        for deal in self.deals:
            writer.var(deal.encode())
        lines = [list(asdict(line).values()) for line in self.lines]
        body = writer.text(json.dumps(lines)).var(self.cells).done()
        return body + sha256(body)

    @classmethod
    def decode(cls, raw: bytes, params: LedgerParams, address: Address) -> _Known:
        """Read what ``encode`` wrote, if it is of this ledger and account.

        Raises:
            MalformedMessage: It is not, or is damaged.
        """
        body, reader = raw[:-HASH_BYTES], Reader(raw[:-HASH_BYTES], "history")
        if sha256(body) != raw[-HASH_BYTES:]:
            raise reader.refuse("its hash does not match")
        head = _head(params, address).done()
        if reader.raw(len(head)) != head:
            raise reader.refuse("of another ledger or account")
        size = reader.u64()
        peaks = tuple(reader.raw(HASH_BYTES) for _ in range(size.bit_count()))
        root = reader.raw(HASH_BYTES)
        account = decode_cell(CellKind.ACCOUNT, reader.var(_MAX_BYTES))
        raw_deals = [reader.var(_MAX_BYTES) for _ in range(reader.u32())]
        deals = [decode_cell(CellKind.DEAL, each) for each in raw_deals]
        lines = tuple(Line(*row) for row in json.loads(reader.text(_MAX_BYTES)))
        cells = reader.var(_MAX_BYTES)
        reader.end()
        assert isinstance(account, AccountCell)
        own = tuple(deal for deal in deals if isinstance(deal, DealCell))
        return cls(Frontier(size, peaks), root, account, own, lines, cells)


def _head(params: LedgerParams, address: Address) -> Writer:
    writer = Writer().raw(_MAGIC, len(_MAGIC)).var(params.encode())
    return writer.var(params.domain.network).var(address)


def _load(file: Path, params: LedgerParams, address: Address) -> _Known | None:
    """What ``file`` left, if it is there and nobody else's."""
    try:
        return _Known.decode(file.read_bytes(), params, address)
    except (FileNotFoundError, MalformedMessage):
        return None


class _Replay:
    """The ledger's cells, and the lines of one account, after some entry."""

    def __init__(self, params: LedgerParams, address: Address, known: _Known | None) -> None:
        self._params, self._address = params, address
        if known is None:
            self._memory = Remembered.of(genesis(params).cells.values())
            self._frontier, self._lines, self._own = Frontier(), list[Line](), set[DealId]()
        else:
            self._memory = Remembered.decode(known.cells)
            self._frontier, self._lines = known.frontier, list(known.lines)
            self._own = {deal.deal for deal in known.deals}
        self._state = self._memory.state(params)

    async def follow(self, light: LightClient, newest: Checkpoint) -> _Known:
        """Apply what came since, and see that it leads to ``newest``."""
        if self._frontier.size > newest.size:
            raise InvalidProof("more is remembered than there is", code="log_shrunk")
        async for leaves, frontier in read_leaves(light.ask, self._frontier, newest.head):
            for index, leaf in enumerate(leaves, self._frontier.size):
                self._take(index, leaf)
            self._state, self._frontier = self._memory.absorb(self._state), frontier
        if self._frontier.head != newest.head:
            raise InvalidProof("the log is another than was remembered", code="other_log")
        if self._state.root != newest.state_root:
            raise InvalidProof(
                f"the entries up to {newest.size} do not lead to the state that was cosigned",
                code="state_root",
            )
        account = self._state.account(self._address)
        check_lines(self._lines, allocated_to(self._params, self._address), account)
        deals, lines = tuple(self._deals()), tuple(self._lines)
        root, cells = self._state.root, self._memory.encode()
        return _Known(self._frontier, root, account, deals, lines, cells)

    def _deals(self) -> Iterator[DealCell]:
        """Those that concern the account."""
        for deal in sorted(self._own):
            cell = self._state.cell(CellKind.DEAL, deal)
            if isinstance(cell, DealCell) and _concerns(cell, self._address):
                yield cell

    def _take(self, index: int, leaf: LogLeaf) -> None:
        before = self._state
        try:
            entry = Entry.decode(leaf.entry)
            self._state, changes = apply(before, entry)
            if self._touched(before, changes):
                check_signatures(before, SignedEntry(entry, leaf.signature))
                self._lines.append(self._line(index, entry, before, changes))
                self._own |= {cell.deal for cell in changes.cells if isinstance(cell, DealCell)}
        except DsnError as error:
            raise InvalidProof(f"entry {index}: {error.message}", code="bad_entry") from error

    def _touched(self, before: State, changes: Changes) -> bool:
        return any(
            cell.address == self._address
            if isinstance(cell, AccountCell)
            else isinstance(cell, DealCell) and _concerns(cell, self._address)
            for cell in changes.cells
        )

    def _line(self, index: int, entry: Entry, before: State, changes: Changes) -> Line:
        own, after = self._address, self._state
        old, new = before.account(own), after.account(own)
        deals = [cell for cell in changes.cells if isinstance(cell, DealCell)]
        was = (before.cell(CellKind.DEAL, deal.deal) for deal in deals)
        had = sum(locked(cell, own) for cell in was if isinstance(cell, DealCell))
        return Line(
            index=index,
            epoch=after.network.epoch,
            kind=entry.body.kind.name.lower(),
            other=_other(entry, own),
            deal=deals[0].deal.hex() if deals else "",
            change=new.available - old.available,
            fee=new.burned - old.burned,
            locked=sum(locked(deal, own) for deal in deals) - had,
            balance=new.available,
        )


def check_lines(lines: Sequence[Line], allocated: int, account: AccountCell) -> None:
    """Check that each line goes on from the one before, and the last comes to the cell.

    Raises:
        InvalidProof: ``bad_entry``: they do not.
    """
    steps = [(0, 0, allocated), *((line.index, line.change, line.balance) for line in lines)]
    for (_, _, old), (index, change, new) in pairwise(steps):
        if old + change != new:
            raise InvalidProof(f"entry {index}: {old} and {change} are not {new}", code="bad_entry")
    if steps[-1][2] != account.available:
        raise InvalidProof("the lines do not come to the account's cell", code="bad_entry")


def _concerns(deal: DealCell, address: Address) -> bool:
    """Whether an address is a party of a deal, or has a bond in it."""
    asker = None if deal.demand is None else deal.demand.asker
    return address in (deal.terms.client, deal.terms.provider, asker)


def _paid(deals: Sequence[DealCell], address: Address, burn_ppm: int) -> tuple[int, int, int, int]:
    """Spent for bandwidth and disk, earned with bandwidth and disk."""
    as_client = [deal for deal in deals if deal.terms.client == address]
    as_provider = [deal for deal in deals if deal.terms.provider == address]
    return (
        sum(deal.voucher_paid + deal.delegate_paid for deal in as_client),
        sum(deal.disk_paid for deal in as_client),
        sum(deal.voucher_paid + deal.delegate_paid for deal in as_provider),
        sum(deal.disk_paid - burned_of(deal.disk_paid, burn_ppm) for deal in as_provider),
    )


def _other(entry: Entry, own: Address) -> str:
    body: Body = entry.body
    if entry.signer != own:
        return format_address(entry.signer)
    return format_address(body.to) if isinstance(body, Transfer) else ""
