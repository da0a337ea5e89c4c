from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from dsn.core.keys import SigningKey
from dsn.errors import InvalidSignature, UsageError
from dsn.ledger.checkpoint import (
    KeyKind,
    NoteKey,
    NoteSignature,
    SignedCheckpoint,
    format_checkpoint,
    parse_checkpoint,
    parse_note_key,
    verify_checkpoint,
)
from dsn.ledger.cosignature import (
    AHEAD_S,
    MAX_WITNESSES,
    Quorum,
    cosign,
    cosigned_at,
    verify_quorum,
)
from tests.support.ledger_log import (
    NOW_S,
    OPERATOR,
    STRANGER,
    WITNESSES,
    at,
    cosigned,
    counted,
    signed,
)

CHECKPOINT = at(counted(100), 61)
FIRST, SECOND, THIRD = WITNESSES
KEY = SigningKey(b"\x07" * 32)
WITNESS = NoteKey(KeyKind.WITNESS, "witness.example", KEY.public)


def test_the_line_field_by_field() -> None:
    line = cosign(CHECKPOINT, WITNESS, KEY.sign, NOW_S)
    text = f"cosignature/v1\ntime 1700000000\n{CHECKPOINT.body}".encode()
    assert line.signature == NOW_S.to_bytes(8, "big") + KEY.sign(text)
    assert (line.name, line.key_id) == ("witness.example", WITNESS.key_id)


def test_a_witness_says_when() -> None:
    note = parse_checkpoint(format_checkpoint(signed(CHECKPOINT, (FIRST, 7), (SECOND, 0))))
    assert [cosigned_at(note, witness) for witness in WITNESSES] == [7, 0, None]


def test_cosignatures_leave_the_operators_line_as_it_is() -> None:
    verify_checkpoint(cosigned(CHECKPOINT), OPERATOR)


@pytest.mark.parametrize(
    "line",
    [
        cosign(CHECKPOINT, WITNESS, KEY.sign, NOW_S).signature[:-1],
        cosign(CHECKPOINT, WITNESS, KEY.sign, NOW_S).signature[8:],
        cosign(CHECKPOINT, WITNESS, KEY.sign, NOW_S).signature + b"\0",
        (NOW_S + 1).to_bytes(8, "big") + cosign(CHECKPOINT, WITNESS, KEY.sign, NOW_S).signature[8:],
        cosign(replace(CHECKPOINT, epoch=7), WITNESS, KEY.sign, NOW_S).signature,
        cosign(CHECKPOINT, WITNESS, KEY.sign, 1 << 63).signature,
        NOW_S.to_bytes(8, "big") + KEY.sign(CHECKPOINT.body.encode()),
        b"",
    ],
)
def test_a_line_that_the_witness_did_not_write_spoils_the_note(line: bytes) -> None:
    note = cosigned(CHECKPOINT).signed(NoteSignature(WITNESS.name, WITNESS.key_id, line))
    with pytest.raises(InvalidSignature) as refused:
        cosigned_at(note, WITNESS)
    assert refused.value.detail_code == "invalid_signature"
    with pytest.raises(InvalidSignature):
        verify_quorum(note, Quorum((*WITNESSES, WITNESS), 3), NOW_S)


def test_an_operators_signature_is_no_cosignature_of_the_same_key() -> None:
    both = replace(WITNESS, kind=KeyKind.OPERATOR)
    line = NoteSignature(both.name, both.key_id, KEY.sign(CHECKPOINT.body.encode()))
    assert cosigned_at(SignedCheckpoint(CHECKPOINT, (line,)), WITNESS) is None


def test_a_quorum_is_enough_and_one_less_is_not() -> None:
    note = signed(CHECKPOINT, (FIRST, NOW_S), (THIRD, NOW_S))
    for needed in range(3):
        verify_quorum(note, Quorum(WITNESSES, needed), NOW_S)
    with pytest.raises(InvalidSignature) as refused:
        verify_quorum(note, Quorum(WITNESSES, 3), NOW_S)
    assert refused.value.detail_code == "no_quorum"
    assert refused.value.message == "checkpoint: 2 of 3 witnesses cosigned, 3 needed"


def test_strangers_do_not_count() -> None:
    note = signed(CHECKPOINT, (FIRST, NOW_S), (STRANGER, NOW_S))
    with pytest.raises(InvalidSignature):
        verify_quorum(note, Quorum(WITNESSES, 2), NOW_S)
    same_name = NoteKey(KeyKind.WITNESS, SECOND.name, STRANGER.public)
    posing = cosign(CHECKPOINT, same_name, SigningKey(b"\x09" * 32).sign, NOW_S)
    with pytest.raises(InvalidSignature) as refused:
        verify_quorum(note.signed(posing), Quorum(WITNESSES, 2), NOW_S)
    assert refused.value.detail_code == "no_quorum"


def test_a_cosignature_from_the_future_does_not_count_yet() -> None:
    quorum = Quorum(WITNESSES, 3)
    note = signed(CHECKPOINT, (FIRST, NOW_S), (SECOND, NOW_S - 86_400), (THIRD, NOW_S + AHEAD_S))
    verify_quorum(note, quorum, NOW_S)
    with pytest.raises(InvalidSignature) as refused:
        verify_quorum(note, quorum, NOW_S - 1)
    assert refused.value.detail_code == "no_quorum"


@pytest.mark.parametrize(
    ("witnesses", "needed"),
    [
        (WITNESSES, 4),
        (WITNESSES, -1),
        ((), 1),
        ((OPERATOR,), 1),
        ((FIRST, FIRST), 1),
        ((FIRST, replace(FIRST, name="another")), 1),
        ((FIRST, replace(SECOND, name=FIRST.name)), 1),
        (
            tuple(
                NoteKey(KeyKind.WITNESS, str(n), n.to_bytes(32, "big"))
                for n in range(MAX_WITNESSES + 1)
            ),
            1,
        ),
    ],
)
def test_a_quorum_that_cannot_be_or_counts_one_key_twice_is_refused(
    witnesses: tuple[NoteKey, ...], needed: int
) -> None:
    with pytest.raises(UsageError) as refused:
        Quorum(witnesses, needed)
    assert refused.value.detail_code == "bad_quorum"


def test_a_network_without_witnesses_asks_for_none() -> None:
    verify_quorum(signed(CHECKPOINT), Quorum((), 0), NOW_S)


def test_a_witness_key_has_the_standards_type() -> None:
    raw = base64.b64encode(b"\x04" + KEY.public).decode()
    assert parse_note_key(f"witness.example+{WITNESS.key_id.hex()}+{raw}") == WITNESS
