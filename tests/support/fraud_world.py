"""A small economy whose operator signs checkpoints, and can be made to lie in any step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from dsn.core.keys import SigningKey
from dsn.errors import DsnError
from dsn.ids import DealId
from dsn.ledger.bodies import (
    Agreed,
    Bind,
    Claim,
    CloseDeal,
    Deposit,
    Open,
    OpenEpoch,
    Quit,
    TopUp,
    Transfer,
    Withdraw,
)
from dsn.ledger.cells import DealCell, DealState, Phase
from dsn.ledger.checkpoint import Checkpoint, SignedCheckpoint, sign_checkpoint, sign_root
from dsn.ledger.deal import Close, Deal, Extension
from dsn.ledger.disputes import (
    Demand,
    Serve,
    SlashJudged,
    SlashMissed,
    SlashUnserved,
    SlashWrong,
)
from dsn.ledger.entry import Body, Entry, sign_entry
from dsn.ledger.fraud import Fraud, build_fraud
from dsn.ledger.log import Frontier, Hashes, LogLeaf, TreeHead, leaf_hash
from dsn.ledger.params import LedgerParams
from dsn.ledger.state import Changes, State
from dsn.ledger.trust import Trust
from dsn.proofs.beacon import next_value
from tests.support.ledger_world import (
    BY_ADDRESS,
    CHAIN_PARAMS,
    IDENTITIES,
    KEYS,
    World,
    address,
    terms,
)

LOG_KEY = SigningKey(b"\x77" * 32)
CLIENTS, PROVIDERS = ("alice", "bob"), ("paul", "petra")
SIGNED_PARAMS = replace(CHAIN_PARAMS, log_key=LOG_KEY.public, vdf_iterations=1, vdf_bits=256)
TRUST = Trust.of(SIGNED_PARAMS)


class SignedWorld(World):
    """A world with every signature and every beacon; it remembers the state before each entry."""

    def __init__(self, params: LedgerParams = SIGNED_PARAMS) -> None:
        super().__init__(params, signed=True)
        self.states: list[State] = []
        """Before each entry of the log."""

    def submit(self, entry: Entry, signature: bytes = b"") -> Changes:
        before = self.state
        changes = super().submit(entry, signature)
        self.states.append(before)
        return changes

    def open_epoch(self) -> None:
        epoch, params = self.epoch, self.params
        value, evidence = next_value(
            params.domain.network,
            epoch,
            self.shut_head.root,
            iterations=params.vdf_iterations,
            bits=params.vdf_bits,
        )
        self.values[epoch] = value
        self.do("operator", OpenEpoch(epoch, self.shut_head, value, evidence))

    def signed_checkpoint(self) -> SignedCheckpoint:
        """What an honest operator says of the ledger as it stands."""
        checkpoint = self.checkpoint(self.frontier.head, self.state.root, self.epoch)
        return sign(checkpoint, self.params)

    def checkpoint(self, head: TreeHead, state_root: bytes, epoch: int) -> Checkpoint:
        return Checkpoint(Trust.of(self.params).operator.name, *head, state_root, epoch)

    def fraud(self, index: int, signed: SignedCheckpoint) -> Fraud:
        """What it takes to judge step ``index`` of the log as it stands."""
        leaves, hashes = self.leaves.__getitem__, self.nodes.__getitem__
        return build_fraud(self.states[index], index, leaves, signed, hashes)

    def resigned(self, index: int, body: Body, **changes: Any) -> LogLeaf:
        """Entry ``index`` with another body, by its own signer; the state root stays."""
        old, was = self.leaves[index], Entry.decode(self.leaves[index].entry)
        entry = replace(was, body=body, **changes)
        signed = sign_entry(entry, self.params.domain, KEYS[BY_ADDRESS[was.signer]])
        return replace(old, entry=entry.encode(), signature=signed.signature)

    def head_at(self, size: int) -> TreeHead:
        """The log as it really was at ``size`` leaves."""
        return Frontier.at(self.nodes.__getitem__, size).head

    def reopened(self, index: int, closed: TreeHead) -> LogLeaf:
        """Entry ``index``, which opens an epoch, with a right beacon over another closed log."""
        body, params = Entry.decode(self.leaves[index].entry).body, self.params
        assert isinstance(body, OpenEpoch)
        value, evidence = next_value(
            params.domain.network,
            body.epoch,
            closed.root,
            iterations=params.vdf_iterations,
            bits=params.vdf_bits,
        )
        return self.resigned(index, OpenEpoch(body.epoch, closed, value, evidence))

    def lie(self, index: int, leaf: LogLeaf) -> Fraud:
        """Evidence of a log that ends with ``leaf`` instead of what is at ``index``."""
        leaves = [*self.leaves[:index], leaf]
        head, hashes = log_of(leaves)
        state = (*self.states, self.state)[index + 1]
        checkpoint = self.checkpoint(head, leaf.state_root, state.network.epoch)
        signed = sign(checkpoint, self.params)
        return build_fraud(self.states[index], index, leaves.__getitem__, signed, hashes)


def sign(checkpoint: Checkpoint, params: LedgerParams = SIGNED_PARAMS) -> SignedCheckpoint:
    """Signed with both of the operator's keys."""
    note = SignedCheckpoint(checkpoint)
    note = note.signed(sign_checkpoint(checkpoint, Trust.of(params).operator, LOG_KEY.sign))
    return note.signed(sign_root(checkpoint, params.domain, KEYS["operator"]))


def log_of(leaves: Iterable[LogLeaf]) -> tuple[TreeHead, Hashes]:
    """Its head, and all its hashes."""
    frontier, nodes = Frontier().extend(leaf_hash(leaf.encode()) for leaf in leaves)
    return frontier.head, nodes.__getitem__


@cache
def every_kind(missed: bool) -> SignedWorld:
    """A ledger with entries of every kind; a deal is slashed for what was missed, or unserved."""
    return having_every_kind(SignedWorld(), missed)


def having_every_kind(world: SignedWorld, missed: bool) -> SignedWorld:
    """``world``, a new one, once that came to pass in it."""
    world.fund()
    world.bind(*CLIENTS, *PROVIDERS)
    world.open_epoch()
    first = world.open(terms())
    second = world.open(terms(client=address("bob"), provider=address("petra"), miss_limit=1))
    for deal in (first, second):
        world.hold(deal, 1, 2, 4)
    world.pass_epochs(1)
    world.link("paul", wrong=0)
    epoch = world.epoch
    world.pass_epochs(1)
    world.do("paul", Claim(first, None, world.voucher(first, 100)))
    world.do("alice", TopUp(first, 50, 20, None))
    world.do("alice", Demand(first, 10, 0))
    world.do("paul", Serve(first, world.service(first)))
    world.do("paul", world.loss(first, 2))
    opening, deal = world.drawn("paul", epoch, 0)
    world.do("sam", SlashWrong(deal, opening, world.served("paul", epoch, 0)))
    world.do("bob", Demand(second, 10, 0))
    world.pass_epochs(4)
    world.do("sam", (SlashMissed if missed else SlashUnserved)(second))
    third = world.open(terms(salt=b"\x05" * 32, end=world.epoch + 9))
    world.hold(third, 5)
    world.do("operator", SlashJudged(third, 1, address("dora")))
    empty = world.open(terms(salt=b"\x03" * 32, end=world.epoch + 9))
    world.do("alice", Quit(empty))
    now = world.agreed(Close(empty, world.epoch), terms())
    world.do("alice", CloseDeal(empty, now))
    world.do("operator", Deposit(address("bob"), 700, 2))
    world.do("bob", Withdraw(300))
    world.do("bob", Transfer(address("alice"), 30))
    return world


class History:
    """What parties try at random, allowed or not; the log has what the rules took."""

    def __init__(self, seed: int, steps: int, params: LedgerParams = SIGNED_PARAMS) -> None:
        self.random, self.world, self.salt = Random(seed), SignedWorld(params), 0
        self.world.fund()
        self.world.bind(*CLIENTS, *PROVIDERS)
        self.world.open_epoch()
        for _ in range(2):
            self.open_deal()
        moves: list[Callable[[], None]] = [
            *(self.turn, self.turn, self.turn, self.open_deal, self.revise, self.revise),
            *(self.claim, self.top_up, self.end, self.dispute, self.dispute, self.lose),
            *(self.move_credits, self.rebind),
        ]
        for _ in range(steps):
            self.random.choice(moves)()

    def attempt(self, name: str, body: Body) -> None:
        with suppress(DsnError):
            self.world.do(name, body)

    def turn(self) -> None:
        world = self.world
        if world.state.network.phase is Phase.SHUT:
            world.open_epoch()
            return
        for name in PROVIDERS:
            if world.can_link(name) and self.random.random() < 0.8:
                wrong = self.random.randrange(99) if self.random.random() < 0.3 else None
                world.link(name, wrong)
        world.shut_epoch()

    def open_deal(self) -> None:
        random = self.random
        self.salt += 1
        deal = terms(
            client=address(random.choice(CLIENTS)),
            provider=address(random.choice(PROVIDERS)),
            end=self.world.epoch + random.randint(1, 8),
            grace=random.randint(0, 2),
            miss_limit=random.randint(0, 3),
            dispute=random.randint(2, 4),
            free_leaves=random.randint(0, 9),
            salt=self.salt.to_bytes(32, "big"),
        )
        self.attempt(BY_ADDRESS[deal.client], Open(self.world.agreed(deal, deal)))
        self.world.shards.setdefault((deal.deal_id(self.world.params.domain), 0), ())

    def deal(self) -> DealCell:
        return self.random.choice(self.world.deals())

    def revise(self) -> None:
        deal, world = self.deal(), self.world
        numbers = tuple(self.random.sample(range(8), self.random.randint(0, 5)))
        by_delegate = self.random.random() < 0.2
        pledge = world.pledge(deal.deal, numbers, by_delegate=by_delegate)
        self.attempt(self.party(deal.terms), Claim(deal.deal, pledge, None))

    def party(self, deal: Deal) -> str:
        return BY_ADDRESS[self.random.choice((deal.provider, deal.provider, deal.client))]

    def claim(self) -> None:
        deal, random = self.deal(), self.random
        voucher = self.world.voucher(
            deal.deal, random.randint(0, 400), by_delegate=random.random() < 0.3
        )
        claim = Claim(deal.deal, None, voucher if random.random() < 0.7 else None)
        self.attempt(BY_ADDRESS[deal.terms.provider], claim)

    def top_up(self) -> None:
        deal, random = self.deal(), self.random
        longer: Agreed[Extension] | None = None
        if random.random() < 0.5:
            later = Extension(deal.deal, deal.serial + 1, deal.end + random.randint(1, 3))
            longer = self.world.agreed(later, deal.terms)
        body = TopUp(deal.deal, random.randint(0, 500), random.randint(0, 50), longer)
        self.attempt(BY_ADDRESS[deal.terms.client], body)

    def end(self) -> None:
        deal = self.deal()
        now = self.world.agreed(Close(deal.deal, self.world.epoch), deal.terms)
        bodies = (Quit(deal.deal), CloseDeal(deal.deal, None), CloseDeal(deal.deal, now))
        self.attempt(self.party(deal.terms), self.random.choice(bodies))

    def dispute(self) -> None:
        deal, random, world = self.deal(), self.random, self.world
        provider = BY_ADDRESS[deal.terms.provider]
        if deal.demand is not None and random.random() < 0.7:
            lost = random.random() < 0.3 and deal.demand.link is None
            if lost and deal.state is DealState.OPEN:
                self.attempt(provider, Serve(deal.deal, world.shard_lost(deal.deal)))
            else:
                self.attempt(provider, Serve(deal.deal, world.service(deal.deal)))
            return
        if random.random() < 0.3:
            kind = random.choice((SlashMissed, SlashUnserved))
            self.attempt(random.choice(("sam", "alice")), kind(deal.deal))
            return
        if random.random() < 0.1:
            judged = SlashJudged(deal.deal, deal.number, deal.terms.client)
            self.attempt("operator", judged)
            return
        client = BY_ADDRESS[deal.terms.client]
        answered = self.answered(provider)
        if answered is None or random.random() < 0.4:
            self.attempt(client, Demand(deal.deal, 10, random.randint(0, 9)))
            return
        epoch, place = answered
        opening, fallen = world.drawn(provider, epoch, place)
        if random.random() < 0.5:
            client = BY_ADDRESS[world.deal(fallen).terms.client]
            self.attempt(client, Demand(fallen, 10, opening))
        else:
            served = world.served(provider, epoch, place)
            self.attempt("sam", SlashWrong(fallen, opening, served))

    def answered(self, provider: str) -> tuple[int, int] | None:
        closed = self.world.state.network.closed.size
        known = [
            (epoch, link.count)
            for (name, epoch), (index, link, *_) in self.world.answers.items()
            if name == provider and index < closed
        ]
        if not known:
            return None
        epoch, count = self.random.choice(known)
        return epoch, self.random.randrange(count)

    def lose(self) -> None:
        deal = self.deal()
        held = self.world.held(deal.deal)
        if held and deal.leaves:
            number = deal.number + 1
            body = self.world.loss(DealId(deal.deal), self.random.choice(held), number=number)
            self.attempt(BY_ADDRESS[deal.terms.provider], body)

    def move_credits(self) -> None:
        random, account = self.random, self.world.account("bob")
        who = random.choice((*CLIENTS, *PROVIDERS, "sam"))
        bodies: list[tuple[str, Body]] = [
            (who, Transfer(account.address, random.choice((0, 1, 997, 1 << 60)))),
            (who, Transfer(address("dora"), 50)),
            (who, Withdraw(random.choice((0, 7, 10**7)))),
            ("operator", Deposit(account.address, 700, account.deposits + 1)),
        ]
        self.attempt(*random.choice(bodies))

    def rebind(self) -> None:
        name, identity = self.random.choice((*CLIENTS, "sam")), self.random.choice(list(IDENTITIES))
        self.attempt(name, Bind(self.world.binding(name, self.random.randint(1, 4), identity)))
