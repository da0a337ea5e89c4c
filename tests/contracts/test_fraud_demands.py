"""Demands, services and slashes before the contract that judges them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from dsn.ids import DealId
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.bodies import Kind
from dsn.ledger.cells import CellKind
from dsn.ledger.disputes import (
    AllLost,
    Demand,
    DrawnOpening,
    Serve,
    ServedOpening,
    ShardLost,
    SlashJudged,
    SlashMissed,
    SlashUnserved,
    SlashWrong,
)
from dsn.ledger.log import LogLeaf, build_inclusion_proof
from dsn.ledger.onchain import dispute
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.settlement import NO_ADDRESS, Address
from tests.contracts.fraud_cases import (
    NOTHING_WRONG,
    Refusals,
    convict,
    honest_verdict,
    told,
)
from tests.support.evm import Settled
from tests.support.fraud_world import SignedWorld, log_of
from tests.support.ledger_world import address, terms
from tests.support.onchain_history import (
    Lie,
    Tried,
    Verdict,
    anchor_lies,
    anchor_world,
    chain_verdict,
    deposit_all,
    every_kind,
    lies_about,
    python_verdict,
)

DISPUTES = (
    Kind.DEMAND,
    Kind.SERVE,
    Kind.SLASH_WRONG,
    Kind.SLASH_MISSED,
    Kind.SLASH_UNSERVED,
    Kind.SLASH_JUDGED,
)
SEEDS, STEPS = (1, 2, 3), 150
MOST_GAS = 10_000_000


def about(leaf: LogLeaf, *kinds: Kind) -> bool:
    return leaf.entry[0] in kinds


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_rules_took_convicts_nobody_and_what_they_refused_does(
    settled: Settled, seed: int
) -> None:
    history = Tried(settled, seed, STEPS)
    world, counted = history.world, Counter[str]()
    deposit_all(settled, world)
    with settled.evm.undone():
        signed, anchor = anchor_world(settled, world)
        for index, leaf in enumerate(world.leaves):
            if about(leaf, *DISPUTES[:-1]):
                fraud = world.fraud(index, signed)
                assert chain_verdict(settled, fraud, anchor) == NOTHING_WRONG, (seed, index)
                counted[Kind(leaf.entry[0]).name] += 1
    lies = [each for each in history.refused if about(each.leaf, *DISPUTES)]
    frauds, anchor = anchor_lies(settled, lies)
    for fraud in frauds:
        expected = python_verdict(settled, fraud)
        assert expected.convicted
        assert chain_verdict(settled, fraud, anchor) == expected, seed
        counted[expected.code] += 1
    print(f"\nseed {seed}: {dict(counted)}")


@pytest.mark.parametrize("missed", [True, False])
def test_every_lie_about_a_dispute_convicts(settled: Settled, missed: bool) -> None:
    world, random = every_kind(settled, missed), Random(7)
    deposit_all(settled, world)
    lies = [
        lie
        for index, leaf in enumerate(world.leaves)
        if about(leaf, *DISPUTES[:-1])
        for lie in lies_about(world, index, random)
        if about(lie.leaf, *DISPUTES[:-1])
    ]
    frauds, anchor = anchor_lies(settled, lies)
    for lie, fraud in zip(lies, frauds, strict=True):
        expected = python_verdict(settled, fraud)
        assert expected.convicted, lie.what
        assert chain_verdict(settled, fraud, anchor) == expected, lie.what


def test_a_conviction_fits_a_block(settled: Settled) -> None:
    world, costs = every_kind(settled, True), dict[str, int]()
    deposit_all(settled, world)
    lies = [
        Lie(Kind(leaf.entry[0]).name, before, replace(leaf, state_root=bytes(32)))
        for leaf, before in zip(world.leaves, world.states, strict=True)
        if about(leaf, *DISPUTES[:-1])
    ]
    frauds, anchor = anchor_lies(settled, lies)
    for lie, fraud in zip(lies, frauds, strict=True):
        with settled.evm.undone():
            costs[lie.what] = max(costs.get(lie.what, 0), convict(settled, fraud, anchor).gas)
    print("".join(f"\n{kind}: {gas:,} gas" for kind, gas in costs.items()))
    assert max(costs.values()) < MOST_GAS


@pytest.fixture
def world(settled: Settled) -> SignedWorld:
    """Alice has two deals with Paul, who holds something under both."""
    world = SignedWorld(settled.params)
    world.fund()
    world.bind("alice", "paul")
    world.open_epoch()
    for salt, shards in ((bytes(32), (1, 2, 4)), (b"\x01" * 32, (3, 5))):
        world.hold(world.open(terms(salt=salt, dispute=3)), *shards)
    return world


def deals(world: SignedWorld) -> tuple[DealId, DealId]:
    one, other = sorted(world.deals(), key=lambda cell: cell.terms.salt)
    return one.deal, other.deal


def answered(world: SignedWorld, wrong: int | None = None) -> int:
    """Paul links an epoch, which then is over; which one."""
    world.pass_epochs(1)
    world.link("paul", wrong)
    epoch = world.epoch
    world.pass_epochs(1)
    return epoch


def test_demands_of_leaves_that_the_rules_refuse(settled: Settled, world: SignedWorld) -> None:
    wrong, (one, _) = Refusals(world), deals(world)
    available = world.account("alice").available
    wrong.add("unknown_deal", "alice", Demand(DealId(b"\x07" * 32), 10, 0))
    wrong.add("not_the_client", "sam", Demand(one, 10, 0))
    wrong.add("not_the_client", "paul", Demand(one, 10, 0))
    wrong.add("bond_too_low", "alice", Demand(one, 9, 0))
    wrong.add("no_such_leaf", "alice", Demand(one, 10, world.deal(one).leaves))
    wrong.add("not_enough_credit", "alice", Demand(one, available + 1, 0))
    wrong.add("fee_not_covered", "alice", Demand(one, available, 0))
    wrong.add("nonce_used", "alice", Demand(one, 10, 0), nonce=1)
    wrong.add("nonce_gap", "alice", Demand(one, 10, 0), nonce=99)
    for name in ("alice", "dora"):
        with settled.evm.undone():
            assert honest_verdict(settled, world, name, Demand(one, 10, 1)) == NOTHING_WRONG
        if name == "alice":
            wrong.add("demand_pending", "dora", Demand(one, 10, 0))
            world.do("paul", Serve(one, world.service(one)))
    wrong.check(settled)


def test_demands_of_answers_that_the_rules_refuse(settled: Settled, world: SignedWorld) -> None:
    epoch, wrong = answered(world), Refusals(world)
    drawn, deal = world.drawn("paul", epoch, 0)
    bracket = drawn.bracket
    other = next(each for each in deals(world) if each != deal)

    def add(code: str, of: DealId = deal, **changes: Any) -> None:
        wrong.add(code, "alice", Demand(of, 10, replace(drawn, **changes)))

    add("index", index=world.state.network.closed.size)
    add("short", path=drawn.path[:-1])
    add("trailing", path=(*drawn.path, bytes(32)))
    add("not_in_log", index=drawn.index ^ 1)
    add("not_in_log", path=(bytes(32), *drawn.path[1:]))
    add("not_in_log", leaf=replace(drawn.leaf, state_root=bytes(32)))
    add("wrong_beacon", beacon=bytes(32))
    add("place", place=1 << 31)
    add("inventory", bracket=bytes(32) + bracket[32:])
    add("short", bracket=bracket[:79])
    add("other_deal", of=other)
    foreign, _ = _entry_in_log(world, 0)
    add("not_a_link", leaf=foreign.leaf, index=foreign.index, path=foreign.path)
    for place in range(3):
        opening, deal = world.drawn("paul", epoch, place)
        with settled.evm.undone():
            asked = Demand(deal, 10, opening)
            assert honest_verdict(settled, world, "alice", asked) == NOTHING_WRONG
            wrong.add("demand_pending", "alice", asked)
            served = Serve(deal, world.service(deal))
            assert honest_verdict(settled, world, "paul", served) == NOTHING_WRONG
    drawn, deal = world.drawn("paul", epoch, 0)
    world.pass_epochs(2, "paul")
    wrong.add("too_old", "alice", Demand(deal, 10, world.drawn("paul", epoch, 0)[0]))
    wrong.check(settled)


def _entry_in_log(world: SignedWorld, index: int) -> tuple[DrawnOpening, DealId]:
    """As if entry ``index`` of the log were a link."""
    name = next(iter(world.answers))
    kept = world.answers[name]
    world.answers[name] = (index, *kept[1:])
    try:
        return world.drawn(*name, 0)
    finally:
        world.answers[name] = kept


def test_leaves_are_found_wherever_they_stand_in_a_log(settled: Settled) -> None:
    leaves = [LogLeaf(bytes([n]), bytes(65), bytes(32)) for n in range(20)]
    proofs = settled.evm.deploy("ProofRules")
    for size in range(1, len(leaves) + 1):
        head, hashes = log_of(leaves[:size])
        known = (bytes(32), *head, bytes(32), NO_ADDRESS, bytes(32))
        for index in range(size):
            path = tuple(build_inclusion_proof(hashes, index, size))
            cases = {"not_a_link": path, "trailing": (*path, bytes(32))}
            if path:
                cases |= {"short": path[1:], "not_in_log": (bytes(32), *path[1:])}
            for code, way in cases.items():
                body = DrawnOpening(leaves[index], index, way, bytes(32), 0, b"").encode()
                assert proofs.call("drawn_fault", b"\0" + body, 1, known) == (code, 0), (
                    size,
                    index,
                )


def test_services_that_the_rules_refuse(settled: Settled, world: SignedWorld) -> None:
    wrong, (one, other) = Refusals(world), deals(world)
    shown = ServedOpening(b"", ())
    wrong.add("no_demand", "paul", Serve(one, shown))
    wrong.add("unknown_deal", "paul", Serve(DealId(b"\x07" * 32), shown))
    world.do("alice", Demand(one, 10, 3))
    right, lost = world.service(one), world.shard_lost(one)
    wrong.add("not_the_provider", "alice", Serve(one, right))
    wrong.add("answer_path", "paul", Serve(one, ServedOpening(right.opening, (bytes(32),))))
    flipped = right.opening[:-1] + bytes([right.opening[-1] ^ 1])
    for code, opening in (("short", b""), ("shard", flipped), ("trailing", right.opening + b"\0")):
        wrong.add(code, "paul", Serve(one, ServedOpening(opening, ())))
    wrong.add("shard_needed", "paul", Serve(one, AllLost(9)))
    wrong.add("stale_revision", "paul", Serve(one, ShardLost(1, lost.deletion)))
    wrong.add("trailing", "paul", Serve(one, ShardLost(2, lost.deletion + b"\0")))
    beside = next(each for each in world.held(one) if each != world.demanded(one))
    wrong.add("other_shard", "paul", Serve(one, ShardLost(2, world.loss(one, beside).deletions[0])))
    world.shard_lost(one)
    with settled.evm.undone():
        gone = Serve(one, world.shard_lost(one))
        assert honest_verdict(settled, world, "paul", gone) == NOTHING_WRONG
    epoch = answered(world)
    drawn, deal = world.drawn("paul", epoch, 0)
    world.do("alice", Demand(deal, 10, drawn))
    right = world.service(deal)
    wrong.add("whole_deal_needed", "paul", Serve(deal, lost))
    wrong.add("answer_path", "paul", Serve(deal, ServedOpening(right.opening, right.path[:-1])))
    wrong.add("answer_root", "paul", Serve(deal, ServedOpening(b"", right.path)))
    wrong.add("stale_revision", "paul", Serve(deal, AllLost(1)))
    assert honest_verdict(settled, world, "paul", Serve(deal, AllLost(9))) == NOTHING_WRONG
    world.do("alice", Demand(other if deal == one else one, 10, 0))
    late = other if deal == one else one
    service = Serve(late, world.service(late))
    world.pass_epochs(4)
    wrong.add("too_late", "paul", service)
    wrong.check(settled)


def test_slashes_that_the_rules_refuse(settled: Settled, world: SignedWorld) -> None:
    wrong, (one, other) = Refusals(world), deals(world)
    epoch = answered(world, wrong=0)
    drawn, deal = world.drawn("paul", epoch, 0)
    answer = world.served("paul", epoch, 0)
    right, right_deal = world.drawn("paul", epoch, 1)
    holds = world.served("paul", epoch, 1)
    wrong.add("unknown_deal", "sam", SlashMissed(DealId(b"\x07" * 32)))
    for body in (SlashMissed(one), SlashUnserved(one), SlashWrong(deal, drawn, answer)):
        wrong.add("own_deal", "paul", body)
    wrong.add("within_miss_limit", "sam", SlashMissed(one))
    wrong.add("no_demand", "sam", SlashUnserved(one))
    wrong.add("opening_holds", "sam", SlashWrong(right_deal, right, holds))
    wrong.add("answer_root", "sam", SlashWrong(deal, drawn, replace(answer, opening=b"")))
    wrong.add("other_deal", "sam", SlashWrong(other if deal == one else one, drawn, answer))
    world.do("alice", Demand(one, 10, 0))
    world.do("dora", Demand(other, 10, 0))
    wrong.add("still_time", "sam", SlashUnserved(one))
    slash = SlashWrong(deal, drawn, answer)
    assert honest_verdict(settled, world, "sam", slash) == NOTHING_WRONG
    for body in (SlashMissed(deal), SlashUnserved(deal), slash):
        wrong.add("deal_not_open", "sam", body)
    world.pass_epochs(9)
    rest = other if deal == one else one
    reporter = "dora" if rest == other else "alice"
    with settled.evm.undone():
        missed = chain_of(settled, world, "sam", SlashMissed(rest))
        assert missed == NOTHING_WRONG
    own = SlashUnserved(rest)
    assert honest_verdict(settled, world, reporter, own) == NOTHING_WRONG
    wrong.check(settled)


def chain_of(settled: Settled, world: SignedWorld, name: str, body: Any) -> Verdict:
    """What the chain says of an honest step, which afterwards never was."""
    kept = world.state, len(world.leaves), dict(world.nodes), world.frontier
    try:
        return honest_verdict(settled, world, name, body)
    finally:
        world.state, size, world.nodes, world.frontier = kept
        del world.leaves[size:], world.states[size:]


# slashes that the chain judged


def slashed(settled: Settled, world: SignedWorld, deal: DealId, asker: Address) -> None:
    """``asker`` demands a leaf of ``deal`` on chain, and nobody answers."""
    number = settled.anchor(LedgerRoot(1, bytes(32), world.state.root, 0))
    asking = dispute.demand(number, world.deal(deal), world.state.tree, 0)
    settled.evm.fund(asker)
    bond = settled.dispute.call("bond_wei")
    settled.dispute.send(asking.function, *asking.args, sender=asker, wei=bond)
    settled.evm.pass_time(settled.dispute.call("answer_s") + 1)
    call: OnChain = dispute.slash(deal)
    settled.dispute.send(call.function, *call.args)


@pytest.mark.parametrize("asker", ["alice", "dora"])
@pytest.mark.parametrize("demanded", ["", "alice", "dora"])
def test_a_slash_that_the_chain_judged_is_taken_up(
    settled: Settled, world: SignedWorld, asker: str, demanded: str
) -> None:
    one, other = deals(world)
    if demanded:
        world.do(demanded, Demand(one, 10, 0))
    slashed(settled, world, one, address(asker))
    wrong = Refusals(world)
    wrong.add("not_the_operator", "sam", SlashJudged(one, 1, address(asker)))
    wrong.add("unknown_deal", "operator", SlashJudged(DealId(b"\x07" * 32), 1, address(asker)))
    wrong.add("revision_moved", "operator", SlashJudged(one, 0, address(asker)))
    wrong.check(settled)
    lies = [
        told(world, world.entry("operator", body))
        for body in (
            SlashJudged(one, 2, address(asker)),
            SlashJudged(one, 1, address("sam")),
            SlashJudged(one, 1, NO_ADDRESS),
            SlashJudged(one, 1, address("paul")),
            SlashJudged(one, 1, address("operator")),
            SlashJudged(other, 1, address(asker)),
        )
    ]
    with settled.evm.undone():
        frauds, anchor = anchor_lies(settled, [Lie("", world.state, leaf) for leaf in lies])
        for fraud in frauds:
            expected = Verdict(True, "slash_differs")
            assert chain_verdict(settled, fraud, anchor) == expected
    right = SlashJudged(one, 1, address(asker))
    assert honest_verdict(settled, world, "operator", right) == NOTHING_WRONG


def test_whoever_demanded_on_chain_gets_an_account(settled: Settled, world: SignedWorld) -> None:
    """Also where the reporter's part is nothing."""
    stranger = Address(b"\x99" * 20)
    deal = world.open(terms(salt=b"\x09" * 32, delegate=stranger))
    world.hold(deal, 1)
    assert world.state.cell(CellKind.ACCOUNT, stranger) is None
    slashed(settled, world, deal, stranger)
    right = SlashJudged(deal, 1, stranger)
    assert honest_verdict(settled, world, "operator", right) == NOTHING_WRONG
    assert world.state.account(stranger).available == 0
    assert world.state.cell(CellKind.ACCOUNT, stranger) is not None
