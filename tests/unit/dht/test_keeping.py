from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dsn.core.hashing import sha256
from dsn.dht.holders import MOST_HOLDERS
from dsn.dht.keeping import BATCH_BYTES, COMMIT_BYTES, MOST_VALUES, RECORD_BYTES, TERM_S, Keeper
from dsn.dht.record import Record, parse_record, verify
from dsn.dht.shards import ShardBatch, ShardRecord
from dsn.dht.signed import MAX_AHEAD_S
from dsn.errors import DsnError, MalformedMessage, PeerError
from dsn.ids import NodeId
from dsn.units import KIB
from tests.support.records import (
    DAY_S,
    NETWORK,
    NOW_S,
    OTHER_NETWORK,
    SEQUENCE,
    batch,
    commits,
    node,
    node_record,
    pointer,
    slot,
)

A, B = NodeId(b"a" * 32), NodeId(b"b" * 32)
FAR_S = NOW_S + 100 * DAY_S
KINDS = pytest.mark.parametrize("make", [pointer, slot, node_record])


@pytest.fixture
def keeper() -> Keeper:
    return Keeper(NETWORK)


def keep(keeper: Keeper, record: Record, by: NodeId = A, now_s: float = NOW_S) -> None:
    keeper.accept(bytes(record.key), record.encode(), by, now_s)


def keep_batch(keeper: Keeper, made: ShardBatch, by: NodeId = A, now_s: float = NOW_S) -> None:
    keeper.accept_batch(made.encode(), by, now_s)


def code(call: Callable[[], object]) -> str:
    with pytest.raises(DsnError) as failure:
        call()
    return failure.value.detail_code


def refusal(keeper: Keeper, record: Record, by: NodeId = A, now_s: float = NOW_S) -> str:
    return code(lambda: keep(keeper, record, by, now_s))


def batch_refusal(keeper: Keeper, made: ShardBatch, by: NodeId = A, now_s: float = NOW_S) -> str:
    return code(lambda: keep_batch(keeper, made, by, now_s))


def found(keeper: Keeper, key: bytes, now_s: float = NOW_S) -> list[Record]:
    return [parse_record(raw) for raw in keeper.find(key, now_s)]


def holders(keeper: Keeper, number: int, now_s: float = NOW_S) -> list[NodeId]:
    """Who announced shard ``number``, by records that hold."""
    records = found(keeper, commits([number])[0], now_s)
    for record in records:
        assert isinstance(record, ShardRecord)
        verify(record, NETWORK, now_s)
    return [record.holder for record in records if isinstance(record, ShardRecord)]


# records


@KINDS
def test_what_is_kept_is_found_under_its_key_alone(keeper: Keeper, make: Any) -> None:
    keep(keeper, make(3))
    assert found(keeper, make(3).key) == [make(3)]
    assert found(keeper, make(4).key) == []
    assert (len(keeper), dict(keeper.refused)) == (1, {})


@KINDS
def test_the_newest_is_kept_and_older_ones_are_refused(keeper: Keeper, make: Any) -> None:
    old, new = make(sequence=SEQUENCE), make(sequence=SEQUENCE + 1)
    keep(keeper, old)
    keep(keeper, new, B)
    assert refusal(keeper, old) == "stale_record"
    assert found(keeper, old.key) == [new]
    assert len(keeper) == 1


def test_any_node_may_bring_another_ones_record(keeper: Keeper) -> None:
    keep(keeper, node_record(3), node(4))
    assert found(keeper, node(3)) == [node_record(3)]


def test_a_record_is_kept_for_a_term_but_never_after_it_expires(keeper: Keeper) -> None:
    keep(keeper, slot(1, expires_s=NOW_S + 10))
    keep(keeper, slot(2, expires_s=FAR_S))
    assert found(keeper, slot(1).key, NOW_S + 9.9) != []
    assert found(keeper, slot(1).key, NOW_S + 10) == []
    assert found(keeper, slot(2).key, NOW_S + TERM_S - 0.1) != []
    assert found(keeper, slot(2).key, NOW_S + TERM_S) == []
    assert (keeper.sweep(NOW_S + 9), keeper.sweep(NOW_S + 10)) == (0, 1)
    assert (keeper.sweep(NOW_S + TERM_S), len(keeper), keeper.size_bytes) == (1, 0, 0)


def test_what_is_brought_again_is_kept_for_another_term(keeper: Keeper) -> None:
    lasting = slot(1, expires_s=FAR_S)
    keep(keeper, lasting)
    keep(keeper, lasting, B, NOW_S + 1_000)
    assert found(keeper, lasting.key, NOW_S + TERM_S + 999) == [lasting]
    assert found(keeper, lasting.key, NOW_S + TERM_S + 1_000) == []
    assert len(keeper) == 1


def test_bringing_again_is_never_refused() -> None:
    keeper = Keeper(NETWORK, most_records=2, most_a_publisher=1)
    keep(keeper, slot(1))
    keep(keeper, slot(2), B)
    keep(keeper, slot(1), B)
    assert refusal(keeper, slot(3), B) == "publisher_quota"
    assert len(keeper) == 2


def test_what_was_forgotten_may_come_back(keeper: Keeper) -> None:
    keep(keeper, slot(1, sequence=SEQUENCE + 5, expires_s=NOW_S + 10))
    keep(keeper, slot(1, sequence=SEQUENCE, expires_s=FAR_S), now_s=NOW_S + 10)
    assert len(found(keeper, slot(1).key, NOW_S + 10)) == 1


# hostile records


def forged(record: Record) -> Record:
    return replace(record, signature=bytes(64))


HOSTILE = {
    "too_large": slot(body=bytes(4_096)),
    "other_network": slot(network=OTHER_NETWORK),
    "expired": slot(expires_s=NOW_S),
    "from_future": slot(sequence=(NOW_S + MAX_AHEAD_S) * 1_000_000 + 1),
    "bad_expiry": node_record(issued_s=NOW_S - 1, expires_s=NOW_S + DAY_S),
    "invalid_signature": forged(slot()),
}


@pytest.mark.parametrize(("expected", "record"), HOSTILE.items(), ids=list(HOSTILE))
def test_hostile_records_are_refused_by_their_code(
    keeper: Keeper, expected: str, record: Record
) -> None:
    assert refusal(keeper, record) == expected
    assert (len(keeper), keeper.size_bytes, keeper.refused) == (0, 0, {expected: 1})


@KINDS
def test_a_record_under_a_foreign_key_is_refused(keeper: Keeper, make: Any) -> None:
    for wrong in (make(4).key, bytes(32), b""):
        assert code(lambda wrong=wrong: keeper.accept(wrong, make(3).encode(), A, NOW_S)) == (
            "foreign_key"
        )
    assert (len(keeper), keeper.refused) == (0, {"foreign_key": 3})


def test_bytes_that_are_no_record_are_refused(keeper: Keeper) -> None:
    made = batch()
    for raw in (b"", bytes(100), made.encode(), made.record(made.commits[0]).encode()):
        assert code(lambda raw=raw: keeper.accept(made.commits[0], raw, A, NOW_S)) == (
            "malformed_message"
        )
    assert keeper.refused == {"malformed_message": 4}


@KINDS
def test_a_replay_is_refused_before_its_signature_is_looked_at(keeper: Keeper, make: Any) -> None:
    keep(keeper, make())
    assert refusal(keeper, forged(make(sequence=SEQUENCE - 1))) == "stale_record"
    assert refusal(keeper, forged(make(sequence=SEQUENCE + 1))) == "invalid_signature"
    assert found(keeper, make().key) == [make()]


def test_ten_thousand_records_of_one_publisher_stay_within_its_quota() -> None:
    keeper = Keeper(NETWORK)
    for number in range(4_096):
        keep(keeper, slot(number))
    for number in range(4_096, 10_000):
        assert refusal(keeper, slot(number)) == "publisher_quota"
    assert len(keeper) == 4_096
    assert keeper.refused == {"publisher_quota": 10_000 - 4_096}
    keep(keeper, slot(9_999), B)
    keep(keeper, slot(4, sequence=SEQUENCE + 1))
    keep(keeper, slot(5))
    assert refusal(keeper, slot(9_998), now_s=NOW_S + DAY_S - 1) == "publisher_quota"
    keep(keeper, slot(9_998, expires_s=FAR_S), now_s=NOW_S + DAY_S)
    assert len(keeper) == 1


def test_a_full_node_refuses_what_is_new_and_updates_what_it_has() -> None:
    keeper = Keeper(NETWORK, most_records=2)
    keep(keeper, slot(1))
    keep(keeper, slot(2), B)
    assert refusal(keeper, slot(3)) == "records_full"
    assert batch_refusal(keeper, batch()) == "records_full"
    keep(keeper, slot(2, sequence=SEQUENCE + 1))
    assert len(keeper) == 2


@pytest.mark.parametrize("seed", range(3))
def test_bytes_stay_within_their_bound_whatever_arrives(seed: int) -> None:
    random, most_bytes = Random(seed), 64 * KIB
    keeper = Keeper(NETWORK, most_bytes=most_bytes)
    for _ in range(300):
        number, sequence = random.randrange(60), SEQUENCE + random.randrange(9)
        by, body = NodeId(random.randbytes(32)), bytes(random.randrange(3_000))
        try:
            if random.random() < 0.3:
                some = random.sample(range(200), random.randrange(1, 100))
                keep_batch(keeper, batch(number, some, sequence=sequence), by)
            else:
                keep(keeper, slot(number, sequence=sequence, body=body), by)
        except DsnError as error:
            assert error.detail_code in {"records_full", "stale_record"}, f"seed {seed}"  # noqa: PT017
        assert keeper.size_bytes <= most_bytes, f"seed {seed}"
    assert keeper.size_bytes > most_bytes * 0.8, f"seed {seed}"
    assert keeper.refused["records_full"] > 0, f"seed {seed}"


def test_a_record_that_grows_needs_room() -> None:
    small, large = slot(1), slot(1, sequence=SEQUENCE + 1, body=bytes(1_000))
    keeper = Keeper(NETWORK, most_bytes=RECORD_BYTES + len(large.encode()) - 1)
    keep(keeper, small)
    assert refusal(keeper, large) == "records_full"
    assert found(keeper, small.key) == [small]


def test_refusals_change_nothing(keeper: Keeper) -> None:
    keep(keeper, slot(1))
    keep_batch(keeper, batch(1))
    before = keeper.encode()
    for record in (*HOSTILE.values(), slot(1, sequence=1)):
        refusal(keeper, record)
    for made in (batch(1, sequence=1), replace(batch(2), signature=bytes(64))):
        batch_refusal(keeper, made)
    assert keeper.encode() == before


def test_memory_is_what_it_says_at_most() -> None:
    records = [slot(number, body=b"", expires_s=FAR_S) for number in range(1_500)]
    single = [batch(number, [number], expires_s=FAR_S) for number in range(300)]
    wide = [batch(number, range(1_000 * number, 1_000 * number + 1_000)) for number in range(12)]
    random = Random(1)

    def bring(keeper: Keeper, one: Record | ShardBatch) -> None:
        """Five times, each time by somebody else, each time to be kept for longer."""
        for now_s in range(NOW_S, NOW_S + 5):
            by = NodeId(random.randbytes(32))
            if isinstance(one, ShardBatch):
                keep_batch(keeper, one, by, now_s)
            else:
                keep(keeper, one, by, now_s)

    for some in (records, single, wide):
        assert 0.5 < spent(bring, some) <= 1


def spent(bring: Callable[[Keeper, Any], None], brought: list[Any]) -> float:
    """Memory that a keeper spends on what is ``brought``, as a part of what it reckons."""
    keeper = Keeper(NETWORK)
    tracemalloc.start()
    try:
        for each in brought:
            bring(keeper, each)
        used_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(keeper) == len(brought)
    return used_bytes / keeper.size_bytes


# shards


def test_a_batch_is_kept_once_and_found_by_each_commit(keeper: Keeper) -> None:
    keep_batch(keeper, batch(1, range(1_000)))
    assert len(keeper) == 1
    assert keeper.size_bytes == BATCH_BYTES + 1_000 * COMMIT_BYTES
    assert [holders(keeper, number) for number in (0, 500, 999)] == [[node(1)]] * 3
    assert holders(keeper, 1_000) == []


def test_holders_of_a_shard_stand_side_by_side(keeper: Keeper) -> None:
    for number in (1, 2, 3):
        keep_batch(keeper, batch(number, range(number)))
    assert [holders(keeper, shard) for shard in range(3)] == [
        [node(1), node(2), node(3)],
        [node(2), node(3)],
        [node(3)],
    ]


def test_a_newer_batch_takes_over_its_commits_and_no_others(keeper: Keeper) -> None:
    keep_batch(keeper, batch(1, range(4)))
    keep_batch(keeper, batch(1, range(2, 6), sequence=SEQUENCE + 1))
    assert len(keeper) == 2
    sequences = [found(keeper, commit)[0].sequence - SEQUENCE for commit in commits(range(6))]
    assert sequences == [0, 0, 1, 1, 1, 1]
    keep_batch(keeper, batch(1, range(2), sequence=SEQUENCE + 2))
    assert len(keeper) == 2
    assert all(holders(keeper, number) == [node(1)] for number in range(6))


def test_an_older_batch_answers_for_what_no_newer_one_names(keeper: Keeper) -> None:
    keep_batch(keeper, batch(1, range(2, 6), sequence=SEQUENCE + 1))
    keep_batch(keeper, batch(1, range(4)))
    assert batch_refusal(keeper, batch(1, range(3, 5))) == "stale_record"
    sequences = [found(keeper, commit)[0].sequence - SEQUENCE for commit in commits(range(6))]
    assert sequences == [0, 0, 1, 1, 1, 1]


def test_of_two_batches_of_one_sequence_the_lower_hash_wins() -> None:
    twins = [batch(1, [7], expires_s=NOW_S + 9), batch(1, [7], expires_s=NOW_S + 8)]
    outcomes = set()
    for order in (twins, twins[::-1]):
        keeper = Keeper(NETWORK)
        for each in order:
            try:
                keep_batch(keeper, each)
            except PeerError as error:
                assert error.detail_code == "stale_record"  # noqa: PT017
        assert len(keeper) == 1
        outcomes.add(tuple(keeper.find(commits([7])[0], NOW_S)))
    assert len(outcomes) == 1


def test_at_most_twenty_holders_are_kept_of_a_shard(keeper: Keeper) -> None:
    for number in range(MOST_HOLDERS):
        keep_batch(keeper, batch(number, [0], expires_s=NOW_S + 10 + number))
    assert batch_refusal(keeper, batch(50, [0])) == "holders_full"
    keep_batch(keeper, batch(51, [0, 1]))
    assert len(holders(keeper, 0)) == MOST_HOLDERS
    assert node(51) not in holders(keeper, 0)
    assert holders(keeper, 1) == [node(51)]
    keep_batch(keeper, batch(3, [0], sequence=SEQUENCE + 1))
    assert len(holders(keeper, 0)) == MOST_HOLDERS
    keep_batch(keeper, batch(50, [0]), now_s=NOW_S + 10)
    assert node(50) in holders(keeper, 0, NOW_S + 10)


def test_at_most_twenty_values_are_given(keeper: Keeper) -> None:
    record = node_record(1)
    keep(keeper, record)
    for number in range(MOST_HOLDERS):
        keep_batch(keeper, batch(number, commits=[record.key]))
    values = found(keeper, record.key)
    assert len(values) == MOST_VALUES
    assert values[0] == record
    assert all(isinstance(each, ShardRecord) for each in values[1:])


def test_a_batch_runs_out_and_may_be_brought_again(keeper: Keeper) -> None:
    lasting = batch(1, range(3), expires_s=FAR_S)
    keep_batch(keeper, lasting)
    keep_batch(keeper, lasting, B, NOW_S + 1_000)
    assert holders(keeper, 0, NOW_S + TERM_S + 999) == [node(1)]
    assert holders(keeper, 0, NOW_S + TERM_S + 1_000) == []
    assert keeper.sweep(NOW_S + TERM_S + 1_000) == 1
    assert (len(keeper), keeper.size_bytes) == (0, 0)
    assert holders(keeper, 0) == []


def test_a_batch_that_runs_out_leaves_those_of_others(keeper: Keeper) -> None:
    keep_batch(keeper, batch(1, range(3), expires_s=NOW_S + 10))
    keep_batch(keeper, batch(2, range(2), expires_s=NOW_S + 20))
    assert keeper.sweep(NOW_S + 10) == 1
    assert [holders(keeper, number) for number in range(3)] == [[node(2)], [node(2)], []]


@pytest.mark.parametrize(
    ("expected", "made"),
    [
        ("other_network", batch(network=OTHER_NETWORK)),
        ("expired", batch(expires_s=NOW_S)),
        ("from_future", batch(sequence=(NOW_S + MAX_AHEAD_S) * 1_000_000 + 1)),
        ("invalid_signature", replace(batch(), signature=bytes(64))),
        ("invalid_proof", replace(batch(), commits=batch(shards=range(1, 6)).commits)),
        ("malformed_message", replace(batch(), commits=batch().commits[::-1])),
        ("malformed_message", replace(batch(), count=4)),
    ],
)
def test_hostile_batches_are_refused_by_their_code(
    keeper: Keeper, expected: str, made: ShardBatch
) -> None:
    assert batch_refusal(keeper, made) == expected
    assert (len(keeper), keeper.size_bytes, keeper.refused) == (0, 0, {expected: 1})
    assert holders(keeper, 0) == []


def test_an_oversized_batch_is_refused(keeper: Keeper) -> None:
    raw = batch(1, range(1_000)).encode() + bytes(32)
    assert code(lambda: keeper.accept_batch(raw, A, NOW_S)) == "too_large"


def test_batches_have_a_quota_of_their_own() -> None:
    keeper = Keeper(NETWORK, most_a_publisher=1, most_batches_a_publisher=2)
    keep(keeper, slot(1))
    keep_batch(keeper, batch(1, [1]))
    keep_batch(keeper, batch(1, [2]))
    assert batch_refusal(keeper, batch(2, [3])) == "publisher_quota"
    keep_batch(keeper, batch(1, [1, 2], sequence=SEQUENCE + 1))
    assert len(keeper) == 2
    keep_batch(keeper, batch(2, [3]))
    keep_batch(keeper, batch(2, [4]), B)


def test_batches_take_half_of_the_memory_at_most() -> None:
    keeper = Keeper(NETWORK, most_bytes=4 * (BATCH_BYTES + COMMIT_BYTES))
    keep_batch(keeper, batch(1, [1]))
    keep_batch(keeper, batch(1, [2]))
    assert batch_refusal(keeper, batch(1, [3])) == "records_full"
    keep(keeper, slot(1))


# over a restart


def filled() -> Keeper:
    keeper = Keeper(NETWORK)
    for record in (slot(1, expires_s=FAR_S), pointer(2), node_record(3), slot(4, body=bytes(9))):
        keep(keeper, record)
    keep(keeper, slot(5, expires_s=NOW_S + 60), B)
    keep_batch(keeper, batch(1, range(3)))
    keep_batch(keeper, batch(1, range(2, 70), sequence=SEQUENCE + 1), B)
    return keeper


def test_what_was_kept_is_kept_after_a_restart() -> None:
    old, new = filled(), Keeper(NETWORK)
    assert new.load(old.encode(), NOW_S) == len(old) == 7
    assert new.encode() == old.encode()
    assert new.size_bytes == old.size_bytes
    for wanted in (slot(1).key, pointer(2).key, node(3), *commits(range(71))):
        assert new.find(wanted, NOW_S) == old.find(wanted, NOW_S)
    assert Keeper(NETWORK).load(Keeper(NETWORK).encode(), NOW_S) == 0


def test_a_restart_gives_no_new_term() -> None:
    late = NOW_S + 5_000
    keeper = Keeper(NETWORK)
    assert keeper.load(filled().encode(), late) == 6
    assert found(keeper, slot(5).key, late) == []
    assert found(keeper, slot(1).key, NOW_S + TERM_S - 1) != []
    assert found(keeper, slot(1).key, NOW_S + TERM_S) == []
    assert Keeper(NETWORK).load(filled().encode(), FAR_S) == 0


def test_terms_of_a_clock_that_was_ahead_are_cut() -> None:
    ahead, keeper = Keeper(NETWORK), Keeper(NETWORK)
    keep(ahead, slot(1, expires_s=FAR_S), now_s=NOW_S + 50 * DAY_S)
    keeper.load(ahead.encode(), NOW_S)
    assert found(keeper, slot(1).key, NOW_S + TERM_S) == []


def test_quotas_hold_over_a_restart() -> None:
    keeper = Keeper(NETWORK, most_a_publisher=4)
    assert keeper.load(filled().encode(), NOW_S) == 7
    assert refusal(keeper, slot(9)) == "publisher_quota"
    small = Keeper(NETWORK, most_a_publisher=2, most_batches_a_publisher=1, most_records=4)
    assert small.load(filled().encode(), NOW_S) == 4
    assert dict(small.refused) == {}


def test_a_changed_file_is_malformed_and_changes_nothing(keeper: Keeper) -> None:
    raw, random = filled().encode(), Random(5)
    keep(keeper, slot(8))
    before = keeper.encode()
    flips = [random.randrange(len(raw)) for _ in range(200)]
    flipped = [raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in flips]
    longer = raw[:-32] + b"\0"
    sealed = [longer + sha256(longer), sha256(b"")]
    for bad in (b"", raw[:-1], raw[:40], raw + b"\0", raw[1:], *flipped, *sealed):
        with pytest.raises(MalformedMessage):
            keeper.load(bad, NOW_S)
    assert keeper.encode() == before


def test_a_file_of_another_network_is_refused() -> None:
    keeper = Keeper(OTHER_NETWORK)
    assert code(lambda: keeper.load(filled().encode(), NOW_S)) == "other_network"
    assert len(keeper) == 0
