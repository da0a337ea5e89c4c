"""The routing table against a plain model: every node in one list, every rule looked up in it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dsn.dht.contact import Contact, subnet_of
from dsn.dht.distance import bucket_of, distance
from dsn.dht.routing import FAILURES, SPARES, RoutingTable
from dsn.ids import NodeId
from tests.support.dht_net import ids, node

ME = node(0)
SIZE, SUBNET_MOST = 3, 2
NODES = [node(n) for n in range(40)]
ADDRESSES = [
    *(f"10.0.{subnet}.{last}:1" for subnet in range(6) for last in (1, 2)),
    "[2001:db8:1::1]:1",
    "[2001:db8:1:2::1]:1",
    "[::ffff:10.0.0.9]:1",
    "one.example:1",
    "two.example:1",
]

contacts = st.builds(
    lambda each, address: Contact(each.public_key, address),
    st.sampled_from(NODES),
    st.sampled_from(ADDRESSES),
)
keys = st.one_of(st.binary(min_size=32, max_size=32), st.sampled_from(ids(NODES)))


@dataclass
class Entry:
    """What the model knows of one node; ``at`` orders by the last proof."""

    contact: Contact
    waits: bool
    at: int
    failures: int = 0


@dataclass
class Model:
    """All nodes that have or await a place."""

    limited: bool
    entries: dict[NodeId, Entry] = field(default_factory=dict)
    turn: int = 0

    def listed(self, bucket: int, *, waits: bool) -> list[Entry]:
        inside = (e for e in self.entries.values() if self.bucket(e.contact.node_id) == bucket)
        return sorted((e for e in inside if e.waits == waits), key=lambda e: e.at)

    def bucket(self, node_id: NodeId) -> int:
        return bucket_of(ME.node_id, node_id)

    def crowded(self, contact: Contact) -> bool:
        def place(each: Contact) -> str:
            return subnet_of(each.host) if not each.host[0].isalpha() else "a name"

        bucket = self.bucket(contact.node_id)
        others = [
            e.contact
            for waits in (False, True)
            for e in self.listed(bucket, waits=waits)
            if e.contact.node_id != contact.node_id
        ]
        return self.limited and [*map(place, others)].count(place(contact)) >= SUBNET_MOST

    def seen(self, contact: Contact) -> Contact | None:
        known = self.entries.get(contact.node_id)
        same = known is not None and known.contact == contact
        if contact.node_id == ME.node_id or (not same and self.crowded(contact)):
            return None
        self.turn += 1
        if known is not None:
            self.entries[contact.node_id] = Entry(contact, known.waits, self.turn)
            return None
        bucket = self.bucket(contact.node_id)
        places, spares = (self.listed(bucket, waits=waits) for waits in (False, True))
        full = len(places) == SIZE
        self.entries[contact.node_id] = Entry(contact, full, self.turn)
        if full and len(spares) == SPARES:
            del self.entries[spares[0].contact.node_id]
            return None
        return places[0].contact if full else None

    def failed(self, node_id: NodeId) -> None:
        entry = self.entries.get(node_id)
        if entry is None:
            return
        bucket = self.bucket(node_id)
        spares = self.listed(bucket, waits=True)
        entry.failures += 1
        if entry.waits or spares or entry.failures >= FAILURES:
            del self.entries[node_id]
        if spares and not entry.waits:
            rest = self.listed(bucket, waits=False)
            spares[-1].waits, spares[-1].at = False, min([0, *(e.at for e in rest)]) - 1


class TableMachine(RuleBasedStateMachine):
    """Each rule does the same to a table and to the model."""

    @initialize(limited=st.booleans())
    def start(self, limited: bool) -> None:
        most = SUBNET_MOST if limited else None
        self.table = RoutingTable(ME.node_id, bucket_size=SIZE, subnet_most=most)
        self.model = Model(limited)

    @rule(contact=contacts)
    def seen(self, contact: Contact) -> None:
        assert self.table.seen(contact) == self.model.seen(contact)

    @rule(contact=contacts, answers=st.booleans())
    def seen_and_the_oldest_pinged(self, contact: Contact, answers: bool) -> None:
        oldest = self.table.seen(contact)
        assert oldest == self.model.seen(contact)
        for side in (self.table, self.model) if oldest else ():
            if answers:
                side.seen(oldest)
            else:
                side.failed(oldest.node_id)

    @rule(which=st.sampled_from(NODES))
    def failed(self, which: Contact) -> None:
        self.table.failed(which.node_id)
        self.model.failed(which.node_id)

    @rule(which=st.integers(0, 99), answers=st.booleans())
    def one_that_has_a_place_is_called(self, which: int, answers: bool) -> None:
        for contact in list(self.table)[which % max(1, len(self.table)) :][:1]:
            for side in (self.table, self.model):
                if answers:
                    side.seen(contact)
                else:
                    side.failed(contact.node_id)

    @rule(contact=contacts)
    def wants(self, contact: Contact) -> None:
        """Exactly when proof would add a node or an address and cost no node its place."""
        after = deepcopy(self.model)
        after.seen(contact)
        none_lost = self.model.entries.keys() <= after.entries.keys()
        listed = [{e.contact for e in model.entries.values()} for model in (self.model, after)]
        assert self.table.wants(contact) == (none_lost and listed[0] != listed[1])

    @rule(key=keys, most=st.integers(0, 30))
    def closest(self, key: bytes, most: int) -> None:
        everybody = [e.contact for e in self.model.entries.values() if not e.waits]
        everybody.sort(key=lambda each: distance(each.node_id, key))
        assert self.table.closest(key, most) == everybody[:most]

    @rule()
    def spares_are_the_same(self) -> None:
        """Seen by letting all places fail, in copies."""
        table, model = deepcopy(self.table), deepcopy(self.model)
        for _ in range(SPARES + 1):
            for contact in [each for each in list(table) for _ in range(FAILURES)]:
                table.failed(contact.node_id)
                model.failed(contact.node_id)
            assert set(table) == {e.contact for e in model.entries.values() if not e.waits}
        assert len(table) == 0

    @invariant()
    def both_list_the_same(self) -> None:
        held = {
            bucket: [e.contact for e in self.model.listed(bucket, waits=False)]
            for bucket in sorted({self.model.bucket(each) for each in self.model.entries})
        }
        assert list(self.table) == [each for bucket in held.values() for each in bucket]
        assert self.table.buckets() == {bucket: len(each) for bucket, each in held.items()}
        assert len(self.table) == sum(map(len, held.values()))
        for bucket, places in held.items():
            assert self.table.oldest(bucket) == places[0]
        for each in NODES:
            entry = self.model.entries.get(each.node_id)
            expected = entry.contact if entry and not entry.waits else None
            assert self.table.get(each.node_id) == expected

    @invariant()
    def no_bound_is_passed(self) -> None:
        assert self.table.get(ME.node_id) is None
        assert all(size <= SIZE for size in self.table.buckets().values())
        if self.model.limited:
            numbered = [each for each in self.table if not each.host[0].isalpha()]
            subnets = [
                (bucket_of(ME.node_id, each.node_id), subnet_of(each.host)) for each in numbered
            ]
            assert all(subnets.count(each) <= SUBNET_MOST for each in subnets)


def test_the_table_does_what_the_model_does() -> None:
    run_state_machine_as_test(
        TableMachine, settings=settings(max_examples=120, stateful_step_count=60)
    )


@pytest.mark.parametrize("size", [1, 2, 20])
@given(seed=st.integers(0, 1 << 32), target=keys)
@settings(max_examples=30)
def test_closest_is_what_brute_force_finds(size: int, seed: int, target: bytes) -> None:
    rng = Random(seed)
    table = RoutingTable(ME.node_id, bucket_size=size, subnet_most=None)
    for number in rng.sample(range(1, 2_000), rng.randrange(300)):
        table.seen(node(number))
    order = sorted(table, key=lambda each: distance(each.node_id, target))
    for most in (1, 7, 20, 1_000):
        assert table.closest(target, most) == order[:most], f"seed {seed}"
