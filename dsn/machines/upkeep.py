"""What a node does to get into the network, to stay in it, and to make it whole again.

Each task is a generator that yields steps and is sent what came of them, so that the same
code runs on asyncio and on a virtual clock. Whoever answers a step has proved itself
reachable: the driver notes it in the routing table before it goes on.

Plain Kademlia never heals a split: each half refreshes itself alone. Three habits do, every
refresh: seeds are contacted again, a random walk ends at somebody who is asked for one's own
neighbours, and whoever finds strangers that way tells others whom to ask (a merge hint). A
hint is passed on only by nodes to whom it was news, so a false one dies at its first stop.

Spec: docs/spec/network.md#staying-whole.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from dsn.dht.contact import Contact
from dsn.dht.distance import random_key
from dsn.dht.routing import RoutingTable

WALK_HOPS: Final = 6
"""Enough to end nearly anywhere in a network of millions."""
TELL: Final = 6
"""Contacts that a merge hint is passed on to."""
NEWS: Final = 4
"""A hint is news when one in so many of the nearest nodes was not known before."""
SEEDS: Final = 2
"""Seeds contacted in a refresh."""


@dataclass(frozen=True, slots=True)
class Find:
    """Look up ``target``, asking ``via`` as well; gives the nearest nodes that answered."""

    target: bytes
    via: tuple[Contact, ...] = ()


@dataclass(frozen=True, slots=True)
class Visit:
    """Ask one contact what it knows nearest to ``target``; gives nothing if it is silent."""

    contact: Contact
    target: bytes


@dataclass(frozen=True, slots=True)
class Tell:
    """Ping ``contact`` with a merge hint; gives nothing."""

    contact: Contact
    hint: Contact


Step: TypeAlias = Find | Visit | Tell
Steps: TypeAlias = Generator[Step, list[Contact], None]
Entropy = Callable[[int], bytes]


def join(table: RoutingTable, seeds: Sequence[Contact], entropy: Entropy) -> Steps:
    """Get in by way of ``seeds``: find one's own neighbours, then somebody in every bucket."""
    yield Find(table.me, tuple(seeds))
    yield from _visit_buckets(table, entropy)


def refresh(table: RoutingTable, seeds: Sequence[Contact], entropy: Entropy) -> Steps:
    """One round of staying in the network, some forty calls whatever its size."""
    yield from _visit_buckets(table, entropy)
    end = yield from _walk(table, entropy)
    via = [*_sample(seeds, SEEDS, entropy), *([end] if end else [])]
    yield from meet(table, via, entropy)


def meet(table: RoutingTable, strangers: Sequence[Contact], entropy: Entropy) -> Steps:
    """Ask ``strangers`` for one's own neighbours; if they know others, pass that on."""
    known = list(table)
    before = {each.node_id for each in table.closest(table.me)}
    found = yield Find(table.me, tuple(strangers))
    news = [each for each in found if each.node_id not in before]
    if before and len(news) * NEWS >= len(found):
        for contact in _sample(known, TELL, entropy):
            yield Tell(contact, news[0])


def _visit_buckets(table: RoutingTable, entropy: Entropy) -> Steps:
    """Ask the contact of each bucket that was seen longest ago for others there."""
    for bucket in table.buckets():
        oldest = table.oldest(bucket)
        if oldest is not None:
            yield Visit(oldest, random_key(table.me, bucket, entropy))


def _walk(table: RoutingTable, entropy: Entropy) -> Generator[Step, list[Contact], Contact | None]:
    """Go from one contact to a random one of those it names, and on; ``None`` if all is silent."""
    at = None
    reply = list(table)
    for _ in range(WALK_HOPS):
        others = [each for each in reply if each.node_id != table.me]
        if not others:
            break
        next_ = _sample(others, 1, entropy)[0]
        reply = yield Visit(next_, entropy(32))
        at = next_ if reply else at
    return at


def _sample(contacts: Sequence[Contact], count: int, entropy: Entropy) -> list[Contact]:
    """``count`` of ``contacts``, drawn without replacement."""
    rest = list(contacts)
    drawn: list[Contact] = []
    while rest and len(drawn) < count:
        drawn.append(rest.pop(int.from_bytes(entropy(8), "big") % len(rest)))
    return drawn
