"""What a witness cosigns, and what it refuses with evidence that convicts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.core.hashing import sha256
from dsn.errors import PeerError
from dsn.ledger.bodies import Transfer
from dsn.ledger.checkpoint import NoteSignature, SignedCheckpoint, parse_checkpoint
from dsn.ledger.cosignature import cosigned_at
from dsn.ledger.entry import Entry, sign_entry
from dsn.ledger.evidence import convict, decode_evidence
from dsn.ledger.log import LogLeaf
from dsn.ledger.state import Changes
from dsn.ledger.trust import witness_key
from tests.support.ledger_world import DOMAIN, KEYS, NETWORK, START, address
from tests.support.witness_world import OTHER, TRUST, WITNESS, Home, Operator, salt_of

KEY = witness_key(WITNESS.public)


def time_of(signed: SignedCheckpoint, line: NoteSignature) -> int | None:
    return cosigned_at(signed.signed(line), KEY)


def refused(home: Home, operator: Operator, signed: SignedCheckpoint | None = None) -> PeerError:
    with pytest.raises(PeerError) as failure:
        home.show(operator, signed)
    return failure.value


def convicted(home: Home, error: PeerError) -> str:
    """The fault that the evidence of ``error`` proves to anyone; the witness kept it too."""
    assert error.evidence in home.kept.values()
    conviction = convict(decode_evidence(error.evidence), TRUST)
    assert conviction.accused == TRUST.operator
    return conviction.fault


def test_an_honest_log_is_followed_as_it_grows(home: Home, operator: Operator) -> None:
    for count in (1, 300, 1, 260):
        operator.pay(count)
        signed = operator.signed_now()
        assert time_of(signed, home.show(operator)) == int(home.clock.time_s)
        assert home.judge.size == signed.checkpoint.size == len(operator.leaves)
    assert home.kept == {}


def test_a_small_step_takes_one_call(home: Home, long: Operator) -> None:
    home.show(long)
    long.asked.clear()
    long.pay()
    home.show(long)
    assert long.asked == [f"tile/entries/002.p/{len(long.leaves) - 512}"]


def test_the_same_checkpoint_is_cosigned_again_and_time_never_goes_back(
    home: Home, operator: Operator
) -> None:
    signed = operator.signed_now()
    first = time_of(signed, home.show(operator))
    home.clock.time_s -= 500
    assert time_of(signed, home.show(operator)) == first
    home.restart()
    assert time_of(signed, home.show(operator)) == first


def test_an_earlier_checkpoint_is_answered_with_the_newest(home: Home, operator: Operator) -> None:
    earlier = operator.signed_now()
    operator.pay(5)
    home.show(operator)
    error = refused(home, operator, earlier)
    assert error.detail_code == "ledger_behind"
    assert parse_checkpoint(error.evidence) == operator.signed_now()
    assert home.kept == {}


def test_a_fork_is_convicted(home: Home, operator: Operator) -> None:
    other = operator.fork()
    operator.pay()
    other.do("alice", Transfer(address("bob"), 2))
    home.show(operator)
    error = refused(home, other)
    assert (error.detail_code, convicted(home, error)) == ("forked_ledger", "fork")


@pytest.mark.parametrize("size", [3, 400])
def test_a_dropped_entry_is_convicted_however_the_log_goes_on(
    home: Home, operator: Operator, size: int
) -> None:
    operator.pay(size)
    other = operator.fork()
    operator.pay(2)
    other.do("alice", Transfer(address("bob"), 2))
    other.pay(5)
    home.show(operator)
    error = refused(home, other)
    assert (error.detail_code, convicted(home, error)) == ("forked_ledger", "history")
    home.show(operator)


def test_a_rewound_log_is_convicted_if_it_went_on_otherwise(home: Home, operator: Operator) -> None:
    other = operator.fork()
    operator.pay(5)
    other.do("alice", Transfer(address("bob"), 2))
    home.show(operator)
    error = refused(home, other)
    assert (error.detail_code, convicted(home, error)) == ("forked_ledger", "history")


def test_a_fall_of_the_epoch_is_convicted(home: Home, operator: Operator) -> None:
    home.show(operator)
    operator.pay()
    error = refused(home, operator, operator.signed_now(epoch=0))
    assert (error.detail_code, convicted(home, error)) == ("forked_ledger", "rewind")


def test_minted_credit_is_convicted(home: Home, operator: Operator) -> None:
    operator.pay(20)
    before = operator.fork()
    operator.pay()
    minted = before.state.account(address("sam"))
    richer = before.state.having(Changes.of([replace(minted, available=START * 9)], {}))
    before.add(replace(operator.leaves[-1], state_root=richer.root))
    error = refused(home, before)
    assert (error.detail_code, convicted(home, error)) == ("wrong_entry", "state_root_differs")
    assert home.judge.size == 0


def test_an_entry_that_the_rules_refuse_is_convicted(home: Home, operator: Operator) -> None:
    operator.pay(3)
    home.show(operator)
    nonce = operator.account("alice").nonce + 1
    entry = Entry(NETWORK, address("alice"), nonce, Transfer(address("bob"), START * 2))
    signature = sign_entry(entry, DOMAIN, KEYS["alice"]).signature
    operator.add(LogLeaf(entry.encode(), signature, operator.state.root))
    error = refused(home, operator)
    assert (error.detail_code, convicted(home, error)) == ("wrong_entry", "not_enough_credit")


def test_an_entry_that_its_owner_never_signed_is_convicted(home: Home, operator: Operator) -> None:
    entry = operator.entry("alice", Transfer(address("sam"), 1))
    signature = sign_entry(entry, DOMAIN, KEYS["sam"]).signature
    operator.add(LogLeaf(entry.encode(), signature, operator.state.root))
    error = refused(home, operator)
    assert (error.detail_code, convicted(home, error)) == ("wrong_entry", "invalid_signature")


@pytest.mark.parametrize("wrong", [{"state_root": sha256(b"")}, {"epoch": 7}])
def test_a_checkpoint_that_says_another_state_is_convicted(
    home: Home, operator: Operator, wrong: dict[str, int | bytes]
) -> None:
    operator.pay(3)
    error = refused(home, operator, operator.signed_now(**wrong))
    assert (error.detail_code, convicted(home, error)) == ("wrong_entry", "checkpoint_differs")
    assert home.judge.size == 0


def test_other_leaves_than_were_signed_are_refused_and_not_kept(
    home: Home, operator: Operator
) -> None:
    operator.pay(400)
    other = operator.fork()
    other.leaves[100], other.leaves[101] = other.leaves[101], other.leaves[100]
    assert refused(home, other).detail_code == "wrong_leaves"
    operator.served[f"tile/0/001.p/{len(operator.leaves) - 256}"] = b""
    assert refused(home, operator).detail_code == "wrong_leaves"
    operator.served = {"tile/entries/000": b"x"}
    assert refused(home, operator).detail_code == "malformed_message"
    assert (home.judge.size, home.kept) == (0, {})
    operator.served = {}
    home.show(operator)


def test_an_epoch_opens_over_the_log_as_it_was_right_after_the_shut(
    home: Home, operator: Operator
) -> None:
    """An operator that may name any later log tries as many beacons as there are entries."""
    home.show(operator)
    home.clock.time_s += 200
    operator.shut_with([home.salt(1), salt_of(OTHER, 1)])
    home.show(operator)
    operator.pay(2)
    operator.do("operator", operator.opening(operator.frontier.head))
    error = refused(home, operator)
    assert error.detail_code == "wrong_entry"
    assert "bad_closed_log" in error.message


def test_a_log_without_entries_is_cosigned(home: Home, operator: Operator) -> None:
    home.show(Operator())
    home.show(operator)
    assert refused(home, Operator()).detail_code == "ledger_behind"


def test_lines_of_strangers_are_not_kept(home: Home, operator: Operator) -> None:
    line = NoteSignature("somebody", b"1234", b"x" * 80)
    home.show(operator, operator.signed_now().signed(line))
    assert home.files.followed == operator.signed_now()
