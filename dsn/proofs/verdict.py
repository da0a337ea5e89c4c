"""Verdicts: what a verifier says of a provider, signed, so that it can be held to it.

Spec: docs/spec/proofs.md#verdict.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES, tagged
from dsn.core.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, verify_signature
from dsn.errors import InvalidSignature, MalformedMessage, UsageError
from dsn.ids import ID_BYTES, NetworkId, NodeId
from dsn.proofs.por import NONCE_BYTES

NO_NONCE: Final = bytes(NONCE_BYTES)
"""Of a verdict on an epoch."""
NO_EVIDENCE: Final = bytes(HASH_BYTES)
"""Of a verdict that stands in no bundle."""
NO_VERDICT: Final = bytes(HASH_BYTES)
"""Of a verdict that looks at no earlier one again."""
MAX_REASON_CHARS: Final = 64
_REASON: Final = re.compile(r"[a-z0-9_]{1,64}")
_ADDRESS_BYTES: Final = 20


class Outcome(IntEnum):
    """What came of a challenge: ``WRONG`` is proven, ``SILENT`` is the verifier's word."""

    HELD = 1
    WRONG = 2
    SILENT = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What ``verifier`` found when it looked at what ``node`` holds.

    Attributes:
        network: Where.
        verifier: Ed25519 public key of whoever says so.
        node: Whom it is about.
        subject: A file's id, a deal's id, or the node's account, see ``account_subject``.
        epoch: Whose answer was looked at; 0 for a challenge of the verifier's own.
        nonce: Of that challenge; ``NO_NONCE`` for an epoch.
        outcome: What came of it.
        reason: Empty if held, else a code, such as ``shard``, ``declared_lost``, ``timed_out``.
        leaves: How many were looked at, if all held; else 0.
        size_bytes: What the node was asked about, if it held; else 0.
        response_ms: How long the answer took; 0 if none came.
        at_s: When, in Unix seconds by the verifier's clock.
        evidence: Names the bundle that it stands in, or ``NO_EVIDENCE``.
        appeal: Hash of the verdict that this one looks at again, or ``NO_VERDICT``.

    Raises:
        UsageError: ``bad_verdict``: fields that contradict each other, or of a wrong size.
    """

    network: NetworkId
    verifier: bytes
    node: NodeId
    subject: bytes
    epoch: int
    nonce: bytes
    outcome: Outcome
    reason: str
    leaves: int
    size_bytes: int
    response_ms: int
    at_s: int
    evidence: bytes = NO_EVIDENCE
    appeal: bytes = NO_VERDICT

    def __post_init__(self) -> None:
        """Refuse what a decoder would refuse."""
        sizes = {len(self.network), len(self.node), len(self.subject), len(self.nonce)}
        sizes |= {len(self.verifier), len(self.evidence), len(self.appeal)}
        if sizes != {HASH_BYTES}:
            raise _bad(f"ids, keys and hashes are {HASH_BYTES} bytes each")
        if (self.epoch > 0) is (self.nonce != NO_NONCE):
            raise _bad("an epoch or a nonce needed, and not both")
        if self.outcome is Outcome.HELD:
            if self.reason:
                raise _bad(f"held, and a reason {self.reason[:MAX_REASON_CHARS]!r}")
        elif not _REASON.fullmatch(self.reason):
            raise _bad(f"a reason of 1 to {MAX_REASON_CHARS} small letters, digits and _ needed")

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().raw(self.network, ID_BYTES).raw(self.verifier, PUBLIC_KEY_BYTES)
        writer.raw(self.node, ID_BYTES).raw(self.subject, ID_BYTES)
        writer.u64(self.epoch).raw(self.nonce, NONCE_BYTES).u8(self.outcome).text(self.reason)
        writer.u64(self.leaves).u64(self.size_bytes).u64(self.response_ms).u64(self.at_s)
        return writer.raw(self.evidence, HASH_BYTES).raw(self.appeal, HASH_BYTES).done()

    @classmethod
    def decode(cls, raw: bytes) -> Verdict:
        """Read what ``encode`` wrote.

        Args:
            raw: Untrusted.

        Raises:
            MalformedMessage: Anything else.
        """
        reader = Reader(raw, "verdict")
        network, verifier = NetworkId(reader.raw(ID_BYTES)), reader.raw(PUBLIC_KEY_BYTES)
        node, subject = NodeId(reader.raw(ID_BYTES)), reader.raw(ID_BYTES)
        epoch, nonce, outcome = reader.u64(), reader.raw(NONCE_BYTES), reader.u8()
        reason = reader.text(MAX_REASON_CHARS)
        counts = reader.u64(), reader.u64(), reader.u64(), reader.u64()
        rest = reader.raw(HASH_BYTES), reader.raw(HASH_BYTES)
        reader.end()
        if outcome not in set(Outcome):
            raise reader.refuse(f"outcome {outcome} is not known")
        who = network, verifier, node, subject
        try:
            return cls(*who, epoch, nonce, Outcome(outcome), reason, *counts, *rest)
        except UsageError as error:
            raise reader.refuse(error.message.removeprefix("verdict: ")) from error

    @property
    def hash(self) -> bytes:
        """What is signed, and what an appeal names."""
        return tagged(tags.VERDICT, self.encode())


@dataclass(frozen=True, slots=True)
class SignedVerdict:
    """A verdict and the verifier's signature; ``verify_verdict`` judges it."""

    verdict: Verdict
    signature: bytes

    def encode(self) -> bytes:
        """The verdict and the 64 bytes."""
        return self.verdict.encode() + self.signature

    @classmethod
    def decode(cls, raw: bytes) -> SignedVerdict:
        """Read what ``encode`` wrote.

        Args:
            raw: Untrusted.

        Raises:
            MalformedMessage: Anything else.
        """
        if len(raw) < SIGNATURE_BYTES:
            raise MalformedMessage(f"verdict: {len(raw)} bytes with its signature", evidence=raw)
        return cls(Verdict.decode(raw[:-SIGNATURE_BYTES]), raw[-SIGNATURE_BYTES:])


def sign_verdict(verdict: Verdict, sign: Callable[[bytes], bytes]) -> SignedVerdict:
    """Sign ``verdict``; ``sign`` uses the key that it names as its verifier's."""
    return SignedVerdict(verdict, sign(verdict.hash))


def verify_verdict(signed: SignedVerdict) -> None:
    """Check that the verifier it names signed a verdict (untrusted).

    Raises:
        InvalidSignature: It did not.
    """
    try:
        verify_signature(signed.verdict.verifier, signed.verdict.hash, signed.signature)
    except InvalidSignature as error:
        raise InvalidSignature("verdict: not signed by its verifier") from error


def account_subject(account: bytes) -> bytes:
    """The subject of a verdict on all that a provider's ``account`` (20 bytes) answers for."""
    assert len(account) == _ADDRESS_BYTES
    return account.rjust(ID_BYTES, b"\0")


def _bad(reason: str) -> UsageError:
    return UsageError(f"verdict: {reason}", code="bad_verdict")
