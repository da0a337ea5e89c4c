"""Golden records, batches, network files, receipts and revisions, and failures by their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dsn.core.keys import node_id_of
from dsn.dht.keeping import Keeper
from dsn.dht.network import format_network, parse_network
from dsn.dht.record import PointerBody, Record, parse_record, verify
from dsn.dht.shards import ShardBatch, parse_batch, verify_batch
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

RECORDS, SHARDS = load("record"), load("batch")
NETWORK, STATEMENTS = load("network"), load("receipt")
ON = NetworkId(bytes.fromhex(RECORDS["network"]))
ABOUT = {"note", "raw", "now_s", "code"}
raw = bytes.fromhex


@pytest.mark.parametrize(("name", "make"), MAKERS.items())
def test_the_code_still_makes_the_golden_bytes(name: str, make: Callable[[], Any]) -> None:
    assert hexed(make()) == load(name)


def judged(case: dict[str, Any]) -> Record:
    record = parse_record(raw(case["raw"]))
    assert record.encode() == raw(case["raw"])
    verify(record, ON, case.get("now_s", SHARDS["now_s"]))
    return record


def judged_batch(case: dict[str, Any]) -> ShardBatch:
    batch = parse_batch(raw(case["raw"]))
    assert batch.encode() == raw(case["raw"])
    verify_batch(batch, ON, SHARDS["now_s"])
    return batch


def said(case: dict[str, Any], what: object) -> dict[str, Any]:
    """Of what was read, all that the case tells."""
    return {name: hexed(getattr(what, name)) for name in case.keys() - ABOUT}


@pytest.mark.parametrize("case", RECORDS["records"], ids=lambda case: case["note"])
def test_records(case: dict[str, Any]) -> None:
    if "code" in case:
        assert refusal(lambda: judged(case)) == case["code"]
    else:
        assert said(case, judged(case)) == {name: case[name] for name in case.keys() - ABOUT}


@pytest.mark.parametrize("case", SHARDS["records"], ids=lambda case: case["note"])
def test_shard_records(case: dict[str, Any]) -> None:
    assert said(case, judged(case)) == {name: case[name] for name in case.keys() - ABOUT}


@pytest.mark.parametrize("case", SHARDS["batches"], ids=lambda case: case["note"])
def test_batches(case: dict[str, Any]) -> None:
    assert said(case, judged_batch(case)) == {name: case[name] for name in case.keys() - ABOUT}


@pytest.mark.parametrize("case", SHARDS["records_refused"], ids=lambda case: case["note"])
def test_shard_records_that_are_refused(case: dict[str, Any]) -> None:
    assert refusal(lambda: judged(case)) == case["code"]


@pytest.mark.parametrize("case", SHARDS["batches_refused"], ids=lambda case: case["note"])
def test_batches_that_are_refused(case: dict[str, Any]) -> None:
    assert refusal(lambda: judged_batch(case)) == case["code"]


def test_what_a_node_kept() -> None:
    case, now_s = SHARDS["kept"], SHARDS["now_s"]
    keeper = Keeper(ON)
    keeper.load(raw(case["raw"]), now_s)
    assert keeper.encode().hex() == case["raw"]
    found = {key: hexed(keeper.find(raw(key), now_s)) for key in case["finds"]}
    assert found == case["finds"]


@pytest.mark.parametrize("case", SHARDS["kept"]["fails"], ids=lambda case: case["note"])
def test_files_of_what_a_node_kept_that_are_refused(case: dict[str, Any]) -> None:
    assert refusal(lambda: Keeper(ON).load(raw(case["raw"]), SHARDS["now_s"])) == case["code"]


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(DsnError) as failure:
        call()
    return failure.value.detail_code


@pytest.mark.parametrize("case", RECORDS["bodies"], ids=str)
def test_pointer_bodies(case: dict[str, Any]) -> None:
    if "code" in case:
        assert refusal(lambda: PointerBody.decode(raw(case["raw"]))) == case["code"]
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
    assert list(network.dns) == case["dns"]


@pytest.mark.parametrize("case", NETWORK["fails"], ids=lambda case: case["note"])
def test_network_files_that_are_refused(case: dict[str, Any]) -> None:
    assert refusal(lambda: parse_network(case["text"])) == case["code"]


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
