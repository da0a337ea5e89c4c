"""Protobuf messages to domain values and back; every size is checked on the way in.

Spec: protos/dsn/v1/node.proto
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import SIGNATURE_BYTES
from dsn.dht.contact import Contact, check_contact
from dsn.errors import MalformedMessage
from dsn.ids import ID_BYTES, NO_DEAL, Commit, DealId
from dsn.ledger.receipt import Receipt
from dsn.ledger.revision import Revision
from dsn.ledger.settlement import SETTLEMENT_SIGNATURE_BYTES
from dsn.proofs.por import Answer, Challenge, validate_challenge
from dsn.v1 import dht_pb2, node_pb2, types_pb2

_HELD: Final = struct.Struct(">32sQ")
HELD_BYTES: Final = _HELD.size
"""A commit and a leaf count in a page of holdings."""


class SignedReceipt(NamedTuple):
    """A receipt and the node's signature, not verified yet."""

    receipt: Receipt
    signature: bytes


class SignedRevision(NamedTuple):
    """A revision and what stands under it; an empty signature is a missing one."""

    revision: Revision
    client_signature: bytes
    node_signature: bytes


def sized(what: str, raw: bytes, size: int) -> bytes:
    """``raw`` (untrusted), if it has ``size`` bytes.

    Raises:
        MalformedMessage: It has not.
    """
    if len(raw) != size:
        raise MalformedMessage(f"{what} of {len(raw)} bytes, {size} needed", evidence=raw[:256])
    return raw


def commit_from_wire(raw: bytes) -> Commit:
    """A commit (untrusted)."""
    return Commit(sized("a commit", raw, ID_BYTES))


def commits_from_wire(raw: Iterable[bytes]) -> list[Commit]:
    """Commits (untrusted)."""
    return [commit_from_wire(each) for each in raw]


def deal_from_wire(raw: bytes) -> DealId:
    """A deal id (untrusted)."""
    return DealId(sized("a deal id", raw, ID_BYTES))


def receipts_to_wire(receipts: Iterable[SignedReceipt]) -> bytes:
    """The message PutShard sends down for one group."""
    message = node_pb2.PutReceipts()
    for receipt, signature in receipts:
        message.receipts.add(
            commit=receipt.commit,
            leaf_count=receipt.leaf_count,
            length=receipt.length,
            keep_until_s=receipt.keep_until_s,
            signature=signature,
        )
    return message.SerializeToString()


def receipts_from_wire(raw: bytes, deal: DealId = NO_DEAL) -> list[SignedReceipt]:
    """What a node sent down (untrusted) for a group under ``deal``.

    Raises:
        MalformedMessage: These are no receipts.
    """
    try:
        message = node_pb2.PutReceipts.FromString(raw)
    except DecodeError as error:
        raise MalformedMessage(f"{len(raw)} bytes that are no receipts", evidence=raw) from error
    return [
        SignedReceipt(
            Receipt(
                deal,
                commit_from_wire(each.commit),
                each.leaf_count,
                each.length,
                each.keep_until_s,
            ),
            sized("a signature", each.signature, SIGNATURE_BYTES),
        )
        for each in message.receipts
    ]


def revision_to_wire(signed: SignedRevision) -> types_pb2.Revision:
    """The message for ``signed``."""
    revision = signed.revision
    return types_pb2.Revision(
        deal=revision.deal,
        number=revision.number,
        shards=revision.shards,
        leaves=revision.leaves,
        holdings_root=revision.root,
        client_signature=signed.client_signature,
        node_signature=signed.node_signature,
    )


def revision_from_wire(message: types_pb2.Revision) -> SignedRevision:
    """What a message (untrusted) says; the signatures are not verified.

    Raises:
        MalformedMessage: A field has a wrong size; settlement keys' signatures are longer than
            those of identity keys.
    """
    revision = Revision(
        deal_from_wire(message.deal),
        message.number,
        message.shards,
        message.leaves,
        sized("a holdings root", message.holdings_root, HASH_BYTES),
    )
    size = SIGNATURE_BYTES if revision.deal == NO_DEAL else SETTLEMENT_SIGNATURE_BYTES
    for signature in (message.client_signature, message.node_signature):
        sized("a signature", signature, size if signature else 0)
    return SignedRevision(revision, message.client_signature, message.node_signature)


def decode_revision(raw: bytes) -> SignedRevision:
    """As ``revision_from_wire``, from bytes: a ``deal_mismatch``'s evidence, or a stored one."""
    try:
        return revision_from_wire(types_pb2.Revision.FromString(raw))
    except DecodeError as error:
        raise MalformedMessage(f"{len(raw)} bytes that are no revision", evidence=raw) from error


def holdings_to_wire(held: Iterable[tuple[Commit, int]]) -> bytes:
    """Commits and leaf counts in the fixed encoding: ``HELD_BYTES`` each."""
    return b"".join(_HELD.pack(commit, leaves) for commit, leaves in held)


def holdings_from_wire(raw: bytes) -> list[tuple[Commit, int]]:
    """Commits and leaf counts of a page of holdings (untrusted).

    Raises:
        MalformedMessage: No whole number of entries, or not sorted by commit.
    """
    if len(raw) % _HELD.size:
        raise MalformedMessage(f"holdings of {len(raw)} bytes, a multiple of {_HELD.size} needed")
    held = [(Commit(commit), leaves) for commit, leaves in _HELD.iter_unpack(raw)]
    if any(left[0] >= right[0] for left, right in itertools.pairwise(held)):
        raise MalformedMessage("holdings are not sorted, or repeat")
    return held


def challenge_to_wire(challenge: Challenge) -> node_pb2.ChallengeRequest:
    """The message for ``challenge``."""
    return node_pb2.ChallengeRequest(
        nonce=challenge.nonce,
        commits=challenge.commits,
        root=challenge.root,
        leaves=challenge.leaves,
        deadline_ms=challenge.deadline_ms,
    )


def challenge_from_wire(message: node_pb2.ChallengeRequest) -> Challenge:
    """What a message (untrusted) asks.

    Raises:
        MalformedMessage: It is no valid challenge by itself.
    """
    challenge = Challenge(
        message.nonce,
        tuple(Commit(each) for each in message.commits),
        message.root,
        message.leaves,
        message.deadline_ms,
    )
    validate_challenge(challenge)
    return challenge


def answer_to_wire(answer: Answer) -> node_pb2.ChallengeReply:
    """The reply that carries ``answer``."""
    return node_pb2.ChallengeReply(
        outcome=node_pb2.ChallengeReply.OUTCOME_ANSWERED,
        openings=answer.openings,
        answer_root=answer.answer_root,
        signature=answer.signature,
    )


def answer_from_wire(reply: node_pb2.ChallengeReply) -> Answer:
    """The answer in a reply (untrusted) whose outcome is ``OUTCOME_ANSWERED``.

    Raises:
        MalformedMessage: Another outcome, or a field of a wrong size.
    """
    if reply.outcome != node_pb2.ChallengeReply.OUTCOME_ANSWERED:
        raise MalformedMessage(f"a reply with outcome {reply.outcome} holds no answer")
    return Answer(
        tuple(reply.openings),
        sized("an answer root", reply.answer_root, HASH_BYTES),
        sized("a signature", reply.signature, SIGNATURE_BYTES),
    )


def contact_to_wire(contact: Contact) -> dht_pb2.DhtContact:
    """A contact as a message."""
    return dht_pb2.DhtContact(public_key=contact.public_key, address=contact.address)


def contact_from_wire(message: dht_pb2.DhtContact) -> Contact:
    """A contact (untrusted).

    Raises:
        MalformedMessage: ``bad_contact``.
    """
    return check_contact(message.public_key, message.address)


def contacts_from_wire(messages: Sequence[dht_pb2.DhtContact], most: int) -> list[Contact]:
    """Contacts (untrusted).

    Raises:
        MalformedMessage: More than ``most``, or ``bad_contact``.
    """
    if len(messages) > most:
        raise MalformedMessage(f"{len(messages)} contacts, at most {most} allowed")
    return [contact_from_wire(each) for each in messages]
