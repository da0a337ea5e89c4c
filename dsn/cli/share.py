"""``dsn share``: a link that opens one file, and what it lets its holder do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsn.cli.paying import budget_option, format_credits, iso_time
from dsn.cli.session import Session, pass_session
from dsn.errors import UsageError
from dsn.ui.figures import count, format_date
from dsn.units import format_size

if TYPE_CHECKING:
    from dsn.apps.results import Reserved, ShareResult
    from dsn.ledger.settlement import Address

KINDS = ("read", "repair", "verify")


@click.command()
@click.argument("target", metavar="CAP|NAME")
@click.option("--read", is_flag=True, help="Read the file, and verify it.")
@click.option("--repair", is_flag=True, help="Rebuild lost shards, and verify; not read.")
@click.option("--verify", is_flag=True, help="Have the holders prove it; not read.")
@click.option("--to", metavar="ADDRESS", help="Pay for repairs by whoever has this address.")
@click.option(
    "--deals",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the repairer's deals are written, with --to.",
)
@budget_option
@pass_session
def share(
    session: Session,
    target: str,
    read: bool,
    repair: bool,
    verify: bool,
    to: str | None,
    deals: Path | None,
    budget: int | None,
) -> None:
    """Print a link to one file; a link cannot be taken back.

    With --to the repairer's work is paid: deals in its favour are opened with all nodes that may
    take part, and it needs FILE beside the link. Standard output gets the link alone.
    """
    asked = [kind for kind, on in zip(KINDS, (read, repair, verify), strict=True) if on]
    if len(asked) != 1:
        raise UsageError(
            "exactly one of --read, --repair, --verify is needed",
            hint="--verify is the weakest: it checks the file and cannot read it",
        )
    payee = _payee(asked[0], to, deals, budget)
    result = session.with_client(lambda client: client.share(target, asked[0], payee, budget))
    session.notice(f"this {result.kind} link allows: {result.allows}")
    session.notice("it cannot be taken back: whoever has it keeps what it allows")
    if result.reserved is not None and deals is not None and to is not None:
        deals.write_text(result.reserved.text, encoding="utf-8")
        for line in told(result.reserved, to, deals):
            session.notice(line)
    session.say(result.capability)
    session.emit(to_fields(result))


def _payee(kind: str, to: str | None, deals: Path | None, budget: int | None) -> Address | None:
    """Whose repairs are to be paid.

    Raises:
        UsageError: Options that do not belong together; ``output_exists``,
            ``bad_settlement_address``.
    """
    given = (to is not None, deals is not None, budget is not None)
    if not any(given):
        return None
    if kind != "repair" or not all(given) or to is None or deals is None:
        raise UsageError(
            "--to, --budget and --deals belong together, with --repair",
            hint="dsn share NAME --repair --to ADDRESS --budget N --deals FILE",
        )
    if deals.exists():
        raise UsageError(f"{deals} exists", code="output_exists", hint="name another file")
    from dsn.ledger.settlement import parse_address

    return parse_address(to)


def told(reserved: Reserved, to: str, deals: Path) -> Iterator[str]:
    """What the deals allow and cost, for people."""
    most = max(reserved.deals, key=lambda deal: deal.bytes)
    yield (
        f"{count(len(reserved.deals), 'deal')} opened for {to}: each lets it store at most "
        f"{format_size(most.bytes)} and pay at most {format_credits(most.credits)}, "
        f"until {format_date(reserved.expires_s)} UTC"
    )
    yield (
        f"{format_credits(reserved.locked)} are locked or spent for that, and cannot be taken back "
        "before; what is not used comes back when the deals are over"
    )
    if reserved.refused_nodes:
        yield f"{count(len(reserved.refused_nodes), 'node')} did not agree to a deal"
    yield f"give {deals} to the repairer with the link: dsn repair LINK --deals {deals.name}"


def to_fields(result: ShareResult) -> dict[str, object]:
    """The stable output; credits are decimal strings."""
    fields: dict[str, object] = {
        "kind": result.kind,
        "capability": result.capability,
        "allows": result.allows,
    }
    if result.reserved is not None:
        fields |= {
            "locked": str(result.reserved.locked),
            "expires": iso_time(result.reserved.expires_s),
            "refused_nodes": list(result.reserved.refused_nodes),
            "deals": [
                {
                    "node": deal.node,
                    "deal": deal.deal,
                    "bytes": deal.bytes,
                    "credits": str(deal.credits),
                    "locked": str(deal.locked),
                }
                for deal in result.reserved.deals
            ],
        }
    return fields
