"""The faucet: a new key's first credits, where the network has an account for that.

Whoever can make keys can draw again and again: a faucet is for networks whose credits are worth
nothing, and a bound on how fast it flows is all that it has against it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from dsn.apps.ledger.chain import VaultReader
from dsn.apps.ledgerd.desk import Desk, Operator
from dsn.errors import InvalidSignature, LimitReached, NotFound
from dsn.ids import NodeId
from dsn.ledger.binding import SignedBinding, verify_binding
from dsn.ledger.bodies import Transfer
from dsn.ledger.cells import CellKind
from dsn.ports import Clock
from dsn.rpc.tls import Caller
from dsn.wire.status import RetryLater

SHARE_OF_FAUCET: Final = 10_000
"""What the faucet had at genesis, or was deposited, goes so many times."""
MOST_CREDITS: Final = 10**12
BURST: Final = 256
A_SECOND: Final = 4.0
_REMEMBERED: Final = 65_536


class Faucet:
    """Pays each new identity once."""

    def __init__(
        self, desk: Desk, operator: Operator, clock: Clock, vault: VaultReader | None = None
    ) -> None:
        """Pay out of the operator's own account, if the network says so.

        Args:
            desk: Of the ledger.
            operator: Whose account it is.
            clock: Bounds how fast it flows.
            vault: Says what the account was deposited, where nothing is allocated.
        """
        self._desk, self._operator, self._now_s = desk, operator, clock.monotonic_s
        self._vault = vault
        self._account = operator.params.faucet
        self._mine = self._account == operator.key.address
        self._given = dict(operator.params.allocation).get(self._account, 0)
        self._deposits = 0
        """Deposits of the account that are in ``_given``."""
        self._left, self._at_s = float(BURST), self._now_s()
        self._paid: OrderedDict[NodeId, None] = OrderedDict()
        self._paying = asyncio.Lock()

    async def draw(self, caller: Caller, raw: bytes) -> int:
        """Pay the settlement key that ``raw`` binds to the caller.

        Args:
            caller: Who asks.
            raw: A signed key binding; untrusted.

        Returns:
            Base units, 0 if either key has been seen on the ledger.

        Raises:
            NotFound: ``no_faucet``.
            Unreachable: ``chain_unreachable``: what it may pay follows from the vault.
            MalformedMessage, InvalidSignature, PeerError: As ``verify_binding``, or the binding
                is another's.
            RetryLater: ``faucet_busy``: many were paid just now.
            LimitReached: ``faucet_empty``.
        """
        if not (self._mine and (self._vault or self._given >= SHARE_OF_FAUCET)):
            raise NotFound("this network has no faucet", code="no_faucet")
        signed = SignedBinding.decode(raw)
        verify_binding(signed, self._operator.params.domain)
        binding = signed.binding
        if binding.identity != caller.public_key:
            raise InvalidSignature("the key binding is of another identity")
        async with self._paying:
            books, ask = self._desk.books, self._desk.ask
            if (
                caller.node_id in self._paid
                or await ask(books.knows, CellKind.NODE, caller.node_id)
                or await ask(books.knows, CellKind.ACCOUNT, binding.settlement)
            ):
                return 0
            amount = await self._share()
            await self._charge(amount)
            await asyncio.shield(self._operator.enter(Transfer(binding.settlement, amount)))
            self._remember(caller.node_id)
        return amount

    async def _share(self) -> int:
        """What a new key gets, base units; more once the faucet was deposited more."""
        if self._vault is not None:
            account = await self._desk.ask(self._desk.books.account, self._account)
            while self._deposits < account.deposits:
                amount = await self._vault.deposit_of(self._account, self._deposits + 1)
                if amount is None:
                    break
                self._given, self._deposits = self._given + amount, self._deposits + 1
        return min(self._given // SHARE_OF_FAUCET, MOST_CREDITS)

    async def _charge(self, amount: int) -> None:
        """Bound how fast credits leave, and see that there are enough."""
        now_s = self._now_s()
        self._left = min(BURST, self._left + (now_s - self._at_s) * A_SECOND)
        self._at_s = now_s
        if self._left < 1:
            raise RetryLater(
                f"{BURST} keys were paid just now",
                retry_after_s=1 / A_SECOND,
                hint="try again in a moment",
                code="faucet_busy",
            )
        needed = amount + self._operator.params.entry_fee
        has = (await self._desk.ask(self._desk.books.account, self._account)).available
        if not amount or has < needed:
            raise LimitReached(
                f"the faucet has {has} base units, {needed} needed",
                code="faucet_empty",
                hint="ask somebody for credits: dsn wallet request",
            )
        self._left -= 1

    def _remember(self, node: NodeId) -> None:
        self._paid[node] = None
        if len(self._paid) > _REMEMBERED:
            self._paid.popitem(last=False)
