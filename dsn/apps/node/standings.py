"""What a provider had installed at some point of the log, and how the log goes on from there.

The ledger's cells say what is installed now, and under which root the epoch's inventory was
frozen, but not what stood under it. That follows from the entries in between. They come from
whoever serves them: what they lead to counts only if it has the root that is proven.

Spec: docs/spec/economy.md#rules
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dsn.apps.ledger.light import Snapshot
from dsn.ids import Commit, DealId
from dsn.ledger.bodies import Claim, CloseDeal, Kind, Loss, ShutEpoch
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.disputes import (
    AllLost,
    Serve,
    ShardLost,
    SlashJudged,
    SlashMissed,
    SlashUnserved,
    SlashWrong,
)
from dsn.ledger.entry import Entry
from dsn.ledger.log import LogLeaf
from dsn.ledger.settlement import Address
from dsn.proofs.deletion import verify_deletion_proof
from dsn.proofs.inventory import EMPTY_ROOT, InventoryEntry, SumTree, inventory_leaf
from dsn.store.revisions import Standing

NOTHING_YET: Final = Standing(0, 0, {})
"""Before the first entry."""


@dataclass(frozen=True, slots=True)
class Lost:
    """What the ledger has taken out of a deal: ``gone`` out of revision ``of``, or all of it."""

    deal: DealId
    number: int
    of: int
    gone: tuple[Commit, ...] | None


def standing_of(snapshot: Snapshot) -> Standing:
    """What the ledger says is installed."""
    mine, epoch = snapshot.account.address, snapshot.network.epoch
    entries = (entry_of(cell) for cell in snapshot.deals.values() if _is_live(cell, mine))
    return Standing(snapshot.size, epoch, {entry.deal: entry for entry in entries})


def entry_of(cell: DealCell) -> InventoryEntry:
    """A deal as its provider's inventory names it."""
    return InventoryEntry(cell.deal, cell.number, cell.root, cell.leaves)


def tree_of(entries: Mapping[DealId, InventoryEntry]) -> SumTree:
    """The inventory over ``entries``."""
    return SumTree.build(
        (entry.deal, inventory_leaf(*entry), entry.leaves) for entry in entries.values()
    )


def _is_live(cell: DealCell, provider: Address) -> bool:
    mine = cell.terms.provider == provider
    return mine and cell.state is DealState.OPEN and cell.leaves > 0


@dataclass(slots=True)
class Following:
    """A standing on its way through the log.

    Attributes:
        entries: What is installed by now, of the deals in ``deals``.
        deals: The provider's.
        frozen: By epoch, what was installed when the one before was shut.
        losses: In order.
    """

    entries: dict[DealId, InventoryEntry]
    deals: frozenset[DealId]
    frozen: dict[int, Standing] = field(default_factory=dict)
    losses: list[Lost] = field(default_factory=list)

    def take(self, leaves: Iterable[LogLeaf]) -> None:
        """Go on over ``leaves`` (untrusted), which follow.

        Raises:
            MalformedMessage: No entry.
            InvalidProof: A loss that does not follow from what is installed.
        """
        for leaf in leaves:
            if leaf.entry[0] in _STEPS:
                body = Entry.decode(leaf.entry).body
                if isinstance(body, ShutEpoch):
                    epoch = body.epoch + 1
                    self.frozen = {epoch: Standing(0, epoch, dict(self.entries))}
                elif body.deal in self.deals:  # type: ignore[union-attr]
                    _STEPS[body.kind](self, body)

    def _claim(self, body: Claim) -> None:
        if body.revision is not None:
            pledge = body.revision.pledge
            self._install(InventoryEntry(body.deal, pledge.number, pledge.root, pledge.leaves))

    def _lose(self, body: Loss) -> None:
        self._take_out(body.deal, body.number, body.deletions)

    def _serve(self, body: Serve) -> None:
        match body.service:
            case ShardLost(number, deletion):
                self._take_out(body.deal, number, (deletion,))
            case AllLost(number):
                of = self.entries[body.deal].number if body.deal in self.entries else 0
                self.losses.append(Lost(body.deal, number, of, None))
                self.entries.pop(body.deal, None)
            case _:
                pass

    def _end(
        self, body: CloseDeal | SlashWrong | SlashMissed | SlashUnserved | SlashJudged
    ) -> None:
        self.entries.pop(body.deal, None)

    def _take_out(self, deal: DealId, number: int, proofs: Iterable[bytes]) -> None:
        _, of, root, leaves = self.entries.get(deal) or InventoryEntry(deal, 0, EMPTY_ROOT, 0)
        gone = list[Commit]()
        for proof in proofs:
            commit, _, _, root, leaves = verify_deletion_proof(proof, root=root, total=leaves)
            gone.append(commit)
        self.losses.append(Lost(deal, number, of, tuple(gone)))
        self._install(InventoryEntry(deal, number, root, leaves))

    def _install(self, entry: InventoryEntry) -> None:
        if entry.leaves:
            self.entries[entry.deal] = entry
        else:
            self.entries.pop(entry.deal, None)


_STEPS: Final[dict[int, Callable[[Following, Any], None]]] = {
    Kind.SHUT_EPOCH: lambda following, body: None,
    Kind.CLAIM: Following._claim,
    Kind.LOSS: Following._lose,
    Kind.SERVE: Following._serve,
    Kind.CLOSE: Following._end,
    Kind.SLASH_WRONG: Following._end,
    Kind.SLASH_MISSED: Following._end,
    Kind.SLASH_UNSERVED: Following._end,
    Kind.SLASH_JUDGED: Following._end,
}
"""What moves an inventory; nothing else does."""
