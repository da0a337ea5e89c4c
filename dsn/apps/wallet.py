"""A home's account: who it is, what it has, what it did, and paying others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from dsn.apps.deal_file import FOLDER, DealFolder
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.history import History, locked, read_history
from dsn.apps.ledger.light import LightClient
from dsn.core import tags
from dsn.core.keys import IdentityKeys, SigningKey, hkdf, node_id_of
from dsn.errors import EntryRefused, NotFound, UsageError
from dsn.ids import NodeId
from dsn.ledger.binding import KeyBinding, SignedBinding, sign_binding
from dsn.ledger.bodies import Bind, Transfer
from dsn.ledger.cells import AccountCell, DealCell, DealState
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.rpc.channel import Connections
from dsn.runtime.clock import SystemClock
from dsn.store.home import Home

CHECKPOINT_FILE: Final = "ledger/checkpoint"
"""Below a home's state: the newest checkpoint that any of its processes believed."""
HISTORY_FILE: Final = "ledger/history"
PATIENCE_S: Final = 3.0
"""How long a person waits for a ledger that does not answer."""
ENROL_PATIENCE_S: Final = 20.0
"""How long a program waits for one that is being started."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account has, in base units; ``total`` is the sum of the others."""

    available: int
    escrow: int
    collateral: int
    total: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A payment that is in the log for good."""

    index: int
    amount: int
    fee: int
    available: int
    """What is left to spend."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What a home that came to a ledger has now."""

    address: Address
    drawn: int
    """Base units from the faucet; 0 if there is none, or it paid before."""
    bound: bool
    """Whether the identity was bound just now, and not before."""


class Wallet:
    """The account of one home; use ``opened``."""

    def __init__(self, home: Home, root: bytes, light: LightClient) -> None:
        """Use ``opened``."""
        self._identity = SigningKey(IdentityKeys.derive(root).identity_seed)
        self._key = SettlementKey.derive(root)
        self._file, self._deals = home.state / HISTORY_FILE, home.state / FOLDER
        self._account = LedgerAccount(light, self._key)
        self.light = light
        self.address: Address = self._key.address
        self.node: NodeId = node_id_of(self._identity.public)

    @property
    def fee(self) -> int:
        """Base units that an entry burns."""
        return self.light.params.entry_fee

    async def bound(self) -> bool:
        """Whether this home's identity is bound to its account.

        Raises:
            As ``LightClient.refresh``.
        """
        return (await self.light.bound([self.node])).get(self.node) == self.address

    async def history(self) -> History:
        """Everything that touched the account; raises as ``read_history``."""
        return await read_history(self.light, self.address, self._file)

    async def balance(self) -> Balance:
        """What the account has: from its deals if this home knows all of them, else by history."""
        snapshot = await self.light.snapshot(self.address, DealFolder(self._deals).ids())
        account, deals = snapshot.account, snapshot.deals.values()
        parties = [(deal.terms.client, deal.terms.provider) for deal in deals if not _closed(deal)]
        if sum(self.address in each for each in parties) == account.deals:
            kept = sum(deal.collateral for deal in deals if deal.terms.provider == self.address)
            escrow = sum(locked(deal, self.address) for deal in deals) - kept
            return Balance(account.available, escrow, kept, account.available + escrow + kept)
        accounting = (await self.history()).accounting()
        return Balance(
            accounting.available, accounting.escrow, accounting.collateral, accounting.total
        )

    async def check_payment(self, to: Address, amount: int) -> AccountCell:
        """Check that the account can pay ``amount`` to ``to``; gives the account that gets it.

        Raises:
            UsageError: ``same_account``.
            EntryRefused: ``not_enough_credit``, before anything is signed.
            As ``LightClient.refresh``.
        """
        if to == self.address:
            raise UsageError(
                "that is this home's own address",
                code="same_account",
                hint="pay to an address that 'dsn wallet address' shows in another home",
            )
        found = await self.light.accounts([self.address, to])
        available, needed = found[self.address].available, amount + self.fee
        if needed > available:
            raise EntryRefused(
                f"{available:,} credits are available, {needed:,} needed with the fee",
                code="not_enough_credit",
                hint="'dsn wallet balance' shows the rest; 'dsn wallet request' asks for more",
            )
        return found[to]

    async def send(self, to: Address, amount: int) -> Sent:
        """Pay ``amount`` base units; returns once a cosigned checkpoint has it.

        Raises:
            As ``check_payment`` and ``LedgerAccount.send``.
        """
        await self.check_payment(to, amount)
        [index] = await self._account.send([Transfer(to, amount)])
        cell = await self.light.account(self.address)
        return Sent(index, amount, self.fee, cell.available)

    async def draw(self) -> int:
        """Ask the faucet for this home's first credits; gives what came, perhaps 0.

        Raises:
            As ``LightClient.refresh``, or what the faucet refuses with.
        """
        if self.light.params.faucet == NO_ADDRESS:
            return 0
        try:
            return await self.light.ask(lambda peer: peer.draw(self._binding().encode()))
        except NotFound:
            return 0

    async def bind(self) -> bool:
        """Bind this home's identity to its account; says whether that was still to do.

        Raises:
            EntryRefused: ``fee_not_covered``, ``node_taken``.
            As ``LedgerAccount.send``.
        """
        if await self.bound():
            return False
        await self._account.send([Bind(self._binding())])
        return True

    async def enrol(self) -> Enrolled:
        """Get the first credits and bind the identity, as far as neither was done before.

        Raises:
            As ``draw`` and ``bind``.
        """
        if await self.bound():
            return Enrolled(self.address, 0, bound=False)
        drawn = await self.draw()
        return Enrolled(self.address, drawn, bound=await self.bind())

    def _binding(self) -> SignedBinding:
        domain = self.light.params.domain
        binding = KeyBinding(self._identity.public, self.address, domain.network, 0, 1)
        return sign_binding(binding, domain, self._identity.sign, self._key)


@asynccontextmanager
async def opened(
    home: Home, passphrase: bytes | None = None, *, patience_s: float = PATIENCE_S
) -> AsyncIterator[Wallet]:
    """The wallet of ``home``, which other processes may use at the same time.

    Raises:
        ConfigError: ``no_network``, ``no_ledger_here``, ``bad_checkpoint_file``, or what is wrong
            with the keys.
    """
    root, network = home.load_root(passphrase), home.network()
    identity = SigningKey(IdentityKeys.derive(root).identity_seed)
    async with Connections(identity, network.network_id) as connections:
        file = home.state / CHECKPOINT_FILE
        light = LightClient(network, connections, file, SystemClock(), patience_s=patience_s)
        yield Wallet(home, root, light)


async def enrol(
    home: Home, passphrase: bytes | None = None, *, patience_s: float = ENROL_PATIENCE_S
) -> Enrolled:
    """Give ``home`` an account: credits from the faucet, its identity bound; twice is harmless.

    Raises:
        As ``opened`` and ``Wallet.enrol``.
    """
    async with opened(home, passphrase, patience_s=patience_s) as wallet:
        return await wallet.enrol()


def _closed(deal: DealCell) -> bool:
    return deal.state is DealState.CLOSED


def settlement_seed(root: bytes) -> bytes:
    """The secret of the settlement key that follows from a home's root; never to be printed."""
    return hkdf(root, tags.SETTLEMENT)
