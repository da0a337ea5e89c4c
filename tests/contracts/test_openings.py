"""lib/openings against the Python verifiers: the same verdict, and the same code for it."""

from __future__ import annotations

from functools import cache
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dsn.core.codec import Reader
from dsn.core.hashing import sha256
from dsn.core.merkle import leaf_hash, shard_commit
from dsn.errors import InvalidProof
from dsn.ids import DealId, NetworkId, NodeId
from dsn.proofs.deletion import build_deletion_proof, verify_deletion_proof
from dsn.proofs.inventory import (
    MAX_TOTAL,
    InventoryEntry,
    Step,
    holdings_leaf,
    inventory_leaf,
    sum_node,
)
from dsn.proofs.opening import (
    DealPart,
    ShardLeaf,
    build_opening,
    proven_deal,
    verify_opening,
)
from dsn.proofs.por import answer_root
from dsn.proofs.post import (
    Link,
    beacon_hash,
    build_answer_path,
    drawn_indices,
    leaves_asked,
    verify_answer_path,
)
from tests.contracts.probes import deploy_probe, reverts
from tests.support.evm import Contract, Evm
from tests.support.proof_world import Holdings, Inventory
from tests.vectors.core_vectors import data

WORDS = st.integers(0, (1 << 64) - 1)
HASHES = st.binary(min_size=32, max_size=32)
SIZES = st.lists(st.sampled_from([1, 1000, 1024, 1025, 4096, 5000, 70_000]), min_size=1, max_size=6)
SEEDS = st.integers(0, 1 << 32)
FEW = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
NETWORK, NODE = NetworkId(b"\x33" * 32), NodeId(b"\x34" * 32)


@pytest.fixture(scope="module")
def probe(node: Evm) -> Contract:
    return deploy_probe(node, "openings_probe")


@cache
def held(sizes: tuple[int, ...]) -> Holdings:
    return Holdings.of(*sizes)


def mutated(random: Random, raw: bytes) -> bytes:
    """``raw`` with one thing wrong, most often one byte."""
    at, kind = random.randrange(len(raw)), random.randrange(8)
    if kind == 0:
        return raw[:at]
    if kind == 1:
        return raw + random.randbytes(random.choice((1, 32, 40)))
    if kind == 2:
        return raw[:at] + raw[at + random.choice((1, 32, 40)) :]
    return raw[:at] + bytes([raw[at] ^ random.randint(1, 255)]) + raw[at + 1 :]


def verdict(opening: bytes, root: bytes, total: int, index: int, inventory: bool) -> str:
    try:
        verify_opening(opening, root=root, total=total, index=index, inventory=inventory)
    except InvalidProof as error:
        return error.detail_code
    return ""


def is_answer(rest: bytes, root: bytes, total: int, index: int) -> bool:
    """Whether some root in front makes it an opening: the one that leaf and path lead to."""
    return verdict(b"".join([_led_to(rest, total, index), rest]), root, total, index, False) == ""


def _led_to(rest: bytes, total: int, index: int) -> bytes:
    """Read on trust: the steps up to the shard, then leaf and path."""
    length = int.from_bytes(rest[:8], "big")
    leaves, at, own = -(-length // 1024), 8, total
    while own != leaves and at + 40 <= len(rest):
        left = int.from_bytes(rest[at : at + 8], "big")
        at, own, index = (
            (at + 40, left, index) if index < left else (at + 40, own - left, index - left)
        )
    size = max(0, min(1024, length - 1024 * index))
    if own != leaves or not size or len(rest) < at + size:
        return bytes(32)
    digest, at, width = leaf_hash(rest[at : at + size]), at + size, leaves
    while width > 1:
        if index ^ 1 < width:
            beside, at = rest[at : at + 32], at + 32
            digest = sha256(beside + digest if index & 1 else digest + beside)
        index, width = index >> 1, (width + 1) >> 1
    return digest


# openings


@FEW
@given(SIZES, SEEDS)
def test_openings_under_holdings(probe: Contract, sizes: list[int], seed: int) -> None:
    random, world = Random(seed), held(tuple(sizes))
    root, total = world.tree.root, world.tree.total
    index = random.randrange(total)
    right = world.opening(index)
    assert probe.call("judge", right, root, total, index, False) == ""
    assert probe.call("answer", right[32:], root, total, index) == ""
    for wrong in (mutated(random, right), mutated(random, right)):
        case = (wrong, root, total, index)
        assert probe.call("judge", *case, False) == verdict(*case, False), seed
        answers = probe.call("answer", wrong[32:], *case[1:]) == ""
        assert answers == is_answer(wrong[32:], *case[1:]), seed
    case = (right, *mutated_statement(random, root, total, index))
    assert probe.call("judge", *case, False) == verdict(*case, False), seed


def mutated_statement(
    random: Random, root: bytes, total: int, index: int
) -> tuple[bytes, int, int]:
    wrong = random.randrange(3)
    if wrong == 0:
        return bytes([root[0] ^ 1]) + root[1:], total, index
    if wrong == 1:
        return root, random.choice((0, total - 1, total + 1, MAX_TOTAL, MAX_TOTAL + 1)), index
    return root, total, random.choice((index + 1, index ^ 1, total, total + 7))


@FEW
@given(st.lists(SIZES, min_size=1, max_size=4), SEEDS)
def test_openings_under_an_inventory(probe: Contract, deals: list[list[int]], seed: int) -> None:
    random = Random(seed)
    world = Inventory(
        [
            (DealId(random.randbytes(32)), random.randrange(1 << 64), held(tuple(sizes)))
            for sizes in deals
        ]
    )
    root, total = world.tree.root, world.tree.total
    index = random.randrange(total)
    right = world.opening(index)
    at = world.tree.locate(index)
    assert probe.call("judge", right, root, total, index, True) == ""
    assert probe.call("proven_deal", right, root, total, index) == ("", at.key)
    bracket = right[: 80 + 40 * len(at.steps)]
    cases = [
        (each, root, total, index) for each in (mutated(random, right), mutated(random, bracket))
    ]
    cases.append((right, *mutated_statement(random, root, total, index)))
    for case in cases:
        assert probe.call("judge", *case, True) == verdict(*case, True), seed
        assert probe.call("proven_deal", *case)[0] == bracket_verdict(*case), seed


def bracket_verdict(bracket: bytes, root: bytes, total: int, index: int) -> str:
    try:
        proven_deal(bracket, root=root, total=total, index=index)
    except InvalidProof as error:
        return error.detail_code
    return ""


@pytest.mark.parametrize("levels", [255, 256, 257, 300])
def test_trees_may_be_256_levels_deep(probe: Contract, levels: int) -> None:
    shard_root = leaf_hash(b"deep")
    commit = shard_commit(shard_root, 1, 4)
    steps = [Step(levels - n, data(f"deep.{n}", 32)) for n in range(levels)]
    total, digest = levels + 1, holdings_leaf(commit, 1)
    opening = build_opening(ShardLeaf(shard_root, 4, b"deep", ()), steps)
    bracket = build_opening(
        ShardLeaf(shard_root, 4, b"deep", ()),
        (),
        DealPart(InventoryEntry(DealId(bytes(32)), 1, digest, 1), steps),
    )
    for each, inventory in ((opening, False), (bracket, True)):
        leaf = inventory_leaf(DealId(bytes(32)), 1, digest, 1) if inventory else digest
        case = (each, climbed(leaf, steps, total), total, 0, inventory)
        expected = "" if levels <= 256 else "deep"
        assert verdict(*case) == expected
        assert probe.call("judge", *case) == expected


def climbed(digest: bytes, steps: list[Step], total: int) -> bytes:
    """The root over an entry that is always on the left, one leaf in each side beside it."""
    for depth, step in reversed(list(enumerate(steps))):
        digest = sum_node(step.left_sum, digest, total - depth - step.left_sum, step.sibling)
    return digest


def test_the_longest_shard_opens_and_no_longer_one(probe: Contract) -> None:
    for length, expected in ((1 << 40, ""), ((1 << 40) + 1, "length"), (0, "length")):
        leaves = max(1, -(-length // 1024))
        path = [data(f"long.{n}", 32) for n in range(30)]
        digest = leaf_hash(b"\x07" * 1024)
        for sibling in path:
            digest = sha256(digest + sibling)
        commit = shard_commit(digest, leaves, length)
        opening = build_opening(ShardLeaf(digest, length, b"\x07" * 1024, path), ())
        case = (opening, holdings_leaf(commit, leaves), leaves, 0, False)
        assert verdict(*case) == expected
        assert probe.call("judge", *case) == expected


def test_no_opening_is_too_long_to_be_judged(probe: Contract) -> None:
    world = held((4096, 70_000))
    root, total = world.tree.root, world.tree.total
    for inventory in (False, True):
        opening = world.opening(2).ljust(32_768, b"\x01")
        case = (opening, root, total, 2, inventory)
        assert probe.call("judge", *case) == verdict(*case) != ""


# deletion


@FEW
@given(SIZES, SEEDS)
def test_deletions(probe: Contract, sizes: list[int], seed: int) -> None:
    random, world = Random(seed), held(tuple(sizes))
    root, total = world.tree.root, world.tree.total
    commit = random.choice(list(world.shards))
    right = build_deletion_proof(world.tree, commit)
    gone = verify_deletion_proof(right, root=root, total=total)
    assert probe.call("deletion", right, root, total) == ("", tuple(gone))
    moved = (
        right[:40]
        + (gone.first_leaf + random.choice((1, 2, 1 << 63))).to_bytes(8, "big")
        + right[48:]
    )
    for wrong in (mutated(random, right), mutated(random, right), moved):
        found, after = probe.call("deletion", wrong, root, total)
        assert found == deletion_verdict(wrong, root, total), seed
        if not found:
            assert after == tuple(verify_deletion_proof(wrong, root=root, total=total))


def deletion_verdict(proof: bytes, root: bytes, total: int) -> str:
    try:
        verify_deletion_proof(proof, root=root, total=total)
    except InvalidProof as error:
        return error.detail_code
    return ""


# links


def link(total: int, count: int, answers: bytes = bytes(32)) -> Link:
    return Link(7, beacon_hash(bytes(32)), data("root", 32), total, count, answers)


@FEW
@given(st.builds(Link, WORDS, HASHES, HASHES, WORDS, st.integers(0, (1 << 32) - 1), HASHES))
def test_links_are_read_as_they_are_written(probe: Contract, each: Link) -> None:
    fields = (each.epoch, each.beacon, each.root, each.total, each.count, each.answer_root)
    assert probe.call("link_of", each.encode()) == fields
    assert Link.read(Reader(each.encode(), "link")) == each
    assert probe.call("beacon_hash", each.beacon) == beacon_hash(each.beacon)


@FEW
@given(st.one_of(st.integers(0, 100), st.integers(1 << 31, 1 << 40), WORDS))
def test_as_many_leaves_are_asked_for(probe: Contract, total: int) -> None:
    if leaves_asked(total) < 1 << 64:
        assert probe.call("leaves_asked", total) == leaves_asked(total)


@FEW
@given(st.one_of(st.integers(1, 60), st.integers(1, MAX_TOTAL)), HASHES, HASHES, HASHES, SEEDS)
@example(MAX_TOTAL, bytes(32), bytes(32), bytes(32), 1)
@example(1, bytes(32), bytes(32), bytes(32), 0)
@example((1 << 62) + 1, bytes(32), bytes(32), bytes(32), 19)
def test_leaves_are_drawn_alike(
    probe: Contract, total: int, beacon: bytes, network: bytes, name: bytes, seed: int
) -> None:
    asked = link(total, min(60, total))
    drawn = drawn_indices(asked, beacon, network=NetworkId(network), node=NodeId(name))
    place = seed % len(drawn)
    found = probe.call("drawn_index", asked.encode(), beacon, network, name, place)
    assert found == drawn[place]


def test_the_last_place_that_is_judged(probe: Contract) -> None:
    asked = link(1 << 60, 600)
    drawn = drawn_indices(asked, bytes(32), network=NETWORK, node=NODE)
    case = (asked.encode(), bytes(32), NETWORK, NODE)
    assert probe.call("drawn_index", *case, 511) == drawn[511]
    assert reverts(probe, "drawn_index", *case, 512) == "too_many"


@FEW
@given(st.integers(1, 40), SEEDS)
def test_answers_are_what_a_link_says(probe: Contract, count: int, seed: int) -> None:
    random = Random(seed)
    opened = [random.randbytes(random.randint(0, 99)) for _ in range(count)]
    asked, place = link(1 << 20, count, answer_root(opened)), random.randrange(count)
    path = build_answer_path(opened, place)
    cases = [
        (place, opened[place], path),
        (random.randrange(count + 3), opened[place], path),
        (place, opened[place] + b"\0", path),
        (place, opened[place], path[:-1]),
        (place, opened[place], [*path, random.randbytes(32)]),
        (place, opened[place], [random.randbytes(32), *path][: len(path)]),
    ]
    for at, opening, way in cases:
        found = probe.call("answer_fault", asked.encode(), at, opening, b"".join(way))
        assert found == answer_verdict(asked, at, opening, way), (seed, at)


def answer_verdict(asked: Link, place: int, opening: bytes, path: list[bytes]) -> str:
    try:
        verify_answer_path(asked, place, opening, path)
    except InvalidProof as error:
        return error.detail_code
    return ""
