"""What an account has around the vault."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsn.apps.chain.paying_in import units_of
from dsn.chain import Call, Chain
from dsn.ledger.cells import AccountCell


@dataclass(frozen=True, slots=True)
class OnChain:
    """What an account has, in base units; ``gas`` is wei.

    Attributes:
        units: On the chain, free.
        gas: To pay for calls.
        depositing: Paid in, and not on the ledger yet.
        withdrawing: Taken out of the ledger, and not paid yet.
        owed: By a vault that is left.
    """

    units: int
    gas: int
    depositing: int
    withdrawing: int
    owed: int


async def read_on_chain(chain: Chain, cell: AccountCell) -> OnChain:
    """What the account of ``cell``, as the ledger has it, has there by the newest block."""

    async def vault(function: str, *args: Any) -> int:
        return int(await chain.read(Call("Vault", function, (cell.address, *args))))

    serial = await vault("deposits")
    entered = await vault("deposited", min(cell.deposits, serial))
    return OnChain(
        units=await units_of(chain),
        gas=await chain.balance(),
        depositing=await vault("deposited", serial) - entered,
        withdrawing=max(0, cell.withdrawn - await vault("paid")),
        owed=await vault("owed"),
    )
