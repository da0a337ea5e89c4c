from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.core.hashing import sha256
from dsn.errors import InvalidProof, InvalidSignature, MalformedMessage
from dsn.ledger.checkpoint import NoteKey, SignedCheckpoint, format_checkpoint
from dsn.ledger.conviction import MAGIC, Conviction, EvidenceKind
from dsn.ledger.cosignature import Quorum
from dsn.ledger.evidence import (
    Contradiction,
    Evidence,
    Fault,
    accuse,
    convict,
    decode_evidence,
    judge,
    kind_of,
)
from dsn.ledger.log import (
    build_consistency_proof,
    build_inclusion_proof,
    build_prefix_proof,
    leaf_hash,
)
from dsn.ledger.promise import accuse_promise, sign_promise
from dsn.ledger.trust import Trust
from tests.support.fraud_world import LOG_KEY, SIGNED_PARAMS, every_kind
from tests.support.ledger_log import (
    NOW_S,
    OPERATOR,
    STRANGER,
    WITNESSES,
    MadeLog,
    at,
    cosigned,
    counted,
    log_of,
    signed,
)
from tests.support.ledger_world import NETWORK

LOG, FORK = counted(100), counted(100, 60)
WITNESS = WITNESSES[1]
BOTH = pytest.mark.parametrize("key", [OPERATOR, WITNESS], ids=["operator", "witness"])


def prefix(log: MadeLog, old: int, new: int) -> tuple[bytes, ...]:
    return tuple(build_prefix_proof(log.hashes, old, new))


def fault_of(one: SignedCheckpoint, other: SignedCheckpoint, key: NoteKey, *path: bytes) -> Fault:
    """Both orders make one value, which is judged after it travelled."""
    evidence = accuse(one, other, key, path)
    assert accuse(other, one, key, path) == evidence
    arrived = decode_evidence(evidence.encode())
    assert arrived == evidence
    assert isinstance(arrived, Contradiction)
    assert arrived.accused == (key.name, key.key_id)
    return judge(arrived, key)


@BOTH
def test_two_roots_of_one_size_convict(key: NoteKey) -> None:
    assert fault_of(cosigned(at(LOG, 61)), cosigned(at(FORK, 61)), key) is Fault.FORK


@BOTH
def test_two_states_or_epochs_after_one_log_convict(key: NoteKey) -> None:
    first = at(LOG, 61)
    for other in (replace(first, state_root=sha256(b"minted")), replace(first, epoch=7)):
        assert fault_of(cosigned(first), cosigned(other), key) is Fault.FORK


@BOTH
@pytest.mark.parametrize(("old", "new"), [(61, 62), (61, 100), (64, 65), (64, 100), (99, 100)])
def test_growth_from_another_history_convicts(key: NoteKey, old: int, new: int) -> None:
    one, other = cosigned(at(FORK, old)), cosigned(at(LOG, new))
    assert fault_of(one, other, key, *prefix(LOG, old, new)) is Fault.HISTORY


def test_an_entry_that_was_dropped_convicts() -> None:
    dropped = log_of(LOG.leaves[:50] + LOG.leaves[51:])
    one, other = signed(at(dropped, 80)), signed(at(LOG, 100))
    assert fault_of(one, other, OPERATOR, *prefix(LOG, 80, 100)) is Fault.HISTORY


def test_an_epoch_that_falls_while_the_log_grows_convicts() -> None:
    one, other = at(LOG, 61, epoch=6), at(LOG, 62, epoch=5)
    assert fault_of(signed(one), signed(other), OPERATOR) is Fault.REWIND


def test_a_witness_that_goes_back_convicts_itself_and_not_the_operator() -> None:
    small, large = cosigned(at(LOG, 61), NOW_S + 1), cosigned(at(LOG, 62), NOW_S)
    assert fault_of(small, large, WITNESS) is Fault.REWIND
    with pytest.raises(InvalidProof) as refused:
        accuse(small, large, OPERATOR)
    assert refused.value.detail_code == "no_fault"


def test_a_rewind_to_nothing_convicts_too() -> None:
    small, large = cosigned(at(LOG, 0), NOW_S + 1), cosigned(at(LOG, 62), NOW_S)
    assert fault_of(small, large, WITNESS) is Fault.REWIND
    with pytest.raises(InvalidProof) as refused:
        accuse(small, large, WITNESS, [bytes(32)])
    assert refused.value.detail_code == "no_fault"


HONEST = [
    (cosigned(at(LOG, 61)), cosigned(at(LOG, 61)), ()),
    (cosigned(at(LOG, 61), NOW_S), cosigned(at(LOG, 61), NOW_S + 9), ()),
    (cosigned(at(LOG, 61)), cosigned(at(LOG, 61)), prefix(LOG, 61, 61)),
    (cosigned(at(LOG, 61)), cosigned(at(LOG, 100)), ()),
    (cosigned(at(LOG, 61)), cosigned(at(LOG, 100)), prefix(LOG, 61, 100)),
    (cosigned(at(LOG, 64), NOW_S - 1), cosigned(at(LOG, 100)), prefix(LOG, 64, 100)),
    (cosigned(at(LOG, 0)), cosigned(at(LOG, 100)), ()),
    (cosigned(at(LOG, 0)), cosigned(at(LOG, 100)), (bytes(32),)),
]


@BOTH
@pytest.mark.parametrize(("one", "other", "path"), HONEST)
def test_the_honest_are_never_convicted(
    key: NoteKey, one: SignedCheckpoint, other: SignedCheckpoint, path: tuple[bytes, ...]
) -> None:
    with pytest.raises(InvalidProof) as refused:
        accuse(one, other, key, path)
    assert refused.value.detail_code == "no_fault"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (prefix(FORK, 61, 100), "wrong_path"),
        (prefix(LOG, 61, 100)[::-1], "wrong_path"),
        (prefix(LOG, 61, 100)[1:], "short"),
        ((*prefix(LOG, 61, 100), bytes(32)), "trailing"),
        (tuple(build_consistency_proof(LOG.hashes, 64, 100)), "short"),
        ((), "no_fault"),
    ],
)
def test_a_path_of_anything_else_convicts_nobody(path: tuple[bytes, ...], code: str) -> None:
    with pytest.raises(InvalidProof) as refused:
        accuse(cosigned(at(LOG, 61)), cosigned(at(LOG, 100)), OPERATOR, path)
    assert refused.value.detail_code == code


def test_a_fork_needs_no_path_and_takes_none() -> None:
    with pytest.raises(InvalidProof) as refused:
        accuse(signed(at(LOG, 61)), signed(at(FORK, 61)), OPERATOR, prefix(LOG, 61, 61))
    assert refused.value.detail_code == "no_fault"


def test_who_signed_one_side_only_is_not_convicted() -> None:
    one, other = cosigned(at(LOG, 61)), signed(at(FORK, 61), (WITNESS, NOW_S))
    accuse(one, other, WITNESS)
    for key in (WITNESSES[0], STRANGER):
        with pytest.raises(InvalidSignature) as refused:
            accuse(one, other, key)
        assert refused.value.detail_code == "unsigned_checkpoint"


def test_evidence_against_one_key_convicts_no_other() -> None:
    evidence = accuse(cosigned(at(LOG, 61)), cosigned(at(FORK, 61)), WITNESS)
    for key in (OPERATOR, WITNESSES[0], replace(WITNESS, public=STRANGER.public)):
        with pytest.raises(InvalidSignature):
            judge(evidence, key)


@BOTH
def test_a_forged_side_convicts_nobody(key: NoteKey) -> None:
    evidence = accuse(cosigned(at(LOG, 61)), cosigned(at(FORK, 61)), key)
    forged = replace(evidence.larger, checkpoint=replace(at(FORK, 61), epoch=9))
    with pytest.raises(InvalidSignature):
        judge(replace(evidence, larger=forged), key)


def test_two_logs_may_differ() -> None:
    elsewhere = replace(at(FORK, 61), origin="dsn.ledger/elsewhere")
    for key in (OPERATOR, WITNESS):
        with pytest.raises(InvalidProof) as refused:
            accuse(cosigned(at(LOG, 61)), cosigned(elsewhere), key)
        assert refused.value.detail_code == "other_log"


EVIDENCE = accuse(cosigned(at(FORK, 61)), cosigned(at(LOG, 100)), OPERATOR, prefix(LOG, 61, 100))


def test_the_encoding_field_by_field() -> None:
    notes = [format_checkpoint(note) for note in (EVIDENCE.smaller, EVIDENCE.larger)]
    parts = [len(note).to_bytes(4, "big") + note for note in notes]
    path = bytes([len(EVIDENCE.path)]) + b"".join(EVIDENCE.path)
    assert EVIDENCE.encode() == b"dsn evidence 1\n\x01" + b"".join(parts) + path


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        MAGIC,
        MAGIC + b"\0" + EVIDENCE.encode()[len(MAGIC) + 1 :],
        MAGIC + b"\4" + EVIDENCE.encode()[len(MAGIC) + 1 :],
        EVIDENCE.encode()[len(MAGIC) :],
        EVIDENCE.encode()[:-1],
        EVIDENCE.encode() + b"\0",
        replace(EVIDENCE, path=(bytes(32),) * 65).encode(),
        replace(EVIDENCE, smaller=EVIDENCE.larger, larger=EVIDENCE.smaller).encode(),
        replace(EVIDENCE, smaller=cosigned(at(FORK, 61))).encode(),
        replace(EVIDENCE, larger=cosigned(at(LOG, 100))).encode(),
    ],
)
def test_any_other_encoding_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode_evidence(raw)


def test_evidence_is_small() -> None:
    assert len(EVIDENCE.encode()) < 1200


TRUST = Trust(SIGNED_PARAMS, OPERATOR, Quorum(WITNESSES, 2))


@pytest.mark.parametrize(
    ("evidence", "key", "fault", "said"),
    [
        (EVIDENCE, OPERATOR, "history", "a log of 61 entries, and one of 100 that does not begin"),
        (
            accuse(cosigned(at(LOG, 61)), cosigned(at(FORK, 61)), WITNESS),
            WITNESS,
            "fork",
            "two different checkpoints of 61 entries",
        ),
        (
            accuse(cosigned(at(LOG, 61), NOW_S + 1), cosigned(at(LOG, 62)), WITNESS),
            WITNESS,
            "rewind",
            "a log of 61 entries after one of 62",
        ),
    ],
)
def test_a_conviction_names_the_key_and_says_what_it_did(
    evidence: Evidence, key: NoteKey, fault: str, said: str
) -> None:
    found = convict(evidence, TRUST)
    assert (found.accused, found.fault) == (key, fault)
    assert said in found.text


def test_evidence_against_another_networks_keys_is_not_judged() -> None:
    ours = accuse(cosigned(at(LOG, 61)), cosigned(at(FORK, 61)), OPERATOR)
    elsewhere = Trust(SIGNED_PARAMS, replace(OPERATOR, name="dsn.ledger/elsewhere"), TRUST.quorum)
    with pytest.raises(InvalidProof) as refused:
        convict(ours, elsewhere)
    assert refused.value.detail_code == "other_log"
    line = ours.smaller.signatures[0]
    renamed = replace(
        ours, smaller=replace(ours.smaller, signatures=(replace(line, name=STRANGER.name),))
    )
    with pytest.raises(InvalidProof) as refused:
        convict(renamed, TRUST)
    assert refused.value.detail_code == "unknown_key"


def test_evidence_of_every_kind_goes_through_one_door() -> None:
    world = every_kind(True)
    signed, hashes = world.signed_checkpoint(), world.nodes.__getitem__
    other = leaf_hash(world.leaves[3].encode())
    promise = sign_promise(NETWORK, 3, bytes(32), LOG_KEY.sign)
    path = build_inclusion_proof(hashes, 3, signed.checkpoint.size)
    trust = Trust.of(SIGNED_PARAMS)
    wrong = replace(world.leaves[5], state_root=bytes(32))
    kinds: dict[EvidenceKind, tuple[Evidence, Trust]] = {
        EvidenceKind.CONTRADICTION: (EVIDENCE, TRUST),
        EvidenceKind.BROKEN_PROMISE: (accuse_promise(promise, signed, other, path, trust), trust),
        EvidenceKind.FRAUD: (world.lie(5, wrong), trust),
    }
    assert set(kinds) == set(EvidenceKind)
    for kind, (evidence, keys) in kinds.items():
        raw = evidence.encode()
        assert raw[: len(MAGIC) + 1] == MAGIC + bytes([kind])
        arrived = decode_evidence(raw)
        assert arrived == evidence
        assert kind_of(arrived) is kind
        assert isinstance(convict(arrived, keys), Conviction)
