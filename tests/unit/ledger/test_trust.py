"""Whom a reader believes follows from the network file, and from nothing in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dsn.core.hashing import sha256
from dsn.core.keys import SigningKey, node_id_of
from dsn.errors import DsnError
from dsn.ids import NetworkId, format_node_id
from dsn.ledger.checkpoint import (
    Checkpoint,
    KeyKind,
    NoteKey,
    SignedCheckpoint,
    log_origin,
    sign_checkpoint,
    sign_root,
)
from dsn.ledger.cosignature import AHEAD_S, cosign
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.trust import Trust, witness_key
from dsn.ledger.typed import Domain
from tests.support.ledger_world import KEYS, PARAMS, WITNESSES

LOG_KEY, STRANGER = SigningKey(b"\x61" * 32), SigningKey(b"\x62" * 32)
NOW_S = 1_700_000_000
LEDGER = replace(PARAMS, log_key=LOG_KEY.public)
TRUST = Trust.of(LEDGER)
CHECKPOINT = Checkpoint(log_origin(LEDGER.domain.network), 9, sha256(b"log"), sha256(b"state"), 4)


def signed(
    *witnesses: SigningKey,
    checkpoint: Checkpoint = CHECKPOINT,
    log_key: SigningKey = LOG_KEY,
    operator: SettlementKey = KEYS["operator"],
    domain: Domain = LEDGER.domain,
    now_s: int = NOW_S,
) -> SignedCheckpoint:
    note = SignedCheckpoint(checkpoint)
    name = NoteKey(KeyKind.OPERATOR, checkpoint.origin, LOG_KEY.public)
    note = note.signed(sign_checkpoint(checkpoint, name, log_key.sign))
    note = note.signed(sign_root(checkpoint, domain, operator))
    for key in witnesses:
        note = note.signed(cosign(checkpoint, witness_key(key.public), key.sign, now_s))
    return note


def code(call: Callable[[], None]) -> str:
    try:
        call()
    except DsnError as error:
        return error.detail_code
    return ""


def test_the_keys_are_those_of_the_parameters() -> None:
    origin = log_origin(LEDGER.domain.network)
    assert TRUST.operator == NoteKey(KeyKind.OPERATOR, origin, LOG_KEY.public)
    assert TRUST.quorum.needed == LEDGER.quorum == 2
    assert {key.public for key in TRUST.quorum.witnesses} == LEDGER.witnesses
    assert Trust.of(replace(LEDGER, witnesses=frozenset(reversed(list(LEDGER.witnesses))))) == TRUST


def test_a_witness_goes_by_its_node_id() -> None:
    key = witness_key(STRANGER.public)
    assert (key.kind, key.name) == (
        KeyKind.WITNESS,
        format_node_id(node_id_of(STRANGER.public)),
    )


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((0, 1), ""), ((1, 2), ""), ((0, 1, 2), ""), ((0,), "no_quorum"), ((), "no_quorum")],
)
def test_a_quorum_of_them_is_needed(numbers: tuple[int, ...], expected: str) -> None:
    note = signed(*(WITNESSES[number] for number in numbers))
    assert code(lambda: TRUST.verify(note, NOW_S)) == expected
    assert code(lambda: TRUST.verify_operator(note)) == "", "which that does not ask for"


def test_strangers_and_the_operator_itself_do_not_count() -> None:
    note = signed(WITNESSES[0], STRANGER, LOG_KEY)
    assert code(lambda: TRUST.verify(note, NOW_S)) == "no_quorum"


def test_a_cosignature_from_the_future_does_not_count() -> None:
    note = signed(*WITNESSES, now_s=NOW_S + AHEAD_S + 1)
    assert code(lambda: TRUST.verify(note, NOW_S)) == "no_quorum"
    assert code(lambda: TRUST.verify(note, NOW_S + 1)) == ""


def test_the_operator_signs_with_both_its_keys() -> None:
    forged = (
        (signed(*WITNESSES, log_key=STRANGER), "invalid_signature"),
        (signed(*WITNESSES, operator=KEYS["sam"]), "unsigned_checkpoint"),
        (signed(*WITNESSES, domain=replace(LEDGER.domain, chain_id=1)), "invalid_signature"),
    )
    for note, expected in forged:
        assert code(lambda note=note: TRUST.verify_operator(note)) == expected
        assert code(lambda note=note: TRUST.verify(note, NOW_S)) == expected


@pytest.mark.parametrize("missing", [0, 1])
def test_each_of_the_two_lines_is_needed(missing: int) -> None:
    note = signed(*WITNESSES)
    lines = [line for at, line in enumerate(note.signatures) if at != missing]
    note = replace(note, signatures=tuple(lines))
    assert code(lambda: TRUST.verify_operator(note)) == "unsigned_checkpoint"


def test_a_line_does_not_move_to_another_statement() -> None:
    note = signed(*WITNESSES)
    changes = (
        {"size": 10},
        {"root": bytes(32)},
        {"state_root": sha256(b"minted")},
        {"epoch": 5},
    )
    for change in changes:
        moved = replace(note, checkpoint=replace(CHECKPOINT, **change))
        assert code(lambda moved=moved: TRUST.verify(moved, NOW_S)) == "invalid_signature", change


def test_another_networks_checkpoint_is_another_log() -> None:
    other = replace(CHECKPOINT, origin=log_origin(NetworkId(b"\x09" * 32)))
    note = signed(*WITNESSES, checkpoint=other)
    assert code(lambda: TRUST.verify(note, NOW_S)) == "other_log"


def test_without_witnesses_the_operator_is_enough() -> None:
    alone = Trust.of(replace(LEDGER, witnesses=frozenset(), quorum=0))
    assert code(lambda: alone.verify(signed(), NOW_S)) == ""
    assert code(lambda: alone.verify(signed(log_key=STRANGER), NOW_S)) == "invalid_signature"
