"""What stands in a bundle: all that is needed to judge a verifier's verdicts without the network.

A ``live`` bundle is of challenges on one file, an ``epoch`` bundle of links in the ledger's log.
Nothing here is believed before ``dsn.ledger.bundle.verify_bundle`` recomputed it.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from dsn.ids import Commit, NetworkId
from dsn.ledger.cells import AccountCell, DealCell, cell_digest
from dsn.ledger.disputes import ServedOpening
from dsn.ledger.log import LogLeaf, TreeHead, leaf_hash, verify_inclusion_proof
from dsn.ledger.radix import StateLeaf, StateStep, verify_cell
from dsn.proofs.por import Answer, Challenge
from dsn.proofs.verdict import SignedVerdict

_Cell = TypeVar("_Cell", AccountCell, DealCell)


@dataclass(frozen=True, slots=True)
class LivePart:
    """One challenge to one holder of a file, and what came of it.

    Attributes:
        public_key: The holder's Ed25519 key; empty if nobody knew it, so nobody could be asked.
        challenge: As it was sent.
        shards: Leaf counts of the challenged shards, by commit.
        answer: What the holder signed, if anything.
        verdict: On the holder and this file.
    """

    public_key: bytes
    challenge: Challenge
    shards: Mapping[Commit, int]
    answer: Answer | None
    verdict: SignedVerdict


@dataclass(frozen=True, slots=True)
class LiveBundle:
    """An audit of one file.

    Attributes:
        network: Where.
        verifier: Ed25519 public key of whoever audited.
        at_s: When, in Unix seconds by the verifier's clock.
        head: The file's signed head, plainly encoded.
        pages: Plain placement pages that the head names, in its order; all of them, or those
            that the challenged shards stand on.
        parts: At most one a holder and shard.
        signature: The verifier's, over all of the above; empty in a bundle that is being made.
    """

    kind: ClassVar[str] = "live"
    network: NetworkId
    verifier: bytes
    at_s: int
    head: bytes
    pages: tuple[bytes, ...]
    parts: tuple[LivePart, ...]
    signature: bytes = b""


@dataclass(frozen=True, slots=True)
class Logged:
    """A leaf of the ledger's log: its number, and its inclusion proof under a checkpoint."""

    leaf: LogLeaf
    index: int
    path: tuple[bytes, ...]

    def verify(self, head: TreeHead) -> None:
        """Check that it is in the log at ``head``, which is believed.

        Raises:
            InvalidProof: As ``verify_inclusion_proof``.
        """
        verify_inclusion_proof(head, self.index, leaf_hash(self.leaf.encode()), self.path)


@dataclass(frozen=True, slots=True)
class ProvenCell(Generic[_Cell]):
    """A cell of the ledger's state, and the way to it from the state root, root first."""

    cell: _Cell
    steps: tuple[StateStep, ...]

    def verify(self, state_root: bytes) -> None:
        """Check that the state at ``state_root``, which is believed, has the cell.

        Raises:
            InvalidProof: As ``verify_cell``.
        """
        verify_cell(state_root, StateLeaf(self.cell.key, cell_digest(self.cell)), self.steps)


@dataclass(frozen=True, slots=True)
class OpenedEpoch:
    """The entry that opened an epoch, and what it rests on.

    Attributes:
        logged: The entry.
        growth: A consistency proof, from the log that was closed before to the checkpoint's;
            empty for the first epoch.
        shut: The entry that closed that log; only where it fixes a round of drand.
    """

    logged: Logged
    growth: tuple[bytes, ...]
    shut: Logged | None = None


@dataclass(frozen=True, slots=True)
class ProvenProvider:
    """A provider's account, and deals of it that are not closed.

    An account with such a deal has kept its identity since the deal was opened: so the account
    as it is now says who linked then.
    """

    account: ProvenCell[AccountCell]
    deals: tuple[ProvenCell[DealCell], ...]


@dataclass(frozen=True, slots=True)
class EpochPart:
    """One link of one provider, and some of the answers behind it.

    Attributes:
        link: The entry with the link.
        places: Openings with their answer paths, by their number in draw order.
        verdict: On the provider and this epoch.
        bracket: The way to the deal that the first opening should fall in, if no opening shows
            any; else empty.
    """

    link: Logged
    places: Mapping[int, ServedOpening]
    verdict: SignedVerdict
    bracket: bytes = b""


@dataclass(frozen=True, slots=True)
class EpochBundle:
    """What providers proved to the ledger in some epochs.

    Attributes:
        network: Where.
        verifier: Ed25519 public key of whoever looked.
        at_s: When, in Unix seconds by the verifier's clock.
        checkpoint: A note with the operator's and the witnesses' lines.
        opened: Each epoch that a part is of, by number.
        providers: Each provider that a part is of, by address.
        parts: At most one a provider, epoch and subject.
        signature: The verifier's, over all of the above; empty in a bundle that is being made.
    """

    kind: ClassVar[str] = "epoch"
    network: NetworkId
    verifier: bytes
    at_s: int
    checkpoint: bytes
    opened: tuple[OpenedEpoch, ...]
    providers: tuple[ProvenProvider, ...]
    parts: tuple[EpochPart, ...]
    signature: bytes = b""


Bundle = LiveBundle | EpochBundle
