"""The one driver of the simulator: runs production machines for a party in virtual time.

It does what the asyncio driver does: whoever answers has proved itself and is noted in the
routing table, whoever is silent counts as failed, a full bucket has its oldest contact
pinged, and whoever calls gets a place only after it was called back.

Spec: docs/spec/network.md#routing-table.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from dsn.apps.sim.world import Place, Reply, Request, World
from dsn.dht.contact import Contact
from dsn.dht.distance import nearest
from dsn.dht.routing import RoutingTable
from dsn.ids import NodeId
from dsn.machines.lookup import Ask, Lookup
from dsn.machines.upkeep import Find, Steps, Tell, Visit, meet

REFRESH_S: Final = 600.0
"""Between two rounds of a node's upkeep."""


class Party:
    """Somebody with a routing table who calls others: a client, or a node's calling half."""

    def __init__(
        self, world: World, place: Place, table: RoutingTable, contact: Contact | None = None
    ) -> None:
        """Stand at ``place``; a client has no ``contact``."""
        self.world, self.place, self.table, self.contact = world, place, table, contact
        self.calls = 0

    @property
    def me(self) -> NodeId:
        """Its id."""
        return self.table.me

    def call(
        self, contact: Contact, request: Request, then: Callable[[Reply | None], None]
    ) -> None:
        """Call ``contact``, note in the table how it went, and hand the answer on."""
        self.calls += 1
        self.world.call(self, contact, request, partial(self._called, contact, then))

    def look_up(self, lookup: Lookup, then: Callable[[Lookup], None]) -> None:
        """Carry ``lookup`` out."""
        _Search(self, lookup, then).begin()

    def follow(self, steps: Steps) -> None:
        """Carry out a task of upkeep, step by step."""
        self._advance(steps, None)

    def ping(self, contact: Contact) -> None:
        """See whether ``contact`` is still there."""
        self.call(contact, Request(), lambda _: None)

    def _called(
        self, contact: Contact, then: Callable[[Reply | None], None], reply: Reply | None
    ) -> None:
        if reply is None:
            if self.table.get(contact.node_id) in (None, contact):
                self.table.failed(contact.node_id)
        else:
            self._note(contact)
        then(reply)

    def _note(self, contact: Contact) -> None:
        oldest = self.table.seen(contact)
        if oldest is not None:
            self.ping(oldest)

    def _advance(self, steps: Steps, found: list[Contact] | None) -> None:
        try:
            step = next(steps) if found is None else steps.send(found)
        except StopIteration:
            return
        go_on = partial(self._advance, steps)
        match step:
            case Find(target, via):
                start = [*via, *self.table.closest(target)]
                lookup = Lookup(target, nearest(start, target, len(start)), me=self.me)
                self.look_up(lookup, lambda done: go_on(done.closest()))
            case Visit(contact, target):
                self.call(contact, Request(target), lambda reply: go_on(_contacts(reply)))
            case Tell(contact, hint):
                self.call(contact, Request(hint=hint), lambda _: go_on([]))


class Node(Party):
    """A party that serves, too."""

    contact: Contact

    def __init__(self, world: World, contact: Contact) -> None:
        """Stand anywhere, in a subnet of its own, and know nobody."""
        table = RoutingTable(contact.node_id, subnet_most=None)
        super().__init__(world, Place.draw(world.rng), table, contact)
        self._hinted_s = -REFRESH_S

    def handle(self, request: Request, caller: Contact | None) -> Reply:
        """Answer; call the caller back if the table wants it, and heed a hint."""
        if caller is not None and self.table.wants(caller):
            self.ping(caller)
        if request.hint is not None:
            self.hinted(request.hint)
        return Reply() if request.target is None else Reply(self.table.closest(request.target))

    def hinted(self, stranger: Contact) -> None:
        """Heed a merge hint, at most one a refresh."""
        now_s = self.world.clock.now_s
        if now_s - self._hinted_s >= REFRESH_S and self.table.get(stranger.node_id) is None:
            self._hinted_s = now_s
            self.follow(meet(self.table, [stranger], self.world.rng.randbytes))


class _Search:
    """One lookup under way."""

    def __init__(self, party: Party, lookup: Lookup, then: Callable[[Lookup], None]) -> None:
        self._party, self._lookup, self._then = party, lookup, then
        self._clock = party.world.clock
        self._request = Request(lookup.target)
        self._ended, self._tick_s = False, 0.0

    def begin(self) -> None:
        """Ask the first."""
        self._go_on(self._lookup.start(self._clock.now_s))

    def _go_on(self, asks: Sequence[Ask]) -> None:
        for ask in asks:
            self._party.call(ask.contact, self._request, partial(self._heard, ask.contact))
        if self._ended:
            return
        if self._lookup.done:
            self._ended = True
            self._then(self._lookup)
            return
        due_s, now_s = self._lookup.next_s, self._clock.now_s
        if due_s is not None and not now_s < self._tick_s <= due_s:
            self._tick_s = due_s
            self._clock.at(due_s, self._tick)

    def _heard(self, contact: Contact, reply: Reply | None) -> None:
        node, now_s = contact.node_id, self._clock.now_s
        if reply is None:
            self._go_on(self._lookup.failed(node, now_s))
        else:
            self._go_on(self._lookup.answered(node, reply.contacts, reply.values, now_s))

    def _tick(self) -> None:
        self._go_on(self._lookup.tick(self._clock.now_s))


def _contacts(reply: Reply | None) -> list[Contact]:
    return [] if reply is None else list(reply.contacts)
