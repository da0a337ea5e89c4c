"""What a chain says that its ledger must repeat: final deposits and slashes, each read once.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from dsn.apps.chain.under_way import UnderWay
from dsn.apps.chain.vault import Disputes, Vault
from dsn.chain import Chain
from dsn.errors import InvalidProof
from dsn.ids import DealId
from dsn.ledger.settlement import Address, format_address

_WHAT: Final = "said"


@dataclass(frozen=True, slots=True)
class Said:
    """Final deposits, and deals that have a final slash; all names are hexadecimal digits.

    Attributes:
        deposits_from: Deposits in earlier blocks were seen.
        slashes_from: As much of slashes.
        deposits: Amounts in base units, one after the other, by account.
        slashes: By deal, the number of times that it was slashed.
    """

    deposits_from: int = 0
    slashes_from: int = 0
    deposits: dict[str, list[int]] = field(default_factory=dict)
    slashes: dict[str, int] = field(default_factory=dict)

    @property
    def counts(self) -> tuple[int, int]:
        """How many deposits, and how many slashes."""
        return sum(map(len, self.deposits.values())), sum(self.slashes.values())

    def amount(self, account: Address, serial: int) -> int | None:
        """Of an account's ``serial``-th deposit, from 1; ``None`` if none is final."""
        made = self.deposits.get(account.hex(), [])
        return made[serial - 1] if 0 < serial <= len(made) else None

    def made(self) -> dict[Address, int]:
        """How many deposits each account has."""
        return {Address(bytes.fromhex(who)): len(made) for who, made in self.deposits.items()}

    def slashed(self) -> list[DealId]:
        """The deals that have a slash."""
        return [DealId(bytes.fromhex(deal)) for deal in self.slashes]


async def learn(chain: Chain, under_way: UnderWay) -> Said:
    """All that ``chain`` says by now; what was learned before is in ``under_way``.

    Raises:
        InvalidProof: ``chain_incomplete``: the endpoint leaves deposits out, or a reorganisation
            took back what was final. It is all read anew the next time.
        Unreachable: ``chain_unreachable``.
    """
    known = under_way.load(_WHAT, Said) or Said()
    deposits = {who: list(made) for who, made in known.deposits.items()}
    paid_in, deposits_from = await Vault(chain).deposits_since(known.deposits_from)
    for each in paid_in:
        made = deposits.setdefault(each.account.hex(), [])
        if each.serial != len(made) + 1:
            under_way.forget(_WHAT)
            raise InvalidProof(
                f"the chain shows deposit {each.serial} of {format_address(each.account)}, "
                f"{len(made)} before it",
                code="chain_incomplete",
                hint="run it again; if that stays, try another endpoint: [chain] rpc in dsn.toml",
            )
        made.append(each.amount)
    slashes = dict(known.slashes)
    judged, slashes_from = await Disputes(chain).slashes_since(known.slashes_from)
    for slash in judged:
        slashes[slash.deal.hex()] = slashes.get(slash.deal.hex(), 0) + 1
    now = Said(deposits_from, slashes_from, deposits, slashes)
    under_way.save(_WHAT, now)
    return now
