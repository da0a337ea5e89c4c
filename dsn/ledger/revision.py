"""What a client holds on a node under a deal, as both of them signed it.

Both sides sign one preimage with their Ed25519 identity keys; the settlement keys' typed data
(EIP-712) comes with the ledger, which then judges revisions.

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
from dsn.proofs.inventory import EMPTY_ROOT, SumTree


@dataclass(frozen=True, slots=True)
class Parties:
    """Between whom a revision holds: a network, and two Ed25519 identity keys on it."""

    network: NetworkId
    node_public: bytes
    client_public: bytes


@dataclass(frozen=True, slots=True)
class Revision:
    """Number ``number`` of a deal: ``shards`` shards of ``leaves`` leaves under ``root``."""

    deal: DealId
    number: int
    shards: int
    leaves: int
    root: bytes

    def preimage(self, parties: Parties) -> bytes:
        """What both sign; it serves between no other two, and on no other network."""
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


def sign_revision(revision: Revision, parties: Parties, sign: Callable[[bytes], bytes]) -> bytes:
    """The 64-byte signature of the party whose identity key ``sign`` uses."""
    return sign(revision.preimage(parties))


def verify_client_signature(revision: Revision, parties: Parties, signature: bytes) -> None:
    """Check that the client signed ``revision`` (untrusted).

    Raises:
        InvalidSignature: It did not.
    """
    verify_signature(parties.client_public, revision.preimage(parties), signature)


def verify_node_signature(revision: Revision, parties: Parties, signature: bytes) -> None:
    """Check that the node signed ``revision`` (untrusted).

    Raises:
        InvalidSignature: It did not.
    """
    verify_signature(parties.node_public, revision.preimage(parties), signature)
