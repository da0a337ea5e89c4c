"""Vault: custody, the bond, anchors, withdrawals, and how it is frozen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dsn.ids import NetworkId
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.bodies import Transfer, Withdraw
from dsn.ledger.cells import CellKind, cell_digest, cell_key
from dsn.ledger.checkpoint import (
    Checkpoint,
    SignedCheckpoint,
    format_checkpoint,
    log_origin,
    parse_checkpoint,
    sign_root,
)
from dsn.ledger.onchain.anchor import equivocation_call
from dsn.ledger.onchain.tuples import account_tuple, place_tuple
from dsn.ledger.settlement import NO_ADDRESS, Address, SettlementKey
from dsn.ledger.typed import Domain, sign_typed
from tests.contracts.probes import deploy_probe
from tests.contracts.vault_world import (
    BOND,
    JUDGE,
    TIMES,
    VaultWorld,
    deploy_vault,
    enter,
)
from tests.support.evm import CHAIN_ID, DEPLOYER, OPERATOR, WITNESSES, Evm, build
from tests.support.ledger_world import KEYS, World, address

MOST_CODE_BYTES = 24_576
"""EIP-170."""
ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
ALICE, BOB, SAM = address("alice"), address("bob"), address("sam")
ROOT = LedgerRoot(7, b"\x01" * 32, b"\x02" * 32, 3)
Args = tuple[Any, ...]


@pytest.fixture(scope="module")
def one(node: Evm) -> VaultWorld:
    return deploy_vault(node)


@pytest.fixture
def world(one: VaultWorld, evm: Evm) -> VaultWorld:
    """Each test has the vault as it was deployed."""
    return one


def grown(root: LedgerRoot, size: int, epoch: int = 3) -> LedgerRoot:
    return replace(root, size=size, epoch=epoch, root=bytes([size]) * 32)


def withdrawing(world: World, name: str, amount: int) -> None:
    world.do(name, Withdraw(amount))


def account_args(world: World, name: str) -> Args:
    """An account's cell, and its place in the state tree."""
    state, key = world.state, cell_key(CellKind.ACCOUNT, address(name))
    return account_tuple(world.account(name)), place_tuple(state.tree, key)


def funded(world: VaultWorld) -> World:
    """A ledger that has a thousand credits each of Alice and Bob, as the vault does."""
    ledger = World(replace(world.params, entry_fee=0))
    for name in ("alice", "bob"):
        world.pay_in(name, 1_000)
        enter(ledger, name, 1_000)
    return ledger


def make_final(world: VaultWorld) -> None:
    world.evm.pass_time(TIMES.challenge_s)


# deployment


def test_its_code_fits_any_chain(world: VaultWorld) -> None:
    code = world.evm.rpc("eth_getCode", "0x" + world.vault.address.hex(), "latest")
    assert len(code) // 2 - 1 <= MOST_CODE_BYTES


def test_it_says_what_the_network_is(world: VaultWorld) -> None:
    vault, params = world.vault, world.params
    assert vault.call("erc20") == world.credit.address
    assert vault.call("network") == params.domain.network
    assert vault.call("operator") == params.operator
    assert vault.call("quorum") == params.quorum
    assert vault.call("times") == TIMES
    assert vault.call("judges", 0) == JUDGE
    assert vault.call("separator") == params.domain.separator
    assert all(vault.call("witnesses", key.address) for key in WITNESSES)
    assert not vault.call("witnesses", OPERATOR.address)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (2, NO_ADDRESS),
        (4, 4),
        (3, [WITNESSES[0].address] * 3),
        (3, [WITNESSES[0].address, NO_ADDRESS, WITNESSES[1].address]),
        (7, TIMES._replace(inclusion_s=TIMES.escape_s - 1)),
    ],
    ids=["no operator", "quorum of more than there are", "one witness twice", "nobody", "hurry"],
)
def test_it_is_not_deployed_for_a_network_that_cannot_be(
    world: VaultWorld, place: int, value: Any
) -> None:
    address = world.evm.next_address()
    args = [
        *(world.credit.address, bytes(32), OPERATOR.address, [key.address for key in WITNESSES]),
        *(2, bytes(32), 0, TIMES, world.dispute.address, [JUDGE]),
    ]
    args[place] = value
    with pytest.raises(Exception, match=r"bad_quorum|bad_settlement_address|bad_times"):
        world.evm.deploy("Vault", *args)
    assert world.evm.rpc("eth_getCode", "0x" + address.hex(), "latest") == "0x"


# deposits


def test_deposits_are_numbered_summed_and_timed(world: VaultWorld) -> None:
    vault = world.vault
    for serial, amount in enumerate((5, 7, (1 << 64) - 1), 1):
        receipt = world.pay_in("alice", amount)
        (event,) = vault.logged(receipt, "Deposited")
        assert event == {"account": ALICE, "amount": amount, "serial": serial}
        assert vault.call("deposit_times", ALICE, serial) == world.evm.time_s
    assert vault.call("deposits", ALICE) == 3
    sums = [vault.call("deposited", ALICE, serial) for serial in range(5)]
    assert sums == [0, 5, 12, 12 + (1 << 64) - 1, 0]
    assert vault.call("deposit_times", ALICE, 4) == 0
    assert world.units(vault.address) == sums[3]
    assert vault.call("deposits", BOB) == 0


def test_anybody_pays_in_for_anybody(world: VaultWorld) -> None:
    world.allow(BOB, 9)
    world.vault.send("deposit", ALICE, 9, sender=BOB)
    assert (world.vault.call("deposits", ALICE), world.vault.call("deposits", BOB)) == (1, 0)
    assert world.units(BOB) == 0


def test_nothing_is_paid_in_for_nobody(world: VaultWorld) -> None:
    world.allow(ALICE, 9)
    assert world.code("deposit", ALICE, 0, sender=ALICE) == "zero_amount"
    assert world.code("deposit", NO_ADDRESS, 9, sender=ALICE) == "bad_settlement_address"
    assert world.code("deposit", ALICE, 10, sender=ALICE), "more than was allowed"
    world.begin_escape()
    assert world.code("deposit", ALICE, 9, sender=ALICE) == "frozen"


def test_an_erc20_that_keeps_a_part_or_says_no_is_refused(evm: Evm) -> None:
    credit = deploy_probe(evm, "erc20_probe")
    world = deploy_vault(evm, credit)
    credit.send("set", 1, False, NO_ADDRESS, b"")
    assert world.code("deposit", ALICE, 9) == "wrong_amount"
    assert world.code("post_bond", 9, sender=OPERATOR.address) == "wrong_amount"
    credit.send("set", 0, True, NO_ADDRESS, b"")
    assert world.code("deposit", ALICE, 9) == "erc20_refused"
    credit.send("set", 0, False, NO_ADDRESS, b"")
    assert world.code("deposit", ALICE, 9) == ""


def test_an_erc20_that_calls_back_gets_nowhere(evm: Evm) -> None:
    """What it does while the vault is at work is refused, and what was begun counts once."""
    credit = deploy_probe(evm, "erc20_probe")
    world = deploy_vault(evm, credit)
    vault = world.vault
    world.evm.fund(OPERATOR.address)
    vault.send("deposit", ALICE, 500)
    ledger = World(replace(world.params, entry_fee=0))
    enter(ledger, "alice", 500)
    withdrawing(ledger, "alice", 100)
    world.anchored(ledger)
    make_final(world)
    paid_out = "withdraw", 0, *account_args(ledger, "alice")
    paid_in = "deposit", ALICE, 7
    for first, again in [(paid_in, paid_in), (paid_in, paid_out), (paid_out, paid_out)]:
        with evm.undone():
            credit.send("set", 0, False, vault.address, vault.data(*again))
            held = world.units(vault.address)
            vault.send(*first)
            assert not credit.call("reentered")
            moved = 7 if first is paid_in else -100
            assert world.units(vault.address) == held + moved


# the bond


def test_the_bond_is_the_operators(world: VaultWorld) -> None:
    world.post_bond(40)
    world.post_bond(2)
    assert world.vault.call("bond") == 42
    assert world.code("post_bond", 1, sender=ALICE) == "not_the_operator"
    assert world.code("reclaim_bond", sender=ALICE) == "not_the_operator"
    assert world.code("reclaim_bond", sender=OPERATOR.address) == "not_frozen"


def test_an_honest_operator_gets_its_bond_back_after_all_have_left(world: VaultWorld) -> None:
    world.post_bond()
    world.freeze()
    frozen_at = world.vault.call("frozen_at")
    assert world.code("post_bond", 1, sender=OPERATOR.address) == "frozen"
    last = frozen_at + TIMES.challenge_s + TIMES.voucher_s
    world.wait_until(last - 1)
    assert world.code("reclaim_bond", sender=OPERATOR.address) == "still_time"
    world.wait_until(last)
    world.vault.send("reclaim_bond", sender=OPERATOR.address)
    world.vault.send("collect", OPERATOR.address)
    assert world.units(OPERATOR.address) == BOND
    assert world.vault.call("bond") == 0 == world.units(world.vault.address)


# anchors


def test_an_anchor_is_kept_with_its_time(world: VaultWorld) -> None:
    assert world.code("anchors", 0) == "no_anchor" == world.code("is_final", 0)
    for number, root in enumerate((ROOT, grown(ROOT, 9), grown(ROOT, 10, 4))):
        receipt = world.vault.send("anchor", *world.anchor_args(root))
        (event,) = world.vault.logged(receipt, "Anchored")
        said = dict(zip(("size", "root", "state_root", "epoch"), root.values(), strict=True))
        assert event == {"number": number, **said}
        kept = world.vault.call("anchors", number)
        assert kept == (root.size, root.epoch, world.evm.time_s, root.root, root.state_root)
    assert world.vault.call("anchor_count") == 3
    assert world.code("anchors", 3) == "no_anchor"


def test_more_witnesses_than_the_quorum_may_sign(world: VaultWorld) -> None:
    assert world.code("anchor", *world.anchor_args(ROOT, WITNESSES)) == ""
    assert world.code("anchor", *world.anchor_args(ROOT, WITNESSES[1:])) == ""


@pytest.mark.parametrize(
    ("signers", "code"),
    [
        ([], "no_quorum"),
        (WITNESSES[:1], "no_quorum"),
        (WITNESSES[:1] * 2, "unsorted_witnesses"),
        (WITNESSES[1::-1], "unsorted_witnesses"),
        ([*WITNESSES[:2], OPERATOR], "unknown_witness"),
        ([OPERATOR, OPERATOR], "unknown_witness"),
        ([KEYS["sam"], WITNESSES[0]], "unknown_witness"),
    ],
)
def test_an_anchor_needs_a_quorum_of_different_witnesses(
    world: VaultWorld, signers: list[SettlementKey], code: str
) -> None:
    assert world.code("anchor", *world.anchor_args(ROOT, signers)) == code


def test_an_anchor_needs_the_operator(world: VaultWorld) -> None:
    args = world.anchor_args(ROOT, operator=WITNESSES[0])
    assert world.code("anchor", *args) == "invalid_signature"
    said, operator, signatures = world.anchor_args(ROOT)
    for cut in (b"", operator[:-1]):
        assert world.code("anchor", said, cut, signatures) == "invalid_signature"
    assert world.code("anchor", said, malleated(operator), signatures) == "malleated_signature"
    zeros = bytes(64) + b"\x1b"
    assert world.code("anchor", said, zeros, signatures) == "invalid_signature"


def malleated(signature: bytes) -> bytes:
    """The second spelling of ``signature``, which recovers to the same key."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


def test_a_second_spelling_of_a_witness_does_not_count(world: VaultWorld) -> None:
    said, operator, signatures = world.anchor_args(ROOT)
    for at in (0, 1):
        spoiled = [malleated(each) if at == n else each for n, each in enumerate(signatures)]
        assert world.code("anchor", said, operator, spoiled) == "unknown_witness"
        spoiled[at] = signatures[at][:64] + bytes([signatures[at][64] - 27])
        assert world.code("anchor", said, operator, spoiled) == "unknown_witness"


def test_an_anchor_signed_for_elsewhere_is_refused(world: VaultWorld) -> None:
    here = world.params.domain
    elsewhere = [
        Domain(NetworkId(bytes(32)), CHAIN_ID, here.vault),
        Domain(here.network, CHAIN_ID + 1, here.vault),
        Domain(here.network, CHAIN_ID, Address(bytes(20))),
    ]
    for domain in elsewhere:
        args = world.anchor_args(ROOT, domain=domain)
        assert world.code("anchor", *args) == "invalid_signature"
        said, _, foreign = args
        _, operator, _ = world.anchor_args(ROOT)
        assert world.code("anchor", said, operator, foreign) == "unknown_witness"


def test_what_is_anchored_is_what_was_signed(world: VaultWorld) -> None:
    said, operator, signatures = world.anchor_args(ROOT)
    for at in range(len(said)):
        other = list(said)
        other[at] = bytes(32) if isinstance(said[at], bytes) else said[at] + 1
        assert world.code("anchor", tuple(other), operator, signatures) == "invalid_signature"


def test_the_log_never_shrinks_nor_goes_back_in_time(world: VaultWorld) -> None:
    world.anchor(ROOT)
    for size, epoch, code in [
        (7, 3, "log_shrunk"),
        (6, 4, "log_shrunk"),
        (0, 3, "log_shrunk"),
        (8, 2, "log_rewound"),
        (8, 3, ""),
    ]:
        args = world.anchor_args(grown(ROOT, size, epoch))
        assert world.code("anchor", *args) == code, (size, epoch)
    empty = LedgerRoot(0, bytes(32), bytes(32), 0)
    with world.evm.undone():
        assert world.code("anchor", *world.anchor_args(empty)) == "log_shrunk"


def test_a_frozen_vault_takes_no_anchor(world: VaultWorld) -> None:
    world.freeze()
    assert world.code("anchor", *world.anchor_args(ROOT)) == "frozen"


# withdrawals


def test_a_withdrawal_is_paid_once_an_anchor_is_final(world: VaultWorld) -> None:
    ledger = funded(world)
    withdrawing(ledger, "alice", 300)
    world.anchored(ledger)
    args = 0, *account_args(ledger, "alice")
    world.wait_until(world.vault.call("anchors", 0)[2] + TIMES.challenge_s - 1)
    assert (world.code("withdraw", *args), world.vault.call("is_final", 0)) == ("not_final", False)
    make_final(world)
    assert world.vault.call("is_final", 0)
    world.evm.fund(SAM)
    receipt = world.vault.send("withdraw", *args, sender=SAM)
    assert world.vault.logged(receipt, "Withdrawn") == [{"account": ALICE, "amount": 300}]
    assert (world.units(ALICE), world.units(SAM)) == (300, 0)
    assert world.vault.call("paid", ALICE) == 300
    assert world.code("withdraw", *args) == "nothing_due"


def test_a_later_anchor_pays_the_rise_and_an_earlier_one_nothing(world: VaultWorld) -> None:
    ledger = funded(world)
    args = []
    for amount in (300, 50):
        withdrawing(ledger, "alice", amount)
        number = world.anchored(ledger)
        args.append((number, *account_args(ledger, "alice")))
    make_final(world)
    world.vault.send("withdraw", *args[1])
    assert world.units(ALICE) == 350
    assert world.code("withdraw", *args[0]) == "nothing_due"
    assert world.code("withdraw", 2, *args[1][1:]) == "no_anchor"


def test_only_the_anchored_cell_is_paid(world: VaultWorld) -> None:
    ledger = funded(world)
    withdrawing(ledger, "alice", 300)
    withdrawing(ledger, "bob", 200)
    world.anchored(ledger)
    old = account_args(ledger, "alice")
    withdrawing(ledger, "alice", 1)
    world.anchored(ledger)
    make_final(world)
    cell, place = account_args(ledger, "alice")
    other_cell, other_place = account_args(ledger, "bob")
    assert world.code("withdraw", 1, cell, other_place) == "other_cell"
    assert world.code("withdraw", 1, other_cell, place) == "other_cell"
    assert world.code("withdraw", 1, *old) == "state_root"
    assert world.code("withdraw", 0, cell, place) == "state_root"
    raised = replace(ledger.account("alice"), withdrawn=900)
    assert world.code("withdraw", 1, account_tuple(raised), place) == "other_cell"
    key, _, steps = place
    forged = key, cell_digest(raised), steps
    assert world.code("withdraw", 1, account_tuple(raised), forged) == "state_root"
    backwards = key, place[1], list(reversed(steps))
    assert world.code("withdraw", 1, cell, backwards) in ("bad_step", "state_root")
    assert world.code("withdraw", 1, cell, (key, place[1], steps[:-1])) == "state_root"
    assert world.code("withdraw", 1, cell, place) == ""


def test_a_frozen_vault_pays_no_withdrawal(world: VaultWorld) -> None:
    ledger = funded(world)
    withdrawing(ledger, "alice", 300)
    world.anchored(ledger)
    args = 0, *account_args(ledger, "alice")
    world.freeze()
    assert world.code("withdraw", *args) == "frozen"


def test_who_was_paid_for_elsewhere_is_known(world: VaultWorld) -> None:
    """Credits that were sent on are withdrawn by whoever has them."""
    ledger = funded(world)
    ledger.do("alice", Transfer(BOB, 600))
    withdrawing(ledger, "bob", 1_600)
    withdrawing(ledger, "alice", 400)
    world.anchored(ledger)
    make_final(world)
    for name in ("alice", "bob"):
        world.vault.send("withdraw", 0, *account_args(ledger, name))
    assert (world.units(ALICE), world.units(BOB)) == (400, 1_600)
    assert world.units(world.vault.address) == 0


# frozen


def test_without_an_anchor_anybody_freezes_it(world: VaultWorld) -> None:
    deployed = world.evm.time_s
    assert world.code("freeze") == "still_time"
    world.anchor(ROOT)
    made = world.vault.call("anchors", 0)[2]
    assert made >= deployed
    world.wait_until(made + TIMES.escape_s - 1)
    assert world.code("freeze") == "still_time"
    world.wait_until(made + TIMES.escape_s)
    receipt = world.vault.send("freeze")
    assert world.vault.logged(receipt, "Frozen") == [{"time": world.evm.time_s}]
    assert world.vault.call("frozen_at") == world.evm.time_s
    assert world.code("freeze") == "frozen"


def test_only_a_judge_convicts(world: VaultWorld) -> None:
    world.anchor(ROOT)
    for sender in (DEPLOYER, OPERATOR.address, WITNESSES[0].address, ALICE):
        assert world.code("convict", 0, ALICE, sender=sender) == "not_a_judge"


def test_a_conviction_drops_the_anchors_that_have_the_step(world: VaultWorld) -> None:
    world.post_bond()
    for size in (7, 9, 12):
        world.anchor(grown(ROOT, size))
    receipt = world.vault.send("convict", 8, SAM, sender=JUDGE)
    assert world.vault.call("anchor_count") == 1
    assert world.vault.call("anchors", 0)[0] == 7
    assert world.code("anchors", 1) == "no_anchor"
    assert world.vault.call("frozen_at") == world.evm.time_s
    (event,) = world.vault.logged(receipt, "Convicted")
    assert event == {"reporter": SAM, "reward": BOND // 10, "anchors": 1}
    assert (world.owed("sam"), world.vault.call("bond")) == (BOND // 10, 0)
    world.vault.send("collect", SAM)
    assert world.units(SAM) == BOND // 10
    assert world.units(world.vault.address) == BOND - BOND // 10


@pytest.mark.parametrize(
    ("index", "standing"), [(0, 0), (6, 0), (7, 1), (8, 1), (9, 2), (11, 2), (12, 3), (99, 3)]
)
def test_an_anchor_has_a_step_if_it_is_larger_than_its_index(
    world: VaultWorld, index: int, standing: int
) -> None:
    for size in (7, 9, 12):
        world.anchor(grown(ROOT, size))
    world.vault.send("convict", index, SAM, sender=JUDGE)
    assert world.vault.call("anchor_count") == standing


def test_what_is_final_stays(world: VaultWorld) -> None:
    """Else a fraud that was kept for years would undo what has been paid since."""
    for size in (7, 9):
        world.anchor(grown(ROOT, size))
    make_final(world)
    world.anchor(grown(ROOT, 12))
    world.vault.send("convict", 3, SAM, sender=JUDGE)
    assert world.vault.call("anchor_count") == 2


def test_the_window_starts_anew_only_if_an_anchor_falls(world: VaultWorld) -> None:
    world.post_bond()
    for size in (7, 9, 12):
        world.anchor(grown(ROOT, size))
    world.vault.send("convict", 11, SAM, sender=JUDGE)
    first = world.vault.call("frozen_at")
    world.evm.pass_time(TIMES.challenge_s // 2)
    assert world.code("convict", 11, BOB, sender=JUDGE) == "convicted_already"
    world.vault.send("convict", 8, BOB, sender=JUDGE)
    second = world.vault.call("frozen_at")
    assert second > first
    assert (world.vault.call("anchor_count"), world.owed("bob")) == (1, 0), "one bond, one reward"
    world.evm.pass_time(TIMES.challenge_s // 2)
    assert world.code("convict", 0, BOB, sender=JUDGE) == "convicted_already", "final by now"
    assert world.vault.call("frozen_at") == second


def test_a_conviction_while_nobody_anchors_takes_the_bond_and_no_time(world: VaultWorld) -> None:
    world.post_bond()
    world.anchor(ROOT)
    world.freeze()
    frozen_at = world.vault.call("frozen_at")
    world.evm.pass_time(10)
    world.vault.send("convict", 0, SAM, sender=JUDGE)
    assert world.vault.call("frozen_at") == frozen_at
    assert (world.vault.call("anchor_count"), world.owed("sam")) == (1, BOND // 10)
    world.evm.pass_time(TIMES.challenge_s + TIMES.voucher_s)
    world.vault.send("reclaim_bond", sender=OPERATOR.address)
    assert world.owed("operator") == 0, "the rest is nobody's"


# equivocation


def both(world: VaultWorld, one: LedgerRoot, other: LedgerRoot, key: SettlementKey) -> Args:
    domain = world.params.domain
    first, second = sign_typed(one, domain, OPERATOR), sign_typed(other, domain, key)
    return tuple(one.values()), first, tuple(other.values()), second


def test_two_roots_of_one_size_convict_the_operator(world: VaultWorld) -> None:
    world.post_bond()
    world.anchor(ROOT)
    args = both(world, ROOT, replace(ROOT, root=bytes(32)), OPERATOR)
    world.evm.fund(SAM)
    world.vault.send("convict_equivocation", *args, sender=SAM)
    assert world.owed("sam") == BOND // 10
    assert world.vault.call("frozen_at") == world.evm.time_s
    assert world.vault.call("anchor_count") == 1, "a quorum signed it"
    assert world.code("convict_equivocation", *args) == "convicted_already"
    assert world.code("convict", 99, SAM, sender=JUDGE) == "convicted_already"


def test_two_published_notes_of_one_size_convict_the_operator(world: VaultWorld) -> None:
    domain = world.params.domain
    notes = []
    for root in (ROOT, replace(ROOT, state_root=bytes(32))):
        point = Checkpoint(log_origin(domain.network), *root.values())
        signed = SignedCheckpoint(point).signed(sign_root(point, domain, OPERATOR))
        notes.append(parse_checkpoint(format_checkpoint(signed)))
    call = equivocation_call(notes[0], notes[1], world.params)
    assert world.code(call.function, *call.args) == ""


@pytest.mark.parametrize("field", ["root", "state_root", "epoch"])
def test_whatever_differs_is_equivocation(world: VaultWorld, field: str) -> None:
    changed: dict[str, Any] = {"root": bytes(32), "state_root": bytes(32), "epoch": 4}
    other = replace(ROOT, **{field: changed[field]})
    assert world.code("convict_equivocation", *both(world, ROOT, other, OPERATOR)) == ""


def test_what_is_no_equivocation_convicts_nobody(world: VaultWorld) -> None:
    grew = replace(ROOT, size=8, root=bytes(32))
    forked = replace(ROOT, root=bytes(32))
    for other in (ROOT, grew):
        args = both(world, ROOT, other, OPERATOR)
        assert world.code("convict_equivocation", *args) == "no_fault"
    args = both(world, ROOT, forked, WITNESSES[0])
    assert world.code("convict_equivocation", *args) == "invalid_signature"
    one, signature, other_root, second = both(world, ROOT, forked, OPERATOR)
    args = one, second, other_root, second
    assert world.code("convict_equivocation", *args) == "invalid_signature"
    args = one, signature, other_root, malleated(second)
    assert world.code("convict_equivocation", *args) == "malleated_signature"


def test_the_shipped_abi_has_no_way_in_for_an_owner() -> None:
    """These change something, and none of them is anybody's privilege but a judge's."""
    functions = [each for each in build("Vault").abi if each["type"] == "function"]
    writes = {each["name"] for each in functions if each["stateMutability"] == "nonpayable"}
    assert writes == {
        *("deposit", "post_bond", "reclaim_bond", "anchor", "withdraw", "freeze", "convict"),
        *("convict_equivocation", "escape_account", "escape_absent", "escape_deal"),
        *("redeem_many", "finish_deal", "collect"),
    }
    assert not [each for each in functions if each["stateMutability"] == "payable"]
