"""Which shards are read, and what is tried next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dsn.machines.download import Download


def test_data_shards_come_first_and_cost_no_arithmetic() -> None:
    plan = Download(3, 10, range(3))
    assert plan.start() == [0, 1, 2]
    assert plan.enough({0, 1, 2}) and not plan.enough({0, 1})


def test_late_holders_are_read_last() -> None:
    plan = Download(3, 6, range(3), late={1})
    assert plan.start() == [0, 2, 3]
    assert plan.fail(0) == [4]
    assert plan.fail(2) == [5]
    assert plan.fail(3) == [1]
    assert plan.fail(4) == []
    assert plan.found == 2


def test_one_symbol_is_read_from_one_node_until_it_fails() -> None:
    plan = Download(4, 8, [2])
    assert plan.start() == [2]
    assert plan.enough({2})
    assert plan.fail(2) == [0, 1, 3, 4]
    assert plan.enough({0, 1, 3, 4})


def test_a_stall_asks_one_more_than_needed() -> None:
    plan = Download(4, 8, range(4))
    plan.start()
    assert plan.stall() == [4]
    assert plan.stall() == [5]
    plan.settle({0, 1, 2, 4})
    assert plan.stall() == [3]


def test_shards_that_nobody_holds_are_never_read() -> None:
    plan = Download(2, 4, range(2), gone=[0, 2])
    assert plan.start() == [1, 3]
    assert plan.fail(1) == []
    assert plan.found == 1


@given(st.integers(1, 8), st.integers(0, 8), st.data())
def test_it_succeeds_exactly_when_required_shards_are_good(
    required: int, spare: int, data: st.DataObject
) -> None:
    total = required + spare
    good = data.draw(st.sets(st.integers(0, total - 1)))
    late = data.draw(st.sets(st.integers(0, total - 1)))
    wanted = data.draw(st.sets(st.integers(0, required - 1), min_size=1))
    plan = Download(required, total, wanted, late)
    have: set[int] = set()
    queue = plan.start()
    while queue:
        index = queue.pop(0)
        if index in good:
            have.add(index)
        else:
            queue += plan.fail(index)
    assert plan.enough(have) == (len(good) >= required or wanted <= have)
