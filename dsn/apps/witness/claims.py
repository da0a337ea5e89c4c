"""What the operator enters in the chain's name, and what the chain itself says of it.

A course asks for it by path, as it asks for tiles: what comes back is a body as the chain would
have it, in the body's own encoding, or nothing. So a claim holds if the answer is the claim.
"""

from __future__ import annotations

from typing import Final, Protocol

from dsn.apps.ledger.chain import Settling
from dsn.errors import PeerError, Unreachable
from dsn.ids import DealId
from dsn.ledger.bodies import Deposit, Kind
from dsn.ledger.disputes import SlashJudged
from dsn.ledger.entry import Entry
from dsn.ledger.log import LogLeaf
from dsn.ledger.settlement import Address
from dsn.wire.status import RetryLater

CHAIN_RETRY_S: Final = 2.0
_DEPOSIT, _SLASH = "chain/deposit/", "chain/slash/"
_KINDS: Final = (Kind.DEPOSIT, Kind.SLASH_JUDGED)
Claim = Deposit | SlashJudged


class Source(Protocol):
    """Whoever gives what a course asks for."""

    async def read(self, path: str) -> bytes:
        """The bytes under ``path``; nobody vouches for them."""
        ...


def claim_in(leaf: LogLeaf) -> Claim | None:
    """What an entry of the log says in the chain's name, if it does."""
    if leaf.entry[0] not in _KINDS:
        return None
    body = Entry.decode(leaf.entry).body
    assert isinstance(body, Deposit | SlashJudged)
    return body


def claim_path(claim: Claim) -> str:
    """Under which path the chain answers for ``claim``."""
    if isinstance(claim, Deposit):
        return f"{_DEPOSIT}{claim.account.hex()}/{claim.serial}"
    return _SLASH + claim.deal.hex()


def check_claim(claim: Claim, answer: bytes) -> None:
    """Check that the chain says what the operator entered.

    Args:
        claim: As it stands in the log.
        answer: What stands under its path.

    Raises:
        PeerError: ``unknown_deposit``, ``unknown_slash``: it says something else, or nothing that
            is final.
    """
    if answer == claim.encode():
        return
    if isinstance(claim, Deposit):
        raise PeerError(
            f"the vault has no final deposit {claim.serial} of {claim.amount} base units for "
            f"0x{claim.account.hex()}",
            code="unknown_deposit",
        )
    raise PeerError(
        f"the chain has no final slash of {claim.deal.hex()} under revision {claim.number}",
        code="unknown_slash",
    )


class ChainSource:
    """Gives what the chain says, and asks another source for all else."""

    def __init__(self, settling: Settling, other: Source) -> None:
        """Ask ``settling`` for claims, ``other`` for the log."""
        self._settling, self._other = settling, other

    async def read(self, path: str) -> bytes:
        """See ``Source``.

        Raises:
            RetryLater: ``chain_unreachable``.
            As the other source.
        """
        try:
            if path.startswith(_DEPOSIT):
                account, _, serial = path.removeprefix(_DEPOSIT).partition("/")
                return await self._deposit(Address(bytes.fromhex(account)), int(serial))
            if path.startswith(_SLASH):
                return await self._slash(DealId(bytes.fromhex(path.removeprefix(_SLASH))))
        except Unreachable as error:
            raise RetryLater(
                f"the chain is silent: {error.message}",
                retry_after_s=CHAIN_RETRY_S,
                code="chain_unreachable",
            ) from error
        return await self._other.read(path)

    async def _deposit(self, account: Address, serial: int) -> bytes:
        amount = await self._settling.vault.deposit_of(account, serial)
        return b"" if amount is None else Deposit(account, amount, serial).encode()

    async def _slash(self, deal: DealId) -> bytes:
        slashed = await self._settling.disputes.slash_of(deal)
        if slashed is None:
            return b""
        return SlashJudged(deal, slashed.number, slashed.asker).encode()
