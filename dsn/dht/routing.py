"""A node's routing table: the contacts it could call, more of them the nearer they are.

Bucket ``b`` holds contacts whose distance has bit length ``b + 1``, least recently seen first.
Old contacts stay: who has been there long tends to remain (Maymounkov and Mazieres, 2002,
section 2.1), and nobody gains a place by being loud. Nothing enters that has not proved
itself reachable; that is for the caller to see to, before ``seen``.

Spec: docs/spec/network.md#routing-table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dsn.dht.contact import Contact, subnet_of
from dsn.dht.distance import bucket_of, nearest
from dsn.ids import NodeId

BUCKET_SIZE: Final = 20
"""Kademlia's k: how many contacts a bucket holds and how many nodes keep a record."""
SUBNET_MOST: Final = 2
"""Contacts of one /24 (v6 /48) in one bucket, with those that wait: a rented rack cannot
fill a table."""
SPARES: Final = 4
"""Reachable contacts that wait for a place in a full bucket; the last seen are kept, and
the last of them goes first."""
FAILURES: Final = 2
"""Failures in a row after which a contact goes, even if nobody waits for its place."""


class RoutingTable:
    """The contacts of the node ``me``."""

    __slots__ = ("_buckets", "_failures", "_size", "_spares", "_subnet_most", "me")

    def __init__(
        self, me: NodeId, *, bucket_size: int = BUCKET_SIZE, subnet_most: int | None = SUBNET_MOST
    ) -> None:
        """Start empty; ``subnet_most`` is ``None`` where all nodes share addresses (loopback)."""
        self.me = me
        self._size, self._subnet_most = bucket_size, subnet_most
        self._buckets: dict[int, list[Contact]] = {}
        self._spares: dict[int, list[Contact]] = {}
        self._failures: dict[NodeId, int] = {}

    def __len__(self) -> int:
        """How many contacts there are, without those that wait."""
        return sum(map(len, self._buckets.values()))

    def __iter__(self) -> Iterator[Contact]:
        """Every contact, nearest bucket first."""
        for bucket in sorted(self._buckets):
            yield from self._buckets[bucket]

    def buckets(self) -> dict[int, int]:
        """How many contacts each bucket holds, nearest first; empty ones are left out."""
        return {bucket: len(self._buckets[bucket]) for bucket in sorted(self._buckets)}

    def oldest(self, bucket: int) -> Contact | None:
        """The contact of ``bucket`` that was seen longest ago."""
        return next(iter(self._buckets.get(bucket, ())), None)

    def get(self, node: NodeId) -> Contact | None:
        """The contact of ``node``, if it has a place."""
        bucket = self._buckets.get(bucket_of(self.me, node), ()) if node != self.me else ()
        at = _place_of(node, bucket)
        return None if at is None else bucket[at]

    def closest(self, target: bytes, count: int = BUCKET_SIZE) -> list[Contact]:
        """The ``count`` contacts nearest to ``target``, nearest first.

        Whole buckets in the order of their distance, so that few contacts are looked at.
        """
        gap = int.from_bytes(self.me, "big") ^ int.from_bytes(target, "big")
        found: list[Contact] = []
        for bucket in sorted(self._buckets, key=lambda each: ((gap >> each) ^ 1) << each):
            found += nearest(self._buckets[bucket], target, count - len(found))
            if len(found) == count:
                break
        return found

    def wants(self, contact: Contact) -> bool:
        """Whether proof that ``contact`` (untrusted) is reachable is worth a call.

        It is if ``seen`` would then note a node or an address that is in no place yet, and none
        would be lost for it. Spares that take turns are worth none: answers to other calls
        renew them.
        """
        if contact.node_id == self.me:
            return False
        index = bucket_of(self.me, contact.node_id)
        bucket, spares = self._buckets.get(index, ()), self._spares.get(index, ())
        if contact in bucket or contact in spares:
            return False
        known = any(each.node_id == contact.node_id for each in (*bucket, *spares))
        room = known or len(bucket) < self._size or len(spares) < SPARES
        return room and self._subnet_free(index, contact)

    def seen(self, contact: Contact) -> Contact | None:
        """Note that ``contact`` proved itself, just now, at its address.

        Returns:
            A contact to ping when the bucket is full and one more now waits: if it is gone
            (``failed``), a spare gets its place.
        """
        if contact.node_id == self.me:
            return None
        index = bucket_of(self.me, contact.node_id)
        bucket, spares = self._buckets.get(index, []), self._spares.get(index, [])
        for places in (bucket, spares):
            at = _place_of(contact.node_id, places)
            if at is not None:
                if contact == places[at] or self._subnet_free(index, contact):
                    del places[at]
                    places.append(contact)
                    self._failures.pop(contact.node_id, None)
                return None
        if not self._subnet_free(index, contact):
            return None
        if len(bucket) < self._size:
            self._buckets.setdefault(index, bucket).append(contact)
            return None
        self._spares.setdefault(index, spares).append(contact)
        if len(spares) <= SPARES:
            return bucket[0]
        del spares[0]
        return None

    def failed(self, node: NodeId) -> None:
        """Note that ``node`` did not answer where this table has it.

        Silence at another address says nothing: whoever names nodes at wrong addresses would
        have them dropped. That is for the caller to see to.

        A contact with nobody waiting for its place gets a second chance: when it is this node
        that lost its line, all contacts fail, and all will be wanted back.
        """
        if node == self.me:
            return
        index = bucket_of(self.me, node)
        bucket, spares = self._buckets.get(index, []), self._spares.get(index, [])
        waiting, at = _place_of(node, spares), _place_of(node, bucket)
        if waiting is not None:
            del spares[waiting]
        if at is None:
            return
        failures = self._failures[node] = self._failures.get(node, 0) + 1
        if not (spares or failures >= FAILURES):
            return
        del bucket[at], self._failures[node]
        if spares:
            bucket.insert(0, spares.pop())
        if not bucket:
            del self._buckets[index]

    def _subnet_free(self, index: int, contact: Contact) -> bool:
        """Whether so few others of its subnet have or await a place that it may, too."""
        if self._subnet_most is None:
            return True
        subnet = _subnet(contact)
        others = (*self._buckets.get(index, ()), *self._spares.get(index, ()))
        same = sum(_subnet(each) == subnet for each in others if each.node_id != contact.node_id)
        return same < self._subnet_most


def _place_of(node: NodeId, contacts: Sequence[Contact]) -> int | None:
    return next((at for at, each in enumerate(contacts) if each.node_id == node), None)


def _subnet(contact: Contact) -> str:
    """Its subnet; all names are in one, as whoever has a domain has any number of them."""
    subnet = subnet_of(contact.host)
    return "" if subnet == contact.host else subnet
