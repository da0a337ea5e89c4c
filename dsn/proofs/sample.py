"""What a verifier looks at of an epoch: drawn from the next epoch's beacon, not chosen.

The beacon of epoch t + 1 exists only after epoch t was shut, so no node knows what will be looked
at when it links; and anybody who has the log can draw the same again, so nobody can say that a
verifier picked its cherries.

Spec: docs/spec/proofs.md#sampling-epochs.
"""

from __future__ import annotations

from dsn.core import tags
from dsn.core.hashing import tagged
from dsn.ids import NodeId
from dsn.proofs.challenge import indices


def sample_seed(verifier: bytes, beacon: bytes, epoch: int) -> bytes:
    """The seed of one verifier's draw.

    Args:
        verifier: Its Ed25519 public key, 32 bytes.
        beacon: Value of the beacon of epoch ``epoch + 1``, 32 bytes.
        epoch: The one that is looked at.
    """
    return tagged(tags.SAMPLE, verifier, beacon, epoch.to_bytes(8, "big"))


def sampled_links(seed: bytes, links: int, most: int) -> list[int]:
    """Which of an epoch's ``links`` links, numbered as they are logged, are looked at, in order."""
    return indices(seed, links, most)


def sampled_places(seed: bytes, node: NodeId, count: int, sample: int) -> list[int]:
    """Which ``sample`` of the ``count`` openings behind a node's link are looked at, in order."""
    return indices(tagged(tags.SAMPLE, seed, node), count, sample)
