"""Epochs, bindings, deposits, withdrawals and transfers before the contract that judges them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.ids import NetworkId
from dsn.ledger.binding import KeyBinding, SignedBinding, sign_binding
from dsn.ledger.bodies import Bind, Deposit, Kind, OpenEpoch, Salt, ShutEpoch, Transfer, Withdraw
from dsn.ledger.cells import AccountCell, NetworkCell, Phase, cell_digest
from dsn.ledger.entry import Entry
from dsn.ledger.fraud import Fraud
from dsn.ledger.log import LogLeaf, TreeHead
from dsn.ledger.onchain.cases import on_chain
from dsn.ledger.onchain.tuples import account_tuple, place_tuple
from dsn.ledger.rules.moves import apply
from dsn.ledger.rules.signatures import salt_preimage
from dsn.ledger.state import NoCells, State
from dsn.ledger.typed import Domain
from dsn.proofs.drand import DrandChain
from tests.contracts.fraud_cases import (
    NOTHING_WRONG,
    Refusals,
    convict,
    honest_verdict,
    told,
)
from tests.support.evm import Evm, Reverted, Settled, deploy_world
from tests.support.fraud_world import SIGNED_PARAMS, SignedWorld
from tests.support.ledger_world import IDENTITIES, KEYS, WITNESSES, address, terms
from tests.support.onchain_history import (
    Lie,
    Tried,
    Verdict,
    anchor_lies,
    anchor_world,
    chain_verdict,
    deposit_all,
    python_verdict,
)
from tests.support.signing import mirrored

ACCOUNT_KINDS = range(Kind.OPEN_EPOCH, Kind.TRANSFER + 1)
HONEST_SEEDS, STEPS = (1, 2), 120


@pytest.fixture
def world(settled: Settled) -> SignedWorld:
    """Funded and bound, with the first epoch open, and all of it on the chain too."""
    world = SignedWorld(settled.params)
    world.fund()
    world.bind("alice", "bob", "paul")
    world.open_epoch()
    deposit_all(settled, world)
    return world


def salts(world: SignedWorld, *witnesses: int, start: bytes = b"") -> tuple[Salt, ...]:
    """By those witnesses, in that order; ``start`` begins every salt."""
    made = []
    for number in witnesses:
        key, salt = WITNESSES[number], start.ljust(32, b"\x05")
        preimage = salt_preimage(world.params.domain.network, world.epoch, salt)
        made.append(Salt(key.public, salt, key.sign(preimage)))
    return tuple(made)


def opening(world: SignedWorld, epoch: int, closed: TreeHead) -> OpenEpoch:
    return OpenEpoch(epoch, closed, bytes(32), b"")


def test_only_the_operator_keeps_time_and_enters_deposits(
    settled: Settled, world: SignedWorld
) -> None:
    wrong = Refusals(world)
    wrong.add("not_the_operator", "alice", opening(world, 1, TreeHead(0, bytes(32))))
    wrong.add("not_the_operator", "alice", ShutEpoch(1, ()))
    wrong.add("not_the_operator", "alice", Deposit(address("alice"), 5, 2))
    wrong.check(settled)


def test_epochs_follow_one_another(settled: Settled, world: SignedWorld) -> None:
    wrong, no_head = Refusals(world), TreeHead(0, bytes(32))
    wrong.add("wrong_phase", "operator", opening(world, 1, no_head))
    wrong.add("wrong_epoch", "operator", ShutEpoch(2, ()))
    wrong.add("nonce_used", "operator", ShutEpoch(1, salts(world, 0, 1)), nonce=1)
    wrong.add("nonce_gap", "operator", ShutEpoch(1, salts(world, 0, 1)), nonce=99)
    world.shut_epoch()
    wrong.add("wrong_phase", "operator", ShutEpoch(2, ()))
    wrong.add("wrong_epoch", "operator", opening(world, 3, world.shut_head))
    wrong.add("bad_closed_log", "operator", opening(world, 2, no_head))
    wrong.add("bad_closed_log", "operator", opening(world, 2, TreeHead(1 << 40, bytes(32))))
    wrong.check(settled)


def test_the_first_epoch_opens_over_the_network_itself(settled: Settled) -> None:
    world = SignedWorld(settled.params)
    wrong = Refusals(world)
    for closed in (TreeHead(0, bytes(32)), TreeHead(1, settled.params.domain.network)):
        wrong.add("bad_closed_log", "operator", opening(world, 1, closed))
    wrong.check(settled)


def test_a_shut_needs_a_quorum_of_different_witnesses(settled: Settled, world: SignedWorld) -> None:
    wrong, stranger = Refusals(world), IDENTITIES["sam"]
    (one,) = salts(world, 0)
    preimage = salt_preimage(world.params.domain.network, world.epoch, one.salt)
    foreign = Salt(stranger.public, one.salt, stranger.sign(preimage))
    wrong.add("bad_salts", "operator", ShutEpoch(1, (one, one)))
    wrong.add("bad_salts", "operator", ShutEpoch(1, (*salts(world, 0, 1), foreign)))
    wrong.add("bad_salts", "operator", ShutEpoch(1, salts(world, *[0, 1, 2] * 20)))
    wrong.add("no_quorum", "operator", ShutEpoch(1, (one,)))
    wrong.add("no_quorum", "operator", ShutEpoch(1, ()))
    wrong.check(settled)
    shut = ShutEpoch(1, salts(world, 2, 0, 1))
    assert honest_verdict(settled, world, "operator", shut) == NOTHING_WRONG


@pytest.mark.parametrize(("rounds", "due"), [((9, 7), 7), ((3, 9, 8), 8), ((6, 6, 7), 6)])
def test_salts_fix_a_later_round_of_drand(
    node: Evm, evm: Evm, rounds: tuple[int, ...], due: int
) -> None:
    """The middle one of those they name, the lower of two."""
    chain = DrandChain(b"\x11" * 96, 1_000, 3)
    settled = deploy_world(evm, replace(SIGNED_PARAMS, drand=chain))
    world = SignedWorld(settled.params)
    state = at_round(world.state, 5)
    made = [salts(world, at, start=each.to_bytes(8, "big"))[0] for at, each in enumerate(rounds)]
    entry = world.entry("operator", ShutEpoch(1, tuple(made)))
    after, _ = apply(state, entry)
    assert after.network.round == due
    right = replace(told(world, entry), state_root=after.root)
    low = [salts(world, at, start=(5).to_bytes(8, "big"))[0] for at in range(2)]
    stale = told(world, world.entry("operator", ShutEpoch(1, (*low, made[0]))))
    frauds, anchor = anchor_lies(settled, [Lie("right", state, right), Lie("stale", state, stale)])
    found = [chain_verdict(settled, fraud, anchor) for fraud in frauds]
    assert found == [NOTHING_WRONG, Verdict(True, "bad_salts")]


def at_round(state: State, number: int) -> State:
    """The state with an epoch open whose beacon came out of round ``number``."""
    now: NetworkCell = replace(state.network, phase=Phase.OPEN, round=number)
    tree = state.tree.put(now.key, cell_digest(now))
    return State(state.params, tree, NoCells(), {**state.cells, now.key: now})


def test_an_identity_has_one_owner(settled: Settled, world: SignedWorld) -> None:
    wrong = Refusals(world)
    wrong.add("foreign_binding", "alice", Bind(world.binding("bob", 2)))
    wrong.add("node_taken", "alice", Bind(world.binding("alice", 2, identity="bob")))
    wrong.add("stale_binding", "alice", Bind(world.binding("alice", 1)))
    wrong.add("stale_binding", "sam", Bind(world.binding("sam", 0)))
    other = Domain(
        NetworkId(bytes(32)),
        *[getattr(world.params.domain, each) for each in ("chain_id", "vault")],
    )
    key = IDENTITIES["alice"]
    foreign = KeyBinding(key.public, address("alice"), other.network, 0, 2)
    signed = sign_binding(foreign, other, key.sign, KEYS["alice"])
    wrong.add("other_network", "alice", Bind(signed))
    right = world.binding("alice", 2)
    for code, signature in (
        ("invalid_signature", world.binding("alice", 3).settlement_signature),
        ("malleated_signature", mirrored(right.settlement_signature)),
    ):
        forged = SignedBinding(right.binding, right.identity_signature, signature)
        wrong.add(code, "alice", Bind(forged))
    world.open(terms())
    wrong.add("deals_open", "alice", Bind(world.binding("alice", 2)))
    wrong.check(settled)
    again = Bind(world.binding("bob", 2))
    assert honest_verdict(settled, world, "bob", again) == NOTHING_WRONG


def test_credits_come_from_somewhere(settled: Settled, world: SignedWorld) -> None:
    wrong, have = Refusals(world), world.account("bob").available
    bob, dora = address("bob"), address("dora")
    wrong.add("zero_amount", "bob", Withdraw(0))
    wrong.add("zero_amount", "bob", Transfer(dora, 0))
    wrong.add("zero_amount", "operator", Deposit(bob, 0, 2))
    wrong.add("not_enough_credit", "bob", Withdraw(have + 1))
    wrong.add("not_enough_credit", "bob", Transfer(dora, have + 1))
    wrong.add("fee_not_covered", "bob", Withdraw(have))
    wrong.add("fee_not_covered", "bob", Transfer(dora, have - 1))
    wrong.add("same_account", "bob", Transfer(bob, 1))
    wrong.add("wrong_deposit", "operator", Deposit(bob, 5, 1))
    wrong.add("wrong_deposit", "operator", Deposit(bob, 5, 3))
    wrong.check(settled)
    everything = have - world.params.entry_fee
    assert honest_verdict(settled, world, "bob", Withdraw(everything)) == NOTHING_WRONG


def test_a_deposit_is_what_the_vault_took(settled: Settled, world: SignedWorld) -> None:
    """Python believes it; only a chain knows."""
    settled.deposit(address("bob"), 700)
    serial, before = world.account("bob").deposits + 1, world.state
    for amount, code in ((700, "no_fault"), (701, "deposit_differs"), (699, "deposit_differs")):
        entry = world.entry("operator", Deposit(address("bob"), amount, serial))
        leaf = replace(told(world, entry), state_root=apply(before, entry)[0].root)
        with settled.evm.undone():
            (fraud,), anchor = anchor_lies(settled, [Lie("", before, leaf)])
            assert python_verdict(settled, fraud) == NOTHING_WRONG
            assert chain_verdict(settled, fraud, anchor) == Verdict(code != "no_fault", code)
    next_one = world.account("dora").deposits + 1
    missing = world.entry("operator", Deposit(address("dora"), 1, next_one))
    leaf = replace(told(world, missing), state_root=apply(before, missing)[0].root)
    (fraud,), anchor = anchor_lies(settled, [Lie("", before, leaf)])
    assert chain_verdict(settled, fraud, anchor) == Verdict(True, "deposit_differs")


def test_the_operator_may_deposit_for_itself(settled: Settled, world: SignedWorld) -> None:
    operator = settled.params.operator
    settled.deposit(operator, 10)
    serial = world.account("operator").deposits + 1
    own = Deposit(operator, 10, serial)
    assert honest_verdict(settled, world, "operator", own) == NOTHING_WRONG


class TestClosedLog:
    """An epoch's open over a log that was not like that."""

    @pytest.fixture
    def index(self, world: SignedWorld) -> int:
        world.shut_epoch()
        world.open_epoch()
        return len(world.leaves) - 1

    @pytest.fixture
    def honest(self, settled: Settled, world: SignedWorld, index: int) -> tuple[Fraud, int]:
        signed, anchor = anchor_world(settled, world)
        return world.fraud(index, signed), anchor

    def verdict(self, settled: Settled, fraud: Fraud, anchor: int, closed: list[Any]) -> str:
        """With ``closed`` in the place of what the builder made of the closed log."""
        call = on_chain(fraud, settled.params, anchor)
        case, cells, places, _ = call.args
        contract = settled.contract("FraudAccounts")
        try:
            contract.tried("convict", case, cells, places, closed)
        except Reverted as error:
            return error.reason
        return "convicted"

    def test_an_honest_one_never_convicts(
        self, settled: Settled, world: SignedWorld, honest: tuple[Fraud, int]
    ) -> None:
        """Whatever the accuser shows of the log, or leaves out."""
        fraud, anchor = honest
        assert chain_verdict(settled, fraud, anchor) == NOTHING_WRONG
        ((prefix, last, path),) = on_chain(fraud, settled.params, anchor).args[3]
        other = world.leaves[1].encode()
        strange = {
            "no_fault": [[], [(prefix, last, path)]],
            "not_in_log": [[(prefix, other, path)], [(prefix, last, [bytes(32)] * len(path))]],
            "wrong_path": [[([bytes(32)] * len(prefix), last, path)]],
            "bad_path": [[(prefix[:-1], last, path)], [(prefix, last, [*path, bytes(32)])]],
        }
        for expected, shown in strange.items():
            for closed in shown:
                assert self.verdict(settled, fraud, anchor, closed) == expected

    def test_another_log_convicts(self, settled: Settled, world: SignedWorld, index: int) -> None:
        """Another root; the log at another size; a log that does not end with the shut."""
        real = world.head_at(index)
        heads = (TreeHead(index, bytes(32)), world.head_at(index - 1))
        before = world.states[index]
        for head in heads:
            assert head != real
            leaf = world.reopened(index, head)
            after, _ = apply(before, Entry.decode(leaf.entry))
            leaf = replace(leaf, state_root=after.root)
            assert self.convicts(settled, world, index, leaf) == "bad_closed_log"

    def convicts(self, settled: Settled, world: SignedWorld, index: int, leaf: LogLeaf) -> str:
        """The code that ``leaf`` in the place of entry ``index`` convicts with, in both."""
        lied = SignedWorld(settled.params)
        lied.state, lied.states = world.state, world.states
        for each in (*world.leaves[:index], leaf):
            lied.add(each)
        with settled.evm.undone():
            signed, anchor = anchor_world(settled, lied)
            fraud = lied.fraud(index, signed)
            found = chain_verdict(settled, fraud, anchor)
            assert found == python_verdict(settled, fraud)
        return found.code


@pytest.mark.parametrize("seed", HONEST_SEEDS)
def test_honest_steps_never_convict(settled: Settled, seed: int) -> None:
    world = Tried(settled, seed, STEPS).world
    deposit_all(settled, world)
    signed, anchor = anchor_world(settled, world)
    mine = [at for at, leaf in enumerate(world.leaves) if leaf.entry[0] in ACCOUNT_KINDS]
    assert len(mine) > 30, f"seed {seed}"
    for index in mine:
        found = chain_verdict(settled, world.fraud(index, signed), anchor)
        assert found == NOTHING_WRONG, f"seed {seed}, entry {index}"


def test_what_is_left_out_or_bent_never_convicts(settled: Settled, world: SignedWorld) -> None:
    """Of an honest transfer to somebody new."""
    before, body = world.state, Transfer(address("dora"), 50)
    leaf = told(world, world.entry("alice", body))
    world.do("alice", body)
    lie = Lie("honest", before, replace(leaf, state_root=world.state.root))
    (fraud,), anchor = anchor_lies(settled, [lie])
    case, cells, places, closed = on_chain(fraud, settled.params, anchor).args
    mine, other, network, node = cells
    key, _, steps = places[1]
    poor = (mine[0], 0, *mine[2:])
    bent = {
        "incomplete_evidence": [
            (cells, []),
            (cells, places[:1]),
            ((other, mine, network, node), places),
        ],
        "state_root": [
            ((poor, other, network, node), places),
            (cells, places[::-1]),
            (cells, [places[0], places[0]]),
            (cells, [places[0], (key, bytes(32), steps)]),
            ((mine, (other[0], 1, *other[2:]), network, node), places),
        ],
    }
    contract = settled.contract("FraudAccounts")
    for expected, shown in bent.items():
        for cell, place in shown:
            with pytest.raises(Reverted) as caught:
                contract.tried("convict", case, cell, place, closed)
            assert caught.value.reason == expected
    for wrong in (
        (*case[:4], case[2], case[5]),
        (case[0], case[1] + 1, *case[2:]),
    ):
        with pytest.raises(Reverted):
            contract.tried("convict", wrong, cells, places, closed)


def test_nobody_is_framed_by_leaves_that_are_not_in_the_log(
    settled: Settled, world: SignedWorld
) -> None:
    """Of an honest transfer: as if its payer had been poor, or it had led elsewhere."""
    before, body = world.state, Transfer(address("dora"), 50)
    leaf = told(world, world.entry("alice", body))
    last = world.leaves[-1]
    world.do("alice", body)
    lie = Lie("honest", before, replace(leaf, state_root=world.state.root))
    (fraud,), anchor = anchor_lies(settled, [lie])
    case, cells, places, closed = on_chain(fraud, settled.params, anchor).args
    poor = replace(before.account(address("alice")), available=0)
    tree = before.tree.put(poor.key, cell_digest(poor))
    framed = (account_tuple(poor), *cells[1:])
    shown = [place_tuple(tree, key) for key in (poor.key, AccountCell(address("dora")).key)]
    assert len(shown) == len(places)
    false = replace(last, state_root=tree.root).encode()
    other = replace(lie.leaf, state_root=before.root).encode()
    contract = settled.contract("FraudAccounts")
    for what, bent, cell, place in (
        ("before", (*case[:2], false, *case[3:]), framed, shown),
        ("step", (*case[:4], other, case[5]), cells, places),
    ):
        with pytest.raises(Reverted) as caught:
            contract.tried("convict", bent, cell, place, closed)
        assert caught.value.reason == "not_in_log", what


def test_a_minted_credit_takes_the_bond(
    settled: Settled, world: SignedWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what it costs to show: an overdraft, a signature, a credit from nowhere."""
    body = Transfer(address("dora"), 50)
    entry = world.entry("alice", body)
    honest = replace(told(world, entry), state_root=apply(world.state, entry)[0].root)
    rich = replace(world.state.account(address("dora")), available=51)
    after, _ = apply(world.state, entry)
    minted = replace(honest, state_root=after.tree.put(rich.key, cell_digest(rich)).root)
    unsigned = replace(honest, signature=told(world, world.entry("sam", body)).signature)
    overdrawn = told(world, world.entry("alice", Withdraw(1 << 60)))
    table = {"minted credit": minted, "bad signature": unsigned, "overdraft": overdrawn}
    for what, leaf in table.items():
        with settled.evm.undone():
            (fraud,), anchor = anchor_lies(settled, [Lie(what, world.state, leaf)])
            gas = convict(settled, fraud, anchor).gas
            assert settled.vault.call("frozen_at") > 0
            assert settled.vault.call("anchor_count") == 0
            assert gas < 3_000_000
            with capsys.disabled():
                print(f"\nFraudAccounts: {what}: {gas} gas")
