"""A witness that is killed, at any point, goes on where it was and never says two things."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from dsn.errors import DataLost, DsnError
from dsn.ledger.bodies import Transfer
from dsn.ledger.checkpoint import NoteSignature, SignedCheckpoint
from dsn.ledger.cosignature import cosigned_at
from dsn.ledger.trust import witness_key
from tests.support.ledger_world import address
from tests.support.signing import refusal
from tests.support.witness_world import OPEN_S, OTHER, WITNESS, Home, Operator, salt_of

KEY = witness_key(WITNESS.public)


def killed_after(home: Home, operator: Operator, calls: int) -> NoteSignature | None:
    """Show all there is, and kill the witness after so many calls of it were answered."""
    course = home.judge.consider(operator.signed_now(), home.now_ms)
    try:
        path = next(course)
        for _ in range(calls):
            path = course.send(operator.read(path))
    except StopIteration as done:
        line: NoteSignature = done.value
        return line
    finally:
        course.close()
        home.restart()
    return None


def test_what_was_cosigned_was_on_disk_first(home: Home, operator: Operator) -> None:
    line = home.show(operator)
    home.restart()
    assert home.files.cosigned == operator.signed_now().signed(line)
    home.clock.time_s -= 1_000
    again = operator.signed_now().signed(home.show(operator))
    assert cosigned_at(again, KEY) == cosigned_at(operator.signed_now().signed(line), KEY)


@pytest.mark.parametrize("calls", [0, 1, 3, 5, 6])
def test_killed_while_it_catches_up_it_goes_on(home: Home, long: Operator, calls: int) -> None:
    killed_after(home, long, calls)
    size = home.judge.size
    assert size % 256 == 0 or size == len(long.leaves)
    home.show(long)
    assert home.judge.size == len(long.leaves)


@pytest.mark.parametrize("calls", range(12))
def test_killed_between_two_stories_it_tells_one(
    home: Home, operator: Operator, calls: int
) -> None:
    operator.pay(300)
    other = operator.fork()
    operator.pay(300)
    other.do("alice", Transfer(address("bob"), 2))
    other.pay(299)
    assert len(other.leaves) == len(operator.leaves)
    lines = [killed_after(home, operator, calls)]
    for each in (other, operator, other):
        with contextlib.suppress(DsnError):
            lines.append(home.show(each))
        home.restart()
    signed = {
        each.signed_now().checkpoint.root
        for each in (operator, other)
        for line in lines
        if line is not None and _is_under(line, each.signed_now())
    }
    assert len(signed) == 1


def _is_under(line: NoteSignature, signed: SignedCheckpoint) -> bool:
    try:
        return cosigned_at(signed.signed(line), KEY) is not None
    except DsnError:
        return False


def test_a_fork_of_what_was_only_followed_is_convicted_too(home: Home, long: Operator) -> None:
    operator, other = long, long.fork()
    other.do("alice", Transfer(address("bob"), 2))
    operator.pay()
    assert killed_after(home, operator, 3) is None
    assert 0 < home.judge.size < len(operator.leaves)
    assert refusal(lambda: home.show(other)) == "forked_ledger"
    other.pay()
    assert refusal(lambda: home.show(other)) == "forked_ledger"
    assert len(home.kept) == 2
    home.show(operator)


def test_a_dated_shut_that_was_not_cosigned_is_undated_after_a_kill(
    home: Home, operator: Operator
) -> None:
    home.show(operator)
    home.clock.time_s += OPEN_S
    operator.shut_with([home.salt(1), salt_of(OTHER, 1)])
    home.show(operator)
    home.restart()
    assert home.judge.undated == []
    home.show(operator)


def test_an_epoch_that_opened_while_it_was_down_counts_from_when_it_was_seen(
    home: Home, operator: Operator
) -> None:
    home.show(operator)
    (home.path / "state" / "witness.watch").unlink()
    home.clock.time_s += OPEN_S
    home.restart()
    assert refusal(lambda: home.salt(1)) == "shut_too_early"
    home.clock.time_s += OPEN_S
    home.salt(1)


def test_a_damaged_file_is_never_guessed_at(tmp_path: Path, home: Home, operator: Operator) -> None:
    home.show(operator)
    for name in ("witness.followed", "witness.cosigned", "witness.watch"):
        file = tmp_path / "state" / name
        right = file.read_bytes()
        file.write_bytes(right[:-3])
        with pytest.raises(DataLost) as failure:
            home.restart()
        assert failure.value.detail_code == "witness_damaged"
        file.write_bytes(right)
    home.restart()
