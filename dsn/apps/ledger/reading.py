"""The log's leaves as a reader gets them: from bundles that nobody vouches for, up to a root.

What is read counts only once it comes to the root of a checkpoint that is believed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

from dsn.apps.ledger.asking import Asking
from dsn.errors import DsnError, InvalidProof, LimitReached
from dsn.ledger.log import (
    Frontier,
    LogLeaf,
    TreeHead,
    leaf_hash,
    node_hash,
    verify_inclusion_proof,
)
from dsn.ledger.tiles import TILE_WIDTH, Bundle, decode_bundle, format_path

TOO_LARGE: Final = "too_large"


class Leaves(NamedTuple):
    """Leaves in order, and the log up to and with them."""

    leaves: list[LogLeaf]
    frontier: Frontier


async def read_leaves(ask: Asking, since: Frontier, head: TreeHead) -> AsyncIterator[Leaves]:
    """The leaves after ``since``, up to ``head``, at most ``TILE_WIDTH`` at a time.

    Args:
        ask: Reaches the ledger.
        since: The log as far as it is known.
        head: Believed.

    Yields:
        Leaves that may yet prove wrong: keep nothing of them before the last one came.

    Raises:
        InvalidProof: ``other_log``, after the last: they are not those of the log at ``head``.
        MalformedMessage: Something that is no leaf.
    """
    frontier = since
    while frontier.size < head.size:
        index, known = divmod(frontier.size, TILE_WIDTH)
        bundle = Bundle(index, min(TILE_WIDTH, head.size - index * TILE_WIDTH))
        leaves = (await _read_bundle(ask, bundle))[known:]
        frontier, _ = frontier.extend(map(leaf_hash, leaves))
        yield Leaves([LogLeaf.decode(leaf) for leaf in leaves], frontier)
    if frontier.head != head:
        raise InvalidProof(
            f"the leaves that were served are not those of the log of {head.size}",
            code="other_log",
        )


async def read_range(ask: Asking, start: int, end: int) -> list[LogLeaf]:
    """Leaves ``[start, end)`` as they are served; no root is compared with them.

    Raises:
        NotFound: ``no_such_tile``: the log has fewer.
        MalformedMessage: Something that is no leaf.
    """
    leaves = list[bytes]()
    for index in range(start // TILE_WIDTH, -(-end // TILE_WIDTH)):
        first = index * TILE_WIDTH
        bundle = Bundle(index, min(TILE_WIDTH, end - first))
        leaves += (await _read_bundle(ask, bundle))[max(start - first, 0) :]
    return [LogLeaf.decode(leaf) for leaf in leaves]


async def _read_bundle(ask: Asking, bundle: Bundle) -> list[bytes]:
    """A bundle's leaves; one by one where entries are so large that no message holds them all."""
    path, first = format_path(bundle), bundle.index * TILE_WIDTH
    end = first + bundle.width
    try:
        return decode_bundle(await ask(lambda peer: peer.get_tile(path)), bundle.width)
    except DsnError as error:
        if not isinstance(error, LimitReached) and error.detail_code != TOO_LARGE:
            raise
        return [await _read_leaf(ask, index, end) for index in range(first, end)]


async def _read_leaf(ask: Asking, index: int, size: int) -> bytes:
    reply = await ask(lambda peer: peer.get_inclusion(index, size))
    return reply.leaf


async def read_frontier(ask: Asking, head: TreeHead) -> Frontier:
    """What appending to the log at ``head`` needs; its last leaf's proof has all of it.

    Args:
        ask: Reaches the ledger.
        head: Believed, of one leaf at least.

    Raises:
        InvalidProof: As ``verify_inclusion_proof``.
    """
    last = head.size - 1
    reply = await ask(lambda peer: peer.get_inclusion(last, head.size))
    digest, path = leaf_hash(reply.leaf), list(reply.path)
    verify_inclusion_proof(head, last, digest, path)
    smallest, *larger = prefix_proof(head.size, digest, path)
    return Frontier(head.size, (*reversed(larger), smallest))


def prefix_proof(size: int, last: bytes, path: Sequence[bytes]) -> list[bytes]:
    """What ``build_prefix_proof`` gives for the first ``size`` leaves of a log.

    Args:
        size: At least 1.
        last: The hash of leaf ``size - 1``.
        path: Its inclusion proof in the whole log, which was verified.
    """
    inner = (size & -size).bit_length() - 1
    digest = last
    for sibling in path[:inner]:
        digest = node_hash(sibling, digest)
    return [digest, *path[inner:]]
