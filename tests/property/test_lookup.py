"""Lookups in random networks: exact where all are honest, and never out of bounds."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsn.dht.contact import Contact
from dsn.dht.distance import nearest
from dsn.ids import NodeId
from dsn.machines.lookup import ADDRESSES, HARD_S, PARALLELISM, SOFT_S, Hop, Lookup, Outcome
from tests.support.dht_net import Net, Said, drive, ids, node

seeds = st.integers(0, 1 << 32)


def network(rng: Random, size: int) -> Net:
    """A network in which everybody has seen everybody."""
    net = Net(rng)
    for number in rng.sample(range(10_000), size):
        net.add(node(number))
    net.acquaint()
    return net


def check(lookup: Lookup, asked: list[Contact], me: NodeId) -> None:
    """What holds of any lookup that has ended, whatever it met."""
    hops = lookup.hops
    assert lookup.done
    assert lookup.next_s is None
    assert [hop.contact for hop in hops] == asked
    assert len(set(asked)) == len(asked), "asked twice at one address"
    assert me not in ids(asked)
    assert max(Counter(ids(asked)).values(), default=0) <= ADDRESSES
    paths = {(hop.contact.node_id, hop.path) for hop in hops}
    assert len(paths) == len(set(ids(asked))), "a node on two paths"
    for index, hop in enumerate(hops):
        fresh = [
            other for other in hops[: index + 1] if other.path == hop.path and waits(other, hop)
        ]
        assert len(fresh) <= PARALLELISM
    answered = [hop.contact for hop in hops if hop.outcome is Outcome.ANSWERED]
    assert lookup.closest() == nearest(answered, lookup.target, 20)


def waits(other: Hop, hop: Hop) -> bool:
    """Whether ``other`` was under way and not slow when ``hop`` began."""
    under_way = other.outcome is Outcome.ASKED or other.ended_s > hop.asked_s or other is hop
    return under_way and hop.asked_s < other.asked_s + SOFT_S


@given(seed=seeds, size=st.integers(1, 300), paths=st.sampled_from([1, 4]))
@settings(max_examples=25)
def test_it_finds_the_true_nearest(seed: int, size: int, paths: int) -> None:
    rng = Random(seed)
    net = network(rng, size)
    for _ in range(4):
        peer, target = rng.choice(list(net)), rng.randbytes(32)
        me = peer.contact.node_id

        def answer(contact: Contact, target: bytes = target) -> Said:
            return Said(net.peers[contact.node_id].table.closest(target), 0, rng.random() * HARD_S)

        lookup = Lookup(target, peer.table.closest(target), me=me, paths=paths)
        asked = drive(lookup, answer)
        check(lookup, asked, me)
        others = [each.contact for each in net if each is not peer]
        assert lookup.closest() == nearest(others, target, 20), f"seed {seed}, {size} nodes"


@given(seed=seeds, size=st.integers(1, 120), paths=st.integers(1, 4), values=st.booleans())
@settings(max_examples=60)
def test_it_ends_whatever_it_meets(seed: int, size: int, paths: int, values: bool) -> None:
    """Silence, refusals, slowness, forged addresses, floods, the asker's own name, values."""
    rng = Random(seed)
    everybody = [node(rng.randrange(1 << 40)) for _ in range(size)]
    me = rng.choice(everybody).node_id
    rates = [rng.random() for _ in range(4)]

    def forged() -> Contact:
        real = rng.choice(everybody)
        return Contact(real.public_key, f"192.0.2.1:{rng.randrange(1, 9)}")

    def answer(contact: Contact) -> Said | None:
        if rng.random() < rates[0] or contact not in everybody:
            return None
        names = rng.choices(everybody, k=rng.randrange(60))
        names += [forged() for _ in range(int(rates[1] * 40))]
        return Said(names, int(rng.random() < rates[2] / 4), rng.random() * 2 * rates[3])

    start = rng.sample(everybody, rng.randint(0, min(size, 30)))
    lookup = Lookup(rng.randbytes(32), start, me=me, paths=paths, values=values)
    asked = drive(lookup, answer)
    check(lookup, asked, me)
    if values:
        found = Counter(hop.path for hop in lookup.hops if hop.values)
        assert all(count == 1 for count in found.values()), "a path goes on after its value"


@given(seed=seeds, dead=st.integers(0, 50))
@settings(max_examples=15)
def test_the_dead_are_passed_over(seed: int, dead: int) -> None:
    """All are found that answer among the nearest, as if the dead were not there."""
    rng = Random(seed)
    net = network(rng, 100)
    for peer in rng.sample(list(net), dead):
        peer.alive = False
    alive = [peer for peer in net if peer.alive]
    for _ in range(10):
        peer, target = rng.choice(alive), rng.randbytes(32)

        def answer(contact: Contact, target: bytes = target) -> Said | None:
            asked = net.peers[contact.node_id]
            return Said(asked.table.closest(target)) if asked.alive else None

        lookup = Lookup(target, peer.table.closest(target), me=peer.contact.node_id)
        drive(lookup, answer)
        others = nearest([each.contact for each in net if each is not peer], target, 20)
        truth = {each for each in others if net.peers[each.node_id].alive}
        assert truth <= set(lookup.closest()), f"seed {seed}"


@pytest.mark.parametrize("paths", [1, 4])
def test_what_a_lookup_costs(paths: int) -> None:
    """About one call for each of the nearest, and a few to get there."""
    rng = Random(11)
    net = network(rng, 300)
    calls = []
    for _ in range(50):
        peer, target = rng.choice(list(net)), rng.randbytes(32)

        def answer(contact: Contact, target: bytes = target) -> Said:
            return Said(net.peers[contact.node_id].table.closest(target))

        lookup = Lookup(target, peer.table.closest(target), me=peer.contact.node_id, paths=paths)
        calls.append(len(drive(lookup, answer)))
    assert sum(calls) / len(calls) < 20 * (1 if paths == 1 else 2.5) + 5
