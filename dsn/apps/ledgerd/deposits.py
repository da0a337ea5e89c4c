"""Deposits: whatever the vault took, and is final, the operator enters, serial by serial."""

from __future__ import annotations

import structlog

from dsn.apps.ledger.chain import Deposited
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.ledger.bodies import Deposit

_log = structlog.get_logger("ledger")


class Deposits:
    """The operator's hand for what came into the vault."""

    def __init__(self, desk: Desk, operator: Operator) -> None:
        """Enter at ``desk``."""
        self._desk, self._operator = desk, operator

    async def enter(self, deposited: Deposited) -> bool:
        """Enter one deposit, unless the account's cell counts it already.

        Returns:
            Whether the cell counts it now; not if one before it is missing.
        """
        account = await self._desk.ask(self._desk.books.account, deposited.account)
        if deposited.serial <= account.deposits:
            return True
        if deposited.serial > account.deposits + 1:
            return False
        body = Deposit(deposited.account, deposited.amount, deposited.serial)
        await self._operator.enter(body)
        _log.info("deposit", amount=deposited.amount, serial=deposited.serial)
        return True
