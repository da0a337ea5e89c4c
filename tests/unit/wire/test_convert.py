"""Messages and values: there and back, and nothing of a wrong size gets in."""

from __future__ import annotations

import pytest

from dsn.errors import MalformedMessage
from dsn.ids import NO_DEAL, Commit, DealId
from dsn.ledger.receipt import Receipt
from dsn.ledger.revision import Revision
from dsn.proofs.por import Answer, build_challenge
from dsn.v1 import node_pb2
from dsn.wire import convert
from dsn.wire.convert import SignedReceipt, SignedRevision

COMMIT = Commit(b"c" * 32)
RECEIPT = SignedReceipt(Receipt(NO_DEAL, COMMIT, 2, 1_500, 1_700_000_000), b"s" * 64)
REVISION = SignedRevision(Revision(NO_DEAL, 3, 2, 9, b"r" * 32), b"c" * 64, b"n" * 64)


def test_receipts() -> None:
    for group in ([], [RECEIPT], [RECEIPT, RECEIPT]):
        assert convert.receipts_from_wire(convert.receipts_to_wire(group)) == group


def test_bytes_that_are_no_receipts() -> None:
    unsigned = RECEIPT._replace(signature=b"")
    for raw in (b"\xff", convert.receipts_to_wire([RECEIPT, unsigned])):
        with pytest.raises(MalformedMessage):
            convert.receipts_from_wire(raw)


DEAL_REVISION = SignedRevision(
    Revision(DealId(b"d" * 32), 3, 2, 9, b"r" * 32), b"c" * 65, b"n" * 65
)
"""Signed by settlement keys, which leave a byte more."""


def test_revisions_with_and_without_signatures() -> None:
    bare = REVISION._replace(client_signature=b"", node_signature=b"")
    for signed in (REVISION, bare, DEAL_REVISION):
        message = convert.revision_to_wire(signed)
        assert convert.revision_from_wire(message) == signed
        assert convert.decode_revision(message.SerializeToString()) == signed


@pytest.mark.parametrize("field", ["deal", "holdings_root", "client_signature", "node_signature"])
def test_a_revision_with_a_field_of_another_size(field: str) -> None:
    message = convert.revision_to_wire(REVISION)
    setattr(message, field, b"short")
    with pytest.raises(MalformedMessage, match="5 bytes"):
        convert.revision_from_wire(message)


@pytest.mark.parametrize("signed", [REVISION, DEAL_REVISION], ids=["nobody pays", "a deal"])
def test_a_revision_with_signatures_of_the_other_kind(signed: SignedRevision) -> None:
    other = DEAL_REVISION if signed is REVISION else REVISION
    message = convert.revision_to_wire(signed._replace(client_signature=other.client_signature))
    with pytest.raises(MalformedMessage, match=r"a signature of 6[45] bytes, 6[54] needed"):
        convert.revision_from_wire(message)


def test_bytes_that_are_no_revision() -> None:
    with pytest.raises(MalformedMessage):
        convert.decode_revision(b"\xff")


def test_holdings() -> None:
    held = [(Commit(b"a" * 32), 1), (Commit(b"b" * 32), 2**40)]
    assert convert.holdings_from_wire(convert.holdings_to_wire(held)) == held
    assert convert.holdings_from_wire(b"") == []


@pytest.mark.parametrize("order", [(1, 0), (0, 0)])
def test_holdings_must_be_sorted_and_whole(order: tuple[int, int]) -> None:
    held = [(Commit(b"a" * 32), 1), (Commit(b"b" * 32), 2)]
    with pytest.raises(MalformedMessage, match="sorted"):
        convert.holdings_from_wire(convert.holdings_to_wire(held[each] for each in order))
    with pytest.raises(MalformedMessage, match="multiple"):
        convert.holdings_from_wire(convert.holdings_to_wire(held)[:-1])


def test_challenges() -> None:
    challenge = build_challenge([(COMMIT, 5)], nonce=b"n" * 32, leaves=4, deadline_ms=1)
    message = convert.challenge_to_wire(challenge)
    assert convert.challenge_from_wire(message) == challenge
    message.nonce = b""
    with pytest.raises(MalformedMessage):
        convert.challenge_from_wire(message)


def test_answers() -> None:
    answer = Answer((b"one", b"two"), b"r" * 32, b"s" * 64)
    reply = convert.answer_to_wire(answer)
    assert convert.answer_from_wire(reply) == answer
    reply.outcome = node_pb2.ChallengeReply.OUTCOME_LOST
    with pytest.raises(MalformedMessage, match="no answer"):
        convert.answer_from_wire(reply)


def test_identifiers_of_another_size() -> None:
    for read in (convert.commit_from_wire, convert.deal_from_wire):
        assert read(COMMIT) == COMMIT
        with pytest.raises(MalformedMessage, match="31 bytes"):
            read(COMMIT[1:])
    with pytest.raises(MalformedMessage):
        convert.commits_from_wire([COMMIT, b""])
