"""Who proved what and is owed what, by a ledger's entries alone; nothing here runs its rules.

The rule that is restated: an epoch asks a provider for what was installed under its open deals
when the epoch before was shut; a link pays each deal for what it holds by then; a claim settles
every link so far. The rest of the ledger's bookkeeping must come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from dsn.ids import DealId
from dsn.ledger import bodies, disputes
from dsn.ledger.entry import Entry
from dsn.ledger.log import LogLeaf
from dsn.ledger.settlement import Address
from dsn.ledger.typed import Domain

Asked: TypeAlias = dict[Address, int]
"""Leaves by provider."""
GIB_LEAVES = 1 << 20
PPM = 1_000_000


@dataclass
class Held:
    """One deal: what is installed, and the leaves that each epoch's link paid for."""

    provider: Address
    price: int
    last: int
    leaves: int = 0
    proven: dict[int, int] = field(default_factory=dict)
    asked: dict[int, int] = field(default_factory=dict)
    settled: int = 0
    """Leaf-epochs that were claimed."""

    def pay(self, leaf_epochs: int) -> int:
        """Credits for so many leaf-epochs, all told."""
        return self.price * leaf_epochs // GIB_LEAVES


class EpochBooks:
    """What follows from the entries of a log, in order."""

    def __init__(self, domain: Domain) -> None:
        """Start before the first entry of the ledger of ``domain``."""
        self._domain = domain
        self.epoch = 1
        self.asked: dict[int, Asked] = {}
        self.linked: dict[int, set[Address]] = {}
        self.deals: dict[DealId, Held] = {}
        self.strange: list[str] = []
        """Entries that an honest and undisturbed network does not have."""

    def read(self, leaves: Iterable[LogLeaf]) -> None:
        """Go through entries."""
        for leaf in leaves:
            self._take(Entry.decode(leaf.entry))

    def missed(self, provider: Address, until: int) -> list[int]:
        """Epochs up to ``until`` that asked a provider and have no link of it."""
        return [
            epoch
            for epoch, asked in sorted(self.asked.items())
            if epoch <= until and provider in asked and provider not in self.linked[epoch]
        ]

    def proven(self, provider: Address, until: int) -> list[int]:
        """Epochs up to ``until`` that have a link of a provider."""
        return [e for e, linked in sorted(self.linked.items()) if e <= until and provider in linked]

    def deals_of(self, provider: Address) -> list[Held]:
        """All that it ever had."""
        return [deal for deal in self.deals.values() if deal.provider == provider]

    def paid(self, provider: Address, burn_ppm: int) -> int:
        """Credits that its claims brought for disk, without what burned of them."""
        amounts = (deal.pay(deal.settled) for deal in self.deals_of(provider))
        return sum(amount - amount * burn_ppm // PPM for amount in amounts)

    def _take(self, entry: Entry) -> None:
        body = entry.body
        match body:
            case bodies.ShutEpoch():
                self.epoch = body.epoch + 1
                self._freeze()
            case bodies.Open():
                terms = body.agreed.statement
                held = Held(terms.provider, terms.disk_price, terms.end + terms.grace)
                self.deals[terms.deal_id(self._domain)] = held
            case bodies.SubmitLink():
                self._link(entry.signer, body)
            case bodies.Claim():
                deal = self.deals[body.deal]
                deal.settled = sum(deal.proven.values())
                if body.revision is not None:
                    deal.leaves = body.revision.pledge.leaves
            case bodies.TopUp(extension=None) | disputes.Demand():
                pass
            case bodies.OpenEpoch() | bodies.Bind() | bodies.Transfer():
                pass
            case disputes.Serve(service=disputes.ServedOpening()):
                pass
            case _:
                self.strange.append(f"{body.kind.name.lower()} in epoch {self.epoch}")

    def _freeze(self) -> None:
        """What the epoch that begins asks for."""
        asked: Asked = {}
        for deal in self.deals.values():
            if deal.leaves and self.epoch <= deal.last:
                asked[deal.provider] = asked.get(deal.provider, 0) + deal.leaves
                deal.asked[self.epoch] = deal.leaves
        self.asked[self.epoch], self.linked[self.epoch] = asked, set()

    def _link(self, provider: Address, body: bodies.SubmitLink) -> None:
        link, asked = body.link, self.asked[self.epoch].get(provider)
        if (link.epoch, link.total) != (self.epoch, asked):
            self.strange.append(f"a link of epoch {link.epoch} in epoch {self.epoch}")
        self.linked[self.epoch].add(provider)
        for deal in self.deals_of(provider):
            if self.epoch in deal.asked:
                deal.proven[self.epoch] = deal.leaves
