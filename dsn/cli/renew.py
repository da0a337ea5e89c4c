"""``dsn renew``: have stored files last longer."""

from __future__ import annotations

from collections.abc import Sequence

import click

from dsn.apps.results import RenewResult
from dsn.cli.paying import (
    budget_option,
    days_option,
    format_credits,
    iso_time,
    spending,
)
from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError
from dsn.ui.figures import count, format_date


@click.command()
@click.argument("targets", metavar="CAP|NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that this home has a name for.")
@days_option
@budget_option
@pass_session
def renew(
    session: Session,
    targets: Sequence[str],
    everything: bool,
    days: int | None,
    budget: int | None,
) -> None:
    """Have files last N days from now: deals with the nodes that hold them end later."""
    if bool(targets) == everything:
        raise UsageError("name files, or give --all", hint="dsn ls shows when each one expires")
    paid = spending(session, days, budget)
    wanted = None if everything else targets
    results = session.with_client(
        lambda client: client.renew(wanted, days=paid.days, budget=paid.budget)
    )
    for result in results:
        describe(session, result)
    session.emit({"renewed": [renewed_fields(result) for result in results]})


def describe(session: Session, result: RenewResult) -> None:
    """Say what became of one file."""
    name = result.name or result.file_id
    session.say(
        f"{name} lasts until {format_date(result.expires_s)} UTC, for "
        f"{format_credits(result.added_cost)} more"
    )
    if result.refused_nodes:
        nodes = ", ".join(result.refused_nodes)
        session.warn(
            f"{name}: {count(len(result.refused_nodes), 'node')} did not agree to keep it: {nodes}"
        )


def renewed_fields(result: RenewResult) -> dict[str, object]:
    """The stable output of one renewal."""
    return {
        "name": result.name,
        "file_id": result.file_id,
        "expires": iso_time(result.expires_s),
        "added_cost": str(result.added_cost),
        "refused_nodes": list(result.refused_nodes),
    }
