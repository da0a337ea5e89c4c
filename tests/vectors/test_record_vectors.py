"""Golden records, network files, receipts and revisions, and failures by their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dsn.core.keys import node_id_of
from dsn.dht.network import format_network, parse_network
from dsn.dht.record import PointerBody, PointerRecord, parse_record, verify
from dsn.errors import DsnError
from dsn.ids import Commit, DealId, NetworkId
from dsn.ledger.receipt import Receipt, verify_receipt
from dsn.ledger.revision import (
    Parties,
    Revision,
    verify_client_signature,
    verify_node_signature,
)
from tests.support.vectors import hexed, load
from tests.vectors.record_vectors import MAKERS

RECORDS, NETWORK, STATEMENTS = load("record"), load("network"), load("receipt")
raw = bytes.fromhex


@pytest.mark.parametrize(("name", "make"), MAKERS.items())
def test_the_code_still_makes_the_golden_bytes(name: str, make: Callable[[], Any]) -> None:
    assert hexed(make()) == load(name)


def judged(case: dict[str, Any]) -> PointerRecord | Any:
    record = parse_record(raw(case["raw"]))
    assert record.encode() == raw(case["raw"])
    verify(record, NetworkId(raw(RECORDS["network"])), case["now_s"])
    return record


@pytest.mark.parametrize("case", RECORDS["records"], ids=lambda case: case["note"])
def test_records(case: dict[str, Any]) -> None:
    if "code" in case:
        with pytest.raises(DsnError) as failure:
            judged(case)
        assert failure.value.detail_code == case["code"]
        return
    record = judged(case)
    named = ("key", "sequence", "expires_s", "body", "signature", "network")
    assert {name: hexed(getattr(record, name)) for name in named} == {
        name: case[name] for name in named
    }


@pytest.mark.parametrize("case", RECORDS["bodies"], ids=str)
def test_pointer_bodies(case: dict[str, Any]) -> None:
    if "code" in case:
        with pytest.raises(DsnError) as failure:
            PointerBody.decode(raw(case["raw"]))
        assert failure.value.detail_code == case["code"]
        return
    body = PointerBody.decode(raw(case["raw"]))
    assert (body.head_length, hexed(body.holders)) == (case["head_length"], case["holders"])
    assert body.encode().hex() == case["raw"]


def test_a_network_file() -> None:
    case = NETWORK["holds"]
    network = parse_network(case["text"])
    assert format_network(network) == case["text"]
    assert network.genesis.encode().hex() == case["genesis"]
    assert network.network_id.hex() == case["network_id"]
    assert network.preimage().hex() == case["preimage"]
    contacts = [[each.node_id, each.public_key, each.address] for each in network.contacts]
    assert hexed(contacts) == case["contacts"]


@pytest.mark.parametrize("case", NETWORK["fails"], ids=lambda case: case["note"])
def test_network_files_that_are_refused(case: dict[str, Any]) -> None:
    with pytest.raises(DsnError) as failure:
        parse_network(case["text"])
    assert failure.value.detail_code == case["code"]


@pytest.mark.parametrize("case", STATEMENTS["receipts"], ids=lambda case: str(case["length"]))
def test_receipts(case: dict[str, Any]) -> None:
    network, public_key = NetworkId(raw(STATEMENTS["network"])), raw(STATEMENTS["node_public"])
    numbers = (case["leaf_count"], case["length"], case["keep_until_s"])
    receipt = Receipt(DealId(raw(case["deal"])), Commit(raw(case["commit"])), *numbers)
    assert receipt.preimage(network, node_id_of(public_key)).hex() == case["preimage"]
    verify_receipt(receipt, raw(case["signature"]), network=network, public_key=public_key)


@pytest.mark.parametrize("case", STATEMENTS["revisions"], ids=lambda case: str(case["number"]))
def test_revisions(case: dict[str, Any]) -> None:
    keys = (raw(STATEMENTS["node_public"]), raw(STATEMENTS["client_public"]))
    parties = Parties(NetworkId(raw(STATEMENTS["network"])), *keys)
    numbers = (case["number"], case["shards"], case["leaves"])
    revision = Revision(DealId(raw(case["deal"])), *numbers, raw(case["root"]))
    assert revision.preimage(parties).hex() == case["preimage"]
    verify_client_signature(revision, parties, raw(case["client_signature"]))
    verify_node_signature(revision, parties, raw(case["node_signature"]))
