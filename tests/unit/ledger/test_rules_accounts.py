"""Epochs, bindings, and credits of one account: every check and every effect."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsn.core.keys import node_id_of
from dsn.ledger.bodies import (
    Bind,
    CloseDeal,
    Deposit,
    OpenEpoch,
    Salt,
    ShutEpoch,
    Transfer,
    Withdraw,
)
from dsn.ledger.cells import CellKind, NodeCell, Phase
from dsn.ledger.entry import Entry
from dsn.ledger.log import TreeHead
from dsn.proofs.drand import DrandChain, salt_for
from dsn.proofs.post import beacon_hash
from tests.support.ledger_world import (
    IDENTITIES,
    NETWORK,
    PARAMS,
    START,
    WITNESSES,
    World,
    address,
    terms,
)

FEE, U64 = PARAMS.entry_fee, (1 << 64) - 1
VALUE = b"\x0b" * 32
HEAD = TreeHead(0, NETWORK)
SALTS = tuple(Salt(key.public, bytes(32), bytes(64)) for key in WITNESSES)


@pytest.fixture
def world() -> World:
    return World()


def test_at_genesis_epoch_0_is_shut(world: World) -> None:
    network = world.state.network
    assert (network.epoch, network.phase, network.closed) == (1, Phase.SHUT, HEAD)
    assert world.account("alice").available == START
    assert world.account("operator").available == 0


def test_epochs_open_and_shut_in_turn(world: World) -> None:
    world.do("operator", OpenEpoch(1, HEAD, VALUE, b"why"))
    network = world.state.network
    assert (network.epoch, network.phase) == (1, Phase.OPEN)
    assert network.beacon == beacon_hash(VALUE)
    assert world.code("operator", OpenEpoch(1, HEAD, VALUE, b"")) == "wrong_phase"
    assert world.code("operator", ShutEpoch(2, SALTS)) == "wrong_epoch"
    world.do("operator", ShutEpoch(1, SALTS[:2]))
    assert (world.epoch, world.state.network.phase) == (2, Phase.SHUT)
    assert world.code("operator", ShutEpoch(2, SALTS)) == "wrong_phase"
    assert world.code("operator", OpenEpoch(1, TreeHead(2, VALUE), VALUE, b"")) == "wrong_epoch"
    world.do("operator", OpenEpoch(2, TreeHead(2, VALUE), VALUE, b""))
    assert world.state.network.closed == TreeHead(2, VALUE)


def test_the_closed_log_starts_at_the_network_id_and_grows(world: World) -> None:
    for head in (TreeHead(1, NETWORK), TreeHead(0, VALUE)):
        assert world.code("operator", OpenEpoch(1, head, VALUE, b"")) == "bad_closed_log"
    world.open_epoch()
    world.shut_epoch()
    assert world.code("operator", OpenEpoch(2, HEAD, VALUE, b"")) == "bad_closed_log"


@pytest.mark.parametrize(
    ("salts", "code"),
    [
        (SALTS[:1], "no_quorum"),
        ((), "no_quorum"),
        ((SALTS[0], SALTS[0]), "bad_salts"),
        ((*SALTS[:2], replace(SALTS[2], witness=VALUE)), "bad_salts"),
        (SALTS[1:], ""),
        (SALTS, ""),
    ],
)
def test_a_shut_needs_salts_by_a_quorum(world: World, salts: tuple[Salt, ...], code: str) -> None:
    world.open_epoch()
    assert world.code("operator", ShutEpoch(1, salts)) == code


def test_a_shut_fixes_a_later_round_of_drand_each_time() -> None:
    world = World(replace(PARAMS, drand=DrandChain(bytes(96), 1_000, 2)), signed=False)

    def shut(*rounds: int) -> ShutEpoch:
        named = zip(SALTS, rounds, strict=False)
        salts = tuple(replace(s, salt=salt_for(number, bytes(24))) for s, number in named)
        return ShutEpoch(world.epoch, salts)

    world.open_epoch()
    assert world.code("operator", shut(0, 9)) == "bad_salts"
    world.do("operator", shut(8, 9))
    assert world.state.network.round == 8
    world.shut_head = world.frontier.head
    world.do("operator", OpenEpoch(2, world.shut_head, VALUE, b""))
    assert world.code("operator", shut(8, 90)) == "bad_salts"
    world.do("operator", shut(90, 1, 20))
    assert world.state.network.round == 20


def test_only_the_operator_keeps_time_and_enters_deposits(world: World) -> None:
    bodies = (OpenEpoch(1, HEAD, VALUE, b""), Deposit(address("bob"), 5, 1))
    assert [world.code("alice", body) for body in bodies] == ["not_the_operator"] * 2
    world.open_epoch()
    assert world.code("alice", ShutEpoch(1, SALTS)) == "not_the_operator"


def test_an_operator_without_credits_keeps_time_and_pays_once_it_has_some(world: World) -> None:
    world.open_epoch()
    assert world.account("operator").burned == 0
    world.do("operator", Deposit(address("operator"), FEE + 1, 1))
    assert (world.account("operator").available, world.account("operator").burned) == (1, FEE)
    world.shut_epoch()
    assert (world.account("operator").available, world.account("operator").burned) == (0, FEE + 1)


def test_a_binding_names_the_account_s_node(world: World) -> None:
    changes = world.do("alice", Bind(world.binding("alice", 5)))
    node = node_id_of(IDENTITIES["alice"].public)
    assert world.account("alice").node == node
    assert world.state.cell(CellKind.NODE, node) == NodeCell(node, address("alice"), 5)
    assert len(changes.cells) == 2


def test_what_a_binding_must_be(world: World) -> None:
    world.bind("alice", "paul")
    good = world.binding("alice", 2)
    assert world.code("alice", Bind(good)) == ""
    assert world.code("alice", Bind(world.binding("alice", 1))) == "stale_binding"
    assert world.code("bob", Bind(good)) == "foreign_binding"
    abroad = replace(good, binding=replace(good.binding, network=VALUE))
    assert world.code("alice", Bind(abroad)) == "foreign_binding"
    assert world.code("bob", Bind(world.binding("bob", 9, identity="alice"))) == "node_taken"
    assert world.code("alice", Bind(world.binding("alice", 1, identity="sam"))) == ""


def test_an_account_keeps_its_node_while_it_has_deals(world: World) -> None:
    world.bind("alice", "paul")
    deal = world.open(terms(end=1 + world.epoch))
    for name in ("alice", "paul"):
        assert world.account(name).deals == 1
        assert world.code(name, Bind(world.binding(name, 2))) == "deals_open"
    world.pass_epochs(6)
    world.do("alice", CloseDeal(deal, None))
    assert world.code("paul", Bind(world.binding("paul", 2))) == "deals_open"
    world.pass_epochs(5)
    world.do("paul", CloseDeal(deal, None))
    for name in ("alice", "paul"):
        assert world.account(name).deals == 0
        assert world.code(name, Bind(world.binding(name, 2))) == ""


def test_deposits_are_numbered(world: World) -> None:
    world.do("operator", Deposit(address("bob"), 5, 1))
    assert (world.account("bob").available, world.account("bob").deposits) == (START + 5, 1)
    assert world.code("operator", Deposit(address("bob"), 5, 1)) == "wrong_deposit"
    assert world.code("operator", Deposit(address("bob"), 5, 3)) == "wrong_deposit"
    assert world.code("operator", Deposit(address("bob"), 0, 2)) == "zero_amount"
    world.do("operator", Deposit(address("bob"), 6, 2))
    assert world.account("bob").available == START + 11


def test_withdrawals_and_transfers_move_credits_and_burn_the_fee(world: World) -> None:
    world.do("alice", Withdraw(100))
    world.do("alice", Transfer(address("bob"), 50))
    alice = world.account("alice")
    assert (alice.withdrawn, alice.burned, alice.nonce) == (100, 2 * FEE, 2)
    assert alice.available == START - 150 - 2 * FEE
    assert world.account("bob").available == START + 50


def test_nobody_spends_what_it_has_not(world: World) -> None:
    bob = address("bob")
    for amount, code in (
        (0, "zero_amount"),
        (START - FEE, ""),
        (START - FEE + 1, "fee_not_covered"),
        (START, "fee_not_covered"),
        (START + 1, "not_enough_credit"),
        (U64, "not_enough_credit"),
    ):
        assert world.code("alice", Withdraw(amount)) == code
        assert world.code("alice", Transfer(bob, amount)) == code
    assert world.code("alice", Transfer(address("alice"), 1)) == "same_account"


def test_credits_beyond_128_bits_are_refused() -> None:
    world = World(replace(PARAMS, allocation=((address("bob"), (1 << 128) - 1),)))
    assert world.code("operator", Deposit(address("bob"), 1, 1)) == "amount_overflow"
    world.do("bob", Transfer(address("sam"), 1))
    assert world.code("operator", Deposit(address("bob"), 5, 1)) == "amount_overflow"
    assert world.code("operator", Deposit(address("bob"), 4, 1)) == ""


def test_nonces_follow_one_another_without_a_gap(world: World) -> None:
    body = Withdraw(1)
    assert world.entry_code(Entry(NETWORK, address("bob"), 0, body)) == "nonce_used"
    assert world.entry_code(Entry(NETWORK, address("bob"), 2, body)) == "nonce_gap"
    entry = Entry(NETWORK, address("bob"), 1, body)
    world.submit(entry)
    assert world.entry_code(entry) == "nonce_used"
    assert world.entry_code(replace(entry, nonce=2)) == ""
    assert world.entry_code(replace(entry, nonce=U64)) == "nonce_gap"


def test_a_refused_entry_changes_nothing(world: World) -> None:
    root = world.state.root
    assert world.code("alice", Withdraw(START + 1)) == "not_enough_credit"
    assert world.state.root == root
