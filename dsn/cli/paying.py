"""What commands that cost credits share: how long, for how much, and how both are printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from dsn.apps.durability import Durability
from dsn.cli.session import Session
from dsn.errors import UsageError
from dsn.ui.figures import count, format_date
from dsn.units import format_size

if TYPE_CHECKING:
    from dsn.apps.quotes import Quote, Range
    from dsn.apps.results import ListedFile

MAX_DAYS: Final = 36_500
_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Spending:
    """How long something is paid for, and the most base units for it; 0: no bound."""

    days: int
    budget: int


def days_option(command: _Command) -> _Command:
    """``--days``: how long."""
    text = "How long it is paid for (as set: 'dsn config show')."
    return click.option("--days", type=click.IntRange(1, MAX_DAYS), metavar="N", help=text)(command)


def budget_option(command: _Command) -> _Command:
    """``--budget``: how much."""
    text = "Lock and spend at most N credits in all, or do nothing."
    return click.option("--budget", type=click.IntRange(1), metavar="N", help=text)(command)


def spending(session: Session, days: int | None, budget: int | None) -> Spending:
    """What flags and settings say together."""
    client = session.settings(client__days=days, client__budget=budget).client
    return Spending(client.days, client.budget)


def days_until(text: str, today: date) -> int:
    """Days up to the end of the date ``text`` (untrusted), as 2027-03-31.

    Raises:
        UsageError: ``bad_date``: it is none, or not ahead.
    """
    try:
        until = date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"'{text}' is no date", code="bad_date", hint="write it as 2027-03-31"
        ) from error
    days = (until - today + timedelta(days=1)).days
    if not 1 <= days <= MAX_DAYS:
        raise UsageError(
            f"{text} is {days} days from now, 1 to {MAX_DAYS:,} can be paid for", code="bad_date"
        )
    return days


def format_credits(amount: int) -> str:
    """``1,234 credits``."""
    return count(amount, "credit")


def paid_fields(cost: int | None, expires_s: int | None) -> dict[str, object]:
    """``cost`` and ``expires`` of the stable output; null where nobody pays."""
    return {
        "cost": None if cost is None else str(cost),
        "expires": None if expires_s is None else iso_time(expires_s),
    }


def iso_time(unix_s: int) -> str:
    """``2027-03-31T12:00:00Z``."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def warn_expiring(session: Session, files: list[ListedFile], now_s: float) -> None:
    """Say on standard error what expires within 30, 7 and 1 days, or has."""
    from dsn.apps.listing import expiring

    for days, names in expiring(files, now_s).items():
        some = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
        verb, files_text = "s" if len(names) == 1 else "", count(len(names), "file")
        if days:
            session.warn(f"{files_text} expire{verb} within {count(days, 'day')}: {some}")
        else:
            session.warn(f"{files_text} expired: {some}")
    if expiring(files, now_s):
        session.notice("hint: dsn renew NAME, or dsn renew --all")


def quote_fields(quote: Quote) -> dict[str, object]:
    """The stable output of a quote."""
    fields: dict[str, object] = {
        "size": quote.size,
        "scheme": str(quote.scheme),
        "segments": quote.segments,
        "upload_bytes": quote.upload_bytes,
        "nodes": quote.nodes,
        **paid_fields(None, quote.expires_s),
        "loss_per_year": quote.durability.loss_per_year,
        "loss_per_year_shock": quote.durability.loss_per_year_shock,
    }
    if quote.cost is not None and quote.prices is not None:
        cost, prices = quote.cost, quote.prices
        fields["cost"] = str(cost.total.expected)
        fields["cost_range"] = _texts(cost.total)
        fields |= {
            name: _texts(getattr(cost, name)) for name in ("disk", "store", "read", "locked")
        }
        fields["fees"] = str(cost.fees)
        fields["prices"] = {
            name: _texts(getattr(prices, name)) for name in ("disk", "store", "read")
        }
    return fields


def _texts(amounts: Range) -> dict[str, str]:
    return {name: str(getattr(amounts, name)) for name in ("low", "expected", "high")}


def quote_pairs(quote: Quote, *, durability: bool) -> Iterator[tuple[str, str]]:
    """A quote as people read it."""
    yield "size", f"{format_size(quote.size)} as {quote.scheme}, {count(quote.segments, 'segment')}"
    yield (
        "to send",
        f"{format_size(quote.upload_bytes)} to {quote.scheme.total} of {quote.nodes} nodes",
    )
    if quote.cost is None or quote.prices is None or quote.expires_s is None:
        yield "cost", "nothing: nobody pays on this network"
    else:
        cost, prices = quote.cost, quote.prices
        yield "expires", f"{format_date(quote.expires_s)} UTC"
        yield "cost", _range(cost.total)
        yield "  disk", f"{_range(cost.disk)} (a GiB for 30 days: {_range(prices.disk)})"
        yield "  storing", f"{_range(cost.store)} (a GiB sent: {_range(prices.store)})"
        yield "  fees", format_credits(cost.fees)
        yield "reading once", f"{_range(cost.read)} (a GiB read: {_range(prices.read)})"
        yield "locked", f"{_range(cost.locked)}; what is not used comes back"
    if durability:
        yield from _loss_pairs(quote.durability)


def _range(amounts: Range) -> str:
    if amounts.low == amounts.high:
        return format_credits(amounts.expected)
    return f"{format_credits(amounts.expected)} ({amounts.low:,} to {amounts.high:,})"


def _loss_pairs(chances: Durability) -> Iterator[tuple[str, str]]:
    alone, shock = f"{chances.loss_per_year:.1g}", f"{chances.loss_per_year_shock:.1g}"
    dying = f"if nodes fail one by one, {chances.afr:.0%} of them a year"
    yield "loss in a year", f"{alone} {dying}, and repair takes {chances.repair_hours:g} h"
    yield "loss in a shock", f"{shock} if {chances.shock:.0%} of all nodes die at once"
