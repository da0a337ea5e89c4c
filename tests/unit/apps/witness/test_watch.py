"""A witness's clock on its own: salts, dates, and what it lets through."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.apps.witness.watch import LATE_MOST, LATE_SPAN_EPOCHS, Watch
from dsn.errors import MalformedMessage
from dsn.ledger.bodies import Salt
from dsn.proofs.drand import DrandChain, salt_for
from dsn.wire.status import RetryLater
from tests.support.signing import refusal
from tests.support.witness_world import EPOCH_S, LEDGER, OPEN_S, SALT_MS

OWN, OPENED_MS = b"w" * 32, 1_000_000
READY_MS = OPENED_MS + 1_000 * OPEN_S
FIRST, SECOND = b"1" * 32, b"2" * 32
OPEN = Watch().opened(4, OPENED_MS)
GIVEN = OPEN.given(FIRST, READY_MS, LEDGER)


def shut_with(*salts: bytes, witness: bytes = OWN) -> list[Salt]:
    return [Salt(witness, salt, bytes(64)) for salt in salts]


def test_a_salt_is_given_once_the_epoch_was_open_for_long_enough() -> None:
    with pytest.raises(RetryLater) as failure:
        OPEN.given(FIRST, READY_MS - 1, LEDGER)
    assert (failure.value.detail_code, failure.value.retry_after_s) == ("shut_too_early", 0.001)
    assert (GIVEN.salt, GIVEN.given_ms) == (FIRST, READY_MS)


def test_a_salt_stays_the_same_while_it_dates_a_shut() -> None:
    assert GIVEN.given(SECOND, READY_MS + SALT_MS, LEDGER) == GIVEN
    later = GIVEN.given(SECOND, READY_MS + SALT_MS + 1, LEDGER)
    assert (later.salt, later.given_ms) == (SECOND, READY_MS + SALT_MS + 1)


@pytest.mark.parametrize(
    ("watch", "salts", "late_ms", "doubt"),
    [
        (GIVEN, shut_with(FIRST), 0, ""),
        (GIVEN, shut_with(FIRST), SALT_MS, ""),
        (GIVEN, shut_with(FIRST), SALT_MS + 1, "salt_stale"),
        (GIVEN, shut_with(SECOND), 0, "salt_missing"),
        (GIVEN, shut_with(FIRST, witness=b"o" * 32), 0, "salt_missing"),
        (GIVEN, [], 0, "salt_missing"),
        (OPEN, shut_with(b""), 0, "salt_missing"),
        (GIVEN, shut_with(FIRST), -1, "shut_too_early"),
    ],
)
def test_a_shut_is_dated_by_the_own_fresh_salt_alone(
    watch: Watch, salts: list[Salt], late_ms: int, doubt: str
) -> None:
    assert watch.doubt(salts, OWN, READY_MS + late_ms, LEDGER) == doubt


def test_the_next_epoch_begins_without_a_salt() -> None:
    after = GIVEN.opened(5, READY_MS + 1)
    assert (after.epoch, after.opened_ms, after.salt) == (5, READY_MS + 1, b"")


def test_few_undated_shuts_are_let_through_in_the_time_of_many_epochs() -> None:
    watch: Watch | None = OPEN
    for each in range(LATE_MOST):
        assert watch is not None
        watch = watch.let_through(1, READY_MS + each, LEDGER)
    assert watch is not None
    span_ms = 1_000 * EPOCH_S * LATE_SPAN_EPOCHS
    assert watch.let_through(1, READY_MS + span_ms - 1, LEDGER) is None
    assert watch.let_through(1, READY_MS + span_ms, LEDGER) is not None
    assert watch.let_through(2, READY_MS + span_ms, LEDGER) is None
    assert OPEN.let_through(LATE_MOST + 1, READY_MS, LEDGER) is None


@pytest.mark.parametrize("watch", [Watch(), OPEN, GIVEN, GIVEN.let_through(3, READY_MS, LEDGER)])
def test_it_is_read_as_it_was_written(watch: Watch) -> None:
    raw = watch.encode()
    assert Watch.decode(raw) == watch
    for other in (raw + b"\0", raw[:-1], b""):
        assert refusal(lambda other=other: Watch.decode(other)) == MalformedMessage.code


def test_a_drand_round_that_is_signed_already_dates_nothing() -> None:
    chain = DrandChain(bytes(96), 1_000, 2)
    ledger = replace(LEDGER, drand=chain)
    number = chain.after(READY_MS)
    salt = salt_for(number, bytes(24))
    watch, due_ms = OPEN.given(salt, READY_MS, ledger), chain.due_ms(number)
    assert watch.doubt(shut_with(salt), OWN, due_ms - 1, ledger) == ""
    assert watch.doubt(shut_with(salt), OWN, due_ms, ledger) == "salt_stale"
    late = shut_with(salt_for(number - 5, bytes(24)), witness=b"o" * 32)
    assert watch.doubt([*late, *shut_with(salt)], OWN, READY_MS, ledger) == "salt_stale"
