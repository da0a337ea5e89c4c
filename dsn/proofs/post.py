"""Proof of spacetime: what an epoch asks of a node, and the link that answers for it.

Nobody chooses the leaves: they follow from the epoch's beacon, the node and the inventory that
was frozen before the beacon existed. A link commits to all answers; single ones are shown later,
each with its way to the link's answer root.

Spec: docs/spec/economy.md#entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dsn.core import tags
from dsn.core.codec import Reader, Writer
from dsn.core.hashing import HASH_BYTES, tagged
from dsn.errors import InvalidProof
from dsn.ids import NetworkId, NodeId
from dsn.proofs.challenge import indices

BEACON_BYTES: Final = 32
FEWEST_ASKED: Final = 20
"""Leaves asked of anyone who holds that many: a loss of 1 % is found with 99.2 % in a day."""
_ASKED_A_TIB: Final = 5
_TIB_LEAVES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Link:
    """A node's statement that it answered epoch ``epoch``: 116 bytes.

    Attributes:
        epoch: Which one.
        beacon: Hash of the epoch's beacon value, see ``beacon_hash``.
        root: Of the inventory that was asked about.
        total: Leaves in it.
        count: Leaves asked for, see ``leaves_asked``.
        answer_root: Over the openings in draw order, as ``por.answer_root`` makes it.
    """

    epoch: int
    beacon: bytes
    root: bytes
    total: int
    count: int
    answer_root: bytes

    def encode(self) -> bytes:
        """The fields, in order."""
        writer = Writer().u64(self.epoch).raw(self.beacon, HASH_BYTES).raw(self.root, HASH_BYTES)
        return writer.u64(self.total).u32(self.count).raw(self.answer_root, HASH_BYTES).done()

    @classmethod
    def read(cls, reader: Reader) -> Link:
        """Take one link out of ``reader`` (untrusted).

        Raises:
            MalformedMessage: Short.
        """
        epoch, beacon, root = reader.u64(), reader.raw(HASH_BYTES), reader.raw(HASH_BYTES)
        return cls(epoch, beacon, root, reader.u64(), reader.u32(), reader.raw(HASH_BYTES))


def beacon_hash(value: bytes) -> bytes:
    """What stands for a beacon value in links and in the ledger's state."""
    return tagged(tags.BEACON, value)


def leaves_asked(total: int) -> int:
    """How many of ``total`` leaves an epoch asks for: 20 up to 4 TiB, then 5 a TiB."""
    return min(total, max(FEWEST_ASKED, -(-_ASKED_A_TIB * total // _TIB_LEAVES)))


def epoch_seed(network: NetworkId, node: NodeId, epoch: int, beacon: bytes, root: bytes) -> bytes:
    """The seed of a node's draw.

    Args:
        network: The network's id.
        node: Whose inventory is asked about.
        epoch: Which epoch.
        beacon: The epoch's beacon value, 32 bytes.
        root: Root of the inventory as it was frozen before the beacon existed.
    """
    return tagged(tags.SEED, network, node, epoch.to_bytes(8, "big"), beacon, root)


def drawn_indices(link: Link, beacon: bytes, *, network: NetworkId, node: NodeId) -> list[int]:
    """The leaves that ``link`` answers for, in draw order; ``beacon`` is the value behind it."""
    seed = epoch_seed(network, node, link.epoch, beacon, link.root)
    return indices(seed, link.total, link.count)


def build_answer_path(openings: Sequence[bytes], place: int) -> list[bytes]:
    """The way from opening ``place`` of ``openings`` (draw order) to their answer root."""
    level = [tagged(tags.OPEN, j.to_bytes(4, "big"), each) for j, each in enumerate(openings)]
    path: list[bytes] = []
    while len(level) > 1:
        if place ^ 1 < len(level):
            path.append(level[place ^ 1])
        pairs = zip(level[::2], level[1::2], strict=False)
        level = [tagged(tags.ANSWER, *pair) for pair in pairs] + level[len(level) & ~1 :]
        place //= 2
    return path


def verify_answer_path(link: Link, place: int, opening: bytes, path: Sequence[bytes]) -> None:
    """Check that ``opening`` is what the node behind ``link`` answered at ``place``.

    Args:
        link: Believed.
        place: Where in draw order, from 0.
        opening: Untrusted; it may well fail, see ``verify_opening``.
        path: Untrusted, bottom up.

    Raises:
        InvalidProof: ``place`` (no such), ``answer_path`` (too short, too long) or
            ``answer_root`` (the node answered something else).
    """
    if not 0 <= place < link.count:
        raise InvalidProof(f"answer: opening {place} of {link.count}", code="place")
    digest = tagged(tags.OPEN, place.to_bytes(4, "big"), opening)
    width, siblings = link.count, iter(path)
    while width > 1:
        if place ^ 1 < width:
            sibling = next(siblings, None)
            if sibling is None:
                raise InvalidProof(f"answer: a path of {len(path)} hashes", code="answer_path")
            pair = (sibling, digest) if place & 1 else (digest, sibling)
            digest = tagged(tags.ANSWER, *pair)
        place, width = place // 2, (width + 1) // 2
    if next(siblings, None) is not None:
        raise InvalidProof(f"answer: a path of {len(path)} hashes", code="answer_path")
    if digest != link.answer_root:
        raise InvalidProof(
            "answer: the opening is not under the link's answer root", code="answer_root"
        )
