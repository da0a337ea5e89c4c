"""The ledger's beacon: a value for each epoch that nobody knows while the log can still be chosen.

The log as it stood when the epoch before was shut goes through a verifiable delay function: so
many squarings in a class group, one after another however many machines there are, and a proof
of them that is checked at once (Wesolowski, "Efficient verifiable delay functions", 2019).

Spec: docs/spec/proofs.md#beacon.
"""

from __future__ import annotations

from typing import Final

from dsn.core import tags
from dsn.core.codec import Writer
from dsn.core.hashing import HASH_BYTES, tagged
from dsn.errors import InvalidProof
from dsn.ids import ID_BYTES, NetworkId

FORM_BYTES: Final = 100
"""An element of the group, padded with zeros, whatever the group's size."""
EVIDENCE_BYTES: Final = 2 * FORM_BYTES
"""The element that the squarings end at, and the proof that they do."""
_START: Final = b"\x08" + bytes(FORM_BYTES - 1)
"""The generator that every group has."""
_ONE_PART: Final = 0
"""The proof is one, not a chain of proofs of parts."""
_STRICT: Final = True
"""An element has one spelling."""


def next_value(
    network: NetworkId, epoch: int, closed_root: bytes, *, iterations: int, bits: int
) -> tuple[bytes, bytes]:
    """The value of ``epoch``, and the evidence by which anybody checks it.

    Args:
        network: The network.
        epoch: From 1.
        closed_root: The log's root right after the shut of the epoch before; before the first
            epoch the network id.
        iterations: Squarings, at least 1.
        bits: Of the group's discriminant: a multiple of 8 in [256, 1024].

    Returns:
        32 and 200 bytes.

    Cost: that is the point of it: 5 to 10 us a squaring at 1024 bits. Other threads go on.
    """
    import chiavdf

    group = _group(network, epoch, closed_root)
    evidence = chiavdf.prove(group, _START, bits, iterations, "")
    return _value(evidence), evidence


def verify_value(
    network: NetworkId,
    epoch: int,
    closed_root: bytes,
    value: bytes,
    evidence: bytes,
    *,
    iterations: int,
    bits: int,
) -> None:
    """Check that ``value`` is what ``next_value`` gives.

    Args:
        network: The network.
        epoch: Whose value it is.
        closed_root: As known to whoever checks, never from the evidence.
        value: Untrusted.
        evidence: Untrusted.
        iterations: The network's.
        bits: The network's.

    Raises:
        InvalidProof: ``bad_beacon``.

    Cost: about 20 ms, however many squarings there were.
    """
    import chiavdf

    if len(evidence) != EVIDENCE_BYTES:
        raise _bad(epoch, f"evidence of {len(evidence)} bytes, {EVIDENCE_BYTES} needed", evidence)
    if value != _value(evidence):
        raise _bad(epoch, "the value is not the one of its evidence", evidence)
    group = chiavdf.create_discriminant(_group(network, epoch, closed_root), bits)
    try:
        # The verifier alone takes 32 spellings of some elements: 32 values to choose from.
        for first in (0, FORM_BYTES):
            chiavdf.bqfc_deserialize(group, evidence[first : first + FORM_BYTES], _STRICT)
        proven = chiavdf.verify_n_wesolowski(group, _START, evidence, iterations, bits, _ONE_PART)
    except (RuntimeError, ValueError) as error:  # the library's words for bytes that are no element
        raise _bad(epoch, "the evidence is no element of the group", evidence) from error
    if not proven:
        raise _bad(epoch, "the evidence proves nothing", evidence)


def _group(network: NetworkId, epoch: int, closed_root: bytes) -> bytes:
    writer = Writer().raw(network, ID_BYTES).u64(epoch).raw(closed_root, HASH_BYTES)
    return tagged(tags.VDF_IN, writer.done())


def _value(evidence: bytes) -> bytes:
    return tagged(tags.VDF_OUT, evidence[:FORM_BYTES])


def _bad(epoch: int, reason: str, evidence: bytes) -> InvalidProof:
    return InvalidProof(
        f"the beacon of epoch {epoch}: {reason}",
        code="bad_beacon",
        evidence=evidence[: 2 * EVIDENCE_BYTES],
    )
