from __future__ import annotations

from random import Random

import pytest

from dsn.dht.shelf import Kept, Quota, Shelf
from dsn.errors import TooMany
from dsn.ids import NodeId

A, B = NodeId(b"a" * 32), NodeId(b"b" * 32)


class Apple(Kept):
    """A kind of thing."""


class Pear(Kept):
    """Another."""


def shelf(most: int = 100, most_bytes: int = 10_000) -> Shelf:
    return Shelf(most, most_bytes, {Apple: Quota(3, 10_000), Pear: Quota(2, 500)})


def put(on: Shelf, kind: type[Kept], publisher: NodeId, until_s: int = 9, size: int = 10) -> Kept:
    on.check_room(kind, publisher, size)
    new = kind(b"", publisher, 99, until_s, size)
    on.put(new)
    return new


def refusal(on: Shelf, kind: type[Kept], publisher: NodeId, size: int = 10, *gone: Kept) -> str:
    with pytest.raises(TooMany) as failure:
        on.check_room(kind, publisher, size, gone)
    return failure.value.detail_code


def test_each_publisher_has_a_quota_of_each_kind() -> None:
    on = shelf()
    for _ in range(3):
        put(on, Apple, A)
    for _ in range(2):
        put(on, Pear, A)
    assert refusal(on, Apple, A) == refusal(on, Pear, A) == "publisher_quota"
    put(on, Apple, B)
    put(on, Pear, B)
    assert (len(on), on.size_bytes) == (7, 70)


def test_what_goes_makes_room_for_what_comes() -> None:
    on = shelf()
    apples = [put(on, Apple, A) for _ in range(3)]
    on.check_room(Apple, A, 10, apples[:1])
    assert refusal(on, Apple, B, 10_000) == "records_full"
    on.check_room(Apple, B, 10_000, apples)
    assert refusal(on, Apple, B, 10_001, *apples) == "records_full"
    on.take_off(apples[0])
    put(on, Apple, A)
    put(on, Apple, B)
    assert refusal(on, Apple, A, 10, *[put(on, Apple, B)]) == "publisher_quota"


def test_all_together_are_bounded_in_number_and_bytes() -> None:
    on = shelf(most=2)
    first = put(on, Apple, A)
    put(on, Pear, A)
    assert refusal(on, Apple, B) == "records_full"
    on.check_room(Apple, B, 10, [first])
    tight = shelf(most_bytes=100)
    put(tight, Apple, A, size=60)
    assert refusal(tight, Apple, A, 41) == refusal(tight, Pear, A, 41) == "records_full"
    put(tight, Pear, A, size=40)
    assert tight.size_bytes == 100


def test_a_kind_cannot_crowd_out_the_others() -> None:
    on = shelf()
    put(on, Pear, A, size=500)
    assert refusal(on, Pear, A, 1) == "records_full"
    put(on, Apple, A, size=9_500)


def test_what_ran_out_is_given_once() -> None:
    on = shelf()
    early, late = put(on, Apple, A, until_s=5), put(on, Pear, A, until_s=6)
    assert on.expire(4.999) == []
    assert on.expire(5) == [early]
    assert on.expire(5) == []
    assert on.expire(100) == [late]
    assert (len(on), on.size_bytes) == (0, 0)
    for _ in range(3):
        put(on, Apple, A)


def test_what_was_taken_off_does_not_run_out() -> None:
    on = shelf()
    on.take_off(put(on, Apple, A, until_s=5))
    assert on.expire(10) == []
    assert len(on) == 0


def test_what_is_renewed_stays_longer_and_never_shorter() -> None:
    on = shelf()
    kept = put(on, Apple, A, until_s=5)
    on.renew(kept, A, 8)
    on.renew(kept, A, 7)
    assert on.expire(7.5) == []
    assert on.expire(8) == [kept]


def test_who_renews_is_charged_as_far_as_the_quota_goes() -> None:
    on = shelf()
    apples = [put(on, Apple, A) for _ in range(3)]
    on.renew(apples[0], B, 9)
    put(on, Apple, A)
    for _ in range(2):
        put(on, Apple, B)
    assert refusal(on, Apple, B) == "publisher_quota"
    on.renew(apples[1], B, 20)
    assert refusal(on, Apple, A) == "publisher_quota"
    assert apples[1] not in on.expire(19)


def test_renewing_without_end_costs_no_memory() -> None:
    on = shelf()
    kept = [put(on, Apple, A), put(on, Apple, B)]
    for until_s in range(10, 5_000):
        on.renew(kept[until_s % 2], A, until_s)
    assert len(on._queue) < 100
    assert set(on.expire(4_999)) == set(kept)


@pytest.mark.parametrize("seed", range(5))
def test_it_agrees_with_a_list(seed: int) -> None:
    random, on, now_s = Random(seed), shelf(most=50), 0
    model: list[Kept] = []
    for _ in range(2_000):
        now_s += random.random() < 0.3
        due = {each for each in model if each.until_s <= now_s}
        assert set(on.expire(now_s)) == due, f"seed {seed}"
        model = [each for each in model if each not in due]
        publisher = random.choice((A, B))
        if model and random.random() < 0.5:
            chosen = random.choice(model)
            if random.random() < 0.5:
                on.renew(chosen, publisher, now_s + random.randrange(1, 20))
            else:
                on.take_off(chosen)
                model.remove(chosen)
        else:
            own = sum(each.publisher == publisher for each in model)
            if own == 3:
                assert refusal(on, Apple, publisher) == "publisher_quota"
            else:
                model.append(put(on, Apple, publisher, now_s + random.randrange(1, 20)))
        assert (len(on), on.size_bytes) == (len(model), 10 * len(model)), f"seed {seed}"
