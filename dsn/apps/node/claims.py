"""Claims: what is held is installed, what was earned is paid, and deals that ended close.

Growth is installed once the epoch's link is in, everything else at once: so whatever was dropped
can go. Vouchers are redeemed along with it, or when it is time.

Spec: docs/spec/economy.md#ledger-state-and-rules
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

import structlog

from dsn.apps.ledger.light import Snapshot
from dsn.apps.node.deals import Deals
from dsn.apps.node.inventories import Inventories
from dsn.apps.node.tabs import OpenDeal
from dsn.apps.node.terms import Sender
from dsn.errors import EntryRefused, InvalidSignature
from dsn.ids import DealId
from dsn.ledger.bodies import Claim, CloseDeal, SignedPledge, SignedVoucher
from dsn.ledger.cells import AccountCell, DealCell, DealState
from dsn.ledger.pledge import Pledge
from dsn.ledger.revision import verify_client_signature
from dsn.ledger.rules.settling import Parties, check_cover, roll, settle
from dsn.ledger.settlement import NO_ADDRESS

MOST_ENTRIES: Final = 128
"""In one call on the ledger."""
MOST_EPOCHS: Final = 700
"""Between two claims; the ledger forgets after 720 which epochs were proven."""
_log = structlog.get_logger("claims")


class Claims:
    """Follows the ledger's epochs for all deals of a node."""

    def __init__(self, deals: Deals, account: Sender, inventories: Inventories) -> None:
        """Claim for ``deals``, as ``inventories`` see them, from ``account``, the provider's."""
        self._deals, self._account, self._inventories = deals, account, inventories
        self._params = deals.payee.ledger.params
        self._period = min(self._params.claim_epochs, MOST_EPOCHS)
        self._next = 0
        self._busy = asyncio.Lock()

    async def tick(self) -> None:
        """Install what may be; claim the rest if it is time, or a deal is about to end.

        Raises:
            DsnError: The ledger cannot be reached, or contradicts itself.
        """
        async with self._busy:
            snapshot = await self._inventories.see()
            epoch = snapshot.network.epoch
            regular = epoch >= self._next
            if regular:
                self._next = epoch + 1
            if await self._claim(snapshot, regular=regular, wait=True) and regular:
                self._next = epoch + self._period

    async def claim(self, *, wait: bool = True) -> bool:
        """Install what may be, claim all that is worth it, and close what ended.

        Args:
            wait: Whether to see the entries in a cosigned checkpoint, and what they did.

        Returns:
            Whether the ledger took all of it.

        Raises:
            DsnError: As ``tick``.
        """
        async with self._busy:
            return await self._claim(await self._inventories.see(), regular=True, wait=wait)

    async def _claim(self, snapshot: Snapshot, *, regular: bool, wait: bool) -> bool:
        epoch = snapshot.network.epoch
        running = await self._running(snapshot)
        bodies = list[Claim | CloseDeal]()
        for deal in running:
            bodies += await self._claims(deal, snapshot, regular=regular)
        bodies += [CloseDeal(deal.deal, None) for deal in running if _is_over(deal.cell, epoch)]
        taken = await self._enter(bodies, wait=wait)
        if wait and taken:
            await self._inventories.see()
        return len(taken) == len(bodies)

    async def _running(self, snapshot: Snapshot) -> list[OpenDeal]:
        """The deals that the ledger has; those that can never be opened are forgotten."""
        deals, epoch, found = self._deals, snapshot.network.epoch, list[OpenDeal]()
        for signed in await deals.store.running():
            cell = snapshot.deals.get(signed.deal)
            if cell is not None and cell.state is not DealState.CLOSED:
                found.append(deals.open(signed, cell))
            elif cell is None and signed.cell is None and signed.terms.open_by < epoch:
                await deals.store.forget(signed.deal)
        return found

    async def _claims(self, deal: OpenDeal, snapshot: Snapshot, *, regular: bool) -> list[Claim]:
        """What can be claimed under ``deal`` and is worth the fee.

        Closing a deal settles it, so only its vouchers cannot wait.
        """
        if deal.cell.state is not DealState.OPEN:
            return []
        epoch, fee = snapshot.network.epoch, self._params.entry_fee
        provider, urgent = roll(snapshot.account, epoch), deal.cell.last <= epoch + self._period + 1
        settled = self._settled(deal.cell, provider)
        vouchers = _vouchers(deal)
        pledge = await self._pledge(deal, settled, provider)
        if pledge is not None:
            first = Claim(deal.deal, pledge, vouchers.pop(0)[1] if vouchers else None)
        elif not regular and not (urgent and vouchers):
            return []
        else:
            rise, voucher = vouchers.pop(0) if vouchers else (0, None)
            if rise + settled.disk_paid - deal.cell.disk_paid <= fee:
                return []
            first = Claim(deal.deal, None, voucher)
        return [first, *(Claim(deal.deal, None, each) for rise, each in vouchers if rise > fee)]

    def _settled(self, cell: DealCell, provider: AccountCell) -> DealCell:
        """The deal as the ledger will settle it now."""
        return settle(Parties(cell, provider), provider.rolled, self._params.burn_ppm).deal

    async def _pledge(
        self, deal: OpenDeal, settled: DealCell, provider: AccountCell
    ) -> SignedPledge | None:
        """The newest revision, if it can be installed now."""
        account = await self._deals.accounts.open(deal.owner, deal.deal)
        revision, by_client, by_node = account.newest
        if account.unsigned or not _may_install(settled, provider, revision.pledge):
            return None
        by_delegate = False
        if deal.terms.delegate != NO_ADDRESS:
            try:
                verify_client_signature(revision, deal.client.parties, by_client)
            except InvalidSignature:
                by_delegate = True
        return SignedPledge(revision.pledge, by_delegate, by_client, by_node)

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


def _vouchers(deal: OpenDeal) -> list[tuple[int, SignedVoucher]]:
    """What each payer's voucher would pay, the larger first."""
    paid = deal.cell.voucher_paid, deal.cell.delegate_paid
    signed = [(tab.voucher, before) for tab, before in zip(deal.tabs, paid, strict=True)]
    rises = [(each.voucher.credits - before, each) for each, before in signed if each is not None]
    return sorted((pair for pair in rises if pair[0] > 0), key=lambda pair: -pair[0])


def _may_install(settled: DealCell, provider: AccountCell, pledge: Pledge) -> bool:
    """Whether the ledger would take ``pledge`` in the epoch that ``provider`` was rolled to."""
    epoch = provider.rolled
    if pledge.number <= settled.number or settled.demand is not None or epoch >= settled.end:
        return False
    if pledge.leaves > settled.leaves and not provider.proven(epoch):
        return False
    try:
        check_cover(replace(settled, number=pledge.number, leaves=pledge.leaves, root=pledge.root))
    except EntryRefused as error:
        _log.warning("not installed", deal=settled.deal.hex(), reason=error.message)
        return False
    return True


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
