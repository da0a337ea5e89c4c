"""One step of the ledger as the contracts that judge it are shown it: cells, each with its place.

A contract has the root before the step. If the rules refuse the entry, all that it read is shown
under that root. If they take it, the cells that it changed are shown one after another, each in
the tree that the ones before left, so that the contract comes to the root after it.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dsn.core.codec import Reader
from dsn.errors import DsnError
from dsn.ids import NO_NETWORK, DealId
from dsn.ledger.bodies import OpenEpoch
from dsn.ledger.cells import (
    AccountCell,
    CellKind,
    DealCell,
    DealState,
    NetworkCell,
    Phase,
)
from dsn.ledger.deal import Deal
from dsn.ledger.entry import Entry, SignedEntry
from dsn.ledger.fraud import Fraud
from dsn.ledger.log import TreeHead
from dsn.ledger.onchain.tuples import (
    account_tuple,
    case_tuple,
    deal_tuple,
    network_tuple,
    place_tuple,
)
from dsn.ledger.params import LedgerParams
from dsn.ledger.radix import LeftOut
from dsn.ledger.rules.moves import step
from dsn.ledger.settlement import Address
from dsn.ledger.state import Changes, State

Shown = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ShownStep:
    """A step, and what the rules make of it.

    Attributes:
        fraud: The evidence.
        before: The state before it, as far as the evidence has it.
        entry: ``None`` if it cannot be read.
        changes: What it does; ``None`` if it is refused.
    """

    fraud: Fraud
    before: State
    entry: Entry | None
    changes: Changes | None

    @classmethod
    def of(cls, fraud: Fraud, params: LedgerParams) -> ShownStep:
        """Run the step of ``fraud`` (untrusted).

        Raises:
            MalformedMessage: A partial state that cannot be.
            LimitReached: An inventory of 2^63 leaves or more.
        """
        leaf, before = fraud.step.leaf, fraud.state.state(params)
        entry: Entry | None = None
        changes: Changes | None = None
        with contextlib.suppress(DsnError):
            entry = Entry.decode(leaf.entry)
            said = SignedEntry(entry, leaf.signature)
            _, changes = step(before, said, _believe, identities=False)
        return cls(fraud, before, entry, changes)

    def case(self, anchor: int) -> Shown:
        """``entries.Case`` under anchor number ``anchor``, which is of the evidence's log."""
        return case_tuple(anchor, self.fraud.index, self.fraud.previous, self.fraud.step)

    def network(self) -> NetworkCell:
        """The network's cell; blank where the evidence leaves it out."""
        with contextlib.suppress(LeftOut):
            return self.before.network
        return NetworkCell(NO_NETWORK, 0, Phase.SHUT, bytes(32), TreeHead(0, bytes(32)))

    def account(self, address: Address) -> AccountCell:
        """Whose account, or a new one; also where the evidence leaves it out."""
        with contextlib.suppress(LeftOut):
            return self.before.account(address)
        return AccountCell(address)

    def deal(self, deal: DealId) -> DealCell | None:
        """The deal, if there is one and the evidence has it."""
        with contextlib.suppress(LeftOut):
            cell = self.before.cell(CellKind.DEAL, deal)
            return cell if isinstance(cell, DealCell) else None
        return None

    def cells(self, signer: Address, deal: DealId, other: Address) -> Shown:
        """``deals.Cells``: accounts of the signer and of a deal's ``other`` party, and the deal."""
        mine, others = (account_tuple(self.account(each)) for each in (signer, other))
        found = self.deal(deal)
        shown = _blank_deal(deal) if found is None else deal_tuple(found)
        return mine, network_tuple(self.network()), shown, others

    def held(self, provider: Address) -> list[Shown]:
        """``sums.Holding`` of all that ``provider`` holds, as far as the evidence has it."""
        known = {each.provider: each.entries for each in self.fraud.state.holdings}
        return [tuple(each) for each in known.get(provider, ())]

    def places(self, keys: Sequence[bytes]) -> list[Shown]:
        """``state.Place`` of each of ``keys``, up to the first that the evidence leaves out.

        If the rules take the entry, each is in the tree that the ones before it leave.
        """
        tree, found, after = self.before.tree, list[Shown](), self._digests()
        with contextlib.suppress(LeftOut):
            for key in keys:
                found.append(place_tuple(tree, key))
                if key in after:
                    tree = tree.put(key, after[key])
        return found

    def _digests(self) -> dict[bytes, bytes]:
        """Of every cell that the step changes, by key."""
        if self.changes is None:
            return {}
        pairs = zip(self.changes.cells, self.changes.digests, strict=True)
        return {cell.key: digest for cell, digest in pairs}


def _blank_deal(deal: DealId) -> Shown:
    """A deal that is not there: all zeros but for its id."""
    terms = Deal.read(Reader(bytes(Deal.struct.size), "no deal"))
    cell = deal_tuple(DealCell(deal, terms, DealState.OPEN, end=0, grace=0, settled=0))
    return (*cell[:2], 0, *cell[3:])


def _believe(before: NetworkCell, body: OpenEpoch) -> None:
    """A chain believes the evidence of a beacon, as it does Ed25519 signatures."""
