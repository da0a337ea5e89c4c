"""``dsn ledger bond``: what the operator has at stake in the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsn.cli.onchain import run_on_chain
from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError

if TYPE_CHECKING:
    from dsn.apps.chain.home import HomeOnChain


@click.command()
@click.argument("amount", metavar="[AMOUNT]", type=click.IntRange(1), required=False)
@click.option("--reclaim", is_flag=True, help="Take it back once all had time to leave.")
@pass_session
def bond(session: Session, amount: int | None, reclaim: bool) -> None:
    """Show the operator's bond, or put AMOUNT units more at stake.

    Whoever has the chain convict the operator takes it away, and gets a tenth. Only the operator
    can add to it or take it back, the latter when the vault is frozen and everybody had the time
    to leave.
    """
    from dsn.apps.chain.bond import post_bond, reclaim_bond
    from dsn.apps.chain.vault import Vault

    if reclaim and amount is not None:
        raise UsageError("--reclaim takes all of it", hint="leave the amount out")

    async def done(home: HomeOnChain) -> int:
        if reclaim:
            return await reclaim_bond(home.chain, home.params)
        if amount is None:
            return await Vault(home.chain).bond()
        return await post_bond(home.chain, home.params, home.under_way, amount)

    found = run_on_chain(session, done)
    session.emit({"units" if reclaim else "bond": str(found)})
    what = "on the chain now" if reclaim else "at stake"
    session.say(f"{found:,} units {what}")
