"""What a ledger and its witnesses ask of the chain that their network settles on.

Spec: docs/spec/economy.md#on-a-chain.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from dsn.apps.chain.connect import open_chain
from dsn.apps.chain.vault import Disputes, Vault
from dsn.chain import Call, Done
from dsn.config import ChainSettings
from dsn.errors import ConfigError
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address, SettlementKey

NO_CHAIN: Final = ChainSettings()
"""What a home without a word on the chain has set."""


class Deposited(Protocol):
    """The vault took ``amount`` base units for ``account``, its deposit number ``serial``."""

    @property
    def account(self) -> Address:
        """Whose."""
        ...

    @property
    def amount(self) -> int:
        """Base units."""
        ...

    @property
    def serial(self) -> int:
        """From 1 on, one account's deposits without a gap."""
        ...


class Slashed(Protocol):
    """What ``asker`` demanded on chain under revision ``number`` of a deal was not shown."""

    @property
    def deal(self) -> bytes:
        """Its id."""
        ...

    @property
    def number(self) -> int:
        """The revision that was installed in the state where it was demanded."""
        ...

    @property
    def asker(self) -> Address:
        """Who gets what a reporter gets."""
        ...


class Anchored(Protocol):
    """A state of the ledger that stands in the vault."""

    @property
    def size(self) -> int:
        """Entries of the log."""
        ...

    @property
    def epoch(self) -> int:
        """The network's, after them."""
        ...


class VaultReader(Protocol):
    """The vault; every method raises ``Unreachable`` (``chain_unreachable``) if it must."""

    async def deposit_of(self, account: Address, serial: int) -> int | None:
        """What a deposit brought, in base units, if it was made and is final."""
        ...

    async def deposits_since(self, number: int) -> tuple[Sequence[Deposited], int]:
        """Those in final blocks from ``number`` on, and the block to ask from the next time."""
        ...

    async def newest(self) -> Anchored | None:
        """The newest anchor that stands, final or not."""
        ...


class DisputeReader(Protocol):
    """The demands on chain; raises as ``VaultReader``."""

    async def slash_of(self, deal: bytes) -> Slashed | None:
        """What the chain judged of a deal, if it did and that is final."""
        ...

    async def slashes_since(self, number: int) -> tuple[Sequence[Slashed], int]:
        """Those in final blocks from ``number`` on, and the block to ask from the next time."""
        ...


Send: TypeAlias = Callable[[OnChain], Awaitable[Done]]
"""Has something done on the chain; raises as ``dsn.chain.Chain.send``."""


@dataclass(frozen=True, slots=True)
class Settling:
    """A network's chain, as its ledger and its witnesses use it.

    Attributes:
        vault: Where deposits and anchors are.
        disputes: Where the chain judges.
        send: Used by the ledger, to anchor.
        anchor_epochs: Epochs between two anchors of the ledger.
    """

    vault: VaultReader
    disputes: DisputeReader
    send: Send
    anchor_epochs: int = NO_CHAIN.anchor_epochs


@asynccontextmanager
async def open_settling(
    settings: ChainSettings, key: SettlementKey, params: LedgerParams
) -> AsyncIterator[Settling | None]:
    """Reach the network's chain while the block runs; nothing where it has none.

    Raises:
        ConfigError: ``no_endpoint`` and others, as ``open_chain``.
    """
    if not params.settles:
        yield None
        return
    async with open_chain(settings, key, params) as chain:
        yield Settling(
            Vault(chain),
            Disputes(chain),
            lambda call: chain.send(Call(*call)),
            settings.anchor_epochs,
        )


def check_settling(params: LedgerParams, settling: Settling | None) -> None:
    """Check that the chain is reached if the network has one.

    Raises:
        ConfigError: ``no_endpoint``.
    """
    if params.settles and settling is None:
        raise ConfigError(
            "the network settles on a chain that this home does not reach",
            code="no_endpoint",
            hint="[chain] rpc in dsn.toml: the URL of any JSON-RPC endpoint",
        )
