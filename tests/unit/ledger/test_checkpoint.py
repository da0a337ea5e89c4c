from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from dsn.core.keys import SigningKey
from dsn.errors import DsnError, InvalidProof, InvalidSignature, MalformedMessage, UsageError
from dsn.ids import NetworkId
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.checkpoint import (
    MAX_NOTE_BYTES,
    MAX_SIGNATURES,
    Checkpoint,
    KeyKind,
    NoteKey,
    NoteSignature,
    SignedCheckpoint,
    cosigned_roots,
    format_checkpoint,
    format_note_key,
    log_origin,
    parse_checkpoint,
    parse_note_key,
    root_line,
    sign_checkpoint,
    sign_root,
    verify_checkpoint,
    verify_growth,
    verify_root,
)
from dsn.ledger.log import EMPTY_ROOT, build_consistency_proof
from dsn.ledger.settlement import NO_ADDRESS, SettlementKey, recover
from dsn.ledger.typed import Domain, digest
from tests.support.ledger_log import OPERATOR, ORIGIN, at, cosigned, counted, signed

LOG = counted(100)
CHECKPOINT = at(LOG, 61)
NOTE = signed(CHECKPOINT)
RAW = format_checkpoint(NOTE)
DOMAIN = Domain(NetworkId(b"\x01" * 32), 31337, NO_ADDRESS)
SETTLEMENT = SettlementKey(b"\x05" * 32)


def test_the_note_line_by_line() -> None:
    root, state = (base64.b64encode(h).decode() for h in (CHECKPOINT.root, CHECKPOINT.state_root))
    line = base64.b64encode(OPERATOR.key_id + NOTE.signatures[0].signature).decode()
    assert RAW.decode() == (
        f"{ORIGIN}\n61\n{root}\nstate {state}\nepoch 6\n\n\N{EM DASH} {ORIGIN} {line}\n"
    )


def test_a_note_reads_back() -> None:
    for note in (NOTE, cosigned(CHECKPOINT), signed(at(LOG, 0))):
        assert parse_checkpoint(format_checkpoint(note)) == note


def test_the_operators_signature_is_over_the_text() -> None:
    verify_checkpoint(NOTE, OPERATOR)
    assert NOTE.checkpoint.body.encode() == RAW[: RAW.index(b"\n\n") + 1]


@pytest.mark.parametrize(
    "change",
    [{"size": 62}, {"root": bytes(32)}, {"state_root": bytes(32)}, {"epoch": 7}],
    ids=lambda change: next(iter(change)),
)
def test_a_changed_checkpoint_is_not_signed(change: dict[str, Any]) -> None:
    changed = replace(NOTE, checkpoint=replace(CHECKPOINT, **change))
    with pytest.raises(InvalidSignature):
        verify_checkpoint(changed, OPERATOR)


def test_a_checkpoint_serves_for_its_own_log_only() -> None:
    other = replace(CHECKPOINT, origin=log_origin(NetworkId(b"\x02" * 32)))
    with pytest.raises(InvalidProof) as refused:
        verify_checkpoint(signed(other), OPERATOR)
    assert refused.value.detail_code == "other_log"


def test_a_line_by_nobody_known_does_not_count() -> None:
    key = SigningKey(b"\x07" * 32)
    other = NoteKey(KeyKind.OPERATOR, ORIGIN, key.public)
    note = SignedCheckpoint(CHECKPOINT, (sign_checkpoint(CHECKPOINT, other, key.sign),))
    with pytest.raises(InvalidSignature) as refused:
        verify_checkpoint(note, OPERATOR)
    assert refused.value.detail_code == "unsigned_checkpoint"
    verify_checkpoint(note.signed(NOTE.signatures[0]), OPERATOR)


def test_the_key_id_alone_proves_nothing() -> None:
    key = SigningKey(b"\x07" * 32)
    posing = NoteSignature(ORIGIN, OPERATOR.key_id, key.sign(CHECKPOINT.body.encode()))
    with pytest.raises(InvalidSignature) as refused:
        verify_checkpoint(SignedCheckpoint(CHECKPOINT, (posing,)), OPERATOR)
    assert refused.value.detail_code == "invalid_signature"


def test_a_later_line_by_a_key_takes_the_place_of_its_earlier_one() -> None:
    line = NoteSignature(ORIGIN, OPERATOR.key_id, bytes(64))
    assert NOTE.signed(line).signatures == (line,)
    assert NOTE.signed(replace(line, name="other")).signatures[0] == NOTE.signatures[0]


LINE = RAW[RAW.index(b"\n\n") + 2 :]
EMPTY = format_checkpoint(signed(at(LOG, 0)))
ROOT = base64.b64encode(CHECKPOINT.root)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n\n",
        RAW[:-1],
        RAW + b"\n",
        RAW + RAW,
        RAW + LINE,
        RAW.replace(b"\n\n", b"\n"),
        RAW.removesuffix(LINE),
        RAW.replace(b"\n61\n", b"\n061\n"),
        RAW.replace(b"\n61\n", b"\n+61\n"),
        RAW.replace(b"\n61\n", b"\n6_1\n"),
        RAW.replace(b"\n61\n", b"\n-61\n"),
        RAW.replace(b"\n61\n", b"\n 61\n"),
        RAW.replace(b"\n61\n", "\n\N{ARABIC-INDIC DIGIT SIX}1\n".encode()),
        RAW.replace(b"\n61\n", b"\n" + b"6" * 5000 + b"\n"),
        RAW.replace(b"\n61\n", b"\n%d\n" % (1 << 63)),
        RAW.replace(b"epoch 6\n", b"epoch %d\n" % (1 << 64)),
        RAW.replace(b"epoch 6\n", b"epoch -1\n"),
        RAW.replace(b"epoch 6\n", b"6\n"),
        RAW.replace(b"epoch 6\n", b""),
        RAW.replace(b"epoch 6\n", b"epoch 6\nmore\n"),
        RAW.replace(ROOT, ROOT[:-1]),
        RAW.replace(ROOT, base64.b64encode(bytes(31))),
        RAW.replace(ROOT, ROOT[:-2] + bytes([ROOT[-2] + 1]) + b"="),
        RAW.replace(b"state ", b"State "),
        RAW.replace(b"dsn.ledger/", b"dsn ledger/"),
        RAW.replace(b"dsn.ledger/", b"dsn+ledger/"),
        RAW.replace(b"dsn.ledger/", b"dsn\tledger/"),
        RAW.replace(b"dsn.ledger/", "dsn\N{NO-BREAK SPACE}ledger/".encode()),
        RAW.replace(b"dsn.ledger/", b"d" * 250),
        RAW.replace(b"dsn.ledger/", b"dsn\xff"),
        RAW.replace(b"\n", b"\r\n"),
        RAW.replace("\N{EM DASH} ".encode(), b"- "),
        RAW.replace(LINE, "\N{EM DASH} w1 AAAA\n".encode()),
        RAW.replace(LINE, "\N{EM DASH} w1 AAAAAAA\n".encode()),
        RAW.replace(LINE, "\N{EM DASH}  AAAAAAAA\n".encode()),
        EMPTY.replace(base64.b64encode(EMPTY_ROOT), ROOT),
        bytes(MAX_NOTE_BYTES + 1),
    ],
)
def test_any_other_text_is_malformed(raw: bytes) -> None:
    assert raw != RAW
    with pytest.raises(MalformedMessage) as refused:
        parse_checkpoint(raw)
    assert refused.value.evidence == raw[:4096]
    assert "\n" not in refused.value.message


def test_a_note_has_a_hundred_lines_at_most() -> None:
    lines = tuple(NoteSignature(f"w{n}", bytes(4), b"x") for n in range(MAX_SIGNATURES + 1))
    full = SignedCheckpoint(CHECKPOINT, lines[1:])
    assert parse_checkpoint(format_checkpoint(full)) == full
    with pytest.raises(MalformedMessage, match="101 lines, 1 to 100 allowed"):
        parse_checkpoint(format_checkpoint(replace(full, signatures=lines)))


def test_two_lines_by_one_key_are_malformed() -> None:
    lines = tuple(NoteSignature("w1", bytes(4), sign) for sign in (b"a", b"b"))
    with pytest.raises(MalformedMessage, match="two lines by one key"):
        parse_checkpoint(format_checkpoint(SignedCheckpoint(CHECKPOINT, lines)))


def test_a_key_is_named_as_the_standard_says() -> None:
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    key = parse_note_key(text)
    assert (key.kind, key.name, key.key_id.hex()) == (KeyKind.OPERATOR, "PeterNeumann", "c74f20a3")
    assert format_note_key(key) == text


@pytest.mark.parametrize("kind", KeyKind)
def test_a_key_reads_back(kind: KeyKind) -> None:
    key = replace(OPERATOR, kind=kind)
    assert parse_note_key(format_note_key(key)) == key


def test_one_public_key_has_another_id_in_every_role_and_under_every_name() -> None:
    keys = [NoteKey(kind, name, OPERATOR.public) for kind in KeyKind for name in ("a", "b")]
    assert len({key.key_id for key in keys}) == 4


TEXT = format_note_key(OPERATOR)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a+b",
        TEXT[:-1],
        TEXT + "+",
        TEXT.replace("+", "-"),
        TEXT.replace("dsn.", "dsn:"),
        "w1+00000000+" + base64.b64encode(b"\x02" + bytes(32)).decode(),
        "w1+00000000+" + base64.b64encode(b"\x01" + bytes(31)).decode(),
        "w1+00000000+" + base64.b64encode(b"\x01" + bytes(32)).decode(),
        "w1+00000000+" + "é" * 44,
    ],
)
def test_a_mistyped_key_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_note_key(text)
    assert refused.value.detail_code == "bad_note_key"


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\nb", "a\u2003b", "\xe9", "a" * 256, "\ud800"]
)
def test_a_key_with_a_bad_name_does_not_exist(name: str) -> None:
    with pytest.raises(UsageError):
        NoteKey(KeyKind.WITNESS, name, bytes(32))


def rooted(checkpoint: Checkpoint = CHECKPOINT) -> SignedCheckpoint:
    return signed(checkpoint).signed(sign_root(checkpoint, DOMAIN, SETTLEMENT))


def test_a_chain_would_read_the_same_statement() -> None:
    note = parse_checkpoint(format_checkpoint(rooted()))
    verify_checkpoint(note, OPERATOR)
    verify_root(note, DOMAIN, SETTLEMENT.address)
    expected = LedgerRoot(61, CHECKPOINT.root, CHECKPOINT.state_root, 6)
    assert note.checkpoint.ledger_root == expected


@pytest.mark.parametrize(
    ("note", "domain", "code"),
    [
        (rooted(), replace(DOMAIN, chain_id=1), "invalid_signature"),
        (rooted(), Domain(NetworkId(bytes(32)), 31337, NO_ADDRESS), "invalid_signature"),
        (replace(rooted(), checkpoint=at(LOG, 62)), DOMAIN, "invalid_signature"),
        (NOTE, DOMAIN, "unsigned_checkpoint"),
    ],
)
def test_a_signature_for_a_chain_serves_for_its_statement_and_domain_only(
    note: SignedCheckpoint, domain: Domain, code: str
) -> None:
    with pytest.raises(InvalidSignature) as refused:
        verify_root(note, domain, SETTLEMENT.address)
    assert refused.value.detail_code == code


def test_another_settlement_key_is_not_the_operators() -> None:
    with pytest.raises(InvalidSignature) as refused:
        verify_root(rooted(), DOMAIN, SettlementKey(b"\x06" * 32).address)
    assert refused.value.detail_code == "unsigned_checkpoint"


COSIGNERS = [SettlementKey(bytes([n]) * 32) for n in (7, 8, 9)]
ADDRESSES = [key.address for key in COSIGNERS]


def test_witnesses_sign_for_a_chain_under_their_own_names() -> None:
    note = rooted()
    for number, key in enumerate(COSIGNERS):
        note = note.signed(sign_root(CHECKPOINT, DOMAIN, key, f"witness{number}"))
    note = parse_checkpoint(format_checkpoint(note))
    verify_root(note, DOMAIN, SETTLEMENT.address)
    found = cosigned_roots(note, DOMAIN, ADDRESSES)
    assert list(found) == sorted(ADDRESSES), "as a chain wants them"
    for number, key in enumerate(COSIGNERS):
        assert found[key.address] == note.root_signature(key.address, f"witness{number}")
        assert recover(digest(DOMAIN, CHECKPOINT.ledger_root), found[key.address]) == key.address
    assert set(cosigned_roots(note, DOMAIN, ADDRESSES[:1])) == {ADDRESSES[0]}


def test_a_line_that_is_not_by_whom_it_names_counts_for_nothing() -> None:
    other = replace(CHECKPOINT, epoch=7)
    elsewhere = replace(DOMAIN, chain_id=1)
    lines = [
        sign_root(other, DOMAIN, COSIGNERS[0], "one"),
        sign_root(CHECKPOINT, elsewhere, COSIGNERS[1], "two"),
        root_line(CHECKPOINT, ADDRESSES[2], b"short", "three"),
    ]
    note = rooted()
    for line in lines:
        note = note.signed(line)
    assert cosigned_roots(note, DOMAIN, ADDRESSES) == {}
    good = sign_root(CHECKPOINT, DOMAIN, COSIGNERS[0], "one")
    renamed = replace(good, name="two")
    assert cosigned_roots(note.signed(renamed), DOMAIN, ADDRESSES) == {}
    assert set(cosigned_roots(note.signed(good), DOMAIN, ADDRESSES)) == {ADDRESSES[0]}


def test_a_witness_that_two_lines_are_by_counts_once() -> None:
    note = rooted()
    for name in ("one", "two"):
        note = note.signed(sign_root(CHECKPOINT, DOMAIN, COSIGNERS[0], name))
    assert list(cosigned_roots(note, DOMAIN, ADDRESSES)) == [ADDRESSES[0]]


def growth(old: Checkpoint, new: Checkpoint) -> None:
    path = build_consistency_proof(LOG.hashes, min(old.size, new.size), new.size)
    verify_growth(old, new, path)


def test_a_log_may_grow_and_stand_still() -> None:
    for old, new in ((0, 61), (61, 61), (61, 62), (64, 100), (100, 100)):
        growth(at(LOG, old), at(LOG, new))


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (at(LOG, 60), "log_shrunk"),
        (at(counted(100, 50), 61), "log_forked"),
        (at(counted(100, 50), 100), "log_forked"),
        (at(LOG, 61, epoch=7), "log_forked"),
        (replace(CHECKPOINT, state_root=bytes(32)), "log_forked"),
        (at(LOG, 62, epoch=5), "log_rewound"),
        (replace(at(LOG, 62), origin="elsewhere"), "other_log"),
    ],
)
def test_a_log_may_do_nothing_else(new: Checkpoint, code: str) -> None:
    with pytest.raises(DsnError) as refused:
        growth(CHECKPOINT, new)
    assert refused.value.detail_code == code
