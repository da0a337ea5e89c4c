"""What a stored ledger says of itself, and of whatever a person names; nothing is checked here."""

from __future__ import annotations

import re
from typing import Any, Final

from dsn.apps.ledger.lines import entry_fields, plain
from dsn.apps.ledger.memory import load_cell
from dsn.errors import NotFound, UsageError
from dsn.ids import ID_BYTES, format_node_id, parse_node_id
from dsn.ledger.cells import (
    NO_NODE,
    AccountCell,
    Cell,
    CellKind,
    DealCell,
    NetworkCell,
    NodeCell,
    cell_key,
)
from dsn.ledger.entry import Entry
from dsn.ledger.params_text import parse_params
from dsn.ledger.settlement import format_address, parse_address
from dsn.ports import LedgerStore

_DEAL_CHARS: Final = 2 * ID_BYTES


def overview(store: LedgerStore) -> dict[str, Any]:
    """How long the log is, how much of it was signed, and where time stands."""
    params, head = parse_params(store.genesis), store.head()
    return {
        "size": head.size,
        "root": head.root.hex(),
        "signed": store.fenced().size,
        "operator": format_address(params.operator),
        **_fields(store, CellKind.NETWORK, params.domain.network),
    }


def find(store: LedgerStore, subject: str) -> dict[str, Any]:
    """What ``subject`` names: an account, a node, a deal, or an entry by its number.

    Raises:
        UsageError: ``bad_subject``, ``bad_settlement_address``, ``bad_id``, ``bad_base32``.
        NotFound: ``unknown_account``, ``unknown_node``, ``unknown_deal``, ``unknown_entry``.
    """
    if re.fullmatch(f"[0-9a-f]{{{_DEAL_CHARS}}}", subject):
        return _fields(store, CellKind.DEAL, bytes.fromhex(subject))
    if subject.startswith("0x"):
        return _fields(store, CellKind.ACCOUNT, parse_address(subject))
    if subject.startswith("n"):
        return _fields(store, CellKind.NODE, parse_node_id(subject))
    if re.fullmatch(r"[0-9]{1,40}", subject):
        return _entry(store, int(subject))
    raise UsageError(
        f"'{subject[:80]}' names nothing on a ledger",
        code="bad_subject",
        hint="an address (0x...), a node id (n...), 64 hexadecimal digits, or a number",
    )


def _entry(store: LedgerStore, number: int) -> dict[str, Any]:
    size = store.head().size
    if number >= size:
        raise NotFound(f"entry {number}: the log has {size}", code="unknown_entry")
    leaf = next(store.leaves(number, number + 1))
    return {
        "index": number,
        **entry_fields(Entry.decode(leaf.entry)),
        "entry": leaf.entry.hex(),
        "signature": leaf.signature.hex(),
        "state_root": leaf.state_root.hex(),
    }


def _fields(store: LedgerStore, kind: CellKind, name: bytes) -> dict[str, Any]:
    cell = _cell(store, kind, name)
    found: dict[str, Any] = plain(cell)
    return found | _named(cell)


def _named(cell: Cell) -> dict[str, str | None]:
    """What has a name of its own in a cell, by that name."""
    match cell:
        case NetworkCell():
            return {"phase": cell.phase.name.lower()}
        case DealCell():
            return {"state": cell.state.name.lower()}
        case AccountCell() | NodeCell():
            return {"node": None if cell.node == NO_NODE else format_node_id(cell.node)}


def _cell(store: LedgerStore, kind: CellKind, name: bytes) -> Cell:
    key, what = cell_key(kind, name), kind.name.lower()
    found = store.cells([key])
    if not found:
        raise NotFound(f"no entry has touched such a {what}", code=f"unknown_{what}")
    return load_cell(found[key])
