"""The driver does in virtual time what the asyncio driver does in ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from dsn.apps.sim.driver import REFRESH_S, Node, Party
from dsn.apps.sim.world import Caller, Place, Reply, Request, Server, World
from dsn.dht.contact import Contact
from dsn.dht.distance import nearest, random_key
from dsn.dht.routing import BUCKET_SIZE, RoutingTable
from dsn.ids import NodeId
from dsn.machines.lookup import HARD_S, PARALLELISM, SOFT_S, Lookup, Outcome
from dsn.machines.upkeep import Find, Steps, Tell, Visit, join

SEED = 21
KEY = b"k" * 32


class Town:
    """A few nodes; the dead do not answer."""

    def __init__(self, nodes: int) -> None:
        self.rng = Random(SEED)
        self.world = World(self.rng, self.reach)
        self.nodes: dict[NodeId, Node] = {}
        self.dead: set[NodeId] = set()
        self.heard: list[tuple[NodeId, Request]] = []
        for number in range(nodes):
            contact = Contact(self.rng.randbytes(32), f"node-{number}:7077")
            self.nodes[contact.node_id] = Node(self.world, contact)

    def __getitem__(self, number: int) -> Node:
        return list(self.nodes.values())[number]

    def reach(self, caller: Caller, contact: Contact) -> Server | None:
        return None if contact.node_id in self.dead else self.nodes[contact.node_id]

    def client(self, known: Iterable[Contact] = ()) -> Party:
        """Somebody without an address who knows ``known``."""
        table = RoutingTable(NodeId(self.rng.randbytes(32)), subnet_most=None)
        for contact in known:
            table.seen(contact)
        return Party(self.world, Place.draw(self.rng), table)

    def contacts(self) -> list[Contact]:
        return [node.contact for node in self.nodes.values()]

    def run(self) -> None:
        self.world.clock.run()


def look_up(town: Town, party: Party, start: Sequence[Contact]) -> tuple[Lookup, float]:
    """A lookup of ``KEY`` from ``start``, and when it ended."""
    ended_s: list[float] = []
    lookup = Lookup(KEY, nearest(start, KEY, len(start)), me=party.me)
    party.look_up(lookup, lambda _: ended_s.append(town.world.clock.now_s))
    town.run()
    (only_s,) = ended_s
    return lookup, only_s


# lookups


def test_a_lookup_over_dead_nodes_takes_their_timeouts() -> None:
    town = Town(2 * PARALLELISM)
    town.dead = set(town.nodes)
    lookup, ended_s = look_up(town, town.client(), town.contacts())
    assert {hop.outcome for hop in lookup.hops} == {Outcome.FAILED}
    assert ended_s == SOFT_S + HARD_S
    assert [hop.asked_s for hop in lookup.hops] == [0.0] * PARALLELISM + [SOFT_S] * PARALLELISM


def test_silent_nodes_hold_the_others_up_for_the_soft_timeout_only() -> None:
    town = Town(BUCKET_SIZE)
    first = nearest(town.contacts(), KEY, PARALLELISM)
    town.dead = {each.node_id for each in first}
    lookup, _ = look_up(town, town.client(), town.contacts())
    assert min(hop.asked_s for hop in lookup.hops if hop.contact not in first) == SOFT_S
    assert {each.node_id for each in lookup.closest()} == set(town.nodes) - town.dead


def test_a_lookup_notes_who_answered_and_who_did_not() -> None:
    town = Town(3)
    alive, dead = town.contacts()[:2], town.contacts()[2]
    town.dead = {dead.node_id}
    client = town.client([dead])
    look_up(town, client, town.contacts())
    assert set(client.table) == {*alive, dead}
    look_up(town, client, [dead])
    assert set(client.table) == set(alive)


def test_a_lookup_goes_where_answers_lead() -> None:
    town = Town(3)
    town[0].table.seen(town[1].contact)
    town[1].table.seen(town[2].contact)
    lookup, _ = look_up(town, town.client(), [town[0].contact])
    assert lookup.depth == 3
    assert set(lookup.closest()) == set(town.contacts())


# who gets a place


def test_whoever_calls_gets_a_place_after_a_call_back() -> None:
    town = Town(2)
    caller, called = town[0], town[1]
    answers: list[float] = []
    caller.call(called.contact, Request(KEY), lambda _: answers.append(town.world.clock.now_s))
    town.world.clock.run(until_s=1e-9)
    assert not called.table
    town.run()
    assert list(called.table) == [caller.contact]
    assert list(caller.table) == [called.contact]
    assert called.calls == 1
    assert town.world.clock.now_s > answers[0]


def test_whoever_cannot_be_called_back_gets_none() -> None:
    town = Town(2)
    town.dead = {town[0].me}
    town[0].call(town[1].contact, Request(KEY), lambda _: None)
    town.client().call(town[1].contact, Request(KEY), lambda _: None)
    town.run()
    assert not town[1].table
    assert town[1].calls == 1  # the client was not even tried


def crowd(town: Town, me: NodeId) -> list[Contact]:
    """More nodes than the far bucket of ``me`` takes, alive, in that bucket."""
    found: list[Contact] = []
    while len(found) <= BUCKET_SIZE:
        contact = Contact(town.rng.randbytes(32), "crowd:7077")
        if (contact.node_id[0] ^ me[0]) >> 7:
            town.nodes[contact.node_id] = Node(town.world, contact)
            found.append(contact)
    return found


def test_a_newcomer_replaces_only_a_contact_that_is_gone() -> None:
    town = Town(1)
    client = town.client()
    *old, new = crowd(town, client.me)
    for contact in old:
        client.table.seen(contact)
    client.call(new, Request(KEY), lambda _: None)
    town.run()
    assert client.table.get(new.node_id) is None
    assert client.calls == 2  # and the oldest was pinged
    gone = client.table.oldest(255)
    assert gone is not None
    town.dead = {gone.node_id}
    client.ping(gone)
    town.run()
    assert client.table.get(new.node_id) == new
    assert client.table.get(gone.node_id) is None


# upkeep


def steps_of(*steps: Find | Visit | Tell) -> tuple[Steps, list[list[Contact]]]:
    """A task that yields ``steps``, and what it is sent."""
    sent: list[list[Contact]] = []

    def task() -> Steps:
        for step in steps:
            sent.append((yield step))

    return task(), sent


def test_steps_are_carried_out_one_after_another() -> None:
    town = Town(3)
    asker, asked, named = town[0], town[1], town[2]
    asked.table.seen(named.contact)
    target = random_key(asker.me, 255, town.rng.randbytes)
    steps, sent = steps_of(
        Visit(asked.contact, target),
        Find(KEY, (asked.contact,)),
        Tell(asked.contact, named.contact),
    )
    asker.follow(steps)
    town.run()
    visited, found, told = sent
    assert visited == [named.contact]
    assert set(found) == {asked.contact, named.contact}
    assert told == []


def test_silence_gives_a_step_nothing() -> None:
    town = Town(2)
    town.dead = {town[1].me}
    steps, sent = steps_of(Visit(town[1].contact, KEY), Find(KEY, (town[1].contact,)))
    town[0].follow(steps)
    town.run()
    assert sent == [[], []]


def test_nodes_that_join_by_way_of_one_know_each_other() -> None:
    town = Town(BUCKET_SIZE)
    for number in range(1, BUCKET_SIZE):
        town[number].follow(join(town[number].table, [town[0].contact], town.rng.randbytes))
        town.run()
    for node in town.nodes.values():
        assert set(node.table) == set(town.contacts()) - {node.contact}, f"seed {SEED}"


def test_a_hint_is_heeded_once_a_refresh_and_leads_to_the_strangers() -> None:
    town = Town(4)
    told, first, second, friend = (town[number] for number in range(4))
    first.table.seen(friend.contact)
    told.hinted(first.contact)
    told.hinted(second.contact)
    town.run()
    assert set(told.table) == {first.contact, friend.contact}
    town.world.clock.run(until_s=REFRESH_S)
    told.hinted(second.contact)
    town.run()
    assert second.contact in set(told.table)


def test_a_hint_at_somebody_known_costs_nothing() -> None:
    town = Town(2)
    town[0].table.seen(town[1].contact)
    town[0].handle(Request(hint=town[1].contact), None)
    town.run()
    assert town[0].calls == 0


def test_a_ping_is_answered_with_nothing_and_a_question_with_contacts() -> None:
    town = Town(2)
    town[0].table.seen(town[1].contact)
    assert town[0].handle(Request(), None) == Reply()
    assert town[0].handle(Request(KEY), None) == Reply([town[1].contact])
