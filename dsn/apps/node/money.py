"""How a node is paid: its account, its deals and its claims, where the network has a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from dsn.apps.earnings import SAMPLE_S, Earnings, read_earnings, sample_earnings
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.apps.node.binding import Binding
from dsn.apps.node.claims import Claims
from dsn.apps.node.deals import Deals
from dsn.apps.node.terms import Payee, Self, make_terms
from dsn.apps.provider import NodeConfig
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.network import Network
from dsn.errors import DsnError
from dsn.ledger.cells import AccountCell
from dsn.ledger.settlement import SettlementKey, format_address
from dsn.ports import Clock, ShardStore
from dsn.rpc.channel import Connections
from dsn.store.deals import DealStore, open_deals
from dsn.store.home import Home

DEALS_FILE: Final = "deals.db"
CHECKPOINT_FILE: Final = "node.checkpoint"
PATIENCE_S: Final = 2.0
"""How long a ledger that does not answer is asked again, while a caller waits."""
LAST_CLAIM_S: Final = 5.0
"""What a stop allows the last claim."""
PAUSE_S: Final = (0.5, 60.0)
"""The shortest and longest pause between two looks at the ledger's epoch."""
_log = structlog.get_logger("money")


@dataclass(frozen=True, slots=True)
class Books:
    """What a provider keeps at home about money."""

    key: SettlementKey
    store: DealStore


@asynccontextmanager
async def open_books(
    home: Home, network: Network, key: SettlementKey
) -> AsyncIterator[Books | None]:
    """The books of ``home`` while the block runs; ``None`` where nobody pays."""
    if network.ledger_params is None:
        yield None
        return
    async with open_deals(home.state / DEALS_FILE) as store:
        yield Books(key, store)


class Money:
    """Everything of a node that has to do with money."""

    def __init__(
        self,
        books: Books,
        network: Network,
        identity: SigningKey,
        connections: Connections,
        config: NodeConfig,
        store: ShardStore,
        clock: Clock,
    ) -> None:
        """Ask what ``config`` says.

        Args:
            books: The provider's.
            network: Has a ledger.
            identity: The node's key.
            connections: Reach the ledger.
            config: The node's home and prices.
            store: What clients pay for.
            clock: This machine's.
        """
        file = config.home.state / CHECKPOINT_FILE
        self._light = LightClient(network, connections, file, clock, patience_s=PATIENCE_S)
        self._params, self._clock = self._light.params, clock
        self._account = LedgerAccount(self._light, books.key)
        self._binding = Binding(identity, books.key, self._light, clock)
        terms = make_terms(config.prices, self._params, books.key.address)
        payee = Payee(books.key, self._light)
        self.me = Self(network.network_id, identity, terms, payee)
        self.deals = Deals(payee, books.store, clock)
        self.claims = Claims(self.deals, self._account, store)
        self._sampled_s = 0.0
        self._cell = AccountCell(books.key.address)

    async def run(self) -> None:
        """Follow the ledger until cancelled; what fails is tried again."""
        shortest_s, longest_s = PAUSE_S
        pause_s = min(longest_s, max(shortest_s, self._params.epoch_s / 4))
        while True:
            try:
                await self.turn()
            except DsnError as error:
                _log.warning("ledger", code=error.detail_code, reason=error.message)
            await asyncio.sleep(pause_s)

    async def bound(self) -> None:
        """Return once the node has an account on the ledger; raises as ``Binding.ensure``."""
        await self._binding.ensure(self._account)

    async def turn(self) -> None:
        """Do what is due by now.

        Raises:
            DsnError: The ledger cannot be reached, contradicts itself, or has no credits of ours.
        """
        await self.bound()
        await self.claims.tick()
        self._cell = await self._light.account(self._account.address)
        now_s = self._clock.now_s()
        if now_s - self._sampled_s >= SAMPLE_S:
            await sample_earnings(self.deals.store, self._params.burn_ppm, self._clock)
            self._sampled_s = now_s

    async def close(self) -> None:
        """Write down all counts, and claim what was promised, if the ledger answers in time."""
        await self.deals.keep()
        try:
            async with asyncio.timeout(LAST_CLAIM_S):
                await self.claims.claim(wait=False)
        except TimeoutError:
            _log.warning("not claimed", reason=f"no answer within {LAST_CLAIM_S:g} s")
        except DsnError as error:
            _log.warning("not claimed", code=error.detail_code, reason=error.message)

    async def earnings(self) -> Earnings:
        """What was earned, by the ledger as it stands, or as it was seen last."""
        await self.deals.keep()
        with suppress(DsnError):
            await self._look()
        return await self._earned()

    async def status(self) -> dict[str, Any]:
        """What ``dsn provider status`` says of money, as the ledger was seen last."""
        earned = (await self._earned()).sum
        return {
            "epoch": self.deals.backing.epoch,
            "settlement": format_address(self._account.address),
            "bound": self._binding.done,
            "deals": len(await self.deals.store.running()),
            "available": str(self._cell.available),
            "earned": str(earned.total),
            "unclaimed": str(earned.unclaimed),
        }

    async def _earned(self) -> Earnings:
        store, burn_ppm = self.deals.store, self._params.burn_ppm
        return await read_earnings(store, self._cell, burn_ppm, self._clock)

    async def _look(self) -> None:
        """See every deal that is not closed, and the account, as the ledger has them now."""
        running = await self.deals.store.running()
        await self.deals.see((await self._light.deals([deal.deal for deal in running])).values())
        self._cell = await self._light.account(self._account.address)


async def earnings_at_home(home: Home, network: Network, root: bytes, clock: Clock) -> Earnings:
    """What the provider of ``home`` has earned, while its node does not run.

    Args:
        home: Locked meanwhile.
        network: Has a ledger.
        root: The home's.
        clock: This machine's.

    Raises:
        ConfigError: ``home_in_use``.
    """
    identity, key = SigningKey(IdentityKeys.derive(root).identity_seed), SettlementKey.derive(root)
    async with (
        home.lock(wait=False),
        open_deals(home.state / DEALS_FILE) as store,
        Connections(identity, network.network_id) as connections,
    ):
        file = home.state / CHECKPOINT_FILE
        light = LightClient(network, connections, file, clock, patience_s=PATIENCE_S)
        account = AccountCell(key.address)
        with suppress(DsnError):  # as the ledger was seen last is the next best
            running = await store.running()
            await store.save_cells((await light.deals([deal.deal for deal in running])).values())
            account = await light.account(key.address)
        return await read_earnings(store, account, light.params.burn_ppm, clock)
