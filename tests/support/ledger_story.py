"""A ledger with some of everything in it: made once, signed, and given to whoever replays it."""

from __future__ import annotations

from functools import cache
from random import Random

from dsn.apps.ledger.batch import Submission
from dsn.apps.ledger.engine import genesis_of
from dsn.ledger.bodies import Claim, Deposit, TopUp, Transfer, Withdraw
from dsn.ledger.disputes import SlashMissed
from dsn.ledger.entry import Entry, sign_entry
from dsn.ledger.settlement import SettlementKey
from dsn.store.ledger import create_ledger
from tests.support.ledger_world import DOMAIN, KEYS, NETWORK, PARAMS, World, address, terms

PARTIES = ("alice", "bob", "paul", "petra")


@cache
def story() -> World:
    """Deals, links, claims, a loss, a slash, and money that moves, over a dozen epochs."""
    world = World(signed=True)
    world.bind(*PARTIES)
    world.open_epoch()
    deal = world.open(terms())
    other = world.open(
        terms(client=address("bob"), provider=address("petra"), miss_limit=1, salt=b"\x01" * 32)
    )
    world.hold(deal, 1, 2, 3)
    world.hold(other, 4, 5)
    world.pass_epochs(3, "paul")
    world.do("paul", Claim(deal, None, world.voucher(deal, 100)))
    world.do("operator", Deposit(address("bob"), 700, 1))
    world.do("sam", SlashMissed(other))
    world.do("alice", TopUp(deal, 50, 20, None))
    world.do("paul", world.loss(deal, 2))
    world.pass_epochs(2, "paul")
    world.do("paul", Claim(deal, None, world.voucher(deal, 250)))
    world.do("bob", Withdraw(300))
    return world


def submissions(world: World) -> list[Submission]:
    """Everything that ``world`` took, as it would come over a wire."""
    return [Submission(leaf.entry, leaf.signature) for leaf in world.leaves]


def submission(entry: Entry, key: SettlementKey) -> Submission:
    """``entry`` signed by ``key``."""
    signed = sign_entry(entry, DOMAIN, key)
    return Submission(entry.encode(), signed.signature)


def transfers(count: int, seed: int, *, first_nonce: int = 1) -> list[Submission]:
    """Payments among the parties, all good if they come in this order."""
    random, nonces = Random(seed), dict.fromkeys(PARTIES, first_nonce)
    made = []
    for _ in range(count):
        name, other = random.sample(PARTIES, 2)
        entry = Entry(NETWORK, address(name), nonces[name], Transfer(address(other), 1))
        nonces[name] += 1
        made.append(submission(entry, KEYS[name]))
    return made


def make_ledger(place: str) -> None:
    """An empty ledger of the story's network at ``place``."""
    create_ledger(place, *genesis_of(PARAMS))
