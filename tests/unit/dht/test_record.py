from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest

from dsn.dht.record import (
    MAX_HOLDERS,
    MAX_RECORD_BYTES,
    PointerBody,
    Record,
    newer,
    next_sequence,
    parse_record,
    slot_key,
    verify,
)
from dsn.dht.shards import ShardRecord
from dsn.dht.signed import MAX_AHEAD_S
from dsn.errors import InvalidSignature, MalformedMessage, PeerError
from dsn.ids import Commit, NetworkId, NodeId
from tests.support import records
from tests.support.records import (
    NETWORK,
    NOW_S,
    OTHER_NETWORK,
    key,
    node,
    node_record,
    pointer,
    slot,
)


def shard(number: int = 3, **changes: Any) -> ShardRecord:
    """The record of one of five shards."""
    made = records.batch(number, **changes)
    return made.record(made.commits[3])


KINDS = pytest.mark.parametrize("make", [pointer, slot, node_record, shard])
SEALED = pytest.mark.parametrize("make", [pointer, slot])
KEY, OTHER_KEY = key(3), key(4)
FIXED_BYTES = {"pointer": 16 + 3 * 32 + 2 * 8 + 4 + 64, "slot": 16 + 2 * 32 + 2 * 8 + 4 + 64}


def code(record: Record, network: NetworkId = NETWORK, now_s: float = NOW_S) -> str:
    with pytest.raises(PeerError) as failure:
        verify(record, network, now_s)
    return failure.value.detail_code


@KINDS
def test_a_record_holds_and_reads_back(make: Any) -> None:
    record = make()
    verify(record, NETWORK, NOW_S)
    assert parse_record(record.encode()) == record


@pytest.mark.parametrize("make", [pointer, slot, node_record])
def test_the_signature_is_over_everything_before_it(make: Any) -> None:
    assert make().encode() == make().preimage() + make().signature


def test_keys_follow_from_what_a_record_names() -> None:
    file_tag, slot_tag = b"dsn/file/v1".ljust(16, b"\0"), b"dsn/slot/v1".ljust(16, b"\0")
    assert pointer().key == hashlib.sha256(file_tag + KEY.public + b"\x05" * 32).digest()
    assert slot().key == hashlib.sha256(slot_tag + KEY.public).digest() == slot_key(KEY.public)
    assert pointer(core_hash=bytes(32)).key != pointer().key
    assert node_record().key == node(3)
    assert shard().key == shard().commit
    assert {make().signer for make in (pointer, slot, node_record, shard)} == {KEY.public}


@KINDS
def test_other_network(make: Any) -> None:
    assert code(make(), OTHER_NETWORK) == "other_network"


@KINDS
def test_expiry_is_the_first_second_without_it(make: Any) -> None:
    record = make(expires_s=NOW_S + 1)
    verify(record, NETWORK, NOW_S + 0.999)
    assert code(record, now_s=NOW_S + 1) == "expired"


@KINDS
def test_a_sequence_over_two_hours_ahead_is_refused(make: Any) -> None:
    limit = (NOW_S + MAX_AHEAD_S) * 1_000_000
    verify(make(sequence=limit), NETWORK, NOW_S)
    assert code(make(sequence=limit + 1)) == "from_future"


@SEALED
def test_over_4_kib_is_too_large(make: Any) -> None:
    room = MAX_RECORD_BYTES - FIXED_BYTES[make.__name__]
    largest = make(body=bytes(room))
    assert len(largest.encode()) == MAX_RECORD_BYTES
    verify(parse_record(largest.encode()), NETWORK, NOW_S)
    over = make(body=bytes(room + 1))
    assert code(over) == "too_large"
    with pytest.raises(MalformedMessage) as failure:
        parse_record(over.encode())
    assert failure.value.detail_code == "too_large"


@pytest.mark.parametrize(
    "change",
    [
        {"core_hash": bytes(32)},
        {"placement_public": OTHER_KEY.public},
        {"sequence": 1},
        {"expires_s": NOW_S + 1},
        {"body": b"other"},
        {"body": b""},
        {"signature": bytes(64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_pointer_is_not_signed(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSignature):
        verify(replace(pointer(), **change), NETWORK, NOW_S)


@pytest.mark.parametrize(
    "change",
    [
        {"slot_public": OTHER_KEY.public},
        {"sequence": 1},
        {"expires_s": NOW_S + 1},
        {"body": b"other"},
        {"signature": bytes(64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_slot_is_not_signed(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidSignature):
        verify(replace(slot(), **change), NETWORK, NOW_S)


@KINDS
def test_a_network_cannot_be_exchanged(make: Any) -> None:
    moved = replace(make(), network=OTHER_NETWORK)
    with pytest.raises(InvalidSignature):
        verify(moved, OTHER_NETWORK, NOW_S)


def test_cheap_reasons_come_first() -> None:
    bad = replace(pointer(expires_s=1, sequence=1 << 63, body=bytes(5000)), signature=bytes(64))
    assert code(bad, OTHER_NETWORK) == "other_network"
    assert code(bad) == "expired"
    assert code(replace(bad, expires_s=NOW_S + 1)) == "from_future"
    assert code(replace(bad, expires_s=NOW_S + 1, sequence=1)) == "too_large"
    small = replace(bad, expires_s=NOW_S + 1, sequence=1, body=b"")
    assert code(small) == "invalid_signature"


@KINDS
def test_cut_or_lengthened_bytes_are_malformed(make: Any) -> None:
    raw = make().encode()
    for bad in (*(raw[:size] for size in range(len(raw))), raw + b"\0", b"\0" + raw, bytes(200)):
        with pytest.raises(MalformedMessage):
            parse_record(bad)


@pytest.mark.parametrize("make", [pointer, slot, node_record])
def test_the_higher_sequence_wins_then_the_lower_hash(make: Any) -> None:
    old, new = make(sequence=5), make(sequence=6)
    assert newer(new, old)
    assert not newer(old, new)
    assert not newer(old, old)
    twins = [make(sequence=5, expires_s=NOW_S + 1 + n) for n in range(8)]
    best = min(twins, key=lambda record: hashlib.sha256(record.encode()).digest())
    for twin in twins:
        assert newer(best, twin) == (twin != best)
        assert not newer(twin, best)


@pytest.mark.parametrize(
    ("last", "now_us", "expected"), [(0, 9, 9), (8, 9, 9), (9, 9, 10), (50, 9, 51)]
)
def test_a_writers_sequences_always_rise(last: int, now_us: int, expected: int) -> None:
    assert next_sequence(last, now_us) == expected


@pytest.mark.parametrize("count", [0, 1, MAX_HOLDERS])
def test_a_pointers_body_reads_back(count: int) -> None:
    holders = tuple((NodeId(bytes([n]) * 32), Commit(bytes([255 - n]) * 32)) for n in range(count))
    body = PointerBody(1 << 40, holders)
    assert PointerBody.decode(body.encode()) == body
    assert len(body.encode()) == 9 + 64 * count


def test_the_largest_body_sealed_fits_in_a_record() -> None:
    holders = ((NodeId(bytes(32)), Commit(bytes(32))),) * MAX_HOLDERS
    sealed = bytes(12) + PointerBody(1, holders).encode() + bytes(16)
    verify(pointer(body=sealed), NETWORK, NOW_S)


def test_a_malformed_body_is_refused() -> None:
    raw = PointerBody(7, ((NodeId(bytes(32)), Commit(bytes(32))),)).encode()
    too_many = bytes(8) + bytes([MAX_HOLDERS + 1]) + bytes(64 * (MAX_HOLDERS + 1))
    for bad in (*(raw[:size] for size in range(len(raw))), raw + b"\0", too_many):
        with pytest.raises(MalformedMessage):
            PointerBody.decode(bad)
