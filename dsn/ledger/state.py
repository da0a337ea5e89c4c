"""The ledger's state, and the two functions that it moves by.

A ``State`` is a value: ``apply`` makes another one and shares all cells but the few that an entry
touched. Cells that no recent entry touched come from a ``CellSource``, which may be a store that
loads them when they are asked for.

Spec: docs/spec/economy.md#ledger-state-and-rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from dsn.core.hashing import HASH_BYTES
from dsn.ledger.bodies import OpenEpoch
from dsn.ledger.cells import (
    AccountCell,
    Cell,
    CellKind,
    NetworkCell,
    Phase,
    cell_digest,
    cell_key,
)
from dsn.ledger.log import TreeHead
from dsn.ledger.params import LedgerParams
from dsn.ledger.radix import StateTree
from dsn.ledger.settlement import Address
from dsn.proofs.inventory import EMPTY, SumTree

FIRST_EPOCH: Final = 1

JudgeBeacon = Callable[[NetworkCell, OpenEpoch], None]
"""Raises unless value and evidence follow from the log at ``closed``, and the log was that."""


class CellSource(Protocol):
    """Where cells come from that no recent entry touched."""

    def cell(self, key: bytes) -> Cell | None:
        """The cell under ``key`` (``cell_key``), or ``None``."""
        ...

    def inventory(self, provider: Address) -> SumTree:
        """The tree over the provider's open deals that hold something; its root is ``live``."""
        ...


class NoCells:
    """The source before genesis."""

    def cell(self, key: bytes) -> Cell | None:
        """Nothing."""
        return None

    def inventory(self, provider: Address) -> SumTree:
        """Nothing."""
        return EMPTY


class Changes(NamedTuple):
    """What an entry did: the cells it touched as they are now, and the inventories behind them.

    ``digests`` are the cells' in the state tree, in the same order.
    """

    cells: tuple[Cell, ...]
    inventories: Mapping[Address, SumTree]
    digests: tuple[bytes, ...]

    @classmethod
    def of(cls, cells: Iterable[Cell], inventories: Mapping[Address, SumTree]) -> Changes:
        """Hash ``cells``.

        Raises:
            OverflowError: A field is beyond its size.
        """
        cells = tuple(cells)
        return cls(cells, inventories, tuple(cell_digest(cell) for cell in cells))


@dataclass(frozen=True, slots=True)
class State:
    """All cells after some entry.

    Attributes:
        params: The network's.
        tree: Over all cells; its root is the state root.
        source: Where the rest comes from.
        cells: By key, those touched since ``source`` was made.
        inventories: As ``cells``, by provider.
    """

    params: LedgerParams
    tree: StateTree
    source: CellSource
    cells: Mapping[bytes, Cell] = field(default_factory=dict)
    inventories: Mapping[Address, SumTree] = field(default_factory=dict)

    @property
    def root(self) -> bytes:
        """What the log's leaf says of the state after its entry."""
        return self.tree.root

    def cell(self, kind: CellKind, name: bytes) -> Cell | None:
        """The cell of a network, account, node or deal, if there is one."""
        key = cell_key(kind, name)
        return self.cells.get(key) or self.source.cell(key)

    @property
    def network(self) -> NetworkCell:
        """Where time stands."""
        cell = self.cell(CellKind.NETWORK, self.params.domain.network)
        assert isinstance(cell, NetworkCell)
        return cell

    def account(self, address: Address) -> AccountCell:
        """Whose cell, or a new one with nothing in it."""
        cell = self.cell(CellKind.ACCOUNT, address)
        return cell if isinstance(cell, AccountCell) else AccountCell(address)

    def inventory(self, provider: Address) -> SumTree:
        """What the provider's ``live`` root is over."""
        return self.inventories.get(provider) or self.source.inventory(provider)

    def having(self, changes: Changes) -> State:
        """The state after ``changes``.

        Cost: linear in the cells touched since ``source`` was made; see ``rebased``.
        """
        tree = self.tree
        for cell, digest in zip(changes.cells, changes.digests, strict=True):
            tree = tree.put(cell.key, digest)
        cells = {**self.cells, **{cell.key: cell for cell in changes.cells}}
        inventories = {**self.inventories, **changes.inventories}
        return State(self.params, tree, self.source, cells, inventories)

    def rebased(self, source: CellSource) -> State:
        """The same state, once ``source`` has all that was touched: a store, after a commit."""
        return State(self.params, self.tree, source)


def genesis(params: LedgerParams) -> State:
    """The state before the first entry: epoch 0 is shut, and what was allocated is there."""
    network = params.domain.network
    head = TreeHead(0, network)
    first = NetworkCell(network, FIRST_EPOCH, Phase.SHUT, bytes(HASH_BYTES), head)
    accounts = [AccountCell(address, amount) for address, amount in params.allocation]
    empty = State(params, StateTree(), NoCells())
    return empty.having(Changes.of((first, *accounts), {}))
