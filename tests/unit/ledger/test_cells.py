from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.errors import MalformedMessage
from dsn.ids import DealId, NodeId
from dsn.ledger.cells import (
    AccountCell,
    Cell,
    DealCell,
    DealState,
    NetworkCell,
    NodeCell,
    Pending,
    Phase,
    cell_digest,
    decode_cell,
)
from dsn.ledger.log import TreeHead
from dsn.ledger.params import check_params
from dsn.proofs.post import Link
from tests.support.ledger_world import NETWORK, PARAMS, address, terms
from tests.support.signing import refusal

H, G = b"\x01" * 32, b"\x02" * 32
DEAL = DealCell(
    DealId(H),
    terms(),
    DealState.ENDED,
    *range(1, 10),
    H,
    *range(10, 20),
    None,  # type: ignore[arg-type]
)
CELLS: tuple[Cell, ...] = (
    NetworkCell(NETWORK, 5, Phase.OPEN, H, TreeHead(9, G), 11),
    AccountCell(address("bob"), 1, 2, 3, 4, 5, 6, NodeId(H), 7, (1 << 719) + 8, H, 9, G, 10),
    NodeCell(NodeId(H), address("bob"), 3),
    DEAL,
    replace(DEAL, demand=Pending(address("alice"), 4, 5)),
    replace(DEAL, demand=Pending(address("alice"), 4, 5, Link(1, H, G, 2, 3, H), 6)),
)
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.kind.name)


@each_cell
def test_a_cell_reads_back(cell: Cell) -> None:
    assert decode_cell(cell.kind, cell.encode()) == cell


@each_cell
def test_cut_or_lengthened_bytes_are_malformed(cell: Cell) -> None:
    raw = cell.encode()
    for bad in (*(raw[:size] for size in range(len(raw))), raw + b"\0"):
        with pytest.raises(MalformedMessage):
            decode_cell(cell.kind, bad)


@each_cell
def test_no_bytes_are_another_spelling(cell: Cell) -> None:
    raw = cell.encode()
    for at in range(len(raw)):
        bad = raw[:at] + bytes([raw[at] ^ 0x82]) + raw[at + 1 :]
        try:
            assert decode_cell(cell.kind, bad).encode() == bad
        except MalformedMessage:
            continue


def test_cells_have_keys_and_digests_of_their_own() -> None:
    account = AccountCell(address("bob"))
    assert len({cell.key for cell in CELLS[:4]}) == 4
    assert cell_digest(account) != cell_digest(replace(account, available=1))
    assert account.key == replace(account, available=1).key


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quorum", 4),
        ("burn_ppm", 1_000_001),
        ("entry_fee", -1),
        ("min_bond", 2),
        ("min_dispute", 101),
        ("max_term", 0),
        ("demand_epochs", 0),
        ("claim_epochs", 701),
        ("allocation", ((address("bob"), 1), (address("bob"), 1))),
        ("allocation", ((address("bob"), 0),)),
    ],
)
def test_parameters_out_of_range_are_refused(field: str, value: object) -> None:
    changed = replace(PARAMS, **{field: value})  # type: ignore[arg-type]
    assert refusal(lambda: check_params(changed)) == "bad_ledger_params"
