from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from dsn.core import tags
from dsn.core.keys import SigningKey, node_id_of, verify_signature
from dsn.errors import InvalidProof, InvalidSignature, MalformedMessage
from dsn.ids import Commit, NetworkId
from dsn.proofs.challenge import por_seed
from dsn.proofs.inventory import holdings
from dsn.proofs.por import (
    MAX_COMMITS,
    Answer,
    Challenge,
    WrongOpenings,
    answer_root,
    build_challenge,
    draw,
    sign_answer,
    validate_challenge,
    verify_answer,
)
from tests.support.proof_world import Holdings

NETWORK, OTHER_NETWORK = NetworkId(b"\x01" * 32), NetworkId(b"\x02" * 32)
KEY, OTHER_KEY = SigningKey(b"\x03" * 32), SigningKey(b"\x04" * 32)
NODE = node_id_of(KEY.public)
HELD = Holdings.of(5000, 1024, 70_000, 1)


def asked(leaves: int = 20, nonce: bytes = b"\x05" * 32) -> Challenge:
    return build_challenge(HELD.pairs, nonce=nonce, leaves=leaves, deadline_ms=1_700_000_000_000)


def openings(challenge: Challenge, network: NetworkId = NETWORK) -> list[bytes]:
    """What an honest node reads and builds."""
    drawn = draw(challenge, HELD.tree, network=network, node=NODE)
    return [HELD.opened(at) for at in drawn]


def signed(challenge: Challenge, each: list[bytes], network: NetworkId = NETWORK) -> Answer:
    return sign_answer(KEY.sign, challenge, each, network=network, node=NODE)


def judge(answer: Answer, challenge: Challenge, network: NetworkId = NETWORK) -> None:
    verify_answer(answer, challenge, HELD.pairs, network=network, public_key=KEY.public)


@pytest.mark.parametrize("leaves", [1, 2, 3, 20, HELD.tree.total, HELD.tree.total + 1, 2**32 - 1])
def test_an_honest_answer_holds(leaves: int) -> None:
    challenge = asked(leaves)
    validate_challenge(challenge)
    answer = signed(challenge, openings(challenge))
    assert len(answer.openings) == min(leaves, HELD.tree.total)
    judge(answer, challenge)
    backwards = HELD.pairs[::-1]
    verify_answer(answer, challenge, backwards, network=NETWORK, public_key=KEY.public)


def test_a_challenge_names_the_shards_in_order() -> None:
    challenge = asked()
    assert challenge.commits == tuple(sorted(commit for commit, _ in HELD.pairs))
    assert challenge.root == HELD.tree.root
    assert (
        build_challenge(
            HELD.pairs[::-1], nonce=challenge.nonce, leaves=20, deadline_ms=challenge.deadline_ms
        )
        == challenge
    )


def test_draws_follow_nonce_network_and_node() -> None:
    challenge = asked()
    first = draw(challenge, HELD.tree, network=NETWORK, node=NODE)
    assert len({(at.key, at.offset) for at in first}) == 20
    other = node_id_of(OTHER_KEY.public)
    assert draw(asked(nonce=bytes(32)), HELD.tree, network=NETWORK, node=NODE) != first
    assert draw(challenge, HELD.tree, network=OTHER_NETWORK, node=NODE) != first
    assert draw(challenge, HELD.tree, network=NETWORK, node=other) != first


def test_other_leaf_counts_draw_nothing() -> None:
    fewer = holdings(HELD.pairs[1:])
    with pytest.raises(InvalidProof) as failure:
        draw(asked(), fewer, network=NETWORK, node=NODE)
    assert failure.value.detail_code == "other_root"
    with pytest.raises(InvalidProof) as failure:
        verify_answer(
            signed(asked(), openings(asked())),
            asked(),
            HELD.pairs[1:],
            network=NETWORK,
            public_key=KEY.public,
        )
    assert failure.value.detail_code == "other_root"


def test_a_wrong_opening_names_shard_and_leaf_and_is_signed() -> None:
    challenge = asked()
    drawn = draw(challenge, HELD.tree, network=NETWORK, node=NODE)
    each = openings(challenge)
    each[4] = each[4][:-1] + bytes([each[4][-1] ^ 1])
    each[9] = b""
    answer = signed(challenge, each)
    with pytest.raises(WrongOpenings) as failure:
        judge(answer, challenge)
    error = failure.value
    assert error.wrong == tuple((drawn[j].key, drawn[j].offset) for j in (4, 9))
    assert error.detail_code == "shard"
    assert error.evidence == each[4]
    assert drawn[4].key.hex() in error.message
    assert "2 of 20" in error.message
    assert answer_root(each) == answer.answer_root


def test_openings_out_of_order_are_wrong() -> None:
    challenge = asked()
    each = openings(challenge)
    each[0], each[1] = each[1], each[0]
    with pytest.raises(WrongOpenings) as failure:
        judge(signed(challenge, each), challenge)
    assert len(failure.value.wrong) == 2


@pytest.mark.parametrize("count", [0, 1, 19, 21])
def test_too_few_or_too_many_openings_prove_nothing(count: int) -> None:
    challenge = asked()
    each = (openings(challenge) * 2)[:count]
    answer = replace(signed(challenge, openings(challenge)), openings=tuple(each))
    with pytest.raises(InvalidProof) as failure:
        judge(answer, challenge)
    assert failure.value.detail_code == "answer_count"


def test_an_opening_changed_on_the_way_is_not_held_against_the_node() -> None:
    challenge = asked()
    answer = signed(challenge, openings(challenge))
    swapped = (b"", *answer.openings[1:])
    with pytest.raises(InvalidProof) as failure:
        judge(replace(answer, openings=swapped), challenge)
    assert failure.value.detail_code == "answer_root"
    with pytest.raises(InvalidSignature):
        judge(replace(answer, openings=swapped, answer_root=answer_root(swapped)), challenge)


def test_an_answer_serves_no_other_statement() -> None:
    challenge = asked()
    answer = signed(challenge, openings(challenge))
    for other in (
        replace(challenge, nonce=bytes(32)),
        replace(challenge, deadline_ms=challenge.deadline_ms + 1),
    ):
        with pytest.raises(InvalidSignature):
            judge(answer, other)
    with pytest.raises(InvalidSignature):
        judge(answer, challenge, OTHER_NETWORK)
    with pytest.raises(InvalidSignature):
        verify_answer(answer, challenge, HELD.pairs, network=NETWORK, public_key=OTHER_KEY.public)
    with pytest.raises(InvalidSignature):
        judge(replace(answer, signature=bytes(64)), challenge)


def test_what_is_signed() -> None:
    challenge = asked()
    answer = signed(challenge, openings(challenge))
    seed = por_seed(NETWORK, NODE, challenge.nonce, challenge.root)
    deadline = challenge.deadline_ms.to_bytes(8, "big")
    body = tags.POR_ANSWER + seed + deadline + answer.answer_root
    verify_signature(KEY.public, body, answer.signature)


@pytest.mark.parametrize("count", range(1, 12))
def test_the_answer_root_has_rfc_6962s_shape(count: int) -> None:
    def hashed(tag: bytes, body: bytes) -> bytes:
        return hashlib.sha256(tag.ljust(16, b"\0") + body).digest()

    def root(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        half = 1 << (len(leaves) - 1).bit_length() - 1
        return hashed(b"dsn/answer/v1", root(leaves[:half]) + root(leaves[half:]))

    each = [bytes([n]) * n for n in range(count)]
    leaves = [
        hashed(b"dsn/open/v1", n.to_bytes(4, "big") + opening) for n, opening in enumerate(each)
    ]
    assert answer_root(each) == root(leaves)


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": bytes(31)},
        {"root": bytes(33)},
        {"leaves": 0},
        {"leaves": 1 << 32},
        {"deadline_ms": -1},
        {"deadline_ms": 1 << 64},
        {"commits": ()},
        {"commits": (Commit(bytes(31)),)},
        {"commits": (Commit(bytes(32)),) * 2},
        {"commits": (Commit(b"\2" * 32), Commit(b"\1" * 32))},
        {"commits": tuple(Commit(n.to_bytes(32, "big")) for n in range(MAX_COMMITS + 1))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_malformed_challenge_is_refused_by_itself(change: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage):
        validate_challenge(replace(asked(), **change))  # type: ignore[arg-type]


def test_the_largest_challenge_is_allowed() -> None:
    commits = tuple(Commit(n.to_bytes(32, "big")) for n in range(MAX_COMMITS))
    validate_challenge(replace(asked(), commits=commits))
