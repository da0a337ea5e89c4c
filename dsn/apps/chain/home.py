"""One home on both sides: its account on the ledger, and the same on the chain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dsn.apps.chain.connect import open_chain
from dsn.apps.chain.dispute import Disputing
from dsn.apps.chain.escape import Leaving
from dsn.apps.chain.ledger_now import LedgerNow
from dsn.apps.chain.paying_in import PayingIn
from dsn.apps.chain.paying_out import PayingOut
from dsn.apps.chain.replay import LogCopy
from dsn.apps.chain.roles import copies_of, no_vouchers, vouchers_of
from dsn.apps.chain.under_way import FOLDER, Notice, UnderWay
from dsn.apps.deal_file import FOLDER as DEALS
from dsn.apps.deal_file import DealFolder
from dsn.apps.ledger.account import LedgerAccount
from dsn.apps.ledger.light import LightClient
from dsn.apps.node.money import DEALS_FILE
from dsn.apps.wallet import CHECKPOINT_FILE, PATIENCE_S
from dsn.chain import Chain
from dsn.config import ChainSettings
from dsn.core.keys import IdentityKeys, SigningKey
from dsn.ids import DealId
from dsn.ledger.bodies import SignedVoucher
from dsn.ledger.checkpoint import SignedCheckpoint, parse_checkpoint
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import SettlementKey
from dsn.rpc.channel import Connections
from dsn.runtime.clock import SystemClock
from dsn.store.deals import open_deals
from dsn.store.home import Home


@dataclass(frozen=True, slots=True)
class HomeOnChain:
    """What one command has of its home; ``on_chain`` makes it."""

    home: Home
    params: LedgerParams
    chain: Chain
    light: LightClient
    ledger: LedgerNow
    copies: Sequence[LogCopy]
    under_way: UnderWay
    notice: Notice

    @property
    def paying_in(self) -> PayingIn:
        """Its deposits."""
        return PayingIn(self.chain, self.ledger, self.under_way, asyncio.sleep, self.notice)

    @property
    def paying_out(self) -> PayingOut:
        """Its withdrawals."""
        both = self.chain, self.ledger, self.copies
        return PayingOut(*both, self.under_way, asyncio.sleep, self.notice)

    @property
    def disputing(self) -> Disputing:
        """Its demands."""
        return Disputing(self.chain, self.ledger, self.copies, self.notice)

    @property
    def leaving(self) -> Leaving:
        """Its way out."""
        kept = self.under_way, self.notice
        return Leaving(self.chain, self.params, self.copies, self.vouchers, *kept)

    async def vouchers(self) -> Sequence[SignedVoucher]:
        """Those that its node holds, whether it runs or not."""
        file = self.home.state / DEALS_FILE
        if not file.exists():
            return await no_vouchers()
        async with open_deals(file) as store:
            return await vouchers_of(store)

    async def deals(self) -> list[DealId]:
        """Those that it knows, as a client and as a provider."""
        found = dict.fromkeys(DealFolder(self.home.state / DEALS).ids())
        file = self.home.state / DEALS_FILE
        if file.exists():
            async with open_deals(file) as store:
                found |= dict.fromkeys(each.deal for each in await store.running())
        return list(found)

    async def published(self) -> SignedCheckpoint:
        """The newest published checkpoint with all its lines; raises as ``LightClient``."""
        await self.light.refresh()
        reply = await self.light.ask(lambda peer: peer.get_checkpoint())
        signed = parse_checkpoint(reply.checkpoint)
        self.light.trust.verify(signed, int(SystemClock().now_s()))
        return signed


@asynccontextmanager
async def on_chain(
    home: Home,
    settings: ChainSettings,
    passphrase: bytes | None,
    notice: Notice,
    log: Path | None = None,
) -> AsyncIterator[HomeOnChain]:
    """``home`` with its ledger and its chain, while the block runs; others may use it, too.

    Args:
        home: Has joined a network.
        settings: How its chain is reached.
        passphrase: Opens its keys.
        notice: Told how far things are.
        log: A ledger's or a witness's directory, if the owner knows one.

    Raises:
        ConfigError: As ``LightClient`` and ``open_chain``: ``no_ledger_here``, ``no_chain``,
            ``no_endpoint``, ``missing_extra``.
    """
    root, network = home.load_root(passphrase), home.network()
    identity, key = SigningKey(IdentityKeys.derive(root).identity_seed), SettlementKey.derive(root)
    async with AsyncExitStack() as held:
        connections = await held.enter_async_context(Connections(identity, network.network_id))
        file = home.state / CHECKPOINT_FILE
        light = LightClient(network, connections, file, SystemClock(), patience_s=PATIENCE_S)
        chain = await held.enter_async_context(open_chain(settings, key, light.params))
        ledger = LedgerNow(light, LedgerAccount(light, key))
        copies = copies_of(network, connections, home, log)
        under_way = UnderWay(home.state / FOLDER, light.params.domain.vault)
        yield HomeOnChain(home, light.params, chain, light, ledger, copies, under_way, notice)
