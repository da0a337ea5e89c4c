"""Regions: few lookups for any number of keys, and every key kept where it is looked for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import count, islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsn.dht.contact import Contact
from dsn.dht.distance import ID_BITS, nearest, random_key, shared_bits
from dsn.dht.regions import Region, Regions, region_of
from dsn.dht.routing import BUCKET_SIZE
from tests.support.dht_net import node

HALF = BUCKET_SIZE // 2
Find = Callable[[bytes], list[Contact]]


def exact(contacts: list[Contact]) -> Find:
    """A lookup that never errs, quick in large networks: subtrees are slices of sorted ids."""
    by_id = {int.from_bytes(each.node_id, "big"): each for each in contacts}
    order = sorted(by_id)

    def find(key: bytes) -> list[Contact]:
        goal = int.from_bytes(key, "big")
        inside = order
        for rest in range(ID_BITS - 1, -1, -1):
            first = goal >> rest << rest
            start, end = bisect_left(order, first), bisect_left(order, first + (1 << rest))
            if end - start < BUCKET_SIZE:
                break
            inside = order[start:end]
        return [by_id[each] for each in sorted(inside, key=lambda each: each ^ goal)[:BUCKET_SIZE]]

    return find


def key_in(region: Region, rng: Random) -> bytes:
    """A random key of ``region``."""
    bucket = ID_BITS - region.bits
    if not bucket:
        return region.key
    return random_key(random_key(region.key, bucket - 1, rng.randbytes), bucket - 1, rng.randbytes)


def overlap(region: Region, find: Find, key: bytes) -> int:
    """How many of the nodes nearest to ``key`` are nodes of ``region``."""
    return len(set(region.nodes) & set(find(key)))


@given(seed=st.integers(0, 1 << 32), size=st.integers(1, 300))
@settings(max_examples=60)
def test_half_of_a_regions_nodes_are_among_the_nearest_of_each_of_its_keys(
    seed: int, size: int
) -> None:
    rng = Random(seed)
    find = exact([node(rng.randrange(1 << 40)) for _ in range(size)])
    target = rng.randbytes(32)
    region = region_of(target, find(target))
    for _ in range(20):
        key = key_in(region, rng)
        assert key in region
        assert overlap(region, find, key) >= min(size, HALF), f"seed {seed}, {size} nodes"


@given(seed=st.integers(0, 1 << 32), inside=st.integers(0, 40), shared=st.integers(0, 3))
@settings(max_examples=60)
def test_that_holds_however_the_nodes_lie(seed: int, inside: int, shared: int) -> None:
    """Where many nodes stand beside an empty subtree, its keys agree on none of them."""
    rng = Random(seed)
    target = rng.randbytes(32)
    crowd = (node(rng.randrange(1 << 40)) for _ in count())
    beside = (each for each in crowd if shared_bits(each.node_id, target) == shared)
    find = exact([*islice(beside, 60), *islice(crowd, inside)])
    region = region_of(target, find(target))
    for _ in range(20):
        assert overlap(region, find, key_in(region, rng)) >= HALF, f"seed {seed}"


@given(seed=st.integers(0, 1 << 32), size=st.integers(20, 300))
@settings(max_examples=30)
def test_a_region_is_no_smaller_than_it_must_be(seed: int, size: int) -> None:
    """One bit less, and the order of the nearer half against the others would be open."""
    rng = Random(seed)
    target = rng.randbytes(32)
    found = exact([node(rng.randrange(1 << 40)) for _ in range(size)])(target)
    region = region_of(target, found)
    middle, farthest = found[HALF - 1].node_id, found[-1].node_id
    assert shared_bits(middle, farthest) == region.bits - 1
    assert shared_bits(target, farthest) <= region.bits - 1


@pytest.mark.parametrize("size", [0, 1, BUCKET_SIZE - 1])
def test_fewer_than_a_bucket_are_the_whole_network(size: int) -> None:
    nodes = nearest([node(n) for n in range(size)], bytes(32), size)
    region = region_of(bytes(32), nodes)
    assert region == Region(bytes(32), 0, tuple(nodes))
    assert all(key in region for key in (bytes(32), b"\xff" * 32, b"\x80" + bytes(31)))


@given(st.binary(min_size=32, max_size=32), st.integers(0, ID_BITS), st.integers(0, ID_BITS - 1))
def test_a_key_is_inside_if_it_shares_the_bits(key: bytes, bits: int, flipped: int) -> None:
    region = Region(key, bits, ())
    other = (int.from_bytes(key, "big") ^ 1 << (ID_BITS - 1 - flipped)).to_bytes(32, "big")
    assert key in region
    assert (other in region) == (flipped >= bits)
    assert "a text" not in region


@pytest.mark.parametrize(("size", "keys"), [(50, 100_000), (1_000, 100_000), (10_000, 100_000)])
def test_a_sweep_is_bounded_by_the_network_and_not_by_the_keys(size: int, keys: int) -> None:
    rng = Random(size)
    find = exact([node(n) for n in range(size)])
    left = sorted(rng.randbytes(32) for _ in range(keys))
    regions, overlaps, at = 0, [], 0
    while at < len(left):
        region = region_of(left[at], find(left[at]))
        start, regions = at, regions + 1
        while at < len(left) and left[at] in region:
            at += 1
        overlaps += [overlap(region, find, left[n]) for n in (start, rng.randrange(start, at))]
    mean = sum(overlaps) / len(overlaps)
    print(f"{size} nodes: {regions} regions, overlap {min(overlaps)} to {mean:.1f} on average")
    assert regions <= size / 5
    assert min(overlaps) >= HALF
    assert mean >= 17


class TestRegions:
    HERE, THERE = Region(bytes(32), 4, (node(1), node(2))), Region(b"\xff" * 32, 4, (node(2),))

    @pytest.fixture
    def regions(self) -> Regions:
        regions = Regions()
        regions.add(self.HERE, 100.0)
        regions.add(self.THERE, 100.0)
        return regions

    def test_a_key_finds_its_region(self, regions: Regions) -> None:
        assert regions.of(b"\x0f" + bytes(31), 100.0) == self.HERE
        assert regions.of(b"\xf0" + bytes(31), 100.0) == self.THERE
        assert regions.of(b"\x10" + bytes(31), 100.0) is None
        assert Regions().of(bytes(32), 0.0) is None

    def test_for_a_short_while(self, regions: Regions) -> None:
        end_s = 100.0 + Regions.TERM_S
        assert regions.of(bytes(32), end_s - 0.001) == self.HERE
        assert regions.of(bytes(32), end_s) is None
        assert regions.of(bytes(32), 100.0) is None, "what ended is not kept"

    def test_the_newest_counts(self, regions: Regions) -> None:
        newer = Region(bytes(32), 2, (node(3),))
        regions.add(newer, 110.0)
        assert regions.of(bytes(32), 120.0) == newer
        assert regions.of(bytes(32), 165.0) == newer

    def test_a_node_that_failed_takes_its_regions_along(self, regions: Regions) -> None:
        regions.forget(node(9))
        regions.forget(node(1))
        assert regions.of(bytes(32), 100.0) is None
        assert regions.of(b"\xff" * 32, 100.0) == self.THERE
        regions.forget(node(2))
        assert regions.of(b"\xff" * 32, 100.0) is None


@given(seed=st.integers(0, 1 << 32), size=st.integers(1, 60))
@settings(max_examples=40)
def test_whoever_met_everybody_looks_nothing_up(seed: int, size: int) -> None:
    rng, regions = Random(seed), Regions()
    everybody = [node(rng.randrange(1 << 30)) for _ in range(size)]
    regions.add_all(everybody, 0.0)
    for key in (rng.randbytes(32) for _ in range(20)):
        found = regions.of(key, Regions.TERM_S - 1)
        assert found is not None and key in found
        assert list(found.nodes) == nearest(everybody, key, BUCKET_SIZE), f"seed {seed}"
    assert regions.of(rng.randbytes(32), Regions.TERM_S) is None


def test_one_of_all_that_fails_settles_nothing_any_more() -> None:
    regions, everybody = Regions(), [node(number) for number in range(30)]
    regions.add_all(everybody[1:], 0.0)
    regions.forget(everybody[0])
    assert regions.of(bytes(32), 1.0) is not None
    regions.forget(everybody[7])
    assert regions.of(bytes(32), 1.0) is None
