"""Anchoring: now and then the newest published checkpoint is put on the chain.

Anybody could: the operator's signature and the witnesses' stand under the note that everybody is
shown. The ledger does it so that somebody does, and pays the gas.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from dsn.apps.ledger.chain import Anchored, Settling
from dsn.apps.ledgerd.epochs import Sleep
from dsn.apps.ledgerd.publisher import Publisher
from dsn.apps.ledgerd.views import Views
from dsn.errors import DsnError
from dsn.ledger.checkpoint import SignedCheckpoint
from dsn.ledger.onchain.anchor import anchor_call
from dsn.ledger.params import LedgerParams

RETRY_S: Final = 1.0
MOST_RETRY_S: Final = 60.0
_log = structlog.get_logger("ledger")


class Anchors:
    """Keeps the chain's newest anchor no older than so many epochs."""

    def __init__(
        self,
        publisher: Publisher,
        views: Views,
        params: LedgerParams,
        settling: Settling,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Anchor what ``publisher`` shows in ``views``.

        Args:
            publisher: Says when there is more.
            views: What readers see.
            params: The network's.
            settling: Its chain, and how often.
            sleep: Waits, after a failure.
        """
        self._publisher, self._views, self._params = publisher, views, params
        self._settling, self._sleep = settling, sleep
        self._due: int | None = None
        """The epoch from which on the next one is due, if the chain was asked."""
        self._newest: Anchored | None = None
        self._gas, self._failed = 0, ""

    async def run(self) -> None:
        """Anchor whenever it is time, for good."""
        wait_s = RETRY_S
        while True:
            seen = self._views.size
            try:
                await self.step()
            except DsnError as error:
                self._failed = error.detail_code
                _log.warning("not anchored", code=error.detail_code, reason=error.message)
                await self._sleep(wait_s)
                wait_s = min(2 * wait_s, MOST_RETRY_S)
                continue
            wait_s, self._failed = RETRY_S, ""
            await self._publisher.covers(seen + 1)

    async def step(self) -> bool:
        """Anchor what readers see, if that is due; whether it was.

        Raises:
            InvalidSignature: ``no_quorum``: too few witnesses signed it for the chain.
            DsnError: As ``dsn.chain.Chain`` says.
        """
        signed = self._views.signed
        if signed is None or not await self._is_due(signed):
            return False
        done = await self._settling.send(anchor_call(signed, self._params))
        self._gas = done.gas
        await self._look()
        at = signed.checkpoint
        _log.info("anchored", size=at.size, epoch=at.epoch, gas=done.gas)
        return True

    def status(self) -> dict[str, Any]:
        """The newest anchor as far as was looked, and how far behind the published log it is."""
        shown, newest = self._views.signed, self._newest
        epoch, size = (shown.checkpoint.epoch, shown.checkpoint.size) if shown else (0, 0)
        return {
            "size": newest.size if newest else 0,
            "epoch": newest.epoch if newest else 0,
            "lag": max(0, size - newest.size if newest else size),
            "lag_epochs": max(0, epoch - newest.epoch if newest else epoch),
            "gas": self._gas,
            "failed": self._failed or None,
        }

    async def _is_due(self, signed: SignedCheckpoint) -> bool:
        """Whether the newest anchor is too old; the chain is asked only if it may be."""
        epoch = signed.checkpoint.epoch
        if self._due is not None and epoch < self._due:
            return False
        await self._look()
        assert self._due is not None
        covered = self._newest is not None and signed.checkpoint.size <= self._newest.size
        return epoch >= self._due and not covered

    async def _look(self) -> None:
        """See what stands on the chain; others may have anchored, or had an anchor dropped."""
        self._newest = await self._settling.vault.newest()
        self._due = self._settling.anchor_epochs + (self._newest.epoch if self._newest else 0)
