"""The ledger's replies to domain values and back; nothing that comes in is believed before it is.

Spec: protos/dsn/v1/ledger.proto
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import SIGNATURE_BYTES
from dsn.errors import EntryRefused, MalformedMessage
from dsn.ledger.cells import Cell, CellKind, cell_digest, cell_key, decode_cell
from dsn.ledger.entry import SignedEntry
from dsn.ledger.log import LogLeaf, leaf_hash
from dsn.ledger.promise import Promise
from dsn.ledger.radix import StateLeaf, StateStep, verify_absence, verify_cell
from dsn.v1 import ledger_pb2
from dsn.wire.convert import sized

_MAX_TEXT_CHARS: Final = 1_000
_MAX_CODE_CHARS: Final = 64


class Wanted(NamedTuple):
    """A cell that was asked for: the ``name`` is a network, an address, a node or a deal id."""

    kind: CellKind
    name: bytes


def cell_to_wire(
    cell: Cell | None, nearest: StateLeaf, steps: Iterable[StateStep]
) -> ledger_pb2.ProvenCell:
    """A cell and its proof, or the proof that there is none.

    Args:
        cell: What was asked for, if it is there.
        nearest: From ``StateTree.build_proof``.
        steps: From there too.
    """
    proven = ledger_pb2.ProvenCell()
    if cell is None:
        proven.nearest_key, proven.nearest_digest = nearest
    else:
        proven.cell = cell.encode()
    for bit, sibling in steps:
        proven.steps.add(bit=bit, sibling=sibling)
    return proven


def cells_from_wire(
    cells: Sequence[ledger_pb2.ProvenCell], wanted: Sequence[Wanted], state_root: bytes
) -> list[Cell | None]:
    """The cells that were asked for, each proven; ``None`` where it is proven that there is none.

    Args:
        cells: Untrusted.
        wanted: What was asked for, in order.
        state_root: From a checkpoint that is believed.

    Raises:
        MalformedMessage: Fewer or more cells, or no cell of that kind.
        InvalidProof: As ``verify_cell`` and ``verify_absence``.
    """
    if len(cells) != len(wanted):
        raise MalformedMessage(f"{len(cells)} cells, {len(wanted)} were asked for")
    return [
        _cell_from_wire(proven, each, state_root)
        for proven, each in zip(cells, wanted, strict=True)
    ]


def _cell_from_wire(
    proven: ledger_pb2.ProvenCell, wanted: Wanted, state_root: bytes
) -> Cell | None:
    key = cell_key(*wanted)
    steps = [StateStep(step.bit, step.sibling) for step in proven.steps]
    if not proven.cell:
        nearest = StateLeaf(
            sized("a cell's key", proven.nearest_key, HASH_BYTES),
            sized("a cell's digest", proven.nearest_digest, HASH_BYTES),
        )
        verify_absence(state_root, key, nearest, steps)
        return None
    # Hashed under the key that was asked for, whichever cell came: another one proves nothing.
    cell = decode_cell(wanted.kind, proven.cell)
    verify_cell(state_root, StateLeaf(key, cell_digest(cell)), steps)
    return cell


def outcomes_from_wire(
    outcomes: Sequence[ledger_pb2.EntryOutcome], entries: Sequence[SignedEntry]
) -> list[Promise | EntryRefused]:
    """What became of ``entries``; the promises are not verified yet.

    Args:
        outcomes: Untrusted.
        entries: As they were submitted, in order.

    Raises:
        MalformedMessage: Fewer or more outcomes, or one that is neither a promise nor a refusal.
    """
    if len(outcomes) != len(entries):
        raise MalformedMessage(f"{len(outcomes)} outcomes of {len(entries)} entries")
    return [
        _outcome_from_wire(outcome, entry) for outcome, entry in zip(outcomes, entries, strict=True)
    ]


def _outcome_from_wire(
    outcome: ledger_pb2.EntryOutcome, signed: SignedEntry
) -> Promise | EntryRefused:
    if outcome.code:
        return EntryRefused(
            _printable(outcome.message, _MAX_TEXT_CHARS) or "refused",
            code=_printable(outcome.code, _MAX_CODE_CHARS),
        )
    state_root = sized("a state root", outcome.state_root, HASH_BYTES)
    leaf = LogLeaf(signed.entry.encode(), signed.signature, state_root)
    signature = sized("a promise", outcome.promise, SIGNATURE_BYTES)
    return Promise(outcome.index, leaf_hash(leaf.encode()), signature)


def _printable(text: str, most: int) -> str:
    """A stranger's words, safe to print on one line."""
    return "".join(char if char.isprintable() else " " for char in text[:most])
