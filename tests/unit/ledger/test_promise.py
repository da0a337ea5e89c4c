from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.core import tags
from dsn.core.keys import verify_signature
from dsn.errors import InvalidSignature, MalformedMessage
from dsn.ids import NetworkId
from dsn.ledger.checkpoint import Checkpoint, format_checkpoint, sign_root
from dsn.ledger.evidence import decode_evidence
from dsn.ledger.log import LogLeaf, build_inclusion_proof, leaf_hash
from dsn.ledger.promise import (
    BrokenPromise,
    Promise,
    accuse_promise,
    judge_promise,
    sign_promise,
    verify_promise,
)
from dsn.ledger.trust import Trust
from tests.support.fraud_world import LOG_KEY, SIGNED_PARAMS, TRUST, log_of, sign
from tests.support.ledger_world import DOMAIN, KEYS, NETWORK, WITNESSES
from tests.support.signing import refusal

LEAVES = [LogLeaf(b"entry %d" % n, bytes(65), bytes(32)) for n in range(30)]
DROPPED = [*LEAVES[:17], *LEAVES[18:]]
INDEX = 17


def promised(index: int = INDEX, leaf: LogLeaf = LEAVES[INDEX]) -> Promise:
    return sign_promise(NETWORK, index, leaf_hash(leaf.encode()), LOG_KEY.sign)


def accuse(promise: Promise, leaves: list[LogLeaf], trust: Trust = TRUST) -> BrokenPromise:
    """What can be made of ``promise`` and the log ``leaves``."""
    head, hashes = log_of(leaves)
    signed = sign(Checkpoint(trust.operator.name, *head, bytes(32), 1))
    other = leaf_hash(leaves[promise.index].encode())
    path = build_inclusion_proof(hashes, promise.index, head.size)
    return accuse_promise(promise, signed, other, path, trust)


BROKEN = accuse(promised(), DROPPED)


def test_a_promise_is_signed_over_network_index_and_leaf() -> None:
    promise = promised()
    verify_promise(promise, NETWORK, LOG_KEY.public)
    preimage = tags.PROMISE + NETWORK + (17).to_bytes(8, "big") + promise.leaf
    verify_signature(LOG_KEY.public, preimage, promise.signature)


@pytest.mark.parametrize(
    ("promise", "network", "key"),
    [
        (replace(promised(), index=16), NETWORK, LOG_KEY.public),
        (replace(promised(), leaf=bytes(32)), NETWORK, LOG_KEY.public),
        (replace(promised(), signature=bytes(64)), NETWORK, LOG_KEY.public),
        (replace(promised(), signature=b""), NETWORK, LOG_KEY.public),
        (promised(), NetworkId(bytes(32)), LOG_KEY.public),
        (promised(), NETWORK, WITNESSES[0].public),
    ],
)
def test_any_other_promise_is_refused(promise: Promise, network: NetworkId, key: bytes) -> None:
    with pytest.raises(InvalidSignature):
        verify_promise(promise, network, key)


def test_a_leaf_that_was_dropped_or_replaced_convicts_the_operator() -> None:
    replaced = [*LEAVES[:INDEX], replace(LEAVES[INDEX], entry=b"other"), *LEAVES[INDEX + 1 :]]
    for leaves in (DROPPED, replaced):
        broken = decode_evidence(accuse(promised(), leaves).encode())
        assert isinstance(broken, BrokenPromise)
        found = judge_promise(broken, TRUST)
        assert (found.accused, found.fault) == (TRUST.operator, "broken_promise")
        assert found.text.startswith("entry 17 was promised to be ")


def test_a_promise_that_is_kept_convicts_nobody() -> None:
    assert refusal(lambda: accuse(promised(), LEAVES)) == "no_fault"


def test_a_log_that_did_not_come_so_far_convicts_nobody() -> None:
    head, hashes = log_of(LEAVES[:INDEX])
    signed = sign(Checkpoint(TRUST.operator.name, *head, bytes(32), 1))
    path = build_inclusion_proof(hashes, INDEX - 1, INDEX)
    other = leaf_hash(LEAVES[INDEX - 1].encode())
    assert refusal(lambda: accuse_promise(promised(), signed, other, path, TRUST)) == "index"


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (replace(BROKEN, other=leaf_hash(LEAVES[3].encode())), "not_in_log"),
        (replace(BROKEN, path=BROKEN.path[1:]), "short"),
        (replace(BROKEN, path=(*BROKEN.path, bytes(32))), "trailing"),
        (replace(BROKEN, promise=promised(18)), "not_in_log"),
        (replace(BROKEN, promise=replace(promised(), index=18)), "invalid_signature"),
    ],
)
def test_anything_else_convicts_nobody(broken: BrokenPromise, code: str) -> None:
    assert refusal(lambda: judge_promise(broken, TRUST)) == code


def test_only_the_operators_own_checkpoint_counts() -> None:
    checkpoint = BROKEN.signed.checkpoint
    lines = BROKEN.signed.signatures
    for signatures in (lines[:1], lines[1:]):
        half = replace(BROKEN, signed=replace(BROKEN.signed, signatures=signatures))
        assert refusal(lambda half=half: judge_promise(half, TRUST)) == "unsigned_checkpoint"
    forged = BROKEN.signed.signed(sign_root(checkpoint, DOMAIN, KEYS["sam"]))
    stranger = accuse_promise(promised(), forged, BROKEN.other, BROKEN.path, TRUST)
    assert stranger == BROKEN
    other = replace(BROKEN, signed=sign(replace(checkpoint, origin="dsn.ledger/other")))
    assert refusal(lambda: judge_promise(other, TRUST)) == "other_log"


def test_another_networks_promise_convicts_nobody() -> None:
    domain = replace(DOMAIN, network=NetworkId(bytes(32)))
    trust = Trust.of(replace(SIGNED_PARAMS, domain=domain))
    assert refusal(lambda: judge_promise(BROKEN, trust)) == "other_log"


def test_the_encoding_field_by_field() -> None:
    promise, note = BROKEN.promise, format_checkpoint(BROKEN.signed)
    assert BROKEN.encode() == b"".join(
        (
            b"dsn evidence 1\n\x02",
            (17).to_bytes(8, "big") + promise.leaf + promise.signature,
            len(note).to_bytes(4, "big") + note,
            BROKEN.other,
            bytes([len(BROKEN.path)]) + b"".join(BROKEN.path),
        )
    )
    for raw in (BROKEN.encode()[:-1], BROKEN.encode() + b"\0"):
        with pytest.raises(MalformedMessage):
            decode_evidence(raw)
