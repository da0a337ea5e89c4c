"""A live bundle judged: what the holders of one file showed when they were challenged.

Spec: docs/spec/proofs.md#bundle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from dsn.core.cipher import BOX_EXTRA_BYTES
from dsn.core.keys import node_id_of
from dsn.core.manifest import Head, verify_head
from dsn.core.placement import decode_page, page_hash, page_segments
from dsn.errors import InvalidProof, PeerError
from dsn.ids import Commit, FileId, NetworkId, NodeId
from dsn.ledger.bundle_judged import Judged
from dsn.ledger.bundle_opening import judge_opening
from dsn.ledger.bundle_parts import LiveBundle, LivePart
from dsn.ledger.bundle_text import at
from dsn.proofs.challenge import indices, por_seed
from dsn.proofs.inventory import SumTree, holdings
from dsn.proofs.opening import Opened
from dsn.proofs.por import Answer, WrongOpenings, validate_challenge, verify_answer
from dsn.proofs.verdict import Outcome
from dsn.units import LEAF_BYTES, PAGE_SEGMENTS, leaf_count

Lengths = Mapping[Commit, int]
"""Shards with their lengths in bytes."""


class Placed(NamedTuple):
    """A file, and which shards its signed placement gives to whom."""

    file: FileId
    held: Mapping[NodeId, Lengths]


def read_placed(bundle: LiveBundle) -> Placed:
    """What the head and the pages of ``bundle`` (untrusted) say, once they are proven.

    Raises:
        PeerError: ``head`` or ``pages[n]`` does not decode, or is not signed; ``wrong_page``: the
            head names no such page, or not in that order.
    """
    with at("head"):
        head = Head.decode(bundle.head)
        verify_head(head, head.core.file_id)
    held: dict[NodeId, dict[Commit, int]] = {}
    number = -1
    for n, page in enumerate(bundle.pages):
        with at(f"pages[{n}]"):
            number = _page_number(head, page, number + 1)
            _add_page(held, head, number, page)
    return Placed(head.core.file_id, held)


def _page_number(head: Head, page: bytes, first: int) -> int:
    digest = page_hash(page)
    for number in range(first, len(head.pages)):
        if head.pages[number].hash == digest:
            return number
    raise InvalidProof("no page that the head names, in its order", code="wrong_page")


def _add_page(held: dict[NodeId, dict[Commit, int]], head: Head, number: int, page: bytes) -> None:
    """Add the shards on a page, and the sealed copies of the page itself."""
    layout, first = head.core.layout, number * PAGE_SEGMENTS
    rows = decode_page(
        page,
        segments=page_segments(number, layout.segments),
        total=head.core.scheme.total,
        nodes=len(head.nodes),
    )
    for segment, row in enumerate(rows, first):
        length = layout.segment(segment).shard_bytes
        for place in row:
            if place.held:
                held.setdefault(head.nodes[place.node], {})[place.commit] = length
    for copy in head.pages[number].copies:
        sealed = len(page) + BOX_EXTRA_BYTES
        held.setdefault(head.nodes[copy.node], {})[copy.commit] = sealed


def judge_live(part: LivePart, placed: Placed, network: NetworkId, place: str) -> Judged:
    """What a part of a live bundle comes to; nothing, of a copy of the head.

    Args:
        part: Untrusted.
        placed: Of the bundle.
        network: The reader's.
        place: Of the part in the bundle.

    Raises:
        PeerError: It names what is wrong, and where: ``other_holder`` (an answer by nobody),
            ``wrong_shard`` (not as long as the head says), ``other_root``, or as
            ``verify_answer``.
    """
    node = holder_of(part)
    named = placed.held.get(node, {})
    held = _check_asked(part, named, place)
    judged = Judged(node, placed.file, 0, part.challenge.nonce, Outcome.SILENT)
    if part.answer is None:
        return judged
    reason = _check_answer(part, part.answer, network, f"{place}.answer")
    if reason:
        return replace(judged, outcome=Outcome.WRONG, reason=reason)
    drawn = judge_openings(part, part.answer, network)
    return replace(
        judged,
        outcome=Outcome.HELD,
        leaves=len(drawn),
        size_bytes=held.total * LEAF_BYTES,
        proven_leaves=sum(isinstance(each, Opened) and each.commit in named for each in drawn),
        proven_bytes=sum(named.get(commit, 0) for commit in part.shards),
    )


def holder_of(part: LivePart) -> NodeId:
    """Whom a part is about; where nobody knew the key, its verdict alone says it."""
    return node_id_of(part.public_key) if part.public_key else part.verdict.verdict.node


def _check_asked(part: LivePart, named: Lengths, place: str) -> SumTree:
    """The tree over the shards that were asked for, which are as long as the placement says."""
    asked = part.challenge
    with at(f"{place}.challenge"):
        validate_challenge(asked)
        if asked.commits != tuple(sorted(part.shards)):
            raise InvalidProof("it names other shards", code="other_root")
        if part.answer is not None and not part.public_key:
            raise InvalidProof("an answer by nobody", code="other_holder")
    for n, commit in enumerate(asked.commits):
        known = named.get(commit)
        if known is not None and part.shards[commit] != leaf_count(known):
            raise InvalidProof(
                f"{place}.shards[{n}]: {part.shards[commit]} leaves, {leaf_count(known)} by the "
                "file's head",
                code="wrong_shard",
            )
    with at(f"{place}.shards"):
        held = holdings(part.shards.items())
    if held.root != asked.root:
        raise InvalidProof(f"{place}.challenge.root: of other shards", code="other_root")
    return held


def _check_answer(part: LivePart, answer: Answer, network: NetworkId, place: str) -> str:
    """Why the first opening that fails does; empty if none does.

    An opening that the node did not sign proves nothing against it, so it is an error.
    """
    try:
        verify_answer(
            answer,
            part.challenge,
            part.shards.items(),
            network=network,
            public_key=part.public_key,
        )
    except WrongOpenings as error:
        return error.detail_code
    except PeerError:
        with at(place):
            each = judge_openings(part, answer, network)
        for n, found in enumerate(each):
            if isinstance(found, InvalidProof):
                with at(f"{place}.openings[{n}]"):
                    raise found from None
        with at(place):
            raise
    return ""


def judge_openings(
    part: LivePart, answer: Answer, network: NetworkId
) -> list[Opened | InvalidProof]:
    """What each opening of ``answer`` (untrusted) proves.

    Raises:
        InvalidProof: ``answer_count``: they are not as many as are drawn.

    Cost: about 45 us an opening; no leaf is drawn that is not there.
    """
    held, asked = holdings(part.shards.items()), part.challenge
    count, needed = len(answer.openings), min(asked.leaves, held.total)
    if count != needed:
        raise InvalidProof(f"{count} openings, {needed} are drawn", code="answer_count")
    seed = por_seed(network, node_id_of(part.public_key), asked.nonce, held.root)
    drawn = indices(seed, held.total, asked.leaves)
    return [
        judge_opening(opening, root=held.root, total=held.total, index=index, inventory=False)
        for index, opening in zip(drawn, answer.openings, strict=True)
    ]
