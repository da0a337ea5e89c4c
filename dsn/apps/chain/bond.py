"""The operator's bond: units in the vault that a conviction takes.

Spec: docs/spec/chain.md#vault.
"""

from __future__ import annotations

from dsn.apps.chain.paying_in import DEPOSIT, ERC20, DepositPlan, units_of
from dsn.apps.chain.under_way import UnderWay
from dsn.apps.chain.vault import Vault
from dsn.chain import Call, Chain
from dsn.errors import ConfigError, LimitReached, UsageError
from dsn.ledger.params import LedgerParams


def check_operator(chain: Chain, params: LedgerParams) -> None:
    """Raises ``ConfigError`` (``not_operator``) unless the operator's home is at work."""
    if chain.account != params.operator:
        raise ConfigError(
            "the bond is the operator's, and this is another home",
            code="not_operator",
            hint="use the home that keeps the ledger",
        )


async def post_bond(chain: Chain, params: LedgerParams, under_way: UnderWay, amount: int) -> int:
    """Put ``amount`` base units more at stake, out of the operator's own on the chain.

    A deposit that is under way goes by what the vault may take, so it comes first.

    Returns:
        What is at stake afterwards.

    Raises:
        ConfigError: ``not_operator``.
        UsageError: ``unfinished_deposit``.
        LimitReached: ``not_enough_units``, ``not_enough_gas``.
        ChainRefused: ``frozen``.
    """
    check_operator(chain, params)
    async with under_way.turn(DEPOSIT):
        if under_way.load(DEPOSIT, DepositPlan) is not None:
            raise UsageError(
                "a deposit is under way", code="unfinished_deposit", hint="finish it first"
            )
        if (units := await units_of(chain)) < amount:
            raise LimitReached(
                f"{units:,} units on the chain, {amount:,} needed", code="not_enough_units"
            )
        await chain.send(Call(ERC20, "approve", (params.domain.vault, amount)))
        await chain.send(Call("Vault", "post_bond", (amount,)), final=True)
    return await Vault(chain).bond()


async def reclaim_bond(chain: Chain, params: LedgerParams) -> int:
    """Take the bond back, once everybody had the time to leave a frozen vault.

    Returns:
        What the operator has on the chain afterwards, in base units.

    Raises:
        ConfigError: ``not_operator``.
        ChainRefused: ``not_frozen``, ``still_time``.
    """
    check_operator(chain, params)
    await chain.send(Call("Vault", "reclaim_bond"))
    await chain.send(Call("Vault", "collect", (chain.account,)), final=True)
    return await units_of(chain)
