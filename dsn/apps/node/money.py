"""How a node is paid: its account, its deals and its claims, where the network has a ledger."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from dsn.apps.earnings import SAMPLE_S, Earnings, count_proofs, read_earnings, sample_earnings
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient, Snapshot
from dsn.apps.node.accounts import Accounts
from dsn.apps.node.binding import Binding
from dsn.apps.node.claims import Claims
from dsn.apps.node.deals import Deals
from dsn.apps.node.demands import Demands
from dsn.apps.node.inventories import Inventories
from dsn.apps.node.losses import Losses
from dsn.apps.node.openings import Opener
from dsn.apps.node.proving import Prover
from dsn.apps.node.scrub import Scrub
from dsn.apps.node.stale import STALE
from dsn.apps.node.terms import Payee, Self, make_terms
from dsn.apps.provider import NodeConfig
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.dht.network import Network
from dsn.errors import DsnError
from dsn.ledger.cells import AccountCell
from dsn.ledger.rules.settling import roll
from dsn.ledger.settlement import SettlementKey, format_address
from dsn.ports import Clock, ShardStore
from dsn.rpc.channel import Connections
from dsn.store.answers import FOLDER, AnswerStore, linked_epochs, open_answers
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
    answers: AnswerStore


@asynccontextmanager
async def open_books(
    home: Home, network: Network, key: SettlementKey
) -> AsyncIterator[Books | None]:
    """The books of ``home`` while the block runs; ``None`` where nobody pays."""
    if network.ledger_params is None:
        yield None
        return
    async with open_deals(home.state / DEALS_FILE) as store:
        yield Books(key, store, open_answers(home.state / FOLDER))


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
        opener: Opener,
        scrub: Scrub,
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
            opener: Opens leaves of ``store``.
            scrub: Finds what of ``store`` is bad.
            clock: This machine's.
        """
        file = config.home.state / CHECKPOINT_FILE
        self._light = LightClient(network, connections, file, clock, patience_s=PATIENCE_S)
        self._books, self._params, self._clock = books, self._light.params, clock
        self._account = LedgerAccount(self._light, books.key)
        self._binding = Binding(identity, books.key, self._light, clock)
        terms = make_terms(config.prices, self._params, books.key.address)
        payee = Payee(books.key, self._light)
        self.me = Self(network.network_id, identity, terms, payee)
        accounts = Accounts(store, books.store.revisions)
        self.deals = Deals(payee, books.store, accounts, clock)
        self.inventories = Inventories(self.deals, store)
        self.prover = Prover(
            self.me,
            self.inventories,
            books.answers,
            opener,
            self._account,
            self._light.leaves,
            self._params,
            clock,
        )
        self._demands = Demands(
            self.inventories,
            books.answers,
            opener,
            self._account,
            self._params,
            self.inventories.give_up,
        )
        self.losses = Losses(
            self.inventories,
            scrub,
            store,
            self._account,
            self.inventories.give_up,
            self._params,
            clock,
        )
        self.claims = Claims(self.deals, self._account, self.inventories)
        self._turn = asyncio.Lock()
        self._sampled_s = 0.0
        self._cell = AccountCell(books.key.address)

    async def run(self) -> None:
        """Follow the ledger until cancelled; what fails is tried again.

        Raises:
            ConfigError: ``home_is_stale``.
        """
        shortest_s, longest_s = PAUSE_S
        pause_s = min(longest_s, max(shortest_s, self._params.epoch_s / 4))
        while True:
            with _going_on("ledger"):
                await self.turn()
            await asyncio.sleep(pause_s)

    async def bound(self) -> None:
        """Return once the node has an account on the ledger; raises as ``Binding.ensure``."""
        await self._binding.ensure(self._account)

    async def turn(self) -> None:
        """Do what is due by now.

        Raises:
            ConfigError: ``home_is_stale``.
            DsnError: The ledger cannot be reached, contradicts itself, or has no credits of ours.
        """
        async with self._turn:
            await self.bound()
            snapshot = await self._look()
            with _going_on("not proven"):
                await self.prover.turn(snapshot)
            with _going_on("not served"):
                await self._demands.turn(snapshot)
            with _going_on("not declared"):
                await self.losses.turn()
            await self.claims.tick()
            account = await self._light.account(self._account.address)
            self._cell = roll(account, snapshot.network.epoch)
            await self._sample()

    async def _sample(self) -> None:
        """Note what was earned by now, an hour after the last time."""
        now_s = self._clock.now_s()
        if now_s - self._sampled_s >= SAMPLE_S:
            burn_ppm = self._params.burn_ppm
            await sample_earnings(self.deals.store, self._cell, burn_ppm, self._clock)
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
        answers = self._books.answers
        proofs = count_proofs(self._cell, answers.epochs)
        return {
            "epoch": self._cell.rolled,
            "last_link": proofs.last,
            "epochs_proven": proofs.proven,
            "epochs_missed": proofs.missed,
            "next_proof_s": self.prover.next_proof_s(),
            "answers_bytes": answers.size_bytes,
            "settlement": format_address(self._account.address),
            "bound": self._binding.done,
            "deals": len(await self.deals.store.running()),
            "available": str(self._cell.available),
            "earned": str(earned.total),
            "unclaimed": str(earned.unclaimed),
        }

    async def _earned(self) -> Earnings:
        store, links = self._books.store, self._books.answers.epochs
        return await read_earnings(store, self._cell, links, self._params.burn_ppm, self._clock)

    async def _look(self) -> Snapshot:
        """See every deal that is not closed, and the account, as the ledger has them now."""
        snapshot = await self.inventories.see()
        self._cell = roll(snapshot.account, snapshot.network.epoch)
        return snapshot


@contextmanager
def _going_on(what: str) -> Iterator[None]:
    """Log what goes wrong in the block: it is tried again, and all else goes on.

    Raises:
        ConfigError: ``home_is_stale``: whatever such a home does makes things worse.
    """
    try:
        yield
    except DsnError as error:
        if error.detail_code == STALE:
            raise
        _log.warning(what, code=error.detail_code, reason=error.message)
    except Exception:
        _log.exception(what)


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
            ids = [deal.deal for deal in await store.running()]
            snapshot = await light.snapshot(key.address, ids)
            await store.save_cells(snapshot.deals.values())
            account = roll(snapshot.account, snapshot.network.epoch)
        links = linked_epochs(home.state / FOLDER)
        return await read_earnings(store, account, links, light.params.burn_ppm, clock)
