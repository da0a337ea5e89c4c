"""Entries as JSON lines: for people, for other programs, and for a second opinion on the rules.

A line has the entry's exact bytes beside what they say, so whoever doubts one can check the
other; a line that was exported can be applied elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

from dsn.apps.ledger.batch import Accepted, Outcome, Submission
from dsn.errors import MalformedMessage
from dsn.ids import format_node_id
from dsn.ledger.cells import AccountCell, Cell, DealCell, NetworkCell, NodeCell
from dsn.ledger.entry import Entry
from dsn.ledger.log import MAX_ENTRY_BYTES
from dsn.ledger.settlement import (
    ADDRESS_BYTES,
    SETTLEMENT_SIGNATURE_BYTES,
    Address,
    format_address,
)

MAX_LINE_CHARS = 1 << 20


def format_outcome(outcome: Outcome) -> str:
    """One line: what was taken and what it did, or what was refused and why."""
    if isinstance(outcome, Accepted):
        entry = outcome.signed.entry
        line = {"index": outcome.index} | entry_fields(entry)
        line |= _submitted(Submission(outcome.leaf.entry, outcome.leaf.signature))
        line["cells"] = [cell_integers(cell) for cell in outcome.cells]
        line["state_root"] = outcome.leaf.state_root.hex()
        return _dump(line)
    line = {"index": outcome.index, "refused": outcome.error.detail_code}
    line["message"] = outcome.error.message
    with suppress(MalformedMessage):  # its bytes are then all there is to say
        line |= entry_fields(Entry.decode(outcome.submission.entry))
    return _dump(line | _submitted(outcome.submission))


def entry_fields(entry: Entry) -> dict[str, Any]:
    """What an entry says, with names for what is a number in its bytes."""
    return {
        "kind": entry.body.kind.name.lower(),
        "signer": format_address(entry.signer),
        "nonce": entry.nonce,
        "body": plain(entry.body),
    }


def cell_name(cell: Cell) -> str:
    """Whose cell it is: an address, a node id, or the id of a deal or network."""
    match cell:
        case AccountCell():
            return format_address(cell.address)
        case NodeCell():
            return format_node_id(cell.node)
        case DealCell():
            return cell.deal.hex()
        case NetworkCell():
            return cell.network.hex()


def cell_integers(cell: Cell) -> dict[str, Any]:
    """A cell's name and its integer fields; those of a pending demand under ``demand``."""
    numbers = _integers(cell)
    if isinstance(cell, DealCell) and cell.demand is not None:
        numbers["demand"] = _integers(cell.demand)
    return {"cell": cell.kind.name.lower(), "name": cell_name(cell)} | numbers


def plain(value: Any) -> Any:
    """Any value of the ledger as JSON has it: bytes in hexadecimal, addresses as text."""
    match value:
        case None | bool() | str():
            return value
        case int():
            return int(value)
        case bytes():
            return format_address(Address(value)) if len(value) == ADDRESS_BYTES else value.hex()
        case tuple() if hasattr(value, "_asdict"):
            return {name: plain(each) for name, each in value._asdict().items()}
        case tuple():
            return [plain(each) for each in value]
    assert is_dataclass(value), type(value)
    return {each.name: plain(getattr(value, each.name)) for each in fields(value)}


def parse_submissions(lines: Iterable[str]) -> Iterator[Submission]:
    """Read signed entries, one a line, as ``parse_submission`` does; empty lines are skipped."""
    for number, line in enumerate(lines, 1):
        if line := line.strip():
            yield parse_submission(line, number)


def parse_submission(line: str, number: int) -> Submission:
    """Read a signed entry.

    Args:
        line: Untrusted. JSON with ``entry`` and ``signature`` in hexadecimal (other fields are
            ignored), or an entry and its signature as one hexadecimal number.
        number: The line's, for messages.

    Raises:
        MalformedMessage: ``bad_line``.
    """
    try:
        if len(line) > MAX_LINE_CHARS:
            raise ValueError("too long")
        if line.startswith("{"):
            told = json.loads(line)
            return Submission(bytes.fromhex(told["entry"]), bytes.fromhex(told["signature"]))
        raw = bytes.fromhex(line)
        if len(raw) <= SETTLEMENT_SIGNATURE_BYTES:
            raise ValueError("too short")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MalformedMessage(
            f"line {number} is no signed entry",
            code="bad_line",
            hint="JSON with entry and signature in hexadecimal, or both as one number",
            evidence=line[:4096].encode("utf-8", "replace"),
        ) from error
    at = len(raw) - SETTLEMENT_SIGNATURE_BYTES
    return Submission(raw[:at], raw[at:])


def _submitted(submission: Submission) -> dict[str, Any]:
    """What came; of an entry beyond 32 KiB only the beginning."""
    entry = submission.entry[: MAX_ENTRY_BYTES + 1]
    return {"entry": entry.hex(), "signature": submission.signature.hex()}


def _integers(value: Any) -> dict[str, Any]:
    pairs = ((each.name, getattr(value, each.name)) for each in fields(value))
    return {name: int(number) for name, number in pairs if isinstance(number, int)}


def _dump(line: dict[str, Any]) -> str:
    return json.dumps(line, separators=(",", ":"))
