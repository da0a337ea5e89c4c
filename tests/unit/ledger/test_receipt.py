from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import InvalidSignature
from dsn.ids import Commit, DealId, NetworkId
from dsn.ledger.receipt import Receipt, sign_receipt, verify_receipt

NETWORK, OTHER_NETWORK = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
KEY, OTHER_KEY = SigningKey(b"\x03" * 32), SigningKey(b"\x04" * 32)
NODE = node_id_of(KEY.public)
RECEIPT = Receipt(DealId(b"\x05" * 32), Commit(b"\x06" * 32), 2, 1025, 1_700_000_000)


def signature(receipt: Receipt = RECEIPT) -> bytes:
    return sign_receipt(receipt, KEY.sign, network=NETWORK, node=NODE)


def test_a_nodes_receipt_holds() -> None:
    verify_receipt(RECEIPT, signature(), network=NETWORK, public_key=KEY.public)


def test_the_preimage_field_by_field() -> None:
    numbers = b"".join(n.to_bytes(8, "big") for n in (2, 1025, 1_700_000_000))
    tag = b"dsn/receipt/v1".ljust(16, b"\0")
    expected = tag + NETWORK + NODE + b"\x05" * 32 + b"\x06" * 32 + numbers
    assert RECEIPT.preimage(NETWORK, NODE) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"deal": DealId(bytes(32))},
        {"commit": Commit(bytes(32))},
        {"leaf_count": 3},
        {"length": 1026},
        {"keep_until_s": 1_700_000_001},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_receipt_is_not_signed(change: dict[str, Any]) -> None:
    changed = replace(RECEIPT, **change)
    with pytest.raises(InvalidSignature):
        verify_receipt(changed, signature(), network=NETWORK, public_key=KEY.public)


def test_a_receipt_serves_on_its_network_and_for_its_node_only() -> None:
    with pytest.raises(InvalidSignature):
        verify_receipt(RECEIPT, signature(), network=OTHER_NETWORK, public_key=KEY.public)
    with pytest.raises(InvalidSignature):
        verify_receipt(RECEIPT, signature(), network=NETWORK, public_key=OTHER_KEY.public)
    borrowed = sign_receipt(RECEIPT, OTHER_KEY.sign, network=NETWORK, node=NODE)
    with pytest.raises(InvalidSignature):
        verify_receipt(RECEIPT, borrowed, network=NETWORK, public_key=OTHER_KEY.public)


@pytest.mark.parametrize("bad", [b"", bytes(63), bytes(64), bytes(65)])
def test_a_signature_of_any_size_is_refused_by_name(bad: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify_receipt(RECEIPT, bad, network=NETWORK, public_key=KEY.public)
