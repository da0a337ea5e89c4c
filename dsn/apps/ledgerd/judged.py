"""Slashes that the chain judged, and that are final: the operator enters those that still hold."""

from __future__ import annotations

import structlog

from dsn.apps.ledger.chain import Slashed
from dsn.apps.ledgerd.desk import Operator
from dsn.errors import EntryRefused
from dsn.ids import DealId
from dsn.ledger.disputes import SlashJudged

_log = structlog.get_logger("ledger")


class JudgedSlashes:
    """The operator's hand for what was judged on chain."""

    def __init__(self, operator: Operator) -> None:
        """Enter as ``operator``."""
        self._operator = operator

    async def enter(self, slashed: Slashed) -> bool:
        """Enter one slash, if the rules still allow it.

        They do not if it was entered before, if the deal is over, or if a revision was installed
        since that need not have the leaf.

        Returns:
            ``True``: there is nothing more to do about it.
        """
        deal = DealId(slashed.deal)
        try:
            await self._operator.enter(SlashJudged(deal, slashed.number, slashed.asker))
        except EntryRefused as error:
            _log.info("judged slash not entered", deal=deal.hex(), code=error.detail_code)
        else:
            _log.warning("judged slash", deal=deal.hex())
        return True
