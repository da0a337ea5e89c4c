"""Deals that somebody else opened for this home to act in: how they travel, and what they allow.

The owner of a file opens them with nodes, each with a bound on leaves and on credits. They travel
as a file of JSON beside the repair link. Nothing in it is secret, and nothing is believed: both
signatures are checked, and the ledger says what each deal is worth.

Spec: docs/spec/economy.md#deal.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from dsn.apps.deal_book import DealBook
from dsn.apps.deal_file import ClientDeal, Stage, new_deal
from dsn.apps.deal_plan import Want, missing
from dsn.apps.deal_signing import read_signed_deal
from dsn.errors import DsnError, LimitReached, NotFound, UsageError
from dsn.ids import DealId, NetworkId, NodeId, format_base32, format_node_id, parse_node_id, short
from dsn.ledger.bodies import Agreed
from dsn.ledger.deal import Deal
from dsn.ledger.settlement import Address
from dsn.ledger.typed import Domain

VERSION: Final = 1
MOST_RESERVES: Final = 1_000
MAX_FILE_CHARS: Final = 1 << 20
Refusals = dict[NodeId, DsnError]


@dataclass(frozen=True, slots=True)
class Reserve:
    """One deal of somebody else, as both signed it, with ``node``."""

    node: NodeId
    deal: DealId
    agreed: Agreed[Deal]

    def draft(self) -> ClientDeal:
        """The same before the ledger was asked about it."""
        return new_deal(self.node, self.deal, self.agreed, 0, Stage.SIGNED, by_delegate=True)


def format_reserves(network: NetworkId, deals: Iterable[ClientDeal]) -> str:
    """What the delegate of ``deals`` needs; ``parse_reserves`` reads it."""
    listed = [
        {"node": format_node_id(deal.node), "agreed": deal.agreed.encode().hex()} for deal in deals
    ]
    fields = {"version": VERSION, "network": format_base32(network), "deals": listed}
    return json.dumps(fields, indent=1) + "\n"


def parse_reserves(text: str, domain: Domain, me: Address) -> list[Reserve]:
    """Read what ``format_reserves`` wrote, for its delegate ``me``.

    Args:
        text: Untrusted.
        domain: Where the reader's signatures hold.
        me: The reader's own address.

    Raises:
        UsageError: ``bad_deals_file``: it is none, of another network, or for somebody else.
    """
    try:
        if len(text) > MAX_FILE_CHARS:
            raise ValueError(f"{len(text)} characters")
        fields = json.loads(text)
        if (fields["version"], fields["network"]) != (VERSION, format_base32(domain.network)):
            raise ValueError("of another network or version")
        listed = fields["deals"]
        if not 0 < len(listed) <= MOST_RESERVES:
            raise ValueError(f"{len(listed)} deals")
        return [_reserve(each, domain, me) for each in listed]
    except (ValueError, KeyError, TypeError, RecursionError, DsnError) as error:
        reason = error.message if isinstance(error, DsnError) else str(error)
        reason = f"{reason} is missing" if isinstance(error, KeyError) else reason
        raise UsageError(
            f"no deals for this home: {reason[:200]}",
            code="bad_deals_file",
            hint="give the file that 'dsn share --repair --to' wrote for this home's address",
        ) from error


def _reserve(each: Mapping[str, str], domain: Domain, me: Address) -> Reserve:
    agreed = read_signed_deal(bytes.fromhex(each["agreed"]), domain)
    deal = agreed.statement
    if deal.delegate != me:
        raise ValueError("it names another delegate")
    return Reserve(parse_node_id(each["node"]), deal.deal_id(domain), agreed)


class Allowance:
    """Stays within what deals of others allow; opens none, and tops none up."""

    def __init__(self, book: DealBook) -> None:
        """Go by the deals in ``book`` that this home is the delegate of."""
        self.budget = self.spent = 0
        self._book = book

    async def cover(self, wants: Mapping[NodeId, Want], days: float) -> Refusals:
        """See whether what is wanted of each node is allowed, however long that is for.

        Returns:
            Nodes of which it is not, and why.
        """
        refused: Refusals = {}
        for node, want in wants.items():
            try:
                deal = self._allowed(node, want)
            except DsnError as error:
                refused[node] = error
            else:
                deal.coming += want.leaves
        return refused

    async def close_over(self) -> None:
        """That is for the parties of a deal to do."""

    async def quit_unused(self, busy: Collection[NodeId]) -> None:
        """That too."""

    def _allowed(self, node: NodeId, want: Want) -> ClientDeal:
        deal = self._book.open(node)
        if deal is None:
            raise NotFound(f"{short(node)}: no deal names this home", code="no_deal")
        leaves, most = deal.leaves + deal.coming + want.leaves, deal.terms.delegate_leaves
        lacking = missing(deal, replace(want, end=0), 0)
        if want.leaves and leaves > most:
            raise _over(node, f"{leaves} leaves, {most} are granted")
        if lacking.locked:
            raise _over(node, f"{lacking.locked} credits more than is granted")
        return deal


def _over(node: NodeId, reason: str) -> LimitReached:
    return LimitReached(
        f"{short(node)}: {reason}",
        code="over_delegated",
        hint="ask the owner for deals with more room",
    )
