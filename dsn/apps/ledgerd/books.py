"""What touches the ledger's store. All of it blocks, so all of it runs in one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TextIO

from dsn.apps.ledger.batch import Accepted, Outcome, Submission
from dsn.apps.ledger.engine import Sequencer
from dsn.apps.ledger.lines import format_outcome
from dsn.errors import NotFound
from dsn.ledger.bodies import Kind
from dsn.ledger.cells import AccountCell, Cell, CellKind, NetworkCell
from dsn.ledger.checkpoint import Checkpoint
from dsn.ledger.log import (
    Frontier,
    Hashes,
    LogLeaf,
    TreeHead,
    build_consistency_proof,
    build_inclusion_proof,
)
from dsn.ledger.radix import StateTree
from dsn.ledger.settlement import Address
from dsn.ledger.tiles import TILE_WIDTH, Resource, hashes_of_tiles
from dsn.ports import LedgerStore


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that may be signed, and what readers need once it is published."""

    checkpoint: Checkpoint
    tree: StateTree
    changed: dict[bytes, Cell]
    """By key, each cell touched since the candidate before."""


class Books:
    """A ledger that is open to sign."""

    def __init__(self, store: LedgerStore, record: TextIO | None = None) -> None:
        """Go on where ``store`` ends.

        Args:
            store: Open to sign; closed by whoever opened it.
            record: Gets a line for every entry, refused ones too, before it is acknowledged.

        Raises:
            DataLost: ``ledger_damaged``.
        """
        self._store, self._record = store, record
        self.sequencer = Sequencer(store)
        self._changed: dict[bytes, Cell] = {}

    def enter(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Judge entries (untrusted) in their order; those taken are on disk when this returns.

        Raises:
            As ``Sequencer.submit``.
        """
        outcomes = list(self.sequencer.submit(submissions))
        for outcome in outcomes:
            if isinstance(outcome, Accepted):
                self._changed.update((cell.key, cell) for cell in outcome.cells)
        if self._record:
            self._record.writelines(format_outcome(each) + "\n" for each in outcomes)
            self._record.flush()
        return outcomes

    def propose(self) -> Candidate:
        """What may be signed of the ledger as it stands, fenced.

        Raises:
            ConfigError: ``ledger_moved``.
        """
        changed, self._changed = self._changed, {}
        return Candidate(self.sequencer.checkpoint(), self.sequencer.state.tree, changed)

    def enter_own(self, signer: Address, sign: Callable[[int], Submission]) -> Outcome:
        """Judge what ``sign`` makes of the next nonce of ``signer``: nothing comes in between."""
        (outcome,) = self.enter([sign(self.sequencer.state.account(signer).nonce + 1)])
        return outcome

    def enter_last(
        self, signer: Address, sign: Callable[[int], Submission]
    ) -> tuple[Outcome, Candidate | None]:
        """As ``enter_own``, and propose the very log that ends with the entry, if it was taken."""
        outcome = self.enter_own(signer, sign)
        return outcome, self.propose() if isinstance(outcome, Accepted) else None

    def knows(self, kind: CellKind, name: bytes) -> bool:
        """Whether any entry, or genesis, touched that cell."""
        return self.sequencer.state.cell(kind, name) is not None

    def account(self, address: Address) -> AccountCell:
        """An account as it stands, or an empty one."""
        return self.sequencer.state.account(address)

    def network(self) -> NetworkCell:
        """Where time stands."""
        return self.sequencer.state.network

    def closed(self) -> TreeHead:
        """The log as it ended with the newest shut, which there must be.

        Cost: reads backwards to it.
        """
        start = end = self.sequencer.head.size
        while start:
            start, end = max(0, start - TILE_WIDTH), start
            kinds = [leaf.entry[0] for leaf in self._store.leaves(start, end)]
            if Kind.SHUT_EPOCH in kinds:
                size = end - kinds[::-1].index(Kind.SHUT_EPOCH)
                return Frontier.at(self._hashes(size), size).head
        raise AssertionError("no epoch was ever shut")

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """How the log of ``old_size`` (untrusted) entries grew to that of ``size`` (untrusted).

        Raises:
            NotFound: ``no_such_log``.
        """
        self._check_size(size)
        if old_size > size:
            raise NotFound(f"no log of {size} grew from {old_size} entries", code="no_such_log")
        return build_consistency_proof(self._hashes(size), old_size, size)

    def inclusion(self, index: int, size: int) -> tuple[LogLeaf, list[bytes]]:
        """Leaf ``index`` (untrusted), and its way in the log of ``size`` (untrusted) entries.

        Raises:
            NotFound: ``no_such_log``, ``unknown_entry``.
        """
        self._check_size(size)
        if index >= size:
            raise NotFound(f"entry {index}: the log has {size}", code="unknown_entry")
        (leaf,) = self._store.leaves(index, index + 1)
        return leaf, build_inclusion_proof(self._hashes(size), index, size)

    def resource(self, resource: Resource) -> bytes:
        """A tile or bundle (untrusted), as its HTTP path gives it.

        Raises:
            NotFound: ``no_such_tile``.
        """
        return self.sequencer.resource(resource)

    def _check_size(self, size: int) -> None:
        head = self.sequencer.head.size
        if size > head:
            raise NotFound(f"the log has {head} entries, not {size} yet", code="no_such_log")

    def _hashes(self, size: int) -> Hashes:
        return hashes_of_tiles(self._store.tile, size)


def merged(earlier: Candidate, later: Candidate) -> Candidate:
    """``later``, with what changed since before ``earlier``."""
    return replace(later, changed=earlier.changed | later.changed)
