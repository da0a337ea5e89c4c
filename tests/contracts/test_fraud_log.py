"""What is wrong with an anchored log itself, before the contract that judges that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dsn.ledger.binding import LedgerRoot
from dsn.ledger.cells import AccountCell, CellKind, DealCell
from dsn.ledger.disputes import SlashJudged
from dsn.ledger.fraud import Logged
from dsn.ledger.log import Frontier, build_prefix_proof, leaf_hash
from dsn.ledger.onchain import dispute, log_faults
from dsn.ledger.onchain.calls import OnChain
from tests.support.evm import Reverted, Settled
from tests.support.fraud_world import SignedWorld, log_of
from tests.support.ledger_world import address, terms
from tests.support.onchain_history import Lie, anchor_lies, chain_verdict

Changed = Callable[[LedgerRoot], LedgerRoot]


@pytest.fixture
def world(settled: Settled) -> SignedWorld:
    world = SignedWorld(settled.params)
    world.fund()
    world.bind("alice", "paul")
    world.open_epoch()
    return world


def root_of(world: SignedWorld) -> LedgerRoot:
    return world.signed_checkpoint().checkpoint.ledger_root


def fault(settled: Settled, call: OnChain) -> str:
    """What ``call`` would convict of, or why it does not."""
    contract = settled.contract(call.contract)
    try:
        done = contract.tried(call.function, *call.args)
    except Reverted as error:
        return f"not: {error.reason}"
    (said,) = contract.logged(done, "Convicted")
    return str(said["fault"])


def end(world: SignedWorld, anchor: int) -> OnChain:
    """The evidence of how the log of ``world`` ends."""
    size = len(world.leaves)
    last = Logged.of(world.leaves[-1], world.nodes.__getitem__, size - 1, size)
    return log_faults.end_call(anchor, last, world.state.network, world.state.tree)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        (lambda root: root, "not: no_fault"),
        (lambda root: replace(root, state_root=bytes(32)), "end_differs"),
        (lambda root: replace(root, epoch=root.epoch + 1), "end_differs"),
    ],
)
def test_an_anchor_says_what_its_log_ends_with(
    settled: Settled, world: SignedWorld, changed: Changed, code: str
) -> None:
    anchor = settled.anchor(changed(root_of(world)))
    assert fault(settled, end(world, anchor)) == code


def test_another_leaf_than_the_last_says_nothing_of_the_end(
    settled: Settled, world: SignedWorld
) -> None:
    anchor = settled.anchor(replace(root_of(world), state_root=bytes(32)))
    size = len(world.leaves)
    early = Logged.of(world.leaves[0], world.nodes.__getitem__, 0, size)
    call = log_faults.end_call(anchor, early, world.state.network, world.state.tree)
    assert fault(settled, call) in ("not: bad_path", "not: not_in_log")


@pytest.mark.parametrize("kind", [0, 20, 255])
def test_leaves_that_are_no_entries(settled: Settled, world: SignedWorld, kind: int) -> None:
    leaf, before = world.leaves[3], world.states[3]
    strange = replace(leaf, entry=bytes([kind]) + leaf.entry[1:])
    short = replace(leaf, entry=leaf.entry[:64])
    longer = replace(leaf, entry=leaf.entry + b"\0")
    largest = replace(leaf, entry=leaf.entry[:1] + bytes(32 * 1024 - 1))
    lies = [Lie("", before, each) for each in (strange, short, longer, largest)]
    frauds, anchor = anchor_lies(settled, lies)
    found = [chain_verdict(settled, each, anchor).code for each in frauds]
    assert found == ["unknown_kind", *["malformed_message"] * 3]


def test_an_entry_with_a_good_header_is_for_others(settled: Settled, world: SignedWorld) -> None:
    fraud = world.fraud(3, world.signed_checkpoint())
    anchor = settled.anchor(root_of(world))
    assert fault(settled, log_faults.leaf_call(fraud, anchor)) == "not: no_fault"


def test_a_leaf_too_short_for_any_entry(settled: Settled) -> None:
    """No evidence in a file has such a leaf, but a chain can be shown it."""
    raw = bytes(97)
    frontier, _ = Frontier().extend([leaf_hash(raw)])
    anchor = settled.anchor(LedgerRoot(*frontier.head, bytes(32), 1))
    call = OnChain("FraudLog", "convict", (anchor, 0, raw, []))
    assert fault(settled, call) == "malformed_message"


def test_two_logs(settled: Settled, world: SignedWorld) -> None:
    """The newer anchor falls, with the earlier one everything may still be well."""
    older = settled.anchor(root_of(world))
    size = len(world.leaves)
    world.open(terms())
    honest = build_prefix_proof(world.nodes.__getitem__, size, len(world.leaves))
    with settled.evm.undone():
        grown = settled.anchor(root_of(world))
        assert fault(settled, log_faults.fork_call(older, grown, honest)) == "not: no_fault"
    head, hashes = log_of([*world.leaves[1:], *world.leaves[:2]])
    newer = settled.anchor(LedgerRoot(*head, bytes(32), 2))
    prefix = build_prefix_proof(hashes, size, head.size)
    assert fault(settled, log_faults.fork_call(older, newer, honest)) == "not: bad_path"
    assert fault(settled, log_faults.fork_call(older, newer, prefix[:-1])) == "not: bad_path"
    assert fault(settled, log_faults.fork_call(newer, older, prefix)) == "not: bad_path"
    call = log_faults.fork_call(older, newer, prefix)
    assert fault(settled, call) == "log_forked"
    settled.contract("FraudLog").send(call.function, *call.args)
    assert settled.vault.call("anchor_count") == newer
    assert settled.vault.call("anchors", older)[0] == size


def test_a_deposit_left_out(settled: Settled, world: SignedWorld) -> None:
    """Once the time for it is over; not a moment before, and not one that nobody made."""
    inclusion_s = settled.vault.call("times")[3]
    settled.deposit(address("alice"), 700)
    settled.deposit(address("alice"), 50)
    settled.deposit(address("dora"), 9)
    cell, tree = world.account("alice"), world.state.tree
    nobody = AccountCell(address("dora"))
    with settled.evm.undone():
        early = settled.anchor(root_of(world))
        call = log_faults.deposit_call(early, 2, cell, tree)
        assert fault(settled, call) == "not: no_fault"
    settled.evm.pass_time(inclusion_s + 1)
    late = settled.anchor(root_of(world))
    assert cell.deposits == 1
    assert fault(settled, log_faults.deposit_call(late, 1, cell, tree)) == "not: no_fault"
    assert fault(settled, log_faults.deposit_call(late, 2, cell, tree)) == "deposit_omitted"
    for serial in (0, 3):
        call = log_faults.deposit_call(late, serial, cell, tree)
        assert fault(settled, call) == "not: unknown_deposit"
    call = log_faults.deposit_call(late, 2, replace(cell, deposits=0), tree)
    assert fault(settled, call) == "not: state_root"
    call = log_faults.deposit_call(late, 1, nobody, tree)
    assert fault(settled, call) == "not: state_root"


def test_a_slash_left_out(settled: Settled, world: SignedWorld) -> None:
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    cell = world.deal(deal)
    asked = settled.anchor(root_of(world))
    assert (
        fault(settled, log_faults.slash_call(asked, cell, world.state.tree)) == "not: not_slashed"
    )
    call, wei = dispute.demand(asked, cell, world.state.tree, 0), settled.dispute.call("bond_wei")
    settled.evm.fund(address("alice"))
    settled.dispute.send(call.function, *call.args, sender=address("alice"), wei=wei)
    settled.evm.pass_time(settled.dispute.call("answer_s") + 1)
    settled.dispute.send("slash", deal)
    world.shut_epoch()
    with settled.evm.undone():
        early = settled.anchor(root_of(world))
        call = log_faults.slash_call(early, world.deal(deal), world.state.tree)
        assert fault(settled, call) == "not: no_fault"
    settled.evm.pass_time(settled.vault.call("times")[3] + 1)
    with settled.evm.undone():
        late = settled.anchor(root_of(world))
        call = log_faults.slash_call(late, world.deal(deal), world.state.tree)
        assert fault(settled, call) == "slash_omitted"
        lower = replace(world.deal(deal), number=9)
        call = log_faults.slash_call(late, lower, world.state.tree)
        assert fault(settled, call) == "not: state_root"
    world.do("operator", SlashJudged(deal, cell.number, address("alice")))
    done = settled.anchor(root_of(world))
    slashed = world.state.cell(CellKind.DEAL, deal)
    assert isinstance(slashed, DealCell)
    call = log_faults.slash_call(done, slashed, world.state.tree)
    assert fault(settled, call) == "not: no_fault"


def test_a_revision_after_the_slash_keeps_a_deal(settled: Settled, world: SignedWorld) -> None:
    """Its provider could not be slashed for what nobody showed of an older one."""
    deal = world.open(terms())
    world.hold(deal, 1, 2)
    asked = settled.anchor(root_of(world))
    call = dispute.demand(asked, world.deal(deal), world.state.tree, 0)
    settled.evm.fund(address("alice"))
    wei = settled.dispute.call("bond_wei")
    settled.dispute.send(call.function, *call.args, sender=address("alice"), wei=wei)
    world.hold(deal, 1)
    settled.evm.pass_time(settled.dispute.call("answer_s") + 1)
    settled.dispute.send("slash", deal)
    settled.evm.pass_time(settled.vault.call("times")[3] + 1)
    late = settled.anchor(root_of(world))
    call = log_faults.slash_call(late, world.deal(deal), world.state.tree)
    assert fault(settled, call) == "not: no_fault"
