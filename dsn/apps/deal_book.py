"""Which deals this home has, and how the ledger has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from dsn.apps.deal_file import ClientDeal, DealFolder, Seen, Stage
from dsn.ids import DealId, NodeId
from dsn.ledger.cells import AccountCell, DealCell, DealState
from dsn.ledger.entry import Body
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address
from dsn.ports import Clock


class Ledger(Protocol):
    """What a client asks of its network's ledger; ``LightClient`` proves every answer."""

    params: LedgerParams

    async def epoch(self) -> int:
        """The epoch of the newest cosigned checkpoint."""
        ...

    async def accounts(self, addresses: Iterable[Address]) -> dict[Address, AccountCell]:
        """Accounts, blank ones for those that the ledger does not know."""
        ...

    async def deals(self, ids: Iterable[DealId]) -> dict[DealId, DealCell]:
        """Those deals that exist."""
        ...


class Sender(Protocol):
    """A settlement key at work; ``LedgerAccount`` is one."""

    async def send(self, bodies: Sequence[Body], *, wait: bool = True) -> list[int]:
        """Enter ``bodies`` in order; with ``wait``, until a cosigned checkpoint has them.

        Raises:
            EntryRefused: Of the first that was refused.
            Unreachable: ``ledger_unreachable``.
        """
        ...


class DealBook:
    """The deals in one folder: one that is used for each node, and those that are over."""

    def __init__(self, ledger: Ledger, folder: Path, clock: Clock, me: Address) -> None:
        """Go on with what the account ``me`` has in ``folder``.

        Raises:
            MalformedMessage: A deal's file is damaged.
        """
        self.ledger, self.params = ledger, ledger.params
        self.looked = self.as_delegate = False
        """Whether the ledger was asked; whether others' deals are used in place of this home's."""
        self._clock, self._folder = clock, DealFolder(folder, me)
        self._deals = {deal.deal: deal for deal in self._folder.load()}
        self._seen = self._folder.seen()

    @property
    def epoch(self) -> int:
        """The present epoch: as the ledger said last, and on from there by the clock.

        Never behind the ledger, which takes longer for an epoch while it is away.
        """
        passed_s = max(0, int(self._clock.now_s()) - self._seen.at_s)
        return self._seen.epoch + passed_s // self.params.epoch_s

    @property
    def seen_epoch(self) -> int:
        """The epoch that the ledger was in when it was asked last."""
        return self._seen.epoch

    @property
    def deals(self) -> Sequence[ClientDeal]:
        """All of them."""
        return list(self._deals.values())

    def current(self, node: NodeId) -> ClientDeal | None:
        """The deal with ``node`` that lasts longest, though it may not be entered yet."""
        epoch = self.epoch
        running = (
            deal
            for deal in self._deals.values()
            if deal.node == node and deal.cell.state is DealState.OPEN and epoch < deal.cell.last
            if deal.by_delegate == self.as_delegate and not deal.reserved
        )
        return max(running, key=lambda deal: deal.end, default=None)

    def open(self, node: NodeId) -> ClientDeal | None:
        """The same, if the ledger has it."""
        deal = self.current(node)
        return deal if deal is not None and deal.stage is Stage.OPEN else None

    def add(self, deal: ClientDeal) -> None:
        """Write down a deal that is about to be entered."""
        self._deals[deal.deal] = deal
        self._folder.save(deal)

    def save(self) -> None:
        """Write down what has changed."""
        for deal in self._deals.values():
            self._folder.save(deal)

    async def look(self) -> None:
        """See on the ledger what became of the deals; forget those that are over for good.

        Raises:
            Unreachable: ``ledger_unreachable``.
        """
        epoch = await self.ledger.epoch()
        cells = await self.ledger.deals(list(self._deals))
        self._seen = Seen(epoch, int(self._clock.now_s()))
        self._folder.keep_seen(self._seen)
        self.looked = True
        for deal in self.deals:
            self._learn(deal, cells.get(deal.deal), epoch)

    def over(self) -> list[ClientDeal]:
        """Those that have something to give back, as the ledger was seen last."""
        epoch, mine = self._seen.epoch, (d for d in self._deals.values() if not d.by_delegate)
        return [deal for deal in mine if is_over(deal.cell, epoch)]

    def _learn(self, deal: ClientDeal, cell: DealCell | None, epoch: int) -> None:
        if cell is not None:
            deal.take(cell)
        never = cell is None and deal.stage is Stage.SIGNED and deal.terms.open_by < epoch
        if never or deal.cell.state is DealState.CLOSED:
            del self._deals[deal.deal]
            self._folder.remove(deal.deal)


def is_over(cell: DealCell, epoch: int) -> bool:
    """Whether a party alone can close the deal, or release what it still has, in ``epoch``."""
    if cell.state is DealState.SLASHED:
        return True
    if cell.demand is not None:
        return False
    if cell.state is DealState.OPEN:
        return epoch > cell.last
    return cell.state is DealState.ENDED and epoch >= cell.ended + cell.terms.dispute
