"""What comes of a part of a bundle, and whether its verdict says so.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from dsn.errors import InvalidProof
from dsn.ids import FileId, NetworkId, NodeId
from dsn.ledger.bundle_text import at
from dsn.proofs.verdict import Outcome, SignedVerdict, verify_verdict

_SAID: Final = (
    "outcome",
    "node",
    "subject",
    "epoch",
    "nonce",
    "reason",
    "leaves",
    "size_bytes",
)
"""What a verdict says that anybody finds too."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a part of a bundle comes to, as its verdict must say it.

    Attributes:
        node: Whom it is about.
        subject: A file, a deal, or an account: see ``Verdict``.
        epoch: 0 in a live bundle.
        nonce: ``NO_NONCE`` in an epoch bundle.
        outcome: What came of it.
        reason: Of the first opening that fails; empty if none does, and where nothing was
            answered, for then the verifier alone knows why.
        leaves: Looked at, if all held.
        size_bytes: What the node was asked about, if it held.
        proven_leaves: Of ``leaves``, those that are in ``proven_bytes``.
        proven_bytes: Of ``size_bytes``, what the bundle ties to its subject.
    """

    node: NodeId
    subject: bytes
    epoch: int
    nonce: bytes
    outcome: Outcome
    reason: str = ""
    leaves: int = 0
    size_bytes: int = 0
    proven_leaves: int = 0
    proven_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Witnessed:
    """How many witnesses cosigned, of how many, and how many a reader needs."""

    cosigned: int
    witnesses: int
    needed: int


@dataclass(frozen=True, slots=True)
class Verified:
    """What a bundle proves, once everything in it was recomputed.

    Attributes:
        kind: ``live`` or ``epoch``.
        verifier: Ed25519 public key of whoever signed it.
        at_s: When, by the verifier's clock.
        parts: What each part comes to, with the reason that its verdict gives.
        witnessed: In an epoch bundle.
        file: In a live bundle.
        unasked: Shards that the file's placement names, as far as the bundle has it, and that
            nobody was asked for.
    """

    kind: str
    verifier: bytes
    at_s: int
    parts: tuple[Judged, ...]
    witnessed: Witnessed | None = None
    file: FileId | None = None
    unasked: int = 0

    @property
    def held(self) -> bool:
        """Whether everybody in it held."""
        return all(part.outcome is Outcome.HELD for part in self.parts)

    @property
    def epochs(self) -> tuple[int, int]:
        """The first and the last epoch that it is about; 0 and 0 in a live bundle."""
        numbers = [part.epoch for part in self.parts] or [0]
        return min(numbers), max(numbers)


def check_verdict(
    signed: SignedVerdict,
    judged: Judged,
    place: str,
    *,
    network: NetworkId,
    verifier: bytes,
    evidence: bytes,
) -> Judged:
    """Check that a verdict says what was found, and give that back with its reason.

    Args:
        signed: Untrusted.
        judged: What was found.
        place: Of the part in the bundle.
        network: The bundle's, which is the reader's.
        verifier: The bundle's.
        evidence: What the verdicts of this bundle name.

    Raises:
        InvalidProof: ``wrong_verdict`` names the first field that says something else.
        InvalidSignature: The verifier did not sign it.
    """
    given = signed.verdict
    silent = given.outcome is judged.outcome is Outcome.SILENT
    judged = replace(judged, reason=given.reason) if silent else judged
    expected = {name: getattr(judged, name) for name in _SAID}
    expected |= {"network": network, "verifier": verifier, "evidence": evidence}
    for name, value in expected.items():
        if getattr(given, name) != value:
            raise InvalidProof(
                f"{place}.verdict: another {name} than was found", code="wrong_verdict"
            )
    with at(f"{place}.verdict"):
        verify_verdict(signed)
    return judged
