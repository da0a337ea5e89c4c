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
from dsn.dht.distance import ID_BITS, nearest, random_key
from dsn.dht.routing import BUCKET_SIZE, RoutingTable
from dsn.ids import ID_BYTES, NodeId

WALK_HOPS: Final = 6
"""Enough to end nearly anywhere in a network of millions."""
TELL: Final = 6
"""Contacts that a merge hint is passed on to."""
NEWS: Final = 4
"""A hint is news when one in so many of the nearest nodes had no place in the table before."""
APPROACH: Final = 8
"""Calls at most from a stranger to one's own neighbourhood; some four suffice among millions."""
SEEDS: Final = 2
"""Seeds contacted in a refresh."""
NEW_FACES: Final = 3
"""Nodes of one bucket that are visited in a round because the table has room for them."""


@dataclass(frozen=True, slots=True)
class Find:
    """Look up ``target``, from ``via`` as well; gives the nearest nodes that answered."""

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
    """One round of staying in the network: some fifty calls, two more when it doubles."""
    yield from _visit_buckets(table, entropy)
    end = yield from _walk(table, entropy)
    named: list[Contact] = []
    for stranger in [*sample(seeds, SEEDS, entropy), *([end] if end else [])]:
        named += yield from _approach(stranger, table.me)
    yield from _settle(table, named, entropy)


def meet(table: RoutingTable, strangers: Sequence[Contact], entropy: Entropy) -> Steps:
    """Heed a merge hint (untrusted): a few calls each, and a lookup only if there is news."""
    named: list[Contact] = []
    for stranger in strangers:
        named += yield from _approach(stranger, table.me)
    near = nearest({*table, *named}, table.me, BUCKET_SIZE)
    if _matter([each for each in near if table.wants(each)], near):
        yield from _settle(table, named, entropy)


def _approach(stranger: Contact, me: NodeId) -> Generator[Step, list[Contact], list[Contact]]:
    """Go from ``stranger`` ever nearer to oneself; gives those that were named on the way.

    A lookup alone never gets there: it asks whom it knows nearest, and that is one's own
    neighbours, not those whom a stranger names first.
    """
    named = {stranger.node_id: stranger}
    asked, silent = set[NodeId](), {me}
    for _ in range(APPROACH):
        heard = (each for node, each in named.items() if node not in silent)
        at = next(iter(nearest(heard, me, 1)), None)
        if at is None or at.node_id in asked:
            break
        reply = yield Visit(at, me)
        (asked if reply else silent).add(at.node_id)
        named |= {each.node_id: each for each in reply}
    return [each for node, each in named.items() if node not in silent]


def _settle(table: RoutingTable, named: Sequence[Contact], entropy: Entropy) -> Steps:
    """Find one's own neighbours, from ``named`` as well; if they are news, pass that on.

    News are only those who got a place in the table. Whoever gets none (its subnet has enough)
    would be news to everybody in every round, and the hints would never end.
    """
    known = list(table)
    ids = {each.node_id for each in known}
    found = yield Find(table.me, tuple(named))
    news = [each for each in found if each.node_id not in ids and table.get(each.node_id)]
    if _matter(news, found):
        for contact in sample(known, TELL, entropy):
            yield Tell(contact, news[0])


def _matter(news: Sequence[Contact], near: Sequence[Contact]) -> bool:
    """Whether ``news`` are so many of ``near`` that more than the usual coming and going is on."""
    return bool(news) and len(news) * NEWS >= len(near)


def _visit_buckets(table: RoutingTable, entropy: Entropy) -> Steps:
    """Ask in each bucket, from the nearest that is held, for others there, and visit some.

    Whom the table holds is asked by turns. An empty bucket is asked for elsewhere: whoever
    joins beside its seed would else hear of neighbours only.
    """
    for bucket in range(min(table.buckets(), default=ID_BITS), ID_BITS):
        target = random_key(table.me, bucket, entropy)
        oldest = table.oldest(bucket)
        for asked in [oldest] if oldest else table.closest(target, 1):
            named = yield Visit(asked, target)
            for contact in [each for each in named if table.wants(each)][:NEW_FACES]:
                yield Visit(contact, target)


def _walk(table: RoutingTable, entropy: Entropy) -> Generator[Step, list[Contact], Contact | None]:
    """Go from one contact to a random one of those it names, and on; ``None`` if all is silent."""
    at = None
    named = list(table)
    for _ in range(WALK_HOPS):
        others = [each for each in named if each.node_id != table.me]
        if not others:
            break
        contact = sample(others, 1, entropy)[0]
        reply = yield Visit(contact, entropy(ID_BYTES))
        if reply:
            at, named = contact, reply
    return at


def sample(contacts: Sequence[Contact], count: int, entropy: Entropy) -> list[Contact]:
    """``count`` of ``contacts``, drawn without replacement."""
    rest = list(contacts)
    drawn: list[Contact] = []
    while rest and len(drawn) < count:
        drawn.append(rest.pop(int.from_bytes(entropy(8), "big") % len(rest)))
    return drawn
