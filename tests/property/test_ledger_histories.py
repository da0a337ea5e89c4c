"""Random histories with adversarial parties: what holds of money holds whatever anyone does.

Paul is honest: he links every epoch unless he crashed or lost a leaf that is asked for, serves
every demand, declares every loss. Everyone else does what the machine draws, allowed or not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dsn.apps.ledger.batch import Submission
from dsn.apps.ledger.engine import Sequencer, genesis_of
from dsn.apps.ledger.memory import store_cell
from dsn.core.hashing import sha256
from dsn.errors import DsnError
from dsn.ids import DealId
from dsn.ledger import beacons
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
from dsn.ledger.disputes import (
    AllLost,
    Demand,
    Serve,
    SlashJudged,
    SlashMissed,
    SlashUnserved,
    SlashWrong,
)
from dsn.ledger.entry import Body
from dsn.proofs.beacon import verify_value
from tests.support.ledger_audit import Audit
from tests.support.ledger_stores import PLACES, Kept
from tests.support.ledger_world import (
    BY_ADDRESS,
    CHAIN_PARAMS,
    GIB,
    NAMES,
    World,
    shard,
    terms,
)

HISTORIES, PARTS = 1_000, 4
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

    kept: Sequence[Kept]

    @initialize(odd=picks, first=shard_sets, second=shard_sets, third=shard_sets)
    def begin(self, odd: int, first: Shards, second: Shards, third: Shards) -> None:
        """Three deals that hold something, so that there is something to quarrel about."""
        self.world = World(CHAIN_PARAMS, signed=True)
        self.audit = Audit(self.world)
        self.world.fund()
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

    @rule(pick=picks, who=names, odd=picks)
    def slash_on_chain(self, pick: int, who: str, odd: int) -> None:
        """The chain heard a client of Petra's, and not her; Paul always answers there."""
        deal = self.picked(pick)
        if deal is None or BY_ADDRESS[deal.terms.provider] == "paul":
            return
        asker = deal.terms.delegate if odd == 1 else deal.terms.client
        judged = SlashJudged(deal.deal, max(0, deal.number + odd % 3 - 1), asker)
        taken = self.attempt("operator" if odd < 3 else who, judged)
        assert not taken or judged.number >= deal.number, "a revision had moved"

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
        self.put_through()

    def put_through(self) -> None:
        """Put the history through every store, each by what the one before it gives back.

        A sequencer judges every entry anew by its bytes and signature, comes to the same leaf, and
        so to the same state root, each time, and makes way half way for one that has the store
        alone. In the end the store has the leaves, the root and the cells of the history.
        """
        world, entries = self.world, self.world.leaves
        half = world.state.root[0] * len(entries) >> 8
        cells = sorted(store_cell(cell) for cell in world.state.cells.values())
        for kept in self.kept:
            store = kept.emptied()
            for part in (entries[:half], entries[half:]):
                came = (Submission(each.entry, each.signature) for each in part)
                outcomes = Sequencer(store).submit(came)
                assert [getattr(each, "leaf", each) for each in outcomes] == part
            entries = list(store.leaves(0, len(world.leaves) + 1))
            assert (entries, store.head()) == (world.leaves, world.frontier.head)
            assert list(store.all_cells()) == cells

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


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Kept]]:
    """A store of each kind; without a PostgreSQL server here only the other.

    A beacon's evidence is a quarter of the work: of the same bytes it is judged once.
    """
    with ExitStack() as held:
        patch = held.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(beacons, "verify_value", lru_cache(maxsize=256)(verify_value))
        stores = []
        for make in PLACES.values():
            with suppress(pytest.skip.Exception):
                place = make(tmp_path_factory.mktemp("kept"))
                stores.append(held.enter_context(closing(Kept(place, *genesis_of(CHAIN_PARAMS)))))
        yield stores


@pytest.mark.parametrize("part", range(PARTS))
def test_histories(part: int, kept: list[Kept]) -> None:
    """Invariants 1 to 6, 9 and 10 of the economy, in 1,000 histories on both stores.

    Each history is lived through in memory, every signature made and checked, and audited entry
    by entry. At its end all it accepted goes through SQLite and, read back from there, through
    PostgreSQL: see ``put_through``. The parts are for the workers that share them.
    """
    machine = type(f"Histories{part}", (Histories,), {"kept": kept})
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=HISTORIES // PARTS, stateful_step_count=30, deadline=None),
    )
