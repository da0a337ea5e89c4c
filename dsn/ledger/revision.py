"""What a client holds on a node under a deal, as both of them signed it.

Under a deal that is paid, the settlement keys of both sign typed data, which the ledger and a
chain can judge. Where nobody pays, their identity keys sign a preimage of ours.

Spec: docs/spec/economy.md#revision.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dsn.core import tags
from dsn.core.codec import Writer
from dsn.core.hashing import HASH_BYTES
from dsn.core.keys import PUBLIC_KEY_BYTES, node_id_of, verify_signature
from dsn.ids import ID_BYTES, DealId, NetworkId
from dsn.ledger.pledge import Pledge
from dsn.ledger.settlement import Address
from dsn.ledger.typed import Domain, digest, verify_typed
from dsn.proofs.inventory import EMPTY_ROOT, SumTree


@dataclass(frozen=True, slots=True)
class Parties:
    """Between whom a revision holds where nobody pays: two Ed25519 identity keys on a network."""

    network: NetworkId
    node_public: bytes
    client_public: bytes


@dataclass(frozen=True, slots=True)
class DealParties:
    """Between whom a revision holds under a deal: two settlement addresses, where they settle."""

    domain: Domain
    client: Address
    provider: Address


Signers = Parties | DealParties
"""Whose two keys sign a revision, and in which format."""


@dataclass(frozen=True, slots=True)
class Revision:
    """Number ``number`` of a deal: ``shards`` shards of ``leaves`` leaves under ``root``."""

    deal: DealId
    number: int
    shards: int
    leaves: int
    root: bytes

    @property
    def pledge(self) -> Pledge:
        """The same as the ledger and a chain judge it."""
        return Pledge(self.deal, self.number, self.shards, self.leaves, self.root)

    def preimage(self, parties: Parties) -> bytes:
        """What identity keys sign; it serves between no other two, and on no other network."""
        writer = Writer().raw(tags.REVISION, tags.TAG_BYTES).raw(parties.network, ID_BYTES)
        writer.raw(node_id_of(parties.node_public), ID_BYTES)
        writer.raw(parties.client_public, PUBLIC_KEY_BYTES).raw(self.deal, ID_BYTES)
        writer.u64(self.number).u64(self.shards).u64(self.leaves)
        return writer.raw(self.root, HASH_BYTES).done()


def first_revision(deal: DealId) -> Revision:
    """Number 0, which nobody signs: nothing is held yet."""
    return Revision(deal, 0, 0, 0, EMPTY_ROOT)


def next_revision(base: Revision, held: SumTree) -> Revision:
    """The revision after ``base`` that says ``held``; both sides make it with this function."""
    return Revision(base.deal, base.number + 1, held.count, held.total, held.root)


def sign_revision(revision: Revision, parties: Signers, sign: Callable[[bytes], bytes]) -> bytes:
    """One party's signature: 64 bytes by an identity key, 65 by a settlement key.

    Args:
        revision: What is signed.
        parties: Who both are; decides the format.
        sign: The ``sign`` of this party's key, of the kind that ``parties`` asks for.
    """
    if isinstance(parties, DealParties):
        return sign(digest(parties.domain, revision.pledge))
    return sign(revision.preimage(parties))


def verify_client_signature(revision: Revision, parties: Signers, signature: bytes) -> None:
    """Check that the client signed ``revision`` (both untrusted).

    Raises:
        InvalidSignature: ``invalid_signature``: it did not; ``malleated_signature``.
    """
    if isinstance(parties, DealParties):
        verify_typed(revision.pledge, parties.domain, signature, parties.client)
    else:
        verify_signature(parties.client_public, revision.preimage(parties), signature)


def verify_node_signature(revision: Revision, parties: Signers, signature: bytes) -> None:
    """Check that the node, or the provider behind it, signed ``revision`` (both untrusted).

    Raises:
        InvalidSignature: ``invalid_signature``: it did not; ``malleated_signature``.
    """
    if isinstance(parties, DealParties):
        verify_typed(revision.pledge, parties.domain, signature, parties.provider)
    else:
        verify_signature(parties.node_public, revision.preimage(parties), signature)
