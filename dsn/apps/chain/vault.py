"""What a network's vault and its disputes say, as values.

Spec: docs/spec/chain.md#vault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from dsn.chain import Call, Chain, Happened
from dsn.ledger.settlement import NO_ADDRESS, Address


@dataclass(frozen=True, slots=True)
class Deposited:
    """A deposit: ``amount`` base units for ``account``, its ``serial``-th, in block ``number``."""

    account: Address
    amount: int
    serial: int
    number: int


@dataclass(frozen=True, slots=True)
class Anchored:
    """A state of the ledger that stands on the chain since ``time_s`` (Unix seconds)."""

    number: int
    size: int
    epoch: int
    time_s: int
    root: bytes
    state_root: bytes


@dataclass(frozen=True, slots=True)
class Times:
    """The vault's spans, in seconds.

    Attributes:
        challenge_s: How long an anchor can be shown wrong, before it is believed.
        escape_s: How long no anchor may come until anybody freezes the vault.
        voucher_s: How long vouchers are taken once an escape began.
        inclusion_s: How soon the ledger must take up a deposit or a slash.
    """

    challenge_s: int
    escape_s: int
    voucher_s: int
    inclusion_s: int


@dataclass(frozen=True, slots=True)
class Demanded:
    """A demand on the chain for one leaf of a deal.

    Attributes:
        deal: Its id.
        provider: Who has to answer.
        asker: Who gets the reporter's part if nobody does.
        leaf: Which, among the deal's leaves.
        number: Of the revision that it is asked of.
        deadline_s: Until when an answer is taken, in Unix seconds.
    """

    deal: bytes
    provider: Address
    asker: Address
    leaf: int
    number: int
    deadline_s: int


@dataclass(frozen=True, slots=True)
class Slashed:
    """A demand that nobody answered: of revision ``number`` of ``deal``, at the word of asker."""

    deal: bytes
    number: int
    asker: Address


class Judged(NamedTuple):
    """A slash, and when it was made, in Unix seconds."""

    slash: Slashed
    time_s: int


class Vault:
    """Where a network's deposits are, and its ledger is anchored."""

    def __init__(self, chain: Chain) -> None:
        """Ask it through ``chain``."""
        self._chain = chain

    async def deposit_of(self, account: Address, serial: int, *, final: bool = True) -> int | None:
        """The amount of an account's ``serial``-th deposit, from 1.

        ``None`` if there is none in the newest block, or with ``final`` in the newest final one.
        """
        if serial < 1:
            return None
        before = await self._read("deposited", account, serial - 1, final=final)
        amount = int(await self._read("deposited", account, serial, final=final) - before)
        return amount if amount > 0 else None

    async def deposit_time(self, account: Address, serial: int) -> int:
        """When an account's ``serial``-th deposit was made (Unix seconds); 0 if none is final."""
        return int(await self._read("deposit_times", account, serial, final=True))

    async def deposits_since(self, number: int) -> tuple[list[Deposited], int]:
        """Those in final blocks from ``number`` on, and the block to ask from the next time."""
        found, after = await self._chain.events("Vault", "Deposited", number, final=True)
        return [_deposited(each) for each in found], after

    async def newest(self) -> Anchored | None:
        """The last anchor that stands; ``None`` before the first."""
        count = int(await self._read("anchor_count"))
        return await self.anchor(count - 1) if count else None

    async def anchor(self, number: int) -> Anchored:
        """The anchor ``number``, from 0; raises ``ChainRefused`` if it does not stand."""
        size, epoch, time_s, root, state_root = await self._read("anchors", number)
        return Anchored(number, size, epoch, time_s, root, state_root)

    async def frozen_at(self) -> int:
        """When the vault was frozen, in Unix seconds; 0 if it is not."""
        return int(await self._read("frozen_at"))

    async def times(self) -> Times:
        """Its spans."""
        return Times(*await self._read("times"))

    async def paid(self, account: Address) -> int:
        """Base units that ``account`` ever got by withdrawals."""
        return int(await self._read("paid", account))

    async def owed(self, account: Address) -> int:
        """Base units that an escape gave ``account``, and that it has not collected."""
        return int(await self._read("owed", account))

    async def bond(self) -> int:
        """Base units that the operator has at stake."""
        return int(await self._read("bond"))

    async def _read(self, function: str, *args: Any, final: bool = False) -> Any:
        return await self._chain.read(Call("Vault", function, args), final=final)


class Disputes:
    """Demands that were made on the chain, since the ledger would not take them."""

    def __init__(self, chain: Chain) -> None:
        """Ask for them through ``chain``."""
        self._chain = chain

    async def slash_of(self, deal: bytes) -> Slashed | None:
        """The slash of a deal, if one is final."""
        found = await self.judged(deal)
        return None if found is None else found.slash

    async def judged(self, deal: bytes, *, final: bool = True) -> Judged | None:
        """As ``slash_of``, with its time; the newest, or the newest that is final."""
        call = Call("Dispute", "slashes", (deal,))
        number, time_s, asker = await self._chain.read(call, final=final)
        return (
            None if asker == NO_ADDRESS else Judged(Slashed(deal, number, Address(asker)), time_s)
        )

    async def slashes_since(self, number: int) -> tuple[list[Slashed], int]:
        """Those in final blocks from ``number`` on, and the block to ask from the next time."""
        found, after = await self._chain.events("Dispute", "Slashed", number, final=True)
        return [_slashed(each.values) for each in found], after

    async def demands_since(self, number: int) -> tuple[list[Demanded], int]:
        """Those from block ``number`` on, and the block to ask from the next time.

        They are not final yet: an answer must not wait. So some come again, and some may have
        been answered.
        """
        found, after = await self._chain.events("Dispute", "Demanded", number, final=False)
        return [_demanded(each.values) for each in found], after


def _deposited(event: Happened) -> Deposited:
    said = event.values
    return Deposited(Address(said["account"]), said["amount"], said["serial"], event.number)


def _slashed(said: dict[str, Any]) -> Slashed:
    return Slashed(said["deal"], said["number"], Address(said["asker"]))


def _demanded(said: dict[str, Any]) -> Demanded:
    return Demanded(
        said["deal"],
        Address(said["provider"]),
        Address(said["asker"]),
        said["leaf"],
        said["number"],
        said["deadline"],
    )
