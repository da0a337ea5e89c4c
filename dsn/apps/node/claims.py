"""Claims: what clients promised is redeemed on the ledger, in time, and deals that ended close.

Disk is not claimed: no proofs are handed in yet, so nothing is paid for it.

Spec: docs/spec/economy.md#ledger-state-and-rules
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

import structlog

from dsn.apps.node.accounts import release
from dsn.apps.node.deals import Deals
from dsn.apps.node.tabs import OpenDeal
from dsn.apps.node.terms import Sender
from dsn.errors import EntryRefused
from dsn.ids import DealId
from dsn.ledger.bodies import Claim, CloseDeal
from dsn.ledger.cells import DealCell, DealState
from dsn.ports import ShardStore
from dsn.store.deals import StoredDeal

MOST_ENTRIES: Final = 128
"""In one call on the ledger."""
_log = structlog.get_logger("claims")


class Claims:
    """Follows the ledger's epochs for all deals of a node."""

    def __init__(self, deals: Deals, account: Sender, store: ShardStore) -> None:
        """Claim for ``deals`` from ``account``, the provider's; ``store`` has what they hold."""
        self._deals, self._account, self._store = deals, account, store
        self._ledger, self._params = deals.payee.ledger, deals.payee.ledger.params
        self._next = 0
        self._busy = asyncio.Lock()

    async def tick(self) -> None:
        """Look at the epoch, and claim if ``claim_epochs`` passed or a deal is about to end.

        Raises:
            DsnError: The ledger cannot be reached, or contradicts itself.
        """
        backing = self._deals.backing
        backing.epoch = epoch = await self._ledger.epoch()
        if epoch >= self._next or self._urgent(epoch):
            self._next = epoch + 1
            if await self.claim():
                self._next = epoch + self._params.claim_epochs

    async def claim(self, *, wait: bool = True) -> bool:
        """Redeem every voucher that is worth it, and close what ended.

        Args:
            wait: Whether to see the entries in a cosigned checkpoint, and what they did.

        Returns:
            Whether the ledger took all of it.

        Raises:
            DsnError: As ``tick``.
        """
        async with self._busy:
            epoch = self._deals.backing.epoch
            running = await self._look(await self._deals.store.running(), epoch)
            claims = [body for deal in running for body in self._claims(deal)]
            closes = [CloseDeal(deal.deal, None) for deal in running if _is_over(deal.cell, epoch)]
            bodies: list[Claim | CloseDeal] = [*claims, *closes]
            taken = await self._enter(bodies, wait=wait)
            if wait and taken:
                await self._deals.see((await self._ledger.deals(taken)).values())
            return len(taken) == len(bodies)

    def _urgent(self, epoch: int) -> bool:
        """Whether a deal in use must be claimed before the next regular time."""
        soon = epoch + self._params.claim_epochs + 1
        used = self._deals.in_use()
        return any(deal.cell.last <= soon and self._claims(deal) for deal in used)

    async def _look(self, running: Sequence[StoredDeal], epoch: int) -> list[OpenDeal]:
        """Those of ``running`` that the ledger has, as it has them now."""
        cells = await self._ledger.deals([deal.deal for deal in running])
        for signed in running:
            cell = cells.get(signed.deal)
            if cell is not None and cell.state is DealState.CLOSED:
                await release(self._store, signed.owner, signed.deal)
        await self._deals.see(cells.values())
        for signed in running:
            if signed.deal not in cells and signed.cell is None and signed.terms.open_by < epoch:
                await self._deals.store.forget(signed.deal)
        return [
            self._deals.open(signed, cells[signed.deal])
            for signed in running
            if signed.deal in cells and cells[signed.deal].state is not DealState.CLOSED
        ]

    def _claims(self, deal: OpenDeal) -> list[Claim]:
        """What can be redeemed under ``deal`` and is worth the fee."""
        cell, claims = deal.cell, []
        if cell.state is not DealState.OPEN:
            return []
        paid = (cell.voucher_paid, cell.delegate_paid)
        for tab, before in zip(deal.tabs, paid, strict=True):
            voucher = tab.voucher
            if voucher is not None and voucher.voucher.credits - before > self._params.entry_fee:
                claims.append(Claim(deal.deal, None, voucher))
        return claims

    async def _enter(self, bodies: Sequence[Claim | CloseDeal], *, wait: bool) -> list[DealId]:
        """Enter ``bodies``; gives the deals of those that were taken."""
        taken: list[DealId] = []
        for some in _batches(bodies):
            outcomes = await self._account.enter(some, wait=wait)
            for body, outcome in zip(some, outcomes, strict=True):
                if isinstance(outcome, EntryRefused):
                    _log.warning(
                        "refused",
                        deal=body.deal.hex(),
                        code=outcome.detail_code,
                        reason=outcome.message,
                    )
                else:
                    await self._note(body)
                    taken.append(body.deal)
        return taken

    async def _note(self, body: Claim | CloseDeal) -> None:
        if isinstance(body, CloseDeal) or body.voucher is None:
            return
        tabs = self._deals[body.deal].tabs
        await tabs[body.voucher.by_delegate].claimed(body.voucher.voucher.credits)


def _is_over(cell: DealCell, epoch: int) -> bool:
    """Whether the deal can be ended, or released for good."""
    if cell.demand is not None:
        return False
    if cell.state is DealState.OPEN:
        return epoch > cell.last
    released = cell.ended + cell.terms.dispute
    return cell.state is DealState.SLASHED or epoch >= released


def _batches(bodies: Sequence[Claim | CloseDeal]) -> Iterator[list[Claim | CloseDeal]]:
    left = iter(bodies)
    while some := list(islice(left, MOST_ENTRIES)):
        yield some
