"""``dsn escape``: out of a vault that is frozen, with all that is this home's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsn.cli.onchain import log_option, run_on_chain, units
from dsn.cli.session import Session, pass_session
from dsn.ui.figures import format_date
from dsn.ui.table import fields

if TYPE_CHECKING:
    from dsn.apps.chain.escape import Left

_SHOWN = 16
"""Digits of a deal that a line shows."""


@click.command()
@log_option
@pass_session
def escape(session: Session, log: Path | None) -> None:
    """Leave the vault on the chain with all that is this home's.

    No operator is needed. That is for a vault that is frozen: its operator was convicted, or
    anchored nothing for too long. Then this freezes it, if nobody has; takes the log from its
    witnesses or a copy here; shows the vault what the last anchor says of this home's account and
    deals; redeems the vouchers that its node holds; and collects.

    Each step has its time: run it again whenever you like, it does what is due and says what is
    not yet. It costs gas on the chain.
    """
    left = run_on_chain(session, lambda home: home.leaving.turn(), log)
    session.emit(_fields(left))
    session.say(_lines(left))


def _fields(left: Left) -> dict[str, object]:
    """The stable output; credits are decimal strings."""
    amounts = {name: str(getattr(left, name)) for name in ("owed", "paid", "units")}
    return {
        "frozen_s": left.frozen_s or None,
        "size": left.size,
        "credited": {row: str(amount) for row, amount in left.credited.items()},
        **amounts,
        "waiting": [asdict(each) | {"since_s": each.since_s or None} for each in left.waiting],
        "gas": left.gas,
    }


def _lines(left: Left) -> Iterator[str]:
    rows = [("frozen", f"{format_date(left.frozen_s)} UTC" if left.frozen_s else "no")]
    if left.size is not None:
        rows.append(("by the anchor of", f"{left.size:,} entries"))
    rows += [(_row(row), units(amount)) for row, amount in left.credited.items()]
    rows += [("owed", units(left.owed)), ("paid", units(left.paid))]
    rows += [("on the chain", units(left.units)), ("gas", f"{left.gas:,}")]
    yield from fields(rows)
    for each in left.waiting:
        since = f"from {format_date(each.since_s)} UTC on" if each.since_s else "later"
        yield f"{since}: {each.what}; run this again then"


def _row(text: str) -> str:
    what, _, deal = text.partition(" ")
    return f"{what} {deal[:_SHOWN]}".strip()
