"""``dsn config``: every setting and where its value came from."""

from __future__ import annotations

import click

from dsn.cli.session import Session, pass_session
from dsn.ui.table import print_table


@click.group()
def config() -> None:
    """Look at the settings of this home."""


@config.command()
@pass_session
def show(session: Session) -> None:
    """Print every setting, its value and where that came from."""
    from dsn.config import load

    rows = list(load(session.home_path(), {}).rows())
    session.emit({key: {"value": value, "origin": origin} for key, value, origin in rows})
    if not session.json:
        cells = [(key, str(value), origin) for key, value, origin in rows]
        print_table(("SETTING", "VALUE", "FROM"), cells)
