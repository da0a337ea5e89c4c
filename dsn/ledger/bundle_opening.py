"""An opening as a bundle has it: judged, and its shard path in a form that other tools read.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

from typing import NamedTuple

from dsn.core.hashing import HASH_BYTES, sha256
from dsn.core.merkle import leaf_hash, path_length
from dsn.errors import InvalidProof
from dsn.ledger.bundle_text import Tree
from dsn.proofs.opening import Opened, read_opening
from dsn.units import leaf_count


class ShardPath(NamedTuple):
    """The way from a leaf's hash to its shard's root, bottom up.

    Each step is the sibling, and whether it stands on the left.
    """

    leaf: bytes
    root: bytes
    steps: tuple[tuple[bytes, bool], ...]

    def tree(self) -> Tree:
        """As merkletools takes it: ``validate_proof(proof, leaf, root)``."""
        proof = [{"left" if left else "right": each.hex()} for each, left in self.steps]
        return {"leaf": self.leaf.hex(), "proof": proof, "root": self.root.hex()}


def judge_opening(
    opening: bytes, *, root: bytes, total: int, index: int, inventory: bool
) -> Opened | InvalidProof:
    """What an opening (untrusted) proves, or why it proves nothing; see ``read_opening``."""
    try:
        return read_opening(opening, root=root, total=total, index=index, inventory=inventory)
    except InvalidProof as error:
        return error


def shard_path(opening: bytes, opened: Opened) -> ShardPath:
    """The shard path at the end of ``opening``, which proves ``opened``."""
    width, place = leaf_count(opened.length), opened.leaf
    hashes = opening[len(opening) - HASH_BYTES * path_length(place, width) :]
    leaf = digest = leaf_hash(opened.data)
    steps = list[tuple[bytes, bool]]()
    for at in range(0, len(hashes), HASH_BYTES):
        while not place ^ 1 < width:
            place, width = place // 2, (width + 1) // 2
        sibling, left = hashes[at : at + HASH_BYTES], place % 2 == 1
        digest = sha256(sibling + digest if left else digest + sibling)
        steps.append((sibling, left))
        place, width = place // 2, (width + 1) // 2
    return ShardPath(leaf, digest, tuple(steps))


def path_tree(opening: bytes, found: Opened | InvalidProof) -> Tree | None:
    """The shard path of an opening that holds; nothing for one that fails."""
    return shard_path(opening, found).tree() if isinstance(found, Opened) else None
