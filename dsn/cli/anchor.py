"""``dsn ledger anchor``: the ledger's newest published state, onto the chain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsn.cli.onchain import run_on_chain
from dsn.cli.session import Session, pass_session
from dsn.ui.figures import count

if TYPE_CHECKING:
    from dsn.apps.chain.anchoring import AnchorMade
    from dsn.apps.chain.home import HomeOnChain


@click.command()
@pass_session
def anchor(session: Session) -> None:
    """Anchor the newest published state of the ledger on the chain.

    Operators do it by themselves, every so many epochs; anybody with gas may, from any home of the
    network. Whoever withdraws waits for an anchor.
    """
    from dsn.apps.chain.anchoring import anchor_checkpoint

    async def anchored(home: HomeOnChain) -> AnchorMade:
        return await anchor_checkpoint(home.chain, await home.published(), home.params)

    made = run_on_chain(session, anchored)
    found = made.anchor
    roots = {"root": found.root.hex(), "state_root": found.state_root.hex()}
    counted = {"number": found.number, "size": found.size, "epoch": found.epoch}
    session.emit(counted | roots | {"time_s": found.time_s, "gas": made.gas})
    what = f"{count(found.size, 'entry', 'entries')}, epoch {found.epoch}"
    if made.gas:
        session.say(f"anchored as number {found.number}: {what}, gas {made.gas:,}")
    else:
        session.say(f"anchored already, as number {found.number}: {what}")
