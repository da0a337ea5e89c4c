"""The operator's word that a leaf stands in its log, given before any checkpoint covers it.

Whoever submits an entry keeps the promise until a checkpoint shows the leaf where it was promised.
A checkpoint with another leaf there convicts the operator.

Spec: docs/spec/evidence.md#broken-promise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import SIGNATURE_BYTES, verify_signature
from dsn.errors import InvalidProof
from dsn.ids import ID_BYTES, NetworkId
from dsn.ledger.checkpoint import SignedCheckpoint
from dsn.ledger.conviction import (
    Conviction,
    EvidenceKind,
    begin,
    by_operator,
    read_note,
    read_path,
    write_note,
    write_path,
)
from dsn.ledger.log import verify_inclusion_proof
from dsn.ledger.trust import Trust

_SHOWN: int = 8
"""Bytes of a hash that a line for people names."""


@dataclass(frozen=True, slots=True)
class Promise:
    """The leaf with hash ``leaf`` is number ``index`` of the log; ``signature`` is Ed25519."""

    index: int
    leaf: bytes
    signature: bytes


def sign_promise(
    network: NetworkId, index: int, leaf: bytes, sign: Callable[[bytes], bytes]
) -> Promise:
    """Promise that a leaf stands where it does, once it is on disk.

    Args:
        network: The network.
        index: The leaf's number, from 0.
        leaf: Its hash, from ``leaf_hash``.
        sign: Uses the operator's log key.
    """
    return Promise(index, leaf, sign(_preimage(network, index, leaf)))


def verify_promise(promise: Promise, network: NetworkId, log_key: bytes) -> None:
    """Check that the operator gave ``promise`` (untrusted).

    Raises:
        InvalidSignature: It did not.
    """
    preimage = _preimage(network, promise.index, promise.leaf)
    verify_signature(log_key, preimage, promise.signature)


@dataclass(frozen=True, slots=True)
class BrokenPromise:
    """A promise, and a checkpoint whose log has the leaf ``other`` in that place.

    ``path`` is the inclusion proof of ``other``.
    """

    promise: Promise
    signed: SignedCheckpoint
    other: bytes
    path: tuple[bytes, ...]

    def encode(self) -> bytes:
        """The fixed encoding."""
        writer, promise = begin(EvidenceKind.BROKEN_PROMISE), self.promise
        writer.u64(promise.index).raw(promise.leaf, HASH_BYTES)
        writer.raw(promise.signature, SIGNATURE_BYTES)
        write_note(writer, self.signed)
        writer.raw(self.other, HASH_BYTES)
        write_path(writer, self.path)
        return writer.done()

    @classmethod
    def read(cls, reader: Reader) -> BrokenPromise:
        """Take the fields out of ``reader`` (untrusted)."""
        index, leaf = reader.u64(), reader.raw(HASH_BYTES)
        promise = Promise(index, leaf, reader.raw(SIGNATURE_BYTES))
        return cls(promise, read_note(reader), reader.raw(HASH_BYTES), read_path(reader))


def accuse_promise(
    promise: Promise, signed: SignedCheckpoint, other: bytes, path: Sequence[bytes], trust: Trust
) -> BrokenPromise:
    """Make evidence of a promise that was not kept.

    Args:
        promise: As the operator gave it.
        signed: A checkpoint of more than ``promise.index`` leaves.
        other: The hash of the leaf that stands at that index.
        path: Its inclusion proof, from ``build_inclusion_proof``.
        trust: The network's keys.

    Raises:
        InvalidProof: As ``judge_promise``: nothing is broken.
        InvalidSignature: As ``judge_promise``.
    """
    broken = BrokenPromise(promise, by_operator(signed, trust), other, tuple(path))
    judge_promise(broken, trust)
    return broken


def judge_promise(broken: BrokenPromise, trust: Trust) -> Conviction:
    """Convict the operator of a broken promise.

    Args:
        broken: Untrusted.
        trust: From the network file; evidence brings no key of its own.

    Raises:
        InvalidSignature: ``unsigned_checkpoint`` or ``invalid_signature``: the operator signed
            not both.
        InvalidProof: ``other_log``; ``no_fault``: the leaf is the promised one; ``index``,
            ``short``, ``trailing`` or ``not_in_log``: the other leaf does not stand there.
    """
    promise, signed = broken.promise, broken.signed
    trust.verify_operator(signed)
    verify_promise(promise, trust.params.domain.network, trust.params.log_key)
    if broken.other == promise.leaf:
        raise InvalidProof(f"entry {promise.index} is the promised one", code="no_fault")
    head = signed.checkpoint.head
    verify_inclusion_proof(head, promise.index, broken.other, broken.path)
    text = (
        f"entry {promise.index} was promised to be {promise.leaf[:_SHOWN].hex()}..., "
        f"the log of {head.size} has {broken.other[:_SHOWN].hex()}... there"
    )
    return Conviction(trust.operator, "broken_promise", text)


def _preimage(network: NetworkId, index: int, leaf: bytes) -> bytes:
    writer = Writer().raw(tags.PROMISE, tags.TAG_BYTES).raw(network, ID_BYTES)
    return writer.u64(index).raw(leaf, HASH_BYTES).done()
