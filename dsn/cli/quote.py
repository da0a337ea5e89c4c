"""``dsn quote``: what storing would cost, and how safe it would be."""

from __future__ import annotations

import click

from dsn.cli.paying import days_option, quote_fields, quote_pairs, spending
from dsn.cli.put import choose_scheme
from dsn.cli.session import Session, pass_session
from dsn.ui.table import fields


@click.command()
@click.argument("size", metavar="SIZE")
@click.option(
    "--scheme", metavar="REQUIRED/TOTAL", help="Any REQUIRED of TOTAL shards give the file back."
)
@days_option
@click.option("--durability", is_flag=True, help="Add how likely the file would be lost.")
@pass_session
def quote(
    session: Session, size: str, scheme: str | None, days: int | None, durability: bool
) -> None:
    """Say what storing SIZE (such as 1.5GB) would cost, by the terms nodes stand by now."""
    from dsn.config import parse_size

    size_bytes = parse_size(size)
    chosen = choose_scheme(session.settings(client__scheme=scheme).client.scheme)
    term = spending(session, days, None).days
    found = session.with_client(lambda client: client.quote(size_bytes, scheme=chosen, days=term))
    session.say(fields(list(quote_pairs(found, durability=durability))))
    session.emit(quote_fields(found))
