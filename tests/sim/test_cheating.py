"""Who is paid for disk and does not have it: each attack by somebody who really tries it.

The attackers use what everybody has: formats, public rules, the log, and the bytes of whoever is in
league with them. docs/attacks.md lists which attack is shown where.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import comb

import pytest

from dsn.core import merkle
from dsn.core.cipher import mask_stream
from dsn.core.erasure import Erasure
from dsn.core.hashing import sha256
from dsn.core.layout import Scheme, SegmentLayout
from dsn.core.segment import SegmentEncoder, SegmentKeys, bands
from dsn.errors import InvalidProof, InvalidSignature
from dsn.ids import DealId, NetworkId, NodeId
from dsn.kernels import isal
from dsn.ledger.bodies import Claim, Loss, SubmitLink
from dsn.ledger.cells import DealState
from dsn.ledger.disputes import Demand, Serve, ServedOpening, SlashUnserved, SlashWrong
from dsn.proofs.inventory import holdings
from dsn.proofs.opening import build_opening, verify_opening
from dsn.proofs.por import answer_root
from dsn.proofs.post import Link, beacon_hash, build_answer_path, drawn_indices, leaves_asked
from dsn.units import FRAME_BYTES
from tests.support.ledger_world import PARAMS, World, address, shard, terms
from tests.support.ledger_world import holdings as held_shards
from tests.support.proof_world import Shard

SCHEME = Scheme(3, 6)
EPOCHS = 1_000
TOTAL = 50_000
Missing = Callable[[random.Random], set[int]]


# keep nothing, and make it up from others


def masked_shards(mask_key: bytes, generations: Sequence[int]) -> list[bytes]:
    """The shards of one segment as their holders have them."""
    keys = SegmentKeys(b"c" * 32, mask_key, 0, b"s" * 16, True)
    plain = random.Random(7).randbytes(300_000)
    layout = SegmentLayout(SCHEME.required, len(plain))
    erasure = Erasure(SCHEME.required, SCHEME.total, isal.load())
    data = memoryview(bytearray(SCHEME.required * layout.shard_bytes))
    encoder = SegmentEncoder(
        keys, layout, erasure, data, memoryview(bytearray(SCHEME.total * FRAME_BYTES))
    )
    for start, end in bands(0, layout.shard_bytes):
        a, b = encoder.plain_range(start, end)
        encoder.band(start, end, memoryview(plain)[a:b])
    return [
        b"".join(encoder.row(index, generation, merkle.ShardHasher()))
        for index, generation in enumerate(generations)
    ]


def made_up(have: dict[int, bytes], index: int) -> bytes:
    """Shard ``index`` as Reed and Solomon would have it made from those of the league."""
    erasure = Erasure(SCHEME.required, SCHEME.total, isal.load())
    out = memoryview(bytearray(len(next(iter(have.values())))))
    sources = [memoryview(each) for each in have.values()]
    erasure.decode_plan(tuple(have), (index,)).run(sources, (out,))
    return bytes(out)


def opens(stored: Shard, shown: Shard, leaf: int) -> bool:
    """Whether a leaf of ``shown`` passes where ``stored`` is held."""
    held = holdings([(stored.commit, stored.leaves)])
    opening = build_opening(shown.leaf(leaf), held.locate(leaf).steps)
    try:
        verify_opening(opening, root=held.root, total=held.total, index=leaf, inventory=False)
    except InvalidProof:
        return False
    return True


def test_as_many_as_the_code_requires_cannot_make_up_the_shard_of_another() -> None:
    shards = masked_shards(b"m" * 16, [0] * SCHEME.total)
    league = {index: shards[index] for index in range(SCHEME.required)}
    for index in range(SCHEME.required, SCHEME.total):
        stored, forged = Shard(shards[index]), Shard(made_up(league, index))
        assert not any(opens(stored, forged, leaf) for leaf in range(stored.leaves))
        assert all(opens(stored, stored, leaf) for leaf in range(stored.leaves))


def test_without_masks_they_could() -> None:
    """So it is the masks that keep them from it: whoever has the mask key can, to repair."""
    masked, key = masked_shards(b"m" * 16, [0] * SCHEME.total), b"m" * 16
    bare = [unmasked(data, key, index) for index, data in enumerate(masked)]
    assert made_up({index: bare[index] for index in (0, 4, 5)}, 3) == bare[3]


def unmasked(data: bytes, mask_key: bytes, index: int) -> bytes:
    return mask_stream(mask_key, b"s" * 16, 0, index, 0).update(data)


def test_who_was_replaced_cannot_serve_for_its_replacement() -> None:
    old = Shard(masked_shards(b"m" * 16, [0] * SCHEME.total)[2])
    new = Shard(masked_shards(b"m" * 16, [0, 0, 1, 0, 0, 0])[2])
    assert not any(opens(new, old, leaf) for leaf in range(new.leaves))


# lose a part, and hope


def at_random(rng: random.Random) -> set[int]:
    return set(rng.sample(range(TOTAL), TOTAL // 5))


def the_end(rng: random.Random) -> set[int]:
    return set(range(TOTAL - TOTAL // 5, TOTAL))


def every_fifth(rng: random.Random) -> set[int]:
    return set(range(0, TOTAL, 5))


def whole_shards(rng: random.Random) -> set[int]:
    lost = rng.sample(range(TOTAL // 100), TOTAL // 500)
    return {leaf for each in lost for leaf in range(100 * each, 100 * each + 100)}


@pytest.mark.parametrize("missing", [at_random, the_end, every_fifth, whole_shards])
def test_who_misses_a_fifth_passes_one_epoch_in_ninety(missing: Missing) -> None:
    """Over 1,000 epochs: no more often than 0.8^20, and four deviations of chance."""
    seed = 20_261_123
    gone = missing(random.Random(seed))
    assert len(gone) == TOTAL // 5
    asked = leaves_asked(TOTAL)
    passed = 0
    for epoch in range(1, EPOCHS + 1):
        beacon = sha256(b"%d.%d" % (seed, epoch))
        link = Link(epoch, beacon_hash(beacon), bytes(32), TOTAL, asked, bytes(32))
        drawn = drawn_indices(link, beacon, network=NetworkId(b"n" * 32), node=NodeId(b"p" * 32))
        passed += gone.isdisjoint(drawn)
    chance = comb(TOTAL - len(gone), asked) / comb(TOTAL, asked)
    expected, deviation = EPOCHS * chance, (EPOCHS * chance * (1 - chance)) ** 0.5
    assert chance <= 0.8**20
    assert passed <= expected + 4 * deviation, f"{passed} epochs of {EPOCHS}, seed {seed}"


@pytest.fixture
def world() -> World:
    world = World()
    world.bind("alice", "bob", "paul")
    world.open_epoch()
    return world


@pytest.fixture
def deal(world: World) -> DealId:
    """Nine leaves in three shards of Alice's, linked in epochs 2 to 4; it is epoch 5."""
    deal = world.open(terms())
    world.hold(deal, 1, 2, 3)
    world.pass_epochs(4, "paul")
    return deal


def without(world: World, deal: DealId, lost: int) -> Link:
    """The link of a Paul who leaves out one of his shards, as if he never had it."""
    link, _, _, _ = world.answer("paul")
    rest = tuple(each for each in world.held(deal) if each != lost)
    tree = held_shards(rest).tree
    return replace(link, root=tree.root, total=tree.total, count=leaves_asked(tree.total))


def test_what_is_lost_cannot_be_left_out_of_the_draw(world: World, deal: DealId) -> None:
    assert world.code("paul", SubmitLink(without(world, deal, 2))) == "wrong_inventory"
    link, _, _, _ = world.answer("paul")
    less = replace(link, total=link.total - 1, count=leaves_asked(link.total - 1))
    assert world.code("paul", SubmitLink(less)) == "wrong_inventory"


def test_a_provider_alone_makes_its_holdings_neither_smaller_nor_larger() -> None:
    """A root of its own making could pass for any size, so it never counts without the client."""
    world = World(signed=True)
    world.bind("alice", "paul")
    world.open_epoch()
    deal = world.open(terms())
    for numbers in ((), (1, 2, 3)):
        pledge = world.pledge(deal, numbers)
        forged = replace(pledge, signature=pledge.provider_signature)
        with pytest.raises(InvalidSignature) as refused:
            world.do("paul", Claim(deal, forged, None))
        assert refused.value.detail_code == "invalid_signature"


def test_an_answer_made_after_the_epoch_is_not_taken(world: World, deal: DealId) -> None:
    link, _, _, _ = world.answer("paul")
    world.shut_epoch()
    assert world.code("paul", SubmitLink(link)) == "wrong_phase"
    world.open_epoch()
    assert world.code("paul", SubmitLink(link)) == "wrong_epoch"


def test_epochs_that_were_not_proven_are_not_paid_later(world: World, deal: DealId) -> None:
    world.do("paul", Claim(deal, None, None))
    before = world.deal(deal)
    world.pass_epochs(3)
    world.do("paul", Claim(deal, None, None))
    after = world.deal(deal)
    assert after.leaf_epochs <= before.leaf_epochs + before.leaves  # the epoch that was linked
    assert after.missed > before.missed


def test_a_made_up_answer_root_is_found_by_a_demand(world: World, deal: DealId) -> None:
    """Nobody sees that nothing is behind it until somebody asks; then there is nothing to show."""
    epoch, (link, held, _, opened) = world.epoch, world.answer("paul")
    made_up = replace(link, answer_root=b"\x5a" * 32)
    world.do("paul", SubmitLink(made_up))
    world.answers["paul", epoch] = (len(world.leaves) - 1, made_up, held, opened)
    world.pass_epochs(1, "paul")
    place = 3
    drawn, _ = world.drawn("paul", epoch, place)
    world.do("alice", Demand(deal, 50, drawn))
    for service in (
        ServedOpening(opened[place], tuple(build_answer_path(opened, place))),
        ServedOpening(opened[place], ()),
        ServedOpening(b"", ()),
    ):
        assert world.code("paul", Serve(deal, service)) in ("answer_root", "answer_path")
    collateral = world.deal(deal).collateral
    world.pass_epochs(PARAMS.demand_epochs + 1, "paul")
    world.do("sam", SlashUnserved(deal))
    cell = world.deal(deal)
    assert collateral > 0
    assert (cell.state, cell.collateral) == (DealState.SLASHED, 0)


def test_an_answer_serves_no_other_epoch_node_or_network(world: World, deal: DealId) -> None:
    """The same openings again, in their old places: those are not the leaves that are asked for."""
    old, held, _, opened = world.answer("paul")
    root, total, count = held.tree.root, held.tree.total, old.count
    node, network = world.account("paul").node, PARAMS.domain.network
    for beacon, who, where in (
        (b"\x77" * 32, node, network),
        (world.values[world.epoch], NodeId(b"\x78" * 32), network),
        (world.values[world.epoch], node, NetworkId(b"\x79" * 32)),
    ):
        link = Link(world.epoch, beacon_hash(beacon), root, total, count, answer_root(opened))
        drawn = drawn_indices(link, beacon, network=where, node=who)
        passed = 0
        for index, opening in zip(drawn, opened, strict=True):
            try:
                verify_opening(opening, root=root, total=total, index=index, inventory=True)
            except InvalidProof:
                continue
            passed += 1
        assert passed < count


# hide it


def test_junk_of_ones_own_hides_nothing_from_the_owner_and_costs(
    world: World, deal: DealId
) -> None:
    """Bob is Paul: he pays himself for junk, so that Alice's lost leaves are seldom drawn."""
    junk = world.open(terms(client=address("bob"), end=40, disk_escrow=500_000))
    world.link("paul")
    world.hold(junk, *range(4, 40))
    share = world.deal(deal).leaves / world.account("paul").live_leaves
    assert share < 0.15
    for _ in range(4):
        world.pass_epochs(1, "paul")
    world.do("paul", Claim(junk, None, None))
    assert world.deal(junk).burned > 0  # a part of what he pays himself is gone, every epoch
    assert world.deal(junk).collateral > 0
    world.do("alice", Demand(deal, 50, 4))
    another = build_opening(shard(9).leaf(0), held_shards(world.held(deal)).tree.locate(4).steps)
    assert world.code("paul", Serve(deal, ServedOpening(another, ()))) == "sum"
    world.pass_epochs(PARAMS.demand_epochs + 1, "paul")
    world.do("sam", SlashUnserved(deal))
    assert world.deal(deal).state is DealState.SLASHED


def test_a_failure_does_not_hide_behind_another_question(world: World, deal: DealId) -> None:
    """One demand a deal is pending at a time, and while it is, what it asks about stays."""
    world.do("alice", Demand(deal, 50, 4))
    assert world.code("alice", Demand(deal, 50, 5)) == "demand_pending"
    assert world.code("dora", Demand(deal, 50, 5)) == "demand_pending"
    assert world.code("paul", world.loss(deal, 1)) == "demand_pending"
    smaller = Claim(deal, world.pledge(deal, (3,)), None)
    assert world.code("paul", smaller) == "demand_pending"
    epoch = world.epoch
    world.link("paul", wrong=2)
    world.pass_epochs(1)
    drawn, _ = world.drawn("paul", epoch, 2)
    world.do("sam", SlashWrong(deal, drawn, world.served("paul", epoch, 2)))
    assert world.deal(deal).state is DealState.SLASHED


def test_a_loss_cannot_be_declared_without_its_proof(world: World, deal: DealId) -> None:
    good = world.loss(deal, 2)
    assert world.code("paul", Loss(deal, good.number, (good.deletions[0][:-1],))) != ""
    assert world.code("paul", Loss(deal, good.number, ())) == "nothing_lost"
    assert world.code("paul", good) == ""
