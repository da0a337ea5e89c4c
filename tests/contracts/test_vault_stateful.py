"""The vault has what all claim, whatever the ledger, the judges and time do, and all can leave."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dsn.errors import DsnError
from dsn.ids import DealId
from dsn.ledger.bodies import Agreed, Claim, CloseDeal, SignedVoucher, Transfer, Withdraw
from dsn.ledger.cells import CellKind, DealCell, DealState, cell_key
from dsn.ledger.deal import Close
from dsn.ledger.disputes import Demand
from dsn.ledger.entry import Body
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.escape import escape_account, escape_deal, finish_call, redeem_calls
from dsn.ledger.onchain.leaving import (
    OnRecord,
    account_part,
    bandwidth_left,
    deal_parts,
    voucher_part,
)
from dsn.ledger.onchain.tuples import account_tuple, place_tuple
from dsn.ledger.settlement import Address
from dsn.ledger.state import State, genesis
from dsn.ledger.typed import sign_typed
from dsn.ledger.voucher import Voucher
from tests.contracts.vault_world import (
    JUDGE,
    TIMES,
    VaultWorld,
    deploy_vault,
    enter,
    root_of,
)
from tests.support.evm import Evm
from tests.support.ledger_world import (
    BY_ADDRESS,
    KEYS,
    NAMES,
    NO_SIGNATURE,
    World,
    address,
    locked,
    terms,
)

PEOPLE = NAMES[1:]
names = st.sampled_from(PEOPLE)
amounts = st.integers(1, 3_000)
picks = st.integers(0, 9)


class Vaults(RuleBasedStateMachine):
    """Every rule is something that somebody does; the ledger's rules are kept, the rest is open."""

    world: VaultWorld

    def __init__(self) -> None:
        super().__init__()
        self.undone = ExitStack()
        self.undone.enter_context(self.world.evm.undone())
        self.ledger = World(replace(self.world.params, entry_fee=1))
        self.states: list[State] = []
        self.sizes: list[int] = []
        self.paid_in: dict[str, list[int]] = defaultdict(list)
        self.paid_out: dict[str, int] = defaultdict(int)
        self.left: set[str] = set()
        self.divided: set[DealId] = set()
        self.unclaimed: dict[DealId, int] = {}
        self.signed: dict[tuple[DealId, bool], SignedVoucher] = {}
        self.salts = 0

    @initialize()
    def begin(self) -> None:
        self.world.post_bond()
        for name in PEOPLE:
            self.pay_in(name, 20_000)
            self.take_up(name)
        self.ledger.open_epoch()
        self.ledger.bind("alice", "bob", "paul", "petra")
        for pick in range(3):
            self.open_deal(pick)
        self.anchor()
        self.wait(TIMES.challenge_s)

    def teardown(self) -> None:
        """Whatever happened, all leave in the end, and nobody is owed what is not there."""
        try:
            self.all_leave()
        finally:
            self.undone.close()

    # on the chain

    @precondition(lambda self: not self.frozen)
    @rule(name=names, amount=amounts)
    def pay_in(self, name: str, amount: int) -> None:
        self.world.pay_in(name, amount)
        self.paid_in[name].append(amount)

    @precondition(lambda self: not self.frozen)
    @rule()
    def anchor(self) -> None:
        if self.sizes[-1:] != [len(self.ledger.leaves)]:
            self.world.anchor(root_of(self.ledger))
            self.states.append(self.ledger.state)
            self.sizes.append(len(self.ledger.leaves))

    @rule(span_s=st.sampled_from((10, TIMES.challenge_s // 2, TIMES.challenge_s, 2_000)))
    def wait(self, span_s: int) -> None:
        self.world.evm.pass_time(span_s)

    @precondition(lambda self: self.states and not self.frozen)
    @rule(name=names, pick=picks)
    def withdraw(self, name: str, pick: int) -> None:
        number = pick % len(self.states)
        state, final = self.states[number], number < self.finals
        cell = state.account(address(name))
        place = place_tuple(state.tree, cell_key(CellKind.ACCOUNT, address(name)))
        call = OnChain("Vault", "withdraw", (number, account_tuple(cell), place))
        due = cell.withdrawn - self.paid_out[name]
        if not final or due <= 0 or not cell.deposits:
            assert self.world.refused(call)
            return
        self.world.do(call)
        self.paid_out[name] += due
        assert self.world.units(address(name)) == self.paid_out[name]

    @rule()
    def freeze(self) -> None:
        """Only where it is due; most of the time somebody anchors soon enough."""
        if self.world.code("freeze") == "":
            self.world.vault.send("freeze")

    @rule(pick=picks)
    def convict(self, pick: int) -> None:
        """Sometimes a judge finds a step wrong: in a newer anchor, or in an old one."""
        index = self.sizes[pick % len(self.sizes)] - 1 if self.sizes else 0
        finals = self.finals
        if pick < 4 and self.world.code("convict", index, JUDGE, sender=JUDGE) == "":
            self.world.vault.send("convict", index, JUDGE, sender=JUDGE)
            standing = self.world.vault.call("anchor_count")
            assert standing >= finals, "what was final was dropped"
            del self.states[standing:], self.sizes[standing:]

    @precondition(lambda self: self.frozen)
    @rule(name=names)
    def leave(self, name: str) -> None:
        call = escape_account(self.standing, address(name))
        if self.escaping and name not in self.left:
            self.world.do(call)
            self.left.add(name)
        else:
            assert self.world.refused(call)

    @precondition(lambda self: self.frozen)
    @rule(pick=picks)
    def divide(self, pick: int) -> None:
        deals = deals_of(self.standing)
        if not deals:
            return
        deal = deals[pick % len(deals)]
        call = escape_deal(self.standing, deal.deal)
        if self.escaping and deal.deal not in self.divided:
            if pick == 7:
                self.world.dispute.send("slash", deal.deal, deal.number, deal.terms.client)
            self.world.do(call)
            self.divided.add(deal.deal)
        else:
            assert self.world.refused(call)

    @precondition(lambda self: self.frozen)
    @rule(pick=picks, credits=amounts, by_delegate=st.booleans())
    def redeem(self, pick: int, credits: int, by_delegate: bool) -> None:
        deals = deals_of(self.ledger.state)
        deal = deals[pick % len(deals)]
        voucher = Voucher(deal.deal, credits)
        name = "dora" if by_delegate else BY_ADDRESS[deal.terms.client]
        signature = sign_typed(voucher, self.world.params.domain, KEYS[name])
        signed = SignedVoucher(voucher, by_delegate, signature)
        (call,) = redeem_calls([signed])
        self.world.do(call)
        before = self.signed.get((deal.deal, by_delegate), signed)
        if credits >= before.voucher.credits:
            self.signed[deal.deal, by_delegate] = signed

    @precondition(lambda self: self.frozen)
    @rule(pick=picks)
    def finish(self, pick: int) -> None:
        deals = deals_of(self.ledger.state)
        deal = deals[pick % len(deals)].deal
        if not self.world.refused(finish_call(deal)):
            self.finish_one(deal)

    def finish_one(self, deal: DealId) -> None:
        self.unclaimed[deal] = self.world.vault.call("unredeemed", deal)
        self.world.do(finish_call(deal))

    @rule(name=names)
    def collect(self, name: str) -> None:
        if self.world.owed(name):
            before = self.world.units(address(name)) + self.world.owed(name)
            self.world.vault.send("collect", address(name))
            assert self.world.units(address(name)) == before

    # on the ledger

    def attempt(self, name: str, body: Body) -> None:
        with suppress(DsnError):
            self.ledger.do(name, body)

    @rule(name=names)
    def take_up(self, name: str) -> None:
        entered = self.ledger.account(name).deposits
        if entered < len(self.paid_in[name]):
            enter(self.ledger, name, self.paid_in[name][entered])

    @rule(name=names, to=names, amount=amounts)
    def transfer(self, name: str, to: str, amount: int) -> None:
        self.attempt(name, Transfer(address(to), amount))

    @rule(name=names, amount=amounts)
    def take_out(self, name: str, amount: int) -> None:
        self.attempt(name, Withdraw(amount))

    @rule(pick=picks)
    def open_deal(self, pick: int) -> None:
        self.salts += 1
        client, provider = ("alice", "bob")[pick % 2], ("paul", "petra")[pick // 2 % 2]
        changes = {"client": address(client), "provider": address(provider), "end": 60}
        agreed = terms(salt=bytes([self.salts]) * 32, open_by=90, **changes)
        with suppress(DsnError):
            deal = self.ledger.open(agreed)
            self.ledger.hold(deal, pick, pick + 2, pick + 3)

    @rule(pick=picks, credits=st.integers(1, 1_000))
    def claim(self, pick: int, credits: int) -> None:
        deals = deals_of(self.ledger.state)
        deal = deals[pick % len(deals)]
        voucher = self.ledger.voucher(deal.deal, credits)
        self.attempt(BY_ADDRESS[deal.terms.provider], Claim(deal.deal, None, voucher))

    @rule(pick=picks)
    def close(self, pick: int) -> None:
        deals = deals_of(self.ledger.state)
        deal = deals[pick % len(deals)]
        agreed = Agreed(Close(deal.deal, self.ledger.epoch), NO_SIGNATURE, NO_SIGNATURE)
        wanted = agreed if deal.state is DealState.OPEN else None
        self.attempt(BY_ADDRESS[deal.terms.client], CloseDeal(deal.deal, wanted))

    @rule(pick=picks)
    def ask(self, pick: int) -> None:
        deals = deals_of(self.ledger.state)
        deal = deals[pick % len(deals)]
        self.attempt(BY_ADDRESS[deal.terms.client], Demand(deal.deal, 33, 0))

    @rule(count=st.integers(1, 3), linker=st.sampled_from(("paul", "petra")))
    def pass_epochs(self, count: int, linker: str) -> None:
        self.ledger.pass_epochs(count, linker)

    # what holds

    @property
    def frozen(self) -> bool:
        return bool(self.world.vault.call("frozen_at"))

    @property
    def escaping(self) -> bool:
        """Whether the last window for convictions is over."""
        since = self.world.vault.call("frozen_at")
        return bool(since) and self.world.evm.time_s - since >= TIMES.challenge_s

    @property
    def finals(self) -> int:
        """How many anchors nothing can drop any more."""
        return sum(self.world.vault.call("is_final", n) for n in range(len(self.states)))

    @property
    def standing(self) -> State:
        return self.states[-1] if self.states else genesis(self.ledger.params)

    @invariant()
    def what_is_claimed_is_there(self) -> None:
        """Under each anchor that could be the last one standing."""
        held = self.world.units(self.world.vault.address)
        ready = sum(self.owed(each) for each in (*map(address, PEOPLE), JUDGE))
        ready += sum(self.world.vault.call("unredeemed", deal) for deal in self.divided)
        ready += self.world.vault.call("bond")
        first = max(self.finals, 1) - 1
        for state in self.states[first:] or [genesis(self.ledger.params)]:
            claimed = sum(self.claim_of(state, name) for name in PEOPLE)
            claimed += sum(
                locked(deal) for deal in deals_of(state) if deal.deal not in self.divided
            )
            assert held >= ready + claimed, f"{held} held, {ready} owed, {claimed} to be claimed"

    def owed(self, account: Address) -> int:
        return int(self.world.vault.call("owed", account))

    def claim_of(self, state: State, name: str) -> int:
        """What ``name`` would leave with, had it not left."""
        if name in self.left:
            return 0
        cell = state.account(address(name))
        since = sum(self.paid_in[name][cell.deposits :])
        return max(0, cell.available + cell.withdrawn + since - self.paid_out[name])

    def all_leave(self) -> None:
        self.world.evm.pass_time(TIMES.escape_s)
        self.freeze()
        self.world.evm.pass_time(TIMES.challenge_s)
        for name in set(PEOPLE) - self.left:
            self.leave(name)
        for deal in {each.deal for each in deals_of(self.standing)} - self.divided:
            self.world.do(escape_deal(self.standing, deal))
            self.divided.add(deal)
        self.what_is_claimed_is_there()
        self.world.evm.pass_time(TIMES.voucher_s)
        for deal in self.divided:
            if self.world.vault.call("unredeemed", deal):
                self.finish_one(deal)
        for name in PEOPLE:
            self.collect(name)
        self.everybody_has_theirs()
        assert self.owed(JUDGE) <= self.world.units(self.world.vault.address)

    def everybody_has_theirs(self) -> None:
        """To the unit; so no coalition has anything of others but what they signed away."""
        state, epoch = self.standing, self.standing.network.epoch
        has = Counter[Address]()
        for name in PEOPLE:
            cell = state.account(address(name))
            since = sum(self.paid_in[name][cell.deposits :])
            paid = self.paid_out[name]
            has[address(name)] += paid + account_part(cell, since, paid)
        for deal in deals_of(state):
            number, time_s, asker = self.world.dispute.call("slashes", deal.deal)
            slash = OnRecord(number, asker) if time_s else None
            provider = state.account(deal.terms.provider)
            has += deal_parts(deal, provider, epoch, self.ledger.params.burn_ppm, slash)
            left = bandwidth_left(deal, slash)
            rest = self.unclaimed.get(deal.deal, 0)
            signed = [each for key, each in self.signed.items() if key[0] == deal.deal]
            assert 0 <= left - rest <= voucher_part(deal, left, signed)
            has[deal.terms.client] += rest
            has[deal.terms.provider] += left - rest
        found = {each: self.world.units(each) for each in map(address, PEOPLE)}
        assert found == {each: has[each] for each in found}


def deals_of(state: State) -> list[DealCell]:
    return [cell for cell in state.cells.values() if isinstance(cell, DealCell)]


@pytest.fixture(scope="module")
def one(node: Evm) -> VaultWorld:
    return deploy_vault(node)


def test_the_vault_has_what_all_claim(one: VaultWorld, evm: Evm) -> None:
    class Here(Vaults):
        world = one

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Here,
        settings=settings(
            max_examples=30,
            stateful_step_count=35,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
