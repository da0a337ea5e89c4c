"""All cells of a ledger as a reader left them on disk, each decoded when it is asked for first.

About 0.3 KB a cell. What is read from disk is believed only after its root was compared with a
checkpoint's.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.errors import MalformedMessage
from dsn.ids import DealId
from dsn.ledger.cells import Cell, CellKind, DealCell, DealState, decode_cell
from dsn.ledger.params import LedgerParams
from dsn.ledger.radix import StateLeaf, StatePart, StateTree
from dsn.ledger.settlement import NO_ADDRESS, Address
from dsn.ledger.state import State
from dsn.proofs.inventory import InventoryEntry, SumTree, inventory_leaf

_HEAD: Final = struct.Struct(">32sB20sH")
"""Key, kind, holder, and how long the encoded cell is that follows."""
_KEY_BITS: Final = 256


class Packed(NamedTuple):
    """An encoded cell; of a deal that holds something, ``holder`` is its provider."""

    kind: int
    holder: Address
    raw: bytes


class Remembered:
    """A ``CellSource`` that has every cell."""

    def __init__(self, packed: dict[bytes, Packed]) -> None:
        """Keep what is ``packed``, by key."""
        self._packed = packed
        self._cells: dict[bytes, Cell] = {}
        self._inventories: dict[Address, SumTree] = {}
        self._held: defaultdict[Address, set[bytes]] = defaultdict(set)
        for key, each in packed.items():
            if each.holder != NO_ADDRESS:
                self._held[each.holder].add(key)

    @classmethod
    def of(cls, cells: Iterable[Cell]) -> Remembered:
        """Remember ``cells``."""
        return cls({cell.key: _pack(cell) for cell in cells})

    @classmethod
    def decode(cls, raw: bytes) -> Remembered:
        """Read what ``encode`` wrote.

        Raises:
            MalformedMessage: It is something else.
        """
        packed, at = dict[bytes, Packed](), 0
        try:
            while at < len(raw):
                key, kind, holder, length = _HEAD.unpack_from(raw, at)
                at += _HEAD.size + length
                packed[key] = Packed(kind, Address(holder), raw[at - length : at])
        except struct.error as error:
            raise MalformedMessage(f"cells that break off after {at} bytes") from error
        return cls(packed)

    def encode(self) -> bytes:
        """All cells, for ``decode``."""
        return b"".join(chain.from_iterable(
            (_HEAD.pack(key, kind, holder, len(raw)), raw)
            for key, (kind, holder, raw) in self._packed.items()
        ))  # fmt: skip

    def cell(self, key: bytes) -> Cell | None:
        """The cell under ``key``, or ``None``."""
        cell, packed = self._cells.get(key), self._packed.get(key)
        if cell is None and packed is not None:
            cell = self._cells[key] = decode_cell(CellKind(packed.kind), packed.raw)
        return cell

    def inventory(self, provider: Address) -> SumTree:
        """The tree over the provider's open deals that hold something."""
        tree = self._inventories.get(provider)
        if tree is None:
            held = (self.cell(key) for key in self._held[provider])
            tree = SumTree.build(_entry(cell) for cell in held if isinstance(cell, DealCell))
            self._inventories[provider] = tree
        return tree

    def absorb(self, state: State) -> State:
        """Take in what ``state`` changed; gives the same state, resting on this memory alone."""
        for key, cell in state.cells.items():
            self._packed[key], self._cells[key] = _pack(cell), cell
        self._inventories.update(state.inventories)
        return state.rebased(self)

    def state(self, params: LedgerParams) -> State:
        """The state that the cells make."""
        leaves = [
            StateLeaf(key, tagged(tags.CELL, key, self._packed[key].raw))
            for key in sorted(self._packed)
        ]
        return State(params, tree_over(leaves), self)


def tree_over(leaves: list[StateLeaf]) -> StateTree:
    """The tree over ``leaves``, which are sorted by key and not of one key twice.

    Cost: linear, where ``StateTree.build`` copies the way to every leaf.
    """
    return StateTree.of_parts(_parts(leaves)) if leaves else StateTree()


def _parts(leaves: list[StateLeaf]) -> Iterator[StatePart]:
    """Node by node: those between two leaves part at the first bit in which these differ."""
    keys = [int.from_bytes(leaf.key, "big") for leaf in leaves]
    spans = [(0, len(leaves))]
    while spans:
        start, end = spans.pop()
        if end - start == 1:
            yield leaves[start]
            continue
        low = (keys[start] ^ keys[end - 1]).bit_length() - 1
        middle = bisect_left(keys, keys[end - 1] >> low << low, start, end)
        spans += [(middle, end), (start, middle)]
        yield _KEY_BITS - 1 - low


def _entry(deal: DealCell) -> tuple[DealId, bytes, int]:
    """What a deal adds to its provider's inventory."""
    leaf = inventory_leaf(*InventoryEntry(deal.deal, deal.number, deal.root, deal.leaves))
    return deal.deal, leaf, deal.leaves


def _pack(cell: Cell) -> Packed:
    holds = isinstance(cell, DealCell) and cell.state is DealState.OPEN and cell.leaves
    holder = cell.terms.provider if holds and isinstance(cell, DealCell) else NO_ADDRESS
    return Packed(cell.kind, holder, cell.encode())
