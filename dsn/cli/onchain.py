"""Opening this home with its chain for one command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from dsn.cli.secrets import passphrase
from dsn.cli.session import Session
from dsn.errors import UsageError
from dsn.ids import ID_BYTES, DealId
from dsn.store.home import Home

if TYPE_CHECKING:
    from dsn.apps.chain.home import HomeOnChain

Result = TypeVar("Result")
log_option = click.option(
    "--log",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="A ledger's or witness's directory to take the log from.",
)
"""For commands that replay it."""


def run_on_chain(
    session: Session, work: Callable[[HomeOnChain], Awaitable[Result]], log: Path | None = None
) -> Result:
    """Open the session's home on its ledger and its chain, run ``work`` and close both again."""
    from dsn.apps.chain.home import on_chain

    home = Home.open(session.home_path())
    secret, settings = passphrase(session, home), session.settings().chain

    async def run() -> Result:
        async with on_chain(home, settings, secret, session.notice, log) as opened:
            return await work(opened)

    return session.run(run())


def parse_deal(text: str) -> DealId | None:
    """The deal whose id a person typed; nothing if it is no such id."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return DealId(raw) if len(raw) == ID_BYTES else None


def deal_argument(text: str) -> DealId:
    """As ``parse_deal``; raises ``UsageError`` (``bad_id``) if it is none."""
    if (deal := parse_deal(text)) is None:
        raise UsageError(
            f"'{text[:80]}' is no deal",
            code="bad_id",
            hint="give its 64 hexadecimal digits; 'dsn wallet history --json' names deals",
        )
    return deal


def units(amount: int) -> str:
    """``1 unit``, ``2,000 units``."""
    return f"{amount:,} unit{'' if amount == 1 else 's'}"
