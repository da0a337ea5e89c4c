from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.ledger.bodies import Kind
from dsn.ledger.cells import CellKind, cell_key
from dsn.ledger.disputes import AllLost, Demand, Serve, SlashJudged, SlashUnserved
from dsn.ledger.entry import Entry
from dsn.ledger.log import LogLeaf
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.demands import demands_call
from dsn.ledger.onchain.steps import ShownStep
from dsn.ledger.onchain.tuples import account_tuple
from tests.support.fraud_world import SignedWorld, every_kind
from tests.support.ledger_world import address, terms

ANCHOR = 3
DISPUTES = range(Kind.DEMAND, Kind.SLASH_JUDGED + 1)


def shown(world: SignedWorld, index: int, leaf: LogLeaf | None = None) -> OnChain:
    """The call about entry ``index``, or about ``leaf`` in its place."""
    fraud = world.lie(index, leaf or world.leaves[index])
    return demands_call(ShownStep.of(fraud, world.params), ANCHOR)


@pytest.mark.parametrize("missed", [True, False])
def test_every_step_comes_with_the_cells_that_it_changes(missed: bool) -> None:
    world, kinds = every_kind(missed), set()
    for index, leaf in enumerate(world.leaves):
        if leaf.entry[0] not in DISPUTES:
            continue
        kinds.add(leaf.entry[0])
        call, signer = shown(world, index), Entry.decode(leaf.entry).signer
        case, cells, askers, _, places, more = call.args
        assert call[:2] == ("FraudDemands", "convict")
        assert case[:2] == (ANCHOR, index)
        assert cells[0] == account_tuple(world.states[index].account(signer))
        assert len(more) == len(askers)
        keys = {place[0] for place in (*places, *more)}
        after = (*world.states, world.state)[index + 1]
        for key, cell in after.cells.items():
            if world.states[index].cells.get(key) not in (None, cell):
                assert key in keys, (index, cell)
    assert len(kinds) == len(DISPUTES) - 1


def demanded() -> tuple[SignedWorld, bytes]:
    """Alice demands a leaf of what Paul holds, and time runs out."""
    world = SignedWorld()
    world.fund()
    world.bind("alice", "paul")
    world.open_epoch()
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    world.do("alice", Demand(deal, 10, 0))
    return world, deal


def test_whoever_demanded_is_shown_unless_it_signs() -> None:
    world, _ = demanded()
    deal = world.deals()[0].deal
    world.pass_epochs(4)
    at = len(world.leaves)
    alice = cell_key(CellKind.ACCOUNT, address("alice"))
    world.do("sam", SlashUnserved(deal))
    *_, askers, _, places, more = shown(world, at).args
    assert [each[0] for each in askers] == [address("alice")]
    assert [each[0] for each in more] == [alice]
    assert len(places) == 4
    own, _ = demanded()
    own.pass_epochs(4)
    own.do("alice", SlashUnserved(deal))
    *_, askers, _, places, more = shown(own, at).args
    assert (askers, more, len(places)) == ([], [], 4)


def test_a_judged_slash_shows_each_asker_once() -> None:
    for asker, expected in (("dora", ["alice", "dora"]), ("alice", ["alice"]), ("paul", ["alice"])):
        world, _ = demanded()
        deal = world.deals()[0].deal
        at = len(world.leaves)
        world.do("operator", SlashJudged(deal, 1, address(asker)))
        *_, askers, _, _, more = shown(world, at).args
        assert [each[0] for each in askers] == [address(name) for name in expected]
        assert len(more) == len(expected)


def test_a_refused_step_is_shown_as_it_stood() -> None:
    world, _ = demanded()
    deal = world.deals()[0].deal
    world.pass_epochs(1)
    index = len(world.leaves) - 1
    wrong = replace(world.entry("paul", Serve(deal, AllLost(9))), nonce=99)
    leaf = LogLeaf(wrong.encode(), bytes(65), world.state.root)
    *_, more = shown(world, index, leaf).args
    assert more == []


def test_a_body_that_cannot_be_read_is_all_there_is() -> None:
    world = every_kind(True)
    index = next(at for at, leaf in enumerate(world.leaves) if leaf.entry[0] == Kind.DEMAND)
    leaf = world.leaves[index]
    body = leaf.entry[65:-1]
    cut = leaf.entry[:61] + len(body).to_bytes(4, "big") + body
    call = shown(world, index, replace(leaf, entry=cut))
    assert call.args[2:] == ([], [], [], [])
    assert call.args[0][4] == replace(leaf, entry=cut).encode()
