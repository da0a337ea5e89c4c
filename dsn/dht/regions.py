"""Which nodes keep a record, without a lookup for every key: regions of the keyspace.

A finished lookup knows every node that is nearer to its target than the last one it found.
Keys that share enough leading bits with the target have nearly the same nearest nodes: together
they are a region, and its nodes keep every record in it. So publishing any number of records
costs one lookup a region and one call a node, bounded by the size of the network and not by the
number of records.

Spec: docs/spec/network.md#publishing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dsn.dht.contact import Contact
from dsn.dht.distance import nearest, shared_bits
from dsn.dht.routing import BUCKET_SIZE


@dataclass(frozen=True, slots=True)
class Region:
    """All keys that share ``bits`` leading bits with ``key``, and the nodes that keep them."""

    key: bytes
    bits: int
    nodes: tuple[Contact, ...]

    def __contains__(self, key: object) -> bool:
        """Whether ``key`` lies in the region."""
        return isinstance(key, bytes) and shared_bits(self.key, key) >= self.bits


def region_of(target: bytes, closest: Sequence[Contact], size: int = BUCKET_SIZE) -> Region:
    """The region that a lookup of ``target`` settles.

    To a key that shares ``bits`` leading bits with the target, nodes that differ from one
    another in those bits are in the same order as to the target. With one bit more than the
    middle node and the farthest share, that holds for the nearer half against the farthest and
    all beyond it: so half of the region's nodes, at least, are among the ``size`` nearest of any
    key in it, however the nodes lie.

    Args:
        target: What was looked up.
        closest: The nodes that answered, nearest first. Fewer than ``size`` are the whole
            network, and the region is the whole keyspace.
        size: How many nodes keep a record, at least 2.
    """
    if len(closest) < size:
        return Region(target, 0, tuple(closest))
    middle, farthest = closest[size // 2 - 1], closest[-1]
    bits = shared_bits(middle.node_id, farthest.node_id) + 1
    return Region(target, bits, tuple(closest))


class Regions:
    """Regions found a short while ago: a session that writes often need not look again."""

    TERM_S: Final = 60.0
    """How long nodes are taken to stay what they were."""

    def __init__(self) -> None:
        """Know none."""
        self._known: list[tuple[float, Region]] = []
        self._all: tuple[float, Sequence[Contact]] | None = None

    def add(self, region: Region, now_s: float) -> None:
        """Remember ``region`` as of ``now_s``."""
        self._known.append((now_s, region))

    def add_all(self, nodes: Sequence[Contact], now_s: float) -> None:
        """Remember that ``nodes``, as of ``now_s``, are all there are: they settle every key."""
        self._all = now_s, nodes

    def of(self, key: bytes, now_s: float) -> Region | None:
        """The newest region that ``key`` lies in."""
        if self._all is not None and now_s - self._all[0] < self.TERM_S:
            return region_of(key, nearest(self._all[1], key, BUCKET_SIZE))
        self._known = [each for each in self._known if now_s - each[0] < self.TERM_S]
        return next((region for _, region in reversed(self._known) if key in region), None)

    def forget(self, node: Contact) -> None:
        """Drop every region that ``node`` is in: it failed."""
        if self._all is not None and node in self._all[1]:
            self._all = None
        self._known = [each for each in self._known if node not in each[1].nodes]
