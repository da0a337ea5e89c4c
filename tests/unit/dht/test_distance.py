from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dsn.dht.contact import Contact
from dsn.dht.distance import ID_BITS, bucket_of, distance, nearest, random_key, shared_bits

ZERO, ONES = bytes(32), b"\xff" * 32

keys = st.one_of(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 300).map(lambda n: n.to_bytes(32, "big")),
    st.integers(0, 255).map(lambda bit: (1 << bit).to_bytes(32, "big")),
)
buckets = st.integers(0, ID_BITS - 1)


@pytest.mark.parametrize(
    ("a", "b", "apart"),
    [
        (ZERO, ZERO, 0),
        (ZERO, ONES, (1 << 256) - 1),
        (ZERO, bytes(31) + b"\1", 1),
        (ZERO, b"\x80" + bytes(31), 1 << 255),
        (b"\x0f" + bytes(31), b"\xf0" + bytes(31), 0xFF << 248),
    ],
)
def test_distances(a: bytes, b: bytes, apart: int) -> None:
    assert distance(a, b) == apart


@given(keys, keys, keys)
def test_it_is_a_metric(a: bytes, b: bytes, c: bytes) -> None:
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b)
    assert distance(a, c) <= distance(a, b) + distance(b, c)


@given(keys, st.integers(0, (1 << ID_BITS) - 1))
def test_at_every_distance_there_is_exactly_one_key(a: bytes, apart: int) -> None:
    b = (int.from_bytes(a, "big") ^ apart).to_bytes(32, "big")
    assert distance(a, b) == apart


@given(keys, keys)
def test_a_bucket_and_shared_bits_are_two_ways_to_say_how_far(a: bytes, b: bytes) -> None:
    assume(a != b)
    bucket = bucket_of(a, b)
    assert 1 << bucket <= distance(a, b) < 2 << bucket
    assert shared_bits(a, b) + bucket == ID_BITS - 1
    first, second = (f"{int.from_bytes(key, 'big'):0256b}" for key in (a, b))
    same = shared_bits(a, b)
    assert first[:same] == second[:same] and first[same] != second[same]


def test_shared_bits_at_the_ends() -> None:
    assert shared_bits(ZERO, ZERO) == ID_BITS
    assert shared_bits(ZERO, ONES) == 0
    assert shared_bits(ZERO, bytes(31) + b"\1") == ID_BITS - 1


@given(keys, buckets, st.binary(min_size=32, max_size=32))
def test_a_random_key_lands_in_its_bucket(me: bytes, bucket: int, drawn: bytes) -> None:
    key = random_key(me, bucket, lambda size: drawn[:size])
    assert len(key) == 32
    assert bucket_of(me, key) == bucket


@given(keys, buckets, keys)
def test_any_key_of_the_bucket_may_be_drawn(me: bytes, bucket: int, wanted: bytes) -> None:
    assume(wanted != me)
    assert random_key(me, bucket_of(me, wanted), lambda _: wanted) == wanted


@given(st.lists(keys, max_size=40, unique=True), keys, st.integers(0, 45))
def test_nearest_is_the_head_of_all_sorted_by_distance(
    publics: list[bytes], target: bytes, count: int
) -> None:
    contacts = [Contact(key, "host:1") for key in publics]
    found = nearest(iter(contacts), target, count)
    apart = [distance(each.node_id, target) for each in found]
    assert apart == sorted(distance(each.node_id, target) for each in contacts)[:count]
    assert set(found) <= set(contacts)
