"""Deals that begin, grow older and end before the contracts that judge them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.ids import DealId
from dsn.ledger.bodies import Agreed, CloseDeal, Kind, Open, Quit, TopUp
from dsn.ledger.cells import DealCell, DealState, cell_digest
from dsn.ledger.deal import Close, Deal, Extension
from dsn.ledger.disputes import Demand
from dsn.ledger.onchain.cases import on_chain
from dsn.ledger.rules.moves import apply
from dsn.proofs.inventory import EMPTY, SumTree, inventory_leaf
from tests.contracts.fraud_cases import (
    NOTHING_WRONG,
    Refusals,
    convict,
    honest_verdict,
    told,
)
from tests.support.evm import Reverted, Settled
from tests.support.fraud_world import SignedWorld
from tests.support.ledger_world import address, terms
from tests.support.onchain_history import (
    Lie,
    Tried,
    anchor_lies,
    anchor_world,
    chain_verdict,
    deposit_all,
)
from tests.support.signing import mirrored

DEAL_KINDS = (Kind.OPEN, Kind.TOP_UP, Kind.QUIT, Kind.CLOSE)
HONEST_SEEDS, STEPS = (3, 4, 5), 150
NO_DEAL = DealId(b"\x99" * 32)


@pytest.fixture
def world(settled: Settled) -> SignedWorld:
    """Funded and bound, with the first epoch open."""
    world = SignedWorld(settled.params)
    world.fund()
    world.bind("alice", "bob", "paul", "petra")
    world.open_epoch()
    return world


def offer(world: SignedWorld, **changes: Any) -> Open:
    deal = terms(**changes)
    return Open(world.agreed(deal, deal))


def longer(world: SignedWorld, deal: DealCell, serial: int, end: int) -> Agreed[Extension]:
    return world.agreed(Extension(deal.deal, serial, end), deal.terms)


def over(world: SignedWorld, deal: DealId, epoch: int) -> Agreed[Close]:
    return world.agreed(Close(deal, epoch), terms())


def forgeries(right: Agreed[Any]) -> list[tuple[str, Agreed[Any]]]:
    """Either signature by nobody, by the other one, or spelled in a second way."""
    client, provider = right.client_signature, right.provider_signature
    return [
        ("invalid_signature", replace(right, client_signature=provider)),
        ("invalid_signature", replace(right, provider_signature=client)),
        ("malleated_signature", replace(right, provider_signature=bytes(65))),
        ("malleated_signature", replace(right, client_signature=mirrored(client))),
        ("malleated_signature", replace(right, provider_signature=mirrored(provider))),
    ]


def test_terms_that_hold_nowhere(settled: Settled, world: SignedWorld) -> None:
    wrong, most = Refusals(world), (1 << 64) - 1
    wrong.add("not_the_client", "bob", offer(world))
    wrong.add("same_party", "alice", offer(world, provider=address("alice")))
    wrong.add("bad_miss_limit", "alice", offer(world, miss_limit=701))
    wrong.add("bad_term", "alice", offer(world, end=most, grace=1))
    wrong.add("bad_delegate", "alice", offer(world, delegate=address("alice")))
    wrong.add("bad_delegate", "alice", offer(world, delegate=address("paul")))
    wrong.add("nonce_gap", "alice", offer(world), nonce=9)
    for code, agreed in forgeries(offer(world).agreed):
        wrong.add(code, "alice", Open(agreed))
    wrong.check(settled)


def test_terms_that_hold_no_longer_or_not_here(settled: Settled, world: SignedWorld) -> None:
    world.pass_epochs(1)
    wrong, least = Refusals(world), world.params
    cases: dict[str, list[dict[str, Any]]] = {
        "offer_expired": [{"open_by": 1}],
        "end_passed": [{"end": 2}],
        "term_too_long": [{"end": 103}, {"grace": 101}, {"notice": 101}, {"dispute": 101}],
        "disk_price_below_minimum": [{"disk_price": least.min_disk_price - 1}],
        "repair_price_below_minimum": [{"repair_price": least.min_repair_price - 1}],
        "collateral_below_minimum": [{"collateral_ppm": least.min_collateral_ppm - 1}],
        "dispute_below_minimum": [{"dispute": least.min_dispute - 1}],
        "free_leaves_above_maximum": [{"free_leaves": least.max_free_leaves + 1}],
        "not_enough_credit": [{"disk_escrow": 1 << 60}, {"bandwidth_escrow": (1 << 64) - 1}],
        "not_bound": [{"provider": address("sam")}],
    }
    for code, each in cases.items():
        for changes in each:
            wrong.add(code, "alice", offer(world, **changes))
    wrong.add("not_bound", "sam", offer(world, client=address("sam")))
    have = world.account("alice").available
    wrong.add("fee_not_covered", "alice", offer(world, disk_escrow=have - 1_000))
    world.open(terms())
    wrong.add("deal_exists", "alice", offer(world))
    wrong.check(settled)
    everything = offer(
        world, disk_escrow=0, bandwidth_escrow=0, end=102, grace=100, salt=b"\x07" * 32
    )
    assert honest_verdict(settled, world, "alice", everything) == NOTHING_WRONG


def test_a_top_up(settled: Settled, world: SignedWorld) -> None:
    deal = world.deal(world.open(terms()))
    wrong, id = Refusals(world), deal.deal
    wrong.add("unknown_deal", "alice", TopUp(NO_DEAL, 1, 1, None))
    wrong.add("unknown_deal", "alice", TopUp(NO_DEAL, 1, 1, longer(world, deal, 1, 30)))
    wrong.add("not_the_client", "paul", TopUp(id, 1, 1, None))
    wrong.add("not_enough_credit", "alice", TopUp(id, (1 << 64) - 1, (1 << 64) - 1, None))
    wrong.add("wrong_extension", "alice", TopUp(id, 1, 1, longer(world, deal, 2, 30)))
    wrong.add("end_not_later", "alice", TopUp(id, 1, 1, longer(world, deal, 1, deal.end)))
    wrong.add("term_too_long", "alice", TopUp(id, 1, 1, longer(world, deal, 1, 102)))
    other = world.agreed(Extension(NO_DEAL, 1, 30), deal.terms)
    wrong.add("other_deal", "alice", TopUp(id, 1, 1, other))
    wrong.add("nonce_used", "alice", TopUp(id, 1, 1, None), nonce=1)
    for code, agreed in forgeries(longer(world, deal, 1, 30)):
        wrong.add(code, "alice", TopUp(id, 1, 1, agreed))
    have = world.account("alice").available
    wrong.add("fee_not_covered", "alice", TopUp(id, have, 0, None))
    tight = world.deal(world.open(terms(disk_escrow=1_000, salt=b"\x08" * 32)))
    world.hold(tight.deal, 1, 2, 3)
    wrong.add("not_covered", "alice", TopUp(tight.deal, 1, 1, longer(world, tight, 1, 101)))
    wrong.check(settled)
    extended = TopUp(tight.deal, 5_000, 6, longer(world, tight, 1, 101))
    assert honest_verdict(settled, world, "alice", extended) == NOTHING_WRONG
    world.pass_epochs(24)
    late = Refusals(world)
    late.add("deal_over", "alice", TopUp(id, 1, 1, None))
    world.do("alice", CloseDeal(id, None))
    late.add("deal_not_open", "alice", TopUp(id, 1, 1, None))
    late.check(settled)


def test_notice(settled: Settled, world: SignedWorld) -> None:
    full, empty = world.open(terms()), world.open(terms(salt=b"\x01" * 32))
    brief = world.open(terms(end=2, grace=0, salt=b"\x02" * 32))
    world.hold(full, 1)
    wrong = Refusals(world)
    wrong.add("unknown_deal", "alice", Quit(NO_DEAL))
    wrong.add("not_a_party", "bob", Quit(empty))
    wrong.add("deal_not_empty", "alice", Quit(full))
    wrong.add("notice_too_late", "paul", Quit(brief))
    wrong.add("nonce_gap", "paul", Quit(empty), nonce=77)
    for name in ("paul", "alice"):
        assert honest_verdict(settled, world, name, Quit(empty)) == NOTHING_WRONG
        world.pass_epochs(1, "paul")
        empty = world.open(terms(salt=world.epoch.to_bytes(32, "big")))
    world.do("alice", CloseDeal(empty, over(world, empty, world.epoch)))
    wrong.add("deal_not_open", "alice", Quit(empty))
    wrong.check(settled)


def test_ends_and_releases(settled: Settled, world: SignedWorld) -> None:
    """A deal among others, with something in it, proven and not."""
    deal, asked = world.open(terms()), world.open(terms(salt=b"\x01" * 32))
    for number, each in enumerate((deal, asked)):
        world.hold(each, number, number + 1, number + 2)
    for salt in range(2, 6):
        world.hold(world.open(terms(salt=bytes([salt]) * 32)), salt)
    world.pass_epochs(3, "paul")
    world.pass_epochs(2)
    world.do("alice", Demand(asked, 10, 0))
    wrong = Refusals(world)
    wrong.add("unknown_deal", "alice", CloseDeal(NO_DEAL, None))
    wrong.add("unknown_deal", "alice", CloseDeal(NO_DEAL, over(world, NO_DEAL, 6)))
    wrong.add("not_a_party", "bob", CloseDeal(deal, None))
    wrong.add("deal_running", "alice", CloseDeal(deal, None))
    wrong.add("other_deal", "paul", CloseDeal(deal, over(world, asked, 6)))
    wrong.add("wrong_epoch", "paul", CloseDeal(deal, over(world, deal, 5)))
    wrong.add("demand_pending", "paul", CloseDeal(asked, over(world, asked, 6)))
    wrong.add("nonce_used", "paul", CloseDeal(deal, over(world, deal, 6)), nonce=1)
    for code, agreed in forgeries(over(world, deal, 6)):
        wrong.add(code, "paul", CloseDeal(deal, agreed))
    now = CloseDeal(deal, over(world, deal, 6))
    assert honest_verdict(settled, world, "paul", now) == NOTHING_WRONG
    ended = world.deal(deal)
    assert ended.state is DealState.ENDED and ended.disk_paid and ended.missed
    wrong.add("dispute_running", "alice", CloseDeal(deal, None))
    wrong.add("deal_not_open", "alice", CloseDeal(deal, over(world, deal, 6)))
    world.pass_epochs(5)
    assert honest_verdict(settled, world, "alice", CloseDeal(deal, None)) == NOTHING_WRONG
    wrong.add("deal_closed", "paul", CloseDeal(deal, None))
    wrong.check(settled)


def test_a_poor_party_can_still_close(settled: Settled, world: SignedWorld) -> None:
    """It pays what it has of the fee."""
    deal = world.open(terms())
    have = world.account("alice").available
    world.do("alice", TopUp(deal, have - world.params.entry_fee - 1, 0, None))
    assert world.account("alice").available == 1
    now = CloseDeal(deal, over(world, deal, 1))
    assert honest_verdict(settled, world, "alice", now) == NOTHING_WRONG


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_a_deal_leaves_an_inventory_of_any_size(
    settled: Settled, world: SignedWorld, count: int
) -> None:
    deals = [world.open(terms(salt=bytes([n]) * 32, free_leaves=99)) for n in range(count)]
    for at, deal in enumerate(deals):
        world.hold(deal, at % 8)
    now = CloseDeal(deals[0], over(world, deals[0], 1))
    assert honest_verdict(settled, world, "paul", now) == NOTHING_WRONG


@pytest.mark.parametrize("seed", HONEST_SEEDS)
def test_honest_steps_never_convict(settled: Settled, seed: int) -> None:
    world = Tried(settled, seed, STEPS).world
    deposit_all(settled, world)
    signed, anchor = anchor_world(settled, world)
    mine = [at for at, leaf in enumerate(world.leaves) if leaf.entry[0] in DEAL_KINDS]
    assert len(mine) > 15, f"seed {seed}"
    for index in mine:
        found = chain_verdict(settled, world.fraud(index, signed), anchor)
        assert found == NOTHING_WRONG, f"seed {seed}, entry {index}"


def test_what_is_left_out_or_bent_never_convicts(settled: Settled, world: SignedWorld) -> None:
    """Of an honest end of a deal among others."""
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    world.hold(world.open(terms(salt=b"\x01" * 32)), 3)
    before, body = world.state, CloseDeal(deal, over(world, deal, 1))
    leaf = told(world, world.entry("paul", body))
    world.do("paul", body)
    lie = Lie("honest", before, replace(leaf, state_root=world.state.root))
    (fraud,), anchor = anchor_lies(settled, [lie])
    case, cells, places, ways = on_chain(fraud, settled.params, anchor).args
    mine, network, shown, other = cells
    assert ways
    rich = (*shown[:-6], shown[-6] + 1, *shown[-5:])
    contract, bent = settled.contract("FraudEnds"), [(cells, places[:at], ways) for at in range(4)]
    bent += [
        ((other, network, shown, mine), places, ways),
        ((mine, network, rich, other), places, ways),
        ((mine, (*network[:1], network[1] + 1, *network[2:]), shown, other), places, ways),
        (cells, [places[1], places[0], *places[2:]], ways),
        (cells, places, []),
        (cells, places, [*ways, ways[0]]),
        (cells, places, [(not ways[0][0], *ways[0][1:])]),
        (cells, places, [(*ways[0][:2], ways[0][2] + 1)]),
    ]
    for shown_cells, place, way in bent:
        with pytest.raises(Reverted) as caught:
            contract.tried("convict", case, shown_cells, place, way)
        assert caught.value.reason in ("incomplete_evidence", "state_root")
    with pytest.raises(Reverted, match="no_fault"):
        contract.tried("convict", case, cells, places, ways)
    with pytest.raises(Reverted, match="other_kind"):
        settled.contract("FraudDeals").tried("convict", case, cells, places)


def test_a_wrong_settlement_takes_the_bond(
    settled: Settled, world: SignedWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit too many for the provider; a deal that stays in the inventory; an offer forged."""
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    world.pass_epochs(2, "paul")
    entry = world.entry("paul", CloseDeal(deal, over(world, deal, world.epoch)))
    honest, (after, _) = told(world, entry), apply(world.state, entry)
    paul, cell = after.account(address("paul")), world.deal(deal)
    tree = SumTree.build(
        [(deal, inventory_leaf(deal, cell.number, cell.root, cell.leaves), cell.leaves)]
    )
    assert (paul.live, tree.root) == (EMPTY.root, world.account("paul").live)
    wrong = {
        "wrong settlement": replace(paul, available=paul.available + 1),
        "still in the inventory": replace(paul, live=tree.root, live_leaves=tree.total),
    }
    table = {
        what: replace(honest, state_root=after.tree.put(paul.key, cell_digest(each)).root)
        for what, each in wrong.items()
    }
    fresh = offer(world, salt=b"\x09" * 32).agreed
    table["a forged offer"] = told(world, world.entry("alice", Open(forgeries(fresh)[0][1])))
    for what, leaf in table.items():
        with settled.evm.undone():
            (fraud,), anchor = anchor_lies(settled, [Lie(what, world.state, leaf)])
            gas = convict(settled, fraud, anchor).gas
            assert settled.vault.call("frozen_at") > 0
            assert gas < 3_000_000
            with capsys.disabled():
                print(f"\nFraudDeals: {what}: {gas} gas")


def test_terms_travel_as_they_are_hashed(settled: Settled, world: SignedWorld) -> None:
    """Every field of a deal counts: with any of them changed it is another deal."""
    body = offer(world)
    deal = body.agreed.statement
    wrong = Refusals(world)
    for member in Deal.struct.members:
        value = getattr(deal, member.name)
        other = value + 1 if isinstance(value, int) else bytes([value[0] ^ 1]) + value[1:]
        changed = replace(deal, **{member.name: other})
        wrong.add("invalid_signature", "alice", Open(replace(body.agreed, statement=changed)))
    wrong.check(settled)
