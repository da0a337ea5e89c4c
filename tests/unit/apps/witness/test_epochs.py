"""Closing checkpoints: cosigned by who dated the shut, followed by the others."""

from __future__ import annotations

import pytest

from dsn.apps.witness.watch import LATE_MOST
from dsn.ledger.bodies import Salt
from dsn.wire.status import RetryLater
from tests.support.ledger_world import WITNESSES
from tests.support.signing import refusal
from tests.support.witness_world import (
    EPOCH_S,
    OPEN_S,
    OTHER,
    SALT_MS,
    THIRD,
    Home,
    Operator,
    cosigned_by,
    note,
    salt_of,
)


def undated(home: Home, operator: Operator) -> str:
    """The code with which the witness does not cosign yet."""
    with pytest.raises(RetryLater) as failure:
        home.show(operator)
    assert home.files.cosigned is None or (
        home.files.cosigned.checkpoint.size < len(operator.leaves)
    )
    return failure.value.detail_code


def salts(home: Home, operator: Operator) -> list[Salt]:
    return [home.salt(operator.epoch), salt_of(OTHER, operator.epoch)]


@pytest.fixture
def opened(home: Home, operator: Operator) -> Operator:
    """The witness knows that epoch 1 is open, and it has been for long enough."""
    home.show(operator)
    home.clock.time_s += OPEN_S
    return operator


def test_epochs_go_by_when_salts_are_fresh(home: Home, opened: Operator) -> None:
    for epoch in range(1, 5):
        opened.pay()
        opened.shut_with(salts(home, opened))
        home.clock.time_s += SALT_MS / 1_000
        home.show(opened)
        opened.open_epoch()
        home.show(opened)
        assert home.judge.status()["epoch"] == epoch + 1
        home.clock.time_s += OPEN_S
    assert (home.judge.undated, home.judge.status()["let_through"]) == ([], 0)


def test_a_salt_is_for_the_epoch_that_is_open_here(home: Home, operator: Operator) -> None:
    for epoch in (0, 1, 2):
        with pytest.raises(RetryLater) as failure:
            home.salt(epoch)
        assert failure.value.detail_code == "epoch_not_open"
    home.show(operator)
    with pytest.raises(RetryLater) as failure:
        home.salt(1)
    assert failure.value.detail_code == "shut_too_early"
    home.clock.time_s += OPEN_S
    given = home.salt(1)
    assert home.salt(1) == given
    home.restart()
    assert home.salt(1) == given
    home.clock.time_s += 2 * SALT_MS / 1_000
    assert home.salt(1) != given


def test_a_shut_with_a_stale_salt_waits_for_a_quorum(home: Home, opened: Operator) -> None:
    opened.shut_with(salts(home, opened))
    home.clock.time_s += SALT_MS / 1_000 + 0.001
    assert undated(home, opened) == "salt_stale"
    opened.published = note(cosigned_by(opened.signed_now(), OTHER))
    assert undated(home, opened) == "salt_stale"
    opened.published = note(cosigned_by(opened.signed_now(), OTHER, THIRD))
    home.show(opened)
    assert home.judge.status()["let_through"] == 0


def test_a_shut_without_its_salt_is_followed_once_others_dated_it(
    home: Home, opened: Operator
) -> None:
    opened.shut_with([salt_of(OTHER, 1), salt_of(THIRD, 1)])
    closing = opened.signed_now()
    assert undated(home, opened) == "salt_missing"
    opened.open_epoch()
    opened.pay(3)
    assert undated(home, opened) == "salt_missing"
    opened.published = note(cosigned_by(closing, OTHER, THIRD))
    home.show(opened)
    opened.pay()
    home.show(opened)


def test_lines_under_the_brought_checkpoint_count_too(home: Home, opened: Operator) -> None:
    opened.shut_with([salt_of(OTHER, 1), salt_of(THIRD, 1)])
    assert undated(home, opened) == "salt_missing"
    opened.asked.clear()
    home.show(opened, cosigned_by(opened.signed_now(), OTHER, THIRD))
    assert opened.asked == []


def test_a_quorum_before_the_shut_or_beyond_what_is_known_dates_nothing(
    home: Home, opened: Operator
) -> None:
    opened.published = note(cosigned_by(opened.signed_now(), *WITNESSES))
    opened.shut_with([salt_of(OTHER, 1), salt_of(THIRD, 1)])
    assert undated(home, opened) == "salt_missing"
    longer = opened.fork()
    longer.pay()
    opened.published = note(cosigned_by(longer.signed_now(), *WITNESSES))
    assert undated(home, opened) == "salt_missing"


def test_a_quorum_under_another_log_convicts_the_operator(home: Home, opened: Operator) -> None:
    other = opened.fork()
    opened.shut_with([salt_of(OTHER, 1), salt_of(THIRD, 1)])
    other.shut_with([salt_of(OTHER, 1, b"\x06" * 32), salt_of(THIRD, 1)])
    opened.published = note(cosigned_by(other.signed_now(), *WITNESSES))
    assert refusal(lambda: home.show(opened)) == "forked_ledger"
    assert len(home.judge.undated) == len(home.kept) == 1


def test_a_shut_before_its_time_is_not_dated(home: Home, operator: Operator) -> None:
    home.show(operator)
    home.clock.time_s += OPEN_S - 1
    operator.shut_with([salt_of(OTHER, 1), salt_of(THIRD, 1)])
    assert undated(home, operator) == "shut_too_early"


def test_after_an_outage_a_shut_is_let_through_but_not_at_once(
    home: Home, opened: Operator
) -> None:
    opened.shut_with(salts(home, opened))
    home.clock.time_s += 3_600
    assert undated(home, opened) == "salt_stale"
    home.clock.time_s += OPEN_S - 1
    assert undated(home, opened) == "salt_stale"
    home.clock.time_s += 1
    home.show(opened)
    assert home.judge.status()["let_through"] == 1


def test_an_operator_with_an_outage_every_epoch_soon_stands_still(
    home: Home, opened: Operator
) -> None:
    for _ in range(LATE_MOST):
        opened.shut_with(salts(home, opened))
        home.clock.time_s += SALT_MS
        assert undated(home, opened) == "salt_stale"
        home.clock.time_s += OPEN_S
        home.show(opened)
        opened.open_epoch()
        home.show(opened)
        home.clock.time_s += OPEN_S
    opened.shut_with(salts(home, opened))
    home.clock.time_s += SALT_MS
    assert undated(home, opened) == "salt_stale"
    home.clock.time_s += 10 * EPOCH_S
    assert undated(home, opened) == "salt_stale"
    home.restart()
    home.clock.time_s += OPEN_S
    assert undated(home, opened) == "salt_stale"
    opened.published = note(cosigned_by(opened.signed_now(), OTHER, THIRD))
    home.show(opened)


def test_a_new_witness_takes_the_word_of_the_quorum_for_the_past(
    home: Home, operator: Operator
) -> None:
    for _ in range(3):
        operator.shut_with([salt_of(OTHER, operator.epoch), salt_of(THIRD, operator.epoch)])
        operator.open_epoch()
        operator.pay(200)
    operator.published = note(cosigned_by(operator.signed_now(), OTHER, THIRD))
    operator.pay()
    home.show(operator)
    assert home.judge.undated == []
