"""A node gets its account: the faucet's credits where there is one, then its key binding.

Spec: docs/spec/economy.md#key-binding
"""

from __future__ import annotations

import asyncio

from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import LimitReached, NotFound
from dsn.ledger.binding import KeyBinding, SignedBinding, sign_binding
from dsn.ledger.bodies import Bind
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey
from dsn.ports import Clock


class Binding:
    """Has an identity and a settlement key of one owner bound on the ledger, once."""

    def __init__(
        self, identity: SigningKey, key: SettlementKey, light: LightClient, clock: Clock
    ) -> None:
        """Bind ``identity`` to ``key`` on the ledger behind ``light``."""
        self._identity, self._key, self._light, self._clock = identity, key, light, clock
        self._turn = asyncio.Lock()
        self.done = False

    async def ensure(self, account: LedgerAccount) -> None:
        """Return once the ledger has the binding.

        Raises:
            EntryRefused: The ledger does not take it: no credits for the fee, or another account
                has the identity.
            DsnError: The ledger cannot be reached.
        """
        async with self._turn:
            if self.done:
                return
            node = node_id_of(self._identity.public)
            if (await self._light.bound([node])).get(node) != self._key.address:
                signed = self._sign()
                await self._draw(signed)
                await account.send([Bind(signed)])
            self.done = True

    def _sign(self) -> SignedBinding:
        domain, now_s = self._light.params.domain, int(self._clock.now_s())
        fields = KeyBinding(self._identity.public, self._key.address, domain.network, now_s, 1)
        return sign_binding(fields, domain, self._identity.sign, self._key)

    async def _draw(self, signed: SignedBinding) -> None:
        """Ask the faucet for the fee, if there is one; it pays a new key once."""
        if self._light.params.faucet == NO_ADDRESS:
            return
        try:
            await self._light.ask(lambda peer: peer.draw(signed.encode()))
        except (NotFound, LimitReached):
            return  # the key may have credits of its own
