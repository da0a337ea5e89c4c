"""Leaving a frozen vault: everybody gets what the rules would have paid them, and no unit more."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest

from dsn.ids import DealId
from dsn.ledger.bodies import Agreed, Claim, CloseDeal, SignedVoucher, Withdraw
from dsn.ledger.cells import CellKind, DealState, cell_digest, cell_key
from dsn.ledger.deal import Close
from dsn.ledger.disputes import Demand, Serve, SlashJudged
from dsn.ledger.onchain.escape import (
    BATCH,
    escape_account,
    escape_deal,
    finish_call,
    redeem_calls,
)
from dsn.ledger.onchain.tuples import account_tuple, deal_tuple, place_tuple
from dsn.ledger.settlement import Address
from dsn.ledger.state import State, genesis
from dsn.ledger.typed import sign_typed
from dsn.ledger.voucher import Voucher
from tests.contracts.vault_world import TIMES, VaultWorld, deploy_vault, enter, root_of
from tests.support.evm import Evm
from tests.support.ledger_world import (
    BY_ADDRESS,
    KEYS,
    NAMES,
    NO_SIGNATURE,
    START,
    World,
    address,
    terms,
)

PEOPLE = NAMES[1:]
STRANGER = Address(b"\x57" * 20)
MOST_REDEEM_GAS = 35_000
"""A voucher, in a full batch."""


@pytest.fixture(scope="module")
def one(node: Evm) -> VaultWorld:
    return deploy_vault(node)


@pytest.fixture
def world(one: VaultWorld, evm: Evm) -> VaultWorld:
    return one


class Story(NamedTuple):
    """A ledger in the middle of its life, as it was anchored."""

    ledger: World
    state: State
    deals: dict[str, DealId]


def begin(world: VaultWorld) -> World:
    """Everybody pays in, on the chain and so on the ledger; those of deals are bound."""
    ledger = World(replace(world.params, entry_fee=0))
    for name in PEOPLE:
        world.pay_in(name)
        enter(ledger, name, START)
    ledger.open_epoch()
    ledger.bind("alice", "bob", "paul", "petra")
    return ledger


def tell(world: VaultWorld) -> Story:
    """Deals in all states; two of them slashed, one here and one on the chain later."""
    ledger = begin(world)
    parties = {
        "paid": ("alice", "paul"),
        "missed": ("alice", "petra"),
        "ended": ("bob", "petra"),
        "accused": ("bob", "paul"),
        "closed": ("alice", "petra"),
        "asked": ("bob", "paul"),
        "slashed": ("alice", "paul"),
        "empty": ("bob", "petra"),
    }
    deals = {
        name: ledger.open(terms(client=address(client), provider=address(by), salt=bytes([n]) * 32))
        for n, (name, (client, by)) in enumerate(parties.items())
    }
    for n, name in enumerate(parties):
        if name != "empty":
            ledger.hold(deals[name], n, n + 2, n + 4)
    ledger.pass_epochs(2, "paul", "petra")
    ledger.pass_epochs(1, "paul")
    paid = deals["paid"]
    ledger.do("paul", Claim(paid, None, ledger.voucher(paid, 100)))
    ledger.do("paul", Claim(paid, None, ledger.voucher(paid, 30, by_delegate=True)))
    close(ledger, deals["closed"])
    ledger.pass_epochs(5, "paul")
    release(ledger, deals["closed"])
    close(ledger, deals["ended"])
    number = ledger.deal(deals["slashed"]).number
    ledger.do("operator", SlashJudged(deals["slashed"], number, address("alice")))
    ledger.do("bob", Demand(deals["asked"], 77, 1))
    ledger.do("alice", Withdraw(5_000))
    ledger.pass_epochs(1, "paul")
    ledger.link("paul")
    return Story(ledger, ledger.state, deals)


def close(ledger: World, deal: DealId) -> None:
    agreed = Agreed(Close(deal, ledger.epoch), NO_SIGNATURE, NO_SIGNATURE)
    ledger.do(BY_ADDRESS[ledger.deal(deal).terms.client], CloseDeal(deal, agreed))


def release(ledger: World, deal: DealId) -> None:
    ledger.do(BY_ADDRESS[ledger.deal(deal).terms.client], CloseDeal(deal, None))


def signed(
    world: VaultWorld, deal: DealId, credits: int, name: str, *, by_delegate: bool = False
) -> SignedVoucher:
    voucher = Voucher(deal, credits)
    return SignedVoucher(voucher, by_delegate, sign_typed(voucher, world.params.domain, KEYS[name]))


def vouchers_of(world: VaultWorld, story: Story) -> list[SignedVoucher]:
    """The newest that providers have: each pays its rise."""
    return [
        signed(world, story.deals["paid"], 250, "alice"),
        signed(world, story.deals["paid"], 180, "dora", by_delegate=True),
        signed(world, story.deals["missed"], 1_000, "alice"),
        signed(world, story.deals["asked"], 1, "bob"),
    ]


def by_the_rules(world: VaultWorld, story: Story) -> dict[str, int]:
    """What all have in the end if everything is claimed, closed and released in this epoch.

    It is the ledger's own rules that tell; the bond alone goes to its asker on the chain, and to
    who serves the demand on the ledger.
    """
    ledger, deals = story.ledger, story.deals
    accused = ledger.deal(deals["accused"])
    ledger.do("operator", SlashJudged(accused.deal, accused.number, address("bob")))
    ledger.do("paul", Serve(deals["asked"], ledger.service(deals["asked"])))
    for voucher in vouchers_of(world, story):
        provider = BY_ADDRESS[ledger.deal(voucher.voucher.deal).terms.provider]
        ledger.do(provider, Claim(voucher.voucher.deal, None, voucher))
    for cell in ledger.deals():
        if cell.state is DealState.OPEN:
            close(ledger, cell.deal)
    ledger.pass_epochs(6)
    for cell in ledger.deals():
        if cell.state is not DealState.CLOSED:
            release(ledger, cell.deal)
    last = {name: ledger.account(name) for name in PEOPLE}
    total = {name: cell.available + cell.withdrawn for name, cell in last.items()}
    return total | {"bob": total["bob"] + 77, "paul": total["paul"] - 77}


def escape_all(world: VaultWorld, story: Story) -> None:
    """Each client takes its deals along; nobody needs to wait for anybody."""
    for name in PEOPLE:
        world.do(escape_account(story.state, address(name)))
        for cell in story.ledger.deals():
            if cell.terms.client == address(name) and cell.state is not DealState.CLOSED:
                world.do(escape_deal(story.state, cell.deal))


def test_all_leave_with_what_the_rules_say(world: VaultWorld) -> None:
    story = tell(world)
    world.anchored(story.ledger)
    accused = story.ledger.deal(story.deals["accused"])
    world.dispute.send("slash", accused.deal, accused.number, address("bob"))
    world.begin_escape()
    escape_all(world, story)
    for call in redeem_calls(vouchers_of(world, story)):
        world.do(call)
    world.evm.pass_time(TIMES.voucher_s)
    for name, deal in story.deals.items():
        expected = "" if name in ("paid", "asked", "empty") else "nothing_due"
        assert world.refused(finish_call(deal)) == expected, name
        if not expected:
            world.do(finish_call(deal))
    expected = by_the_rules(world, story)
    assert {name: world.owed(name) for name in PEOPLE} == expected
    burned = sum(cell.burned for cell in story.ledger.deals())
    for name in PEOPLE:
        world.vault.send("collect", address(name))
        assert world.units(address(name)) == expected[name]
        assert world.code("collect", address(name)) == "nothing_due"
    assert world.units(world.vault.address) == burned > 0


def test_what_was_withdrawn_or_paid_in_since_counts_once(world: VaultWorld) -> None:
    ledger = begin(world)
    ledger.do("alice", Withdraw(300))
    world.anchored(ledger)
    world.evm.pass_time(TIMES.challenge_s)
    key = cell_key(CellKind.ACCOUNT, address("alice"))
    cell = account_tuple(ledger.account("alice"))
    world.vault.send("withdraw", 0, cell, place_tuple(ledger.state.tree, key))
    ledger.do("alice", Withdraw(200))
    world.anchored(ledger)
    world.pay_in("alice", 40)
    world.pay_in("alice", 2)
    world.begin_escape()
    world.do(escape_account(ledger.state, address("alice")))
    assert world.owed("alice") == START - 300 + 42
    assert world.refused(escape_account(ledger.state, address("alice"))) == "escaped_already"


def test_who_is_not_on_the_ledger_gets_its_deposits_back(world: VaultWorld) -> None:
    ledger = begin(world)
    world.anchored(ledger)
    world.allow(address("sam"), 50)
    world.vault.send("deposit", STRANGER, 50, sender=address("sam"))
    world.begin_escape()
    call = escape_account(ledger.state, STRANGER)
    assert call.function == "escape_absent"
    world.do(call)
    assert world.vault.call("owed", STRANGER) == 50
    assert world.refused(call) == "escaped_already"
    known = escape_account(ledger.state, address("alice"))
    assert world.code("escape_absent", address("alice"), known.args[1]) == "not_absent"
    beside = escape_account(ledger.state, address("bob")).args[1]
    shows = world.code("escape_absent", address("alice"), beside)
    assert shows == "not_absent", "Bob's place does not show that Alice has none"
    old = genesis(ledger.params)
    assert world.refused(escape_account(old, address("alice"))) == "state_root"


def test_where_no_anchor_stands_all_deposits_come_back(world: VaultWorld) -> None:
    ledger = begin(world)
    world.begin_escape()
    for name in PEOPLE:
        world.do(escape_account(genesis(ledger.params), address(name)))
        assert world.owed(name) == START
    assert world.refused(escape_account(ledger.state, address("alice"))) == "state_root"


def test_escapes_wait_until_the_last_window_is_over(world: VaultWorld) -> None:
    story = tell(world)
    world.anchored(story.ledger)
    account = escape_account(story.state, address("alice"))
    deal = escape_deal(story.state, story.deals["paid"])
    (redeem,) = redeem_calls(vouchers_of(world, story))
    finish = finish_call(story.deals["paid"])
    for call in (account, deal, redeem, finish):
        assert world.refused(call) == "not_frozen"
    world.freeze()
    world.wait_until(world.vault.call("frozen_at") + TIMES.challenge_s - 1)
    for call in (account, deal, finish):
        assert world.refused(call) == "still_time"
    world.do(redeem)
    assert world.owed("paul") == 0, "no deal escaped yet, so there is nothing to pay it from"
    world.evm.pass_time(1)
    for call in (account, deal):
        world.do(call)
    assert world.refused(finish) == "still_time"
    world.evm.pass_time(TIMES.voucher_s)
    world.do(finish)
    assert world.refused(finish) == "nothing_due"


def test_a_deal_escapes_once_and_as_it_is(world: VaultWorld) -> None:
    story = tell(world)
    world.anchored(story.ledger)
    world.begin_escape()
    call = escape_deal(story.state, story.deals["paid"])
    cell, place, provider, provider_place = call.args
    other, other_place, petra, petra_place = escape_deal(story.state, story.deals["missed"]).args
    richer = replace(story.ledger.deal(story.deals["paid"]), refund=1_000_000)
    forged = place[0], cell_digest(richer), place[2]
    older = replace(story.ledger.account("paul"), rolled=0)
    for args, code in [
        ((cell, place, petra, petra_place), "not_the_provider"),
        ((cell, other_place, provider, provider_place), "other_cell"),
        ((other, place, provider, provider_place), "other_cell"),
        ((deal_tuple(richer), place, provider, provider_place), "other_cell"),
        ((deal_tuple(richer), forged, provider, provider_place), "state_root"),
        ((cell, place, account_tuple(older), provider_place), "other_cell"),
        ((cell, place, provider, petra_place), "other_cell"),
        ((cell, (*place[:2], place[2][1:]), provider, provider_place), "state_root"),
    ]:
        assert world.code("escape_deal", *args) == code
    world.do(call)
    assert world.refused(call) == "escaped_already"


def test_a_slash_counts_if_no_newer_revision_was_installed(world: VaultWorld) -> None:
    story = tell(world)
    world.anchored(story.ledger)
    world.begin_escape()
    deal = story.ledger.deal(story.deals["accused"])
    call = escape_deal(story.state, deal.deal)
    cases = [(deal.number - 1, False), (deal.number, True), (deal.number + 1, True)]
    for number, counts in cases:
        with world.evm.undone():
            world.dispute.send("slash", deal.deal, number, address("dora"))
            world.do(call)
            assert (world.owed("dora") > 0) == counts, number
            assert bool(world.vault.call("unredeemed", deal.deal)) != counts
    for name in ("closed", "slashed"):
        over = story.ledger.deal(story.deals[name])
        world.dispute.send("slash", over.deal, over.number, address("dora"))
        world.do(escape_deal(story.state, over.deal))
        assert world.owed("dora") == 0, "one that is over already is not slashed again"


# vouchers


def escaped(world: VaultWorld) -> Story:
    story = tell(world)
    world.anchored(story.ledger)
    world.begin_escape()
    for deal in story.deals.values():
        world.do(escape_deal(story.state, deal))
    return story


def rise(world: VaultWorld, *vouchers: SignedVoucher) -> int:
    """What Paul and Petra are owed more after ``vouchers``."""
    before = world.owed("paul") + world.owed("petra")
    for call in redeem_calls(vouchers):
        world.do(call)
    return world.owed("paul") + world.owed("petra") - before


def test_a_voucher_pays_its_rise_once(world: VaultWorld) -> None:
    story = escaped(world)
    paid = story.deals["paid"]
    newest, old = signed(world, paid, 250, "alice"), signed(world, paid, 90, "alice")
    assert rise(world, old) == 0, "the ledger paid 100"
    assert rise(world, newest, newest, old) == 150
    assert rise(world, newest) == 0
    assert rise(world, signed(world, paid, 251, "alice")) == 1
    left = world.vault.call("unredeemed", paid)
    assert left == 1_000 - 100 - 30 - 151
    assert rise(world, signed(world, paid, (1 << 64) - 1, "alice")) == left, "no more than is there"
    assert rise(world, signed(world, paid, 200, "dora", by_delegate=True)) == 0
    world.evm.pass_time(TIMES.voucher_s)
    assert world.refused(finish_call(paid)) == "nothing_due"


def test_the_delegate_has_a_row_and_a_limit_of_its_own(world: VaultWorld) -> None:
    story = escaped(world)
    paid = story.deals["paid"]
    assert rise(world, signed(world, paid, 29, "dora", by_delegate=True)) == 0
    assert rise(world, signed(world, paid, 31, "dora", by_delegate=True)) == 1
    assert rise(world, signed(world, paid, 900, "dora", by_delegate=True)) == 200 - 31
    assert rise(world, signed(world, paid, 101, "alice")) == 1


def test_only_who_may_sign_pays(world: VaultWorld) -> None:
    story = escaped(world)
    paid = story.deals["paid"]
    good = signed(world, paid, 250, "alice")
    wrong = [
        signed(world, paid, 250, "bob"),
        signed(world, paid, 250, "dora"),
        signed(world, paid, 150, "alice", by_delegate=True),
        replace(good, voucher=Voucher(paid, 251)),
        replace(good, voucher=Voucher(story.deals["missed"], 250)),
        replace(good, signature=bytes(64) + b"\x1b"),
    ]
    for voucher in wrong:
        (call,) = redeem_calls([voucher])
        assert world.refused(call) == "invalid_signature"
    r, s, v = good.signature[:32], good.signature[32:64], good.signature[64]
    order = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
    high = (order - int.from_bytes(s, "big")).to_bytes(32, "big")
    for signature in (r + high + bytes([55 - v]), r + s + bytes([v - 27])):
        (call,) = redeem_calls([replace(good, signature=signature)])
        assert world.refused(call) == "malleated_signature"
    assert rise(world, good) == 150


def test_a_deal_without_a_delegate_has_nobodys_row(world: VaultWorld) -> None:
    """A signature by no key recovers to the empty address, which is nobody's."""
    ledger = begin(world)
    deal = ledger.open(terms(delegate=Address(bytes(20)), delegate_credits=0, delegate_leaves=0))
    world.anchored(ledger)
    world.begin_escape()
    world.do(escape_deal(ledger.state, deal))
    voucher = SignedVoucher(Voucher(deal, 5), True, bytes(64) + b"\x1b")
    assert rise(world, voucher) == 0
    assert rise(world, signed(world, deal, 5, "dora", by_delegate=True)) == 0


def test_a_batch_is_cheap(world: VaultWorld) -> None:
    """64 deals of one provider, a voucher each: what a provider redeems when it leaves."""
    ledger = begin(world)
    deals = [
        ledger.open(terms(disk_escrow=10, bandwidth_escrow=900 + n, salt=bytes([n]) * 32))
        for n in range(BATCH)
    ]
    world.anchored(ledger)
    world.begin_escape()
    costs = [world.do(escape_deal(ledger.state, deal)).gas for deal in deals]
    vouchers = [signed(world, deal, 700 + n, "alice") for n, deal in enumerate(deals)]
    (call,) = redeem_calls(vouchers)
    gas = world.do(call).gas
    assert world.owed("paul") == sum(700 + n for n in range(BATCH))
    print(f"\nescape_deal: {max(costs):,} gas at most among {BATCH} deals")
    print(f"redeem_many: {gas // BATCH:,} gas a voucher in a batch of {BATCH}")
    assert gas <= MOST_REDEEM_GAS * BATCH


def test_the_gas_of_the_rest(world: VaultWorld) -> None:
    """Printed; the bounds are generous and only there to tell when something grows."""
    story = tell(world)
    spent = {"deposit": world.pay_in("alice", 5).gas}
    number = world.vault.call("anchor_count")
    spent["anchor"] = world.vault.send("anchor", *world.anchor_args(root_of(story.ledger))).gas
    world.evm.pass_time(TIMES.challenge_s)
    key = cell_key(CellKind.ACCOUNT, address("alice"))
    cell = account_tuple(story.ledger.account("alice"))
    place = place_tuple(story.state.tree, key)
    spent["withdraw"] = world.vault.send("withdraw", number, cell, place).gas
    world.begin_escape()
    spent["escape_account"] = world.do(escape_account(story.state, address("bob"))).gas
    spent["escape_deal"] = world.do(escape_deal(story.state, story.deals["paid"])).gas
    spent["collect"] = world.vault.send("collect", address("bob")).gas
    for name, gas in spent.items():
        print(f"{name}: {gas:,} gas")
        assert gas <= 400_000, name


def test_cells_of_the_story_are_what_it_says(world: VaultWorld) -> None:
    """Else the tests above show less than they say."""
    story = tell(world)
    states = {name: story.ledger.deal(deal).state.name for name, deal in story.deals.items()}
    assert states == {
        "paid": "OPEN",
        "missed": "OPEN",
        "ended": "ENDED",
        "accused": "OPEN",
        "closed": "CLOSED",
        "asked": "OPEN",
        "slashed": "SLASHED",
        "empty": "OPEN",
    }
    cells = {name: story.ledger.deal(deal) for name, deal in story.deals.items()}
    assert cells["asked"].bond == 77
    assert cells["slashed"].refund > 0
    assert cells["ended"].collateral > 0 < cells["accused"].collateral
    assert cells["paid"].leaves > 0 == cells["empty"].leaves
