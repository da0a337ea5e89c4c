"""Random histories with adversarial parties: what holds of money holds whatever anyone does.

Paul is honest: he links every epoch unless he crashed or lost a leaf that is asked for, serves
every demand, declares every loss. Everyone else does what the machine draws, allowed or not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dsn.apps.ledger.batch import Submission
from dsn.apps.ledger.check import check_store
from dsn.apps.ledger.engine import genesis_of, open_sequencer
from dsn.core.hashing import sha256
from dsn.errors import DsnError
from dsn.ids import DealId
from dsn.ledger.bodies import (
    Agreed,
    Bind,
    Claim,
    CloseDeal,
    Deposit,
    Open,
    Quit,
    SignedPledge,
    TopUp,
    Transfer,
    Withdraw,
)
from dsn.ledger.cells import DealCell, DealState, Phase
from dsn.ledger.deal import Close, Extension
from dsn.ledger.disputes import AllLost, Demand, Serve, SlashMissed, SlashUnserved, SlashWrong
from dsn.ledger.entry import Body
from dsn.store.ledger import create_ledger, open_ledger
from tests.support.ledger_audit import Audit
from tests.support.ledger_stores import PLACES
from tests.support.ledger_world import BY_ADDRESS, GIB, NAMES, World, shard, terms

SHARDS = 8
CRASHES, ROTS = 2, 3
HONEST_MISSES = CRASHES + ROTS
HELD = (DealState.OPEN, DealState.ENDED)
Shards = tuple[int, ...]
picks = st.integers(0, 7)
names = st.sampled_from(NAMES)
shard_sets = st.integers(0, (1 << SHARDS) - 1).map(
    lambda bits: tuple(n for n in range(SHARDS) if bits >> n & 1)
)


class Histories(RuleBasedStateMachine):
    """Every rule is something that a party tries; most of them are refused some of the time."""

    signed = False

    @initialize(odd=picks, first=shard_sets, second=shard_sets, third=shard_sets)
    def begin(self, odd: int, first: Shards, second: Shards, third: Shards) -> None:
        """Three deals that hold something, so that there is something to quarrel about."""
        self.world = World(signed=self.signed)
        self.audit = Audit(self.world)
        self.countersigned: dict[DealId, int] = {}
        self.pledges: list[SignedPledge] = []
        self.rotten: set[tuple[DealId, bytes]] = set()
        self.wrong: dict[int, int] = {}
        self.crashes = self.rots = 0
        self.salts = itertools.count()
        for name in ("alice", "bob", "paul", "petra"):
            assert self.attempt(name, Bind(self.world.binding(name)))
        self.open_deal(bob=False, petra=False, end=9, odd=odd)
        self.open_deal(bob=False, petra=True, end=7, odd=(odd + 1) % 8)
        self.open_deal(bob=True, petra=True, end=6, odd=(odd + 2) % 8)
        for pick, numbers in enumerate((first, second, third)):
            self.revise(pick, numbers, "alice", 1)
        self.pass_time(2, petra=1)

    def attempt(self, name: str, body: Body) -> bool:
        """Submit, and watch what an accepted entry does; whether it was accepted."""
        before, entry = self.world.state, self.world.entry(name, body)
        try:
            changes = self.world.submit(entry)
        except DsnError:
            assert self.world.state is before
            return False
        self.audit.watch(before, entry, changes)
        assert self.world.entry_code(entry) == "nonce_used", "a replay was taken"
        return True

    def picked(self, pick: int) -> DealCell | None:
        deals = self.world.deals()
        return deals[pick % len(deals)] if deals else None

    # the honest provider

    def paul_serves(self) -> None:
        for deal in self.world.deals():
            if BY_ADDRESS[deal.terms.provider] == "paul" and deal.demand is not None:
                assert self.attempt("paul", Serve(deal.deal, self.paul_service(deal)))

    def paul_service(self, deal: DealCell) -> Any:
        assert deal.demand is not None
        if deal.demand.link is None:
            lost = shard(self.world.demanded(deal.deal)).commit
            if (deal.deal, lost) in self.rotten:
                return self.world.shard_lost(deal.deal, self.next_number(deal.deal))
        return self.world.service(deal.deal)

    def next_number(self, deal: DealId) -> int:
        """Above all that its provider ever countersigned."""
        installed = self.world.deal(deal).number
        self.countersigned[deal] = 1 + max(self.countersigned.get(deal, 0), installed)
        return self.countersigned[deal]

    def paul_links(self) -> None:
        if self.world.can_link("paul"):
            _, held, drawn, _ = self.world.answer("paul")
            places = (held.tree.locate(leaf) for leaf in drawn)
            asked = {(at.key, self.shard_at(held, at)) for at in places}
            if not asked & self.rotten:
                self.link("paul")

    @staticmethod
    def shard_at(held: Any, at: Any) -> bytes:
        deal = next(each for name, _, each in held.deals if name == at.key)
        return bytes(deal.tree.locate(at.offset).key)

    def link(self, name: str, wrong: int | None = None) -> None:
        """Link through the world, and watch it as any other entry."""
        before = self.world.state
        changes, entry = self.world.link(name, wrong)
        self.audit.watch(before, entry, changes)

    def end_epoch(self, petra: int, crash: bool) -> None:
        if crash and self.crashes < CRASHES:
            self.crashes += 1
        else:
            self.paul_serves()
            self.paul_links()
        if petra and self.world.can_link("petra"):
            self.link("petra", wrong=petra if petra > 4 else None)
            if petra > 4:
                count = self.world.answers["petra", self.world.epoch][1].count
                self.wrong[self.world.epoch] = petra % count
        self.world.shut_epoch()

    # time

    @rule(petra=picks, crash=picks)
    def turn(self, petra: int, crash: int) -> None:
        """Shut the epoch, or open the next one: others may move in between."""
        if self.world.state.network.phase is Phase.SHUT:
            self.world.open_epoch()
        else:
            self.end_epoch(petra, crash == 7)

    @rule(count=st.integers(2, 4), petra=picks)
    def pass_time(self, count: int, petra: int) -> None:
        for _ in range(count):
            if self.world.state.network.phase is Phase.SHUT:
                self.world.open_epoch()
            self.end_epoch(petra, False)

    # deals

    @rule(bob=st.booleans(), petra=st.booleans(), end=st.integers(2, 9), odd=picks)
    def open_deal(self, bob: bool, petra: bool, end: int, odd: int) -> None:
        if len(self.world.deals()) >= 5:
            return
        deal = terms(
            client=self.world.account("bob" if bob else "alice").address,
            provider=self.world.account("petra" if petra else "paul").address,
            end=self.world.epoch + end,
            open_by=self.world.epoch + 5,
            grace=odd % 4,
            notice=1 + odd % 2,
            miss_limit=odd % 4 if petra else HONEST_MISSES,
            dispute=2 + odd % 5,
            disk_escrow=(400, 5_000)[odd % 2],
            free_leaves=odd,
            repair_price=(odd % 3) * 20 * GIB + 7,
            salt=next(self.salts).to_bytes(32, "big"),
        )
        if self.attempt(BY_ADDRESS[deal.client], Open(self.world.agreed(deal, deal))):
            self.world.shards[deal.deal_id(self.world.params.domain), 0] = ()

    @rule(pick=picks, numbers=shard_sets, who=names, odd=picks)
    def revise(self, pick: int, numbers: Shards, who: str, odd: int) -> None:
        """A new revision that both signed; whoever has it may install it, now or later."""
        deal = self.picked(pick)
        if deal is None:
            return
        rotten = {commit for name, commit in self.rotten if name == deal.deal}
        good = tuple(n for n in numbers if shard(n).commit not in rotten)
        number = self.next_number(deal.deal)
        pledge = self.world.pledge(deal.deal, good, number=number, by_delegate=odd == 7)
        self.pledges.append(pledge)
        submitter = BY_ADDRESS[deal.terms.provider] if odd % 2 else who
        if odd < 6:
            self.attempt(submitter, Claim(deal.deal, pledge, None))

    @precondition(lambda self: self.pledges)
    @rule(pick=picks, old=st.integers(0, 99), who=names)
    def install_old(self, pick: int, old: int, who: str) -> None:
        """Any revision that was ever signed, under any deal."""
        pledge, other = self.pledges[old % len(self.pledges)], self.picked(pick)
        assert other is not None
        deal = self.world.deal(pledge.pledge.deal) if pick else other
        submitter = BY_ADDRESS[deal.terms.provider] if pick % 2 else who
        self.attempt(submitter, Claim(deal.deal, pledge, None))

    @rule(pick=picks, credits=st.integers(0, 1_200), by_delegate=st.booleans(), odd=picks)
    def claim(self, pick: int, credits: int, by_delegate: bool, odd: int) -> None:
        deal = self.picked(pick)
        if deal is None:
            return
        voucher = self.world.voucher(deal.deal, credits, by_delegate=by_delegate)
        claim = Claim(deal.deal, None, voucher if odd % 2 else None)
        who = NAMES[odd % len(NAMES)] if odd < 3 else BY_ADDRESS[deal.terms.provider]
        if self.attempt(who, claim) and claim.voucher is not None:
            assert self.world.code(who, claim) == "stale_voucher"

    @rule(pick=picks, disk=st.integers(0, 500), later=st.integers(0, 4), odd=picks)
    def top_up(self, pick: int, disk: int, later: int, odd: int) -> None:
        deal = self.picked(pick)
        if deal is None:
            return
        extension: Agreed[Extension] | None = None
        if odd % 2:
            longer = Extension(deal.deal, deal.serial + 1, deal.end + later)
            extension = self.world.agreed(longer, deal.terms)
        self.attempt(BY_ADDRESS[deal.terms.client], TopUp(deal.deal, disk, odd, extension))

    @rule(pick=picks, client=st.booleans(), how=st.sampled_from(["quit", "close", "agreed"]))
    def end_deal(self, pick: int, client: bool, how: str) -> None:
        deal = self.picked(pick)
        if deal is None:
            return
        who = BY_ADDRESS[deal.terms.client if client else deal.terms.provider]
        if how == "quit":
            self.attempt(who, Quit(deal.deal))
        elif how == "close":
            self.attempt(who, CloseDeal(deal.deal, None))
        else:
            now = self.world.agreed(Close(deal.deal, self.world.epoch), deal.terms)
            self.attempt(who, CloseDeal(deal.deal, now))

    # doubt

    @rule(pick=picks, leaf=st.integers(0, 20), odd=picks)
    def demand(self, pick: int, leaf: int, odd: int) -> None:
        deal = self.picked(pick)
        if deal is None:
            return
        who = ("alice", "bob", "dora", "sam")[odd % 4] if odd > 5 else ""
        who = who or BY_ADDRESS[deal.terms.delegate if odd == 5 else deal.terms.client]
        drawn = self.some_drawn(BY_ADDRESS[deal.terms.provider], leaf) if odd % 2 else None
        if drawn is not None:
            self.attempt(who, Demand(drawn[1], 10 + odd, drawn[0]))
        else:
            self.attempt(who, Demand(deal.deal, 9 + odd, leaf % (deal.leaves + 1)))

    def some_drawn(self, provider: str, pick: int) -> Any:
        closed = self.world.state.network.closed.size
        linked = [
            epoch
            for (name, epoch), (index, *_) in self.world.answers.items()
            if name == provider and index < closed
        ]
        if not linked:
            return None
        epoch = linked[-1 - pick % len(linked)]
        place = pick % self.world.answers[provider, epoch][1].count
        if provider == "petra" and pick % 2:
            place = self.wrong.get(epoch, place)
        return *self.world.drawn(provider, epoch, place), epoch, place

    @rule(pick=picks, how=picks)
    def petra_serves(self, pick: int, how: int) -> None:
        """In any way there is, fitting or not."""
        deal = self.picked(pick)
        if deal is None or deal.demand is None or BY_ADDRESS[deal.terms.provider] != "petra":
            return
        number = self.next_number(deal.deal)
        if how < 2:
            self.attempt("petra", Serve(deal.deal, AllLost(number)))
        elif how < 5 and deal.demand.link is None:
            self.attempt("petra", Serve(deal.deal, self.world.shard_lost(deal.deal, number)))
        else:
            self.attempt("petra", Serve(deal.deal, self.world.service(deal.deal)))

    @rule(pick=picks, which=picks)
    def lose(self, pick: int, which: int) -> None:
        """A shard rots; who holds it declares that at once, Paul after serving what is asked."""
        deal = self.picked(pick)
        if deal is None or deal.state is not DealState.OPEN or not deal.leaves:
            return
        held = self.world.held(deal.deal)
        lost, provider = held[which % len(held)], BY_ADDRESS[deal.terms.provider]
        if provider == "petra":
            body = self.world.loss(deal.deal, lost, number=self.next_number(deal.deal))
            self.attempt("petra", body if which else replace(body, number=deal.number))
        elif self.rots < ROTS:
            self.rots += 1
            self.rotten.add((deal.deal, shard(lost).commit))
            self.paul_serves()
            if lost in self.world.held(deal.deal):
                number = self.next_number(deal.deal)
                assert self.attempt("paul", self.world.loss(deal.deal, lost, number=number))

    @rule(pick=picks, leaf=st.integers(0, 20), who=names)
    def slash(self, pick: int, leaf: int, who: str) -> None:
        deal = self.picked(pick)
        if deal is None:
            return
        provider = BY_ADDRESS[deal.terms.provider]
        for body in (SlashMissed(deal.deal), SlashUnserved(deal.deal)):
            taken = self.attempt(who, body)
            assert not (taken and provider == "paul"), "an honest provider was slashed"
        drawn = self.some_drawn(provider, leaf)
        if drawn is not None:
            opening, deal_id, epoch, place = drawn
            served = self.world.served(provider, epoch, place)
            taken = self.attempt(who, SlashWrong(deal_id, opening, served))
            assert not (taken and provider == "paul"), "an honest provider was slashed"
            if taken:
                assert self.wrong[epoch] == place

    # credits

    @rule(who=names, to=names, amount=st.sampled_from([0, 1, 997, 10**6, 1 << 64]), how=picks)
    def move_credits(self, who: str, to: str, amount: int, how: int) -> None:
        account = self.world.account(to)
        amount = min(amount, (1 << 64) - 1)
        if how < 3:
            self.attempt(who, Transfer(account.address, amount))
        elif how < 5:
            self.attempt(who, Withdraw(amount))
        else:
            serial = account.deposits + how % 2
            if self.attempt("operator", Deposit(account.address, amount, serial)):
                self.world.deposited += amount

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "audit"):
            for deal in self.world.deals():
                if BY_ADDRESS[deal.terms.provider] == "paul":
                    assert deal.state is not DealState.SLASHED
                    assert deal.missed <= HONEST_MISSES

    # the end

    def teardown(self) -> None:
        """Every deal closes and lets go of all funds, whatever one party refuses to do."""
        if not hasattr(self, "audit"):
            return
        self.audit.check_all()
        for _ in range(200):
            deals = [deal for deal in self.world.deals() if deal.state is not DealState.CLOSED]
            if not deals:
                break
            self.wind_down(deals)
        for deal in self.world.deals():
            assert deal.state is DealState.CLOSED, deal
        self.audit.check_all()

    def wind_down(self, deals: list[DealCell]) -> None:
        """One epoch in which, for every deal, only one of its parties does anything."""
        if self.world.state.network.phase is Phase.SHUT:
            self.world.open_epoch()
        self.paul_serves()
        for deal in deals:
            if deal.state is DealState.OPEN and self.world.epoch <= deal.last:
                continue
            active = deal.terms.client if sha256(deal.deal)[0] % 2 else deal.terms.provider
            self.attempt(BY_ADDRESS[active], CloseDeal(deal.deal, None))
            if deal.demand is not None:
                self.attempt("sam", SlashUnserved(deal.deal))
        self.world.shut_epoch()


class SignedHistories(Histories):
    """The same with every signature made and checked, and the log put through both stores."""

    signed = True

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "audit"):
            for store in stores():
                self.enter(store)

    def enter(self, place: str) -> None:
        """A store that is given the entries comes to the same leaves, and is found in order."""
        leaves = self.world.leaves
        create_ledger(place, *genesis_of(self.world.params))
        with open_sequencer(place) as sequencer:
            outcomes = sequencer.submit(Submission(each.entry, each.signature) for each in leaves)
            assert [getattr(each, "leaf", each) for each in outcomes] == leaves
            assert sequencer.state.root == self.world.state.root
        with closing(open_ledger(place, signer=False)) as store:
            assert check_store(store).fault is None


def stores() -> Iterator[str]:
    """An empty ledger's place of each kind; without a PostgreSQL server here only the other."""
    with TemporaryDirectory() as directory:
        for make in PLACES.values():
            with suppress(pytest.skip.Exception):
                yield make(Path(directory))


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=1_000, stateful_step_count=30, deadline=None)
TestSignedHistories = SignedHistories.TestCase
TestSignedHistories.settings = settings(max_examples=20, stateful_step_count=30, deadline=None)
