from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import verify_signature
from dsn.core.merkle import path_length
from dsn.dht.record import parse_record, verify
from dsn.dht.shards import (
    MAX_BATCH_BYTES,
    MAX_COMMITS,
    MAX_SHARD_RECORD_BYTES,
    BatchTree,
    ShardBatch,
    ShardRecord,
    parse_batch,
    verify_batch,
)
from dsn.dht.signed import MAX_AHEAD_S
from dsn.errors import DsnError, InvalidProof, InvalidSignature, MalformedMessage, NotFound
from dsn.ids import Commit
from tests.support.records import (
    DAY_S,
    NETWORK,
    NOW_S,
    OTHER_NETWORK,
    SEQUENCE,
    batch,
    commits,
    key,
    node,
)

SIZES = (1, 2, 3, 63, 64, 65, 127, 128, 129, 999, 1_000)
FIVE = batch()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def leaf(commit: bytes) -> bytes:
    return sha(b"dsn/shards/v1".ljust(16, b"\0") + commit)


def tree(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, without its prefixes: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha(tree(leaves[:split]) + tree(leaves[split:]))


def code(call: Callable[[], object]) -> str:
    with pytest.raises(DsnError) as failure:
        call()
    return failure.value.detail_code


def resigned(made: ShardBatch, **changes: Any) -> ShardBatch:
    """What a holder could sign if it wanted to."""
    changed = replace(made, **changes)
    return replace(changed, signature=key(3).sign(changed.preimage()))


@pytest.mark.parametrize("size", SIZES)
def test_the_root_is_rfc_6962s_over_the_sorted_commits(size: int) -> None:
    made = batch(shards=range(size))
    assert made.commits == tuple(sorted(commits(range(size))))
    assert made.root == tree([leaf(each) for each in made.commits])
    verify_batch(made, NETWORK, NOW_S)
    assert parse_batch(made.encode()) == made


def test_what_a_holder_signs() -> None:
    body = b"dsn/shards/v1\0\0\0" + NETWORK + key(3).public
    body += SEQUENCE.to_bytes(8, "big") + (NOW_S + DAY_S).to_bytes(8, "big")
    body += b"\0\5" + FIVE.root
    assert FIVE.preimage() == body
    verify_signature(key(3).public, body, FIVE.signature)
    assert FIVE.encode() == body + FIVE.signature + b"".join(FIVE.commits)
    assert FIVE.holder == node(3)


def test_a_thousand_commits_are_the_largest_batch() -> None:
    largest = batch(shards=range(MAX_COMMITS))
    assert len(largest.encode()) == MAX_BATCH_BYTES
    assert code(lambda: parse_batch(largest.encode() + b"\0")) == "too_large"
    for size in (0, MAX_COMMITS + 1):
        with pytest.raises(AssertionError):
            batch(shards=range(size))


def test_order_and_repeats_do_not_matter_to_the_signer() -> None:
    assert batch(shards=[4, 1, 3, 0, 2, 1]) == FIVE


@pytest.mark.parametrize("size", SIZES)
def test_every_commit_has_a_record_that_proves_itself(size: int) -> None:
    made = BatchTree(batch(shards=range(size)))
    for index in {0, 1, 62, 63, 64, size // 2, size - 2, size - 1} & set(range(size)):
        record = made.record(made.batch.commits[index])
        assert (record.index, record.key) == (index, made.batch.commits[index])
        assert record.holder == made.batch.holder
        raw = record.encode()
        assert len(raw) <= MAX_SHARD_RECORD_BYTES
        assert parse_record(raw) == record
        verify(record, NETWORK, NOW_S)


def test_one_record_needs_no_tree_kept() -> None:
    commit = FIVE.commits[2]
    assert FIVE.record(commit) == BatchTree(FIVE).record(commit)


def test_a_foreign_commit_has_no_record() -> None:
    for commit in (*commits([5]), Commit(bytes(32)), Commit(b"\xff" * 32)):
        with pytest.raises(NotFound):
            FIVE.record(commit)


def test_a_record_holds_for_its_commit_alone() -> None:
    """Whatever part is changed, it is another commit's, another place's or not signed."""
    record = FIVE.record(FIVE.commits[2])
    other = FIVE.record(FIVE.commits[3])
    for change in (
        {"commit": FIVE.commits[3]},
        {"commit": Commit(leaf(FIVE.commits[2]))},
        {"index": 1, "path": record.path},
        {"path": other.path},
        {"path": (bytes(32), *record.path[1:])},
        {"root": bytes(32)},
    ):
        with pytest.raises(InvalidProof) as failure:
            verify(replace(record, **change), NETWORK, NOW_S)
        assert failure.value.detail_code == "invalid_proof"
    for change in (
        {"sequence": SEQUENCE + 1},
        {"expires_s": NOW_S + 1},
        {"public_key": key(4).public},
        {"signature": bytes(64)},
    ):
        with pytest.raises(InvalidSignature):
            verify(replace(record, **change), NETWORK, NOW_S)


def test_a_record_of_another_count_does_not_hold() -> None:
    """Commit 0 of 1 has an empty path; under a root of one's choice it would prove anything."""
    alone = batch(shards=[9]).record(commits([9])[0])
    lifted = replace(alone, count=2, path=(bytes(32),))
    assert code(lambda: verify(lifted, NETWORK, NOW_S)) == "invalid_proof"
    rooted = replace(alone, commit=commits([8])[0], root=leaf(commits([8])[0]))
    assert code(lambda: verify(rooted, NETWORK, NOW_S)) == "invalid_signature"


def test_a_node_of_the_tree_cannot_pose_as_a_commit() -> None:
    four = batch(shards=range(4))
    inner = sha(leaf(four.commits[0]) + leaf(four.commits[1]))
    sibling = sha(leaf(four.commits[2]) + leaf(four.commits[3]))
    posing = ShardRecord(*four.fields, 0, Commit(inner), (sibling,))
    assert code(lambda: verify(replace(posing, count=2), NETWORK, NOW_S)) == "invalid_proof"


@pytest.mark.parametrize(
    ("change", "now_s", "expected"),
    [
        ({"network": OTHER_NETWORK}, NOW_S, "other_network"),
        ({}, NOW_S + DAY_S, "expired"),
        ({"sequence": (NOW_S + MAX_AHEAD_S) * 1_000_000 + 1}, NOW_S, "from_future"),
        ({"signature": bytes(64)}, NOW_S, "invalid_signature"),
        ({"public_key": key(4).public}, NOW_S, "invalid_signature"),
        ({"root": bytes(32)}, NOW_S, "invalid_signature"),
        ({"commits": tuple(sorted(commits(range(1, 6))))}, NOW_S, "invalid_proof"),
    ],
)
def test_a_batch_is_judged(change: dict[str, Any], now_s: float, expected: str) -> None:
    verify_batch(FIVE, NETWORK, now_s - DAY_S if expected == "expired" else now_s)
    assert code(lambda: verify_batch(replace(FIVE, **change), NETWORK, now_s)) == expected


def test_a_root_that_its_holder_made_up_is_seen() -> None:
    assert code(lambda: verify_batch(resigned(FIVE, root=bytes(32)), NETWORK, NOW_S)) == (
        "invalid_proof"
    )


def test_malformed_batches() -> None:
    raw, head = FIVE.encode(), len(FIVE.preimage()) + 64
    swapped = raw[:head] + raw[head + 32 : head + 64] + raw[head : head + 32] + raw[head + 64 :]
    twice = raw[:head] + raw[head : head + 32] * 2 + raw[head + 64 :]
    none = resigned(FIVE, count=0, commits=()).encode()
    many = resigned(FIVE, count=MAX_COMMITS + 1).encode()
    cut = [raw[:size] for size in range(len(raw))]
    tagged = bytes(16) + raw[16:]
    for bad in (*cut, raw + b"\0", swapped, twice, none, many, tagged):
        with pytest.raises(MalformedMessage):
            parse_batch(bad)


def test_malformed_shard_records() -> None:
    record = FIVE.record(FIVE.commits[4])
    fitting = (bytes(32),) * path_length(5, 5)
    long = (bytes(32),) * path_length(4, MAX_COMMITS + 1)
    assert parse_record(replace(record, count=6, index=5, path=fitting).encode())
    for bad in (
        replace(record, index=5, path=fitting),
        replace(record, count=0, index=0, path=()),
        replace(record, count=MAX_COMMITS + 1, path=long),
        replace(record, path=(*record.path, bytes(32))),
        replace(record, path=record.path[:-1]),
    ):
        with pytest.raises(MalformedMessage):
            parse_record(bad.encode())


def test_a_batch_is_no_record_and_a_record_no_batch() -> None:
    with pytest.raises(MalformedMessage):
        parse_record(FIVE.encode())
    with pytest.raises(MalformedMessage):
        parse_batch(FIVE.record(FIVE.commits[0]).encode())
