"""A whole network of routing tables in one thread, without a clock: a call is a function call."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple, Protocol

from dsn.dht.contact import Contact
from dsn.dht.distance import nearest
from dsn.dht.routing import RoutingTable
from dsn.ids import NodeId
from dsn.machines.lookup import HARD_S, Ask, Lookup
from dsn.machines.upkeep import Find, Steps, Tell, Visit, meet


def node(number: int, host: str | None = None) -> Contact:
    """The node ``number``, in a subnet of its own unless ``host`` says where."""
    key = hashlib.sha256(b"node %d" % number).digest()
    return Contact(key, f"{host or f'10.{number >> 8 & 255}.{number & 255}.1'}:4001")


def ids(contacts: Iterable[Contact]) -> list[NodeId]:
    """Their node ids, in order."""
    return [contact.node_id for contact in contacts]


class Said(NamedTuple):
    """An answer to one question of a lookup."""

    contacts: Sequence[Contact] = ()
    values: int = 0
    after_s: float = 0.01


class Answering(Protocol):
    """What is at a contact; ``None`` is silence."""

    def __call__(self, contact: Contact) -> Said | None: ...


def drive(lookup: Lookup, answer: Answering) -> list[Contact]:
    """Carry ``lookup`` out in virtual time; gives everybody who was asked, in order."""
    now_s, asked = 0.0, list[Contact]()
    events: list[tuple[float, int, Contact, Said | None]] = []

    def launch(asks: Sequence[Ask]) -> None:
        for ask in asks:
            said = answer(ask.contact)
            if said is not None and said.after_s > HARD_S:
                said = None
            due_s = now_s + (HARD_S if said is None else said.after_s)
            heappush(events, (due_s, len(asked), ask.contact, said))
            asked.append(ask.contact)

    launch(lookup.start(now_s))
    while not lookup.done:
        due_s = lookup.next_s
        if due_s is not None and due_s < events[0][0]:
            now_s = due_s
            launch(lookup.tick(now_s))
            continue
        now_s, _, contact, said = heappop(events)
        if said is None:
            launch(lookup.failed(contact.node_id, now_s))
        else:
            launch(lookup.answered(contact.node_id, said.contacts, said.values, now_s))
    return asked


@dataclass
class Peer:
    """One node of the network: where it is, whom it knows, and whether it answers."""

    contact: Contact
    table: RoutingTable
    alive: bool = True


@dataclass
class Net:
    """Nodes that call one another as the drivers of the production code do."""

    rng: Random
    subnet_most: int | None = None
    peers: dict[NodeId, Peer] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    told: list[tuple[Contact, Contact]] = field(default_factory=list)
    """Who was sent which merge hint."""

    def add(self, contact: Contact) -> Peer:
        """Start a node that knows nobody."""
        table = RoutingTable(contact.node_id, subnet_most=self.subnet_most)
        self.peers[contact.node_id] = Peer(contact, table)
        return self.peers[contact.node_id]

    def acquaint(self) -> None:
        """Let everybody see everybody, in any order."""
        everybody = [peer.contact for peer in self]
        for peer in self:
            for contact in self.rng.sample(everybody, len(everybody)):
                peer.table.seen(contact)

    def __iter__(self) -> Iterator[Peer]:
        """Every node."""
        return iter(self.peers.values())

    def nearest(self, target: bytes, count: int = 20) -> list[Contact]:
        """Those that answer and truly are nearest to ``target``."""
        return nearest((peer.contact for peer in self if peer.alive), target, count)

    def call(self, kind: str, caller: Peer, contact: Contact, target: bytes) -> Sequence[Contact]:
        """Whom ``contact`` names; both sides note what the call proved. Nobody if it is silent."""
        self.calls[kind] += 1
        peer = self._at(contact)
        if peer is None:
            caller.table.failed(contact.node_id)
            return ()
        named = [c for c in peer.table.closest(target) if c.node_id != caller.contact.node_id]
        if peer.table.wants(caller.contact):
            self.calls["call back"] += 1
            self._note(peer, caller.contact)
        self._note(caller, contact)
        return named

    def look_up(self, peer: Peer, target: bytes, via: Sequence[Contact] = ()) -> Lookup:
        """A lookup as the drivers do it: from ``via`` and the table's nearest."""
        unique = {each.node_id: each for each in (*peer.table.closest(target), *via)}.values()
        lookup = Lookup(target, nearest(unique, target, len(unique)), me=peer.contact.node_id)

        def answer(contact: Contact) -> Said | None:
            named = self.call("find", peer, contact, target)
            return Said(named) if self._at(contact) is not None else None

        drive(lookup, answer)
        return lookup

    def run(self, peer: Peer, steps: Steps) -> None:
        """Carry out a task of upkeep."""
        try:
            step = next(steps)
            while True:
                match step:
                    case Find(target, via):
                        found = self.look_up(peer, target, via).closest()
                    case Visit(contact, target):
                        found = list(self.call("visit", peer, contact, target))
                    case Tell(contact, hint):
                        self.call("tell", peer, contact, contact.node_id)
                        self.told.append((contact, hint))
                        found = []
                step = steps.send(found)
        except StopIteration:
            return

    def spread(self, most: int) -> int:
        """Have everybody heed the hints they were told, and those that follow, up to ``most``."""
        heeded = 0
        while self.told and heeded < most:
            contact, hint = self.told.pop(0)
            peer = self.peers[contact.node_id]
            heeded += 1
            if peer.alive:
                self.run(peer, meet(peer.table, [hint], self.rng.randbytes))
        return heeded

    def recall(self, rng: Random, lookups: int) -> float:
        """The share of the truly nearest that random lookups from random nodes find."""
        hits = wanted = 0
        for _ in range(lookups):
            peer = rng.choice([each for each in self if each.alive])
            target = rng.randbytes(32)
            truth = set(ids(self.nearest(target, 21))) - {peer.contact.node_id}
            best = nearest((self.peers[each].contact for each in truth), target, 20)
            hits += len(set(ids(best)) & set(ids(self.look_up(peer, target).closest())))
            wanted += len(best)
        return hits / wanted

    def _note(self, peer: Peer, contact: Contact) -> None:
        oldest = peer.table.seen(contact)
        if oldest is not None:
            self.calls["ping"] += 1
            if self._at(oldest) is None:
                peer.table.failed(oldest.node_id)
            else:
                peer.table.seen(oldest)

    def _at(self, contact: Contact) -> Peer | None:
        peer = self.peers.get(contact.node_id)
        return peer if peer is not None and peer.alive and peer.contact == contact else None
