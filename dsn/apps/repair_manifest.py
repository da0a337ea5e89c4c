"""The manifest of a repaired file: pages and head sealed anew, and the pointer to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dsn.apps.manifests import Manifest
from dsn.apps.stored import POINTER_TERM_S, seal_box_for
from dsn.core.cipher import seal_box
from dsn.core.manifest import sign_head
from dsn.core.placement import Copy, PageRef, Placement, page_hash
from dsn.dht.record import MAX_HOLDERS, PointerBody, PointerRecord, sign_pointer
from dsn.ids import Commit, NetworkId, NodeId
from dsn.ports import Entropy

IsGood = Callable[[NodeId, Commit], bool]


@dataclass(frozen=True, slots=True)
class SealedManifest:
    """What is to be stored of a manifest: copies by holder, the head's first; and who knows."""

    copies: dict[NodeId, list[tuple[bytes, Commit]]]
    pointer: PointerRecord


def copies_wanted(manifest: Manifest) -> int:
    """How many nodes hold head and pages."""
    return min(manifest.core.scheme.manifest_copies, MAX_HOLDERS)


def seal_repaired(
    manifest: Manifest,
    placement: Placement,
    holders: Sequence[NodeId],
    sign: Callable[[bytes], bytes],
    sequence: int,
    is_good: IsGood,
    network: NetworkId,
    now_s: float,
    entropy: Entropy,
) -> SealedManifest:
    """Seal what says where everything is now, for ``holders``.

    Pages that did not change stay where they are, if all their copies are good.

    Args:
        manifest: As it was.
        placement: As it is.
        holders: At least one, at most 48.
        sign: Of the key that signs placements.
        sequence: Above the manifest's.
        is_good: Whether a node still has one of the old copies.
        network: Where the file is.
        now_s: Unix seconds; dates the pointer.
        entropy: For nonces.
    """
    keys, core = manifest.keys, manifest.core
    table = dict.fromkeys([*placement.nodes, *holders]) if placement.rows else {}
    numbers = {node: number for number, node in enumerate(table)}
    copies: dict[NodeId, list[tuple[bytes, Commit]]] = {node: [] for node in holders}

    def seal(node: NodeId, plain: bytes) -> Commit:
        box = seal_box_for(keys.head_key, plain, entropy)
        copies[node].append((box.data, box.commit))
        return box.commit

    kept = dict(_kept_pages(manifest, is_good))
    refs = []
    for page in placement.pages():
        digest = page_hash(page)
        if digest in kept:
            places = tuple(Copy(numbers[node], commit) for node, commit in kept[digest])
        else:
            places = tuple(Copy(numbers[node], seal(node, page)) for node in holders)
        refs.append(PageRef(digest, places))
    head = sign_head(core, sequence, list(table), refs, sign).encode()
    heads = {node: seal(node, head) for node in holders}
    for boxes in copies.values():
        boxes.insert(0, boxes.pop())
    body = PointerBody(len(copies[holders[0]][0][0]), tuple(heads.items()))
    pointer = sign_pointer(
        sign,
        network=network,
        placement_public=core.placement_public,
        core_hash=core.hash,
        sequence=sequence,
        expires_s=int(now_s) + POINTER_TERM_S,
        body=seal_box(keys.head_key, body.encode(), entropy(12)),
    )
    return SealedManifest(copies, pointer)


def _kept_pages(
    manifest: Manifest, is_good: IsGood
) -> Iterator[tuple[bytes, list[tuple[NodeId, Commit]]]]:
    """Pages of which every copy is good, by hash."""
    for ref in manifest.head.pages:
        copies = [(manifest.head.nodes[copy.node], copy.commit) for copy in ref.copies]
        if copies and all(is_good(*copy) for copy in copies):
            yield ref.hash, copies
