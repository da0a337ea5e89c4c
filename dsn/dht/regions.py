"""Which nodes keep a record, without a lookup for every key: regions of the keyspace.

A finished lookup knows all nodes within the distance of its farthest one. The largest
subtree that lies inside that ball is a region: every key in it is kept by those same nodes.
So publishing any number of records costs one lookup a region and one call a node, bounded by
the size of the network and not by the number of records.

Spec: docs/spec/network.md#publishing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dsn.dht.contact import Contact
from dsn.dht.distance import ID_BITS, distance, shared_bits
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

    Args:
        target: What was looked up.
        closest: The nodes that answered, nearest first. Fewer than ``size`` are the whole
            network, and the region is the whole keyspace.
        size: How many nodes keep a record.
    """
    if len(closest) < size:
        return Region(target, 0, tuple(closest))
    farthest = distance(target, closest[-1].node_id)
    bits = min(ID_BITS, ID_BITS - farthest.bit_length() + 1)
    return Region(target, bits, tuple(closest))


class Regions:
    """Regions found a short while ago: a session that writes often need not look again."""

    TERM_S: Final = 60.0
    """How long nodes are taken to stay what they were."""

    def __init__(self) -> None:
        """Know none."""
        self._known: list[tuple[float, Region]] = []

    def add(self, region: Region, now_s: float) -> None:
        """Remember ``region`` as of ``now_s``."""
        self._known.append((now_s, region))

    def of(self, key: bytes, now_s: float) -> Region | None:
        """The newest region that ``key`` lies in."""
        self._known = [each for each in self._known if now_s - each[0] < self.TERM_S]
        return next((region for _, region in reversed(self._known) if key in region), None)

    def forget(self, node: Contact) -> None:
        """Drop every region that ``node`` is in: it failed."""
        self._known = [each for each in self._known if node not in each[1].nodes]
