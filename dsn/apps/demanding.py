"""The owner's own question: a leaf of its holdings, shown on the ledger, now and then.

What an epoch asks is drawn over all that a provider holds, so a provider could thin out what it
lost with much else. A demand names a leaf of one deal alone; whoever does not show it in time loses
the collateral. It costs its bond, which goes to whoever serves it, so it comes once in a month of
epochs, at a time that nobody foresees.

Spec: docs/spec/economy.md#entries.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dsn.apps.deal_book import DealBook, Sender
from dsn.errors import DsnError
from dsn.ids import DealId
from dsn.ledger.cells import DealCell, DealState
from dsn.ledger.disputes import Demand, SlashMissed, SlashUnserved
from dsn.ledger.params import LedgerParams
from dsn.ports import Entropy
from dsn.store.files import write_atomic

ASKED: Final = "asked.json"
"""Beside the deals."""
EVERY_EPOCHS: Final = 720
"""Between two questions about one deal, on average."""
_CHANCES: Final = 1 << 64
Question = Demand | SlashUnserved | SlashMissed


class Demanding:
    """Asks under the deals of one book."""

    def __init__(self, book: DealBook, sender: Sender, file: Path, entropy: Entropy) -> None:
        """Ask by ``sender``; ``file`` remembers when each deal was thought of last."""
        self._book, self._sender, self._file, self._entropy = book, sender, file, entropy

    async def turn(self, left: int | None) -> None:
        """Ask what is due, as the ledger was seen last; what is refused is asked another time.

        Args:
            left: The most credits that may be spent; ``None``: no bound.
        """
        params = self._book.params
        cells = [deal.cell for deal in self._book.deals if not deal.by_delegate]
        epoch, thought = self._book.seen_epoch, self._load()
        asked = list(questions(cells, epoch, thought, params, self._entropy))
        if left is not None and sum(_cost(each, params) for each in asked) > left:
            return
        self._save({cell.deal: epoch for cell in cells})
        if asked:
            with suppress(DsnError):
                await self._sender.send(asked, wait=False)

    def _load(self) -> dict[DealId, int]:
        try:
            known = json.loads(self._file.read_bytes())
            return {DealId(bytes.fromhex(deal)): int(epoch) for deal, epoch in known.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _save(self, thought: Mapping[DealId, int]) -> None:
        known = {deal.hex(): epoch for deal, epoch in sorted(thought.items())}
        write_atomic(self._file, json.dumps(known).encode())


def questions(
    cells: Iterable[DealCell],
    epoch: int,
    thought: Mapping[DealId, int],
    params: LedgerParams,
    entropy: Entropy,
) -> Iterable[Question]:
    """What to enter about each deal: a demand by chance, or that its provider failed.

    Args:
        cells: Of deals whose client asks, as the ledger has them.
        epoch: The ledger's.
        thought: In which epoch each was thought of last; one that never was is not asked yet.
        params: The ledger's.
        entropy: Decides, and picks the leaf.
    """
    for cell in cells:
        if cell.state not in (DealState.OPEN, DealState.ENDED):
            continue
        if cell.demand is not None:
            if epoch > cell.demand.deadline:
                yield SlashUnserved(cell.deal)
        elif cell.state is DealState.OPEN and cell.missed > cell.terms.miss_limit:
            yield SlashMissed(cell.deal)
        elif cell.state is DealState.OPEN and cell.leaves:
            passed = epoch - thought.get(cell.deal, epoch)
            if _drawn(entropy) * EVERY_EPOCHS < passed * _CHANCES:
                bond = max(1, params.min_bond)
                yield Demand(cell.deal, bond, _drawn(entropy) % cell.leaves)


def _drawn(entropy: Entropy) -> int:
    return int.from_bytes(entropy(8), "big")


def _cost(question: Question, params: LedgerParams) -> int:
    return params.entry_fee + (question.bond if isinstance(question, Demand) else 0)
