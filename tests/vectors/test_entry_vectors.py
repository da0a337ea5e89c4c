"""Golden entries of every kind, and parameters of ledgers with and without a chain."""

from __future__ import annotations

from typing import Any

import pytest

from dsn.errors import MalformedMessage
from dsn.ledger.bodies import Kind
from dsn.ledger.entry import Entry
from dsn.ledger.params_text import parse_params
from dsn.ledger.typed import digest
from tests.support.ledger_world import CHAIN_PARAMS
from tests.support.vectors import hexed, load
from tests.vectors.entry_vectors import entries

GOLDEN = load("entries")
raw = bytes.fromhex


def test_the_code_still_makes_the_golden_bytes() -> None:
    assert hexed(entries()) == GOLDEN
    assert {case["number"] for case in GOLDEN["entries"]} == set(Kind)


@pytest.mark.parametrize("case", GOLDEN["entries"], ids=lambda case: case["kind"])
def test_entries(case: dict[str, Any]) -> None:
    entry = Entry.decode(raw(case["raw"]))
    assert (entry.body.kind.name.lower(), int(entry.body.kind)) == (case["kind"], case["number"])
    assert entry.body.encode().hex() == case["body"]
    assert digest(CHAIN_PARAMS.domain, entry).hex() == case["digest"]


@pytest.mark.parametrize("case", GOLDEN["malformed"], ids=lambda case: case["note"])
def test_what_is_no_entry(case: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage) as caught:
        Entry.decode(raw(case["raw"]))
    assert caught.value.detail_code == case["code"]


@pytest.mark.parametrize("case", GOLDEN["params"], ids=["plain", "drand", "chain"])
def test_parameters(case: dict[str, Any]) -> None:
    assert parse_params(case["text"]).encode().hex() == case["raw"]
