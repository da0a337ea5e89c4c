"""A chain of one network in memory: deposits, judged slashes and anchors, without an EVM.

Each thing that happens is a block of its own; the newest ``unsettled`` blocks are not final. The
anchors are checked as the vault checks them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from dsn.apps.chain.vault import Anchored, Deposited, Slashed
from dsn.apps.ledger.chain import Settling
from dsn.chain import Done
from dsn.errors import ChainRefused, Unreachable
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.params import LedgerParams
from dsn.ledger.settlement import Address, recover
from dsn.ledger.typed import digest

VAULT = Address(b"\x44" * 20)
CHAIN_ID = 31_337
_T = TypeVar("_T")


@dataclass
class MemoryChain:
    """What stands on the chain; ``refusal`` makes it unreachable, or refuse."""

    params: LedgerParams | None = None
    """Whose signatures anchors need."""
    unsettled: int = 0
    deposits: list[Deposited] = field(default_factory=list)
    slashes: list[tuple[int, Slashed]] = field(default_factory=list)
    anchors: list[Anchored] = field(default_factory=list)
    height: int = 0
    refusal: Callable[[], Exception | None] = lambda: None
    asked: list[str] = field(default_factory=list)
    """The methods that were called."""
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def settling(self) -> Settling:
        """As a ledger and its witnesses use it."""
        return Settling(self, self, self.send, anchor_epochs=2)

    async def anchored(self, count: int) -> None:
        """Return once there are so many anchors."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.anchors) >= count)

    def deposit(self, account: Address, amount: int) -> Deposited:
        """Somebody pays into the vault."""
        self.height += 1
        serial = 1 + sum(each.account == account for each in self.deposits)
        self.deposits.append(Deposited(account, amount, serial, self.height))
        return self.deposits[-1]

    def slash(self, deal: bytes, number: int, asker: Address) -> None:
        """Nobody answered."""
        self.height += 1
        self.slashes.append((self.height, Slashed(deal, number, asker)))

    async def deposit_of(self, account: Address, serial: int) -> int | None:
        """See ``VaultReader``."""
        self._answer("deposit_of")
        found = (each for each in self.deposits if (each.account, each.serial) == (account, serial))
        return next((each.amount for each in found if each.number <= self._final), None)

    async def deposits_since(self, number: int) -> tuple[Sequence[Deposited], int]:
        """See ``VaultReader``."""
        self._answer("deposits_since")
        return self._since(number, [(each.number, each) for each in self.deposits])

    async def slash_of(self, deal: bytes) -> Slashed | None:
        """See ``DisputeReader``."""
        self._answer("slash_of")
        final = (each for at, each in self.slashes if at <= self._final)
        return next((each for each in final if each.deal == deal), None)

    async def slashes_since(self, number: int) -> tuple[Sequence[Slashed], int]:
        """See ``DisputeReader``."""
        self._answer("slashes_since")
        return self._since(number, self.slashes)

    async def newest(self) -> Anchored | None:
        """See ``VaultReader``."""
        self._answer("newest")
        return self.anchors[-1] if self.anchors else None

    async def send(self, call: OnChain) -> Done:
        """Anchor, if the vault would."""
        self._answer("send")
        assert (call.contract, call.function) == ("Vault", "anchor")
        said, operator, signatures = call.args
        root = LedgerRoot(*said)
        self._check(root, operator, signatures)
        self.height += 1
        number = len(self.anchors)
        self.anchors.append(Anchored(number, root.size, root.epoch, 0, root.root, root.state_root))
        async with self._news:
            self._news.notify_all()
        return Done(self.height, 150_000 + number, bytes(32))

    def _check(self, root: LedgerRoot, operator: bytes, signatures: Sequence[bytes]) -> None:
        assert self.params is not None
        last = self.anchors[-1].size if self.anchors else 0
        over = digest(self.params.domain, root)
        signers = [recover(over, each) for each in signatures]
        good = (
            recover(over, operator) == self.params.operator
            and signers == sorted(set(signers) & self.params.cosigners)
            and len(signers) >= self.params.quorum
        )
        if not good:
            raise ChainRefused("the vault: invalid_signature", code="invalid_signature")
        if root.size <= last:
            raise ChainRefused("the vault: log_shrunk", code="log_shrunk")

    @property
    def _final(self) -> int:
        return self.height - self.unsettled

    def _since(self, number: int, all_: Sequence[tuple[int, _T]]) -> tuple[list[_T], int]:
        found = [each for at, each in all_ if number <= at <= self._final]
        return found, max(number, self._final + 1)

    def _answer(self, method: str) -> None:
        self.asked.append(method)
        if (error := self.refusal()) is not None:
            raise error


def silence() -> Unreachable:
    """What a chain that nobody reaches gives."""
    return Unreachable("the endpoint does not answer", code="chain_unreachable")
