"""Ledger histories that settle on a chain, and lies of their operators that got anchored there.

Whoever judges a step needs the leaf before it for one thing only: the state root it tells. So any
number of lies, each behind the leaf that went before it in its own history, stand in one log under
one anchor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Final, NamedTuple, cast

from dsn.errors import DsnError
from dsn.ids import NetworkId
from dsn.ledger.binding import LedgerRoot
from dsn.ledger.bodies import Deposit, Kind
from dsn.ledger.cells import CellKind, DealCell, DealState, cell_digest
from dsn.ledger.checkpoint import SignedCheckpoint
from dsn.ledger.disputes import SlashJudged
from dsn.ledger.entry import Body, Entry, sign_entry
from dsn.ledger.fraud import Fraud, build_fraud, judge_fraud
from dsn.ledger.log import LogLeaf
from dsn.ledger.onchain.cases import on_chain
from dsn.ledger.onchain.dispute import demand
from dsn.ledger.rules.moves import apply
from dsn.ledger.settlement import SettlementKey
from dsn.ledger.state import State, genesis
from dsn.ledger.trust import Trust
from tests.support.evm import Reverted, Settled
from tests.support.fraud_world import History, SignedWorld, having_every_kind, log_of, sign
from tests.support.ledger_world import BY_ADDRESS, KEYS
from tests.support.signing import mirrored

LATER = 1_000
"""Epochs: an anchor's epoch is no lower than that of any anchor before."""


FORGED: Final = "a forged identity, and another state"
"""A chain sees the state, not the forgery; no forgery hides a state from it."""


class Lie(NamedTuple):
    """What an operator could have logged after ``before``; ``what`` says so for people."""

    what: str
    before: State
    leaf: LogLeaf


class Verdict(NamedTuple):
    """Whether a step convicts, and the code of that: the fault, or why there is none."""

    convicted: bool
    code: str


class Tried(History):
    """A history that remembers what its rules refused: what the operator could have logged."""

    def __init__(self, settled: Settled, seed: int, steps: int) -> None:
        self.refused = list[Lie]()
        super().__init__(seed, steps, settled.params)

    def attempt(self, name: str, body: Body) -> None:
        world, before = self.world, self.world.state
        entry = world.entry(name, body)
        super().attempt(name, body)
        if world.state is before:
            signed = sign_entry(entry, world.params.domain, KEYS[name])
            leaf = LogLeaf(entry.encode(), signed.signature, before.root)
            self.refused.append(Lie("refused", before, leaf))


def every_kind(settled: Settled, missed: bool) -> SignedWorld:
    """Entries of every kind; see ``fraud_world.every_kind``."""
    return having_every_kind(SignedWorld(settled.params), missed)


def bring(settled: Settled, world: SignedWorld) -> tuple[SignedCheckpoint, int]:
    """Do on the chain what ``world`` says was done there, and anchor its log.

    Of slashes only those can be that a client or delegate could demand.

    Returns:
        The checkpoint, and the number of its anchor.
    """
    deposit_all(settled, world)
    for index, leaf in enumerate(world.leaves):
        body = Entry.decode(leaf.entry).body
        if isinstance(body, SlashJudged):
            _slash(settled, world, index, body)
    return anchor_world(settled, world)


def deposit_all(settled: Settled, world: SignedWorld) -> None:
    """Pay into the vault what ``world`` has as deposits, in that order."""
    for leaf in world.leaves:
        body = Entry.decode(leaf.entry).body
        if isinstance(body, Deposit):
            settled.deposit(body.account, body.amount)


def anchor_world(settled: Settled, world: SignedWorld) -> tuple[SignedCheckpoint, int]:
    """Anchor the log of ``world`` as it stands; the checkpoint, and the number of the anchor."""
    signed = world.signed_checkpoint()
    return signed, settled.anchor(signed.checkpoint.ledger_root)


def _slash(settled: Settled, world: SignedWorld, index: int, body: SlashJudged) -> None:
    """Demand a leaf that nobody shows, if there is one, so that the deal is slashed."""
    before = world.states[index]
    deal = before.cell(CellKind.DEAL, body.deal)
    assert isinstance(deal, DealCell)
    if not can_be_slashed(deal, body):
        return
    root = LedgerRoot(*world.head_at(index), before.root, before.network.epoch)
    number = settled.anchor(root)
    dispute, evm = settled.dispute, settled.evm
    evm.fund(body.asker)
    call = demand(number, deal, before.tree, 0)
    wei = dispute.call("bond_wei")
    dispute.send(call.function, *call.args, sender=body.asker, wei=wei)
    evm.pass_time(dispute.call("answer_s") + 1)
    dispute.send("slash", body.deal)


def can_be_slashed(deal: DealCell, body: SlashJudged) -> bool:
    """Whether the chain could have come to such a judgement."""
    known = body.asker in (deal.terms.client, deal.terms.delegate) and body.number == deal.number
    return known and deal.state is DealState.OPEN and deal.leaves > 0


def anchor_lies(settled: Settled, lies: Sequence[Lie]) -> tuple[list[Fraud], int]:
    """Anchor a log that has all ``lies``, and gather the evidence of each."""
    leaves = list[LogLeaf]()
    for lie in lies:
        told = LogLeaf(b"\0", bytes(65), lie.before.root)
        leaves += (told, lie.leaf)
    leaves.append(LogLeaf(b"\0", bytes(65), genesis(settled.params).root))
    head, hashes = log_of(leaves)
    world = SignedWorld(settled.params)
    epoch = max(lie.before.network.epoch for lie in lies) + LATER
    signed = sign(world.checkpoint(head, leaves[-1].state_root, epoch), settled.params)
    number = settled.anchor(signed.checkpoint.ledger_root)
    frauds = [
        build_fraud(lie.before, 2 * place + 1, leaves.__getitem__, signed, hashes)
        for place, lie in enumerate(lies)
    ]
    return frauds, number


def python_verdict(settled: Settled, fraud: Fraud) -> Verdict:
    """What the rules of ``dsn.ledger`` say."""
    try:
        return Verdict(True, judge_fraud(fraud, Trust.of(settled.params)).fault)
    except DsnError as error:
        return Verdict(False, error.detail_code)


def chain_verdict(settled: Settled, fraud: Fraud, anchor: int) -> Verdict:
    """What the contracts say, of which nothing comes."""
    call = on_chain(fraud, settled.params, anchor)
    contract = settled.contract(call.contract)
    try:
        done = contract.tried(call.function, *call.args)
    except Reverted as error:
        return Verdict(False, error.reason)
    (said,) = contract.logged(done, "Convicted")
    return Verdict(True, said["fault"])


@dataclass(frozen=True)
class Raw:
    """A body of any bytes at all."""

    kind: Kind
    raw: bytes

    def encode(self) -> bytes:
        return self.raw


def lies_about(world: SignedWorld, index: int, random: Random) -> Iterator[Lie]:
    """Everything but the truth about entry ``index``."""
    leaf, before = world.leaves[index], world.states[index]
    for what, told in (*_other_states(world, index, random), *_other_entries(world, index, random)):
        if told != leaf:
            yield Lie(what, before, told)


def _other_states(world: SignedWorld, index: int, random: Random) -> Iterator[tuple[str, LogLeaf]]:
    """The right entry, but not what it leads to: any cell one more or less than it is."""
    leaf, before = world.leaves[index], world.states[index]
    flipped = bytearray(leaf.state_root)
    flipped[random.randrange(32)] ^= 1 << random.randrange(8)
    yield "a flipped root", replace(leaf, state_root=bytes(flipped))
    yield "nothing happened", replace(leaf, state_root=before.root)
    after, changes = apply(before, Entry.decode(leaf.entry))
    for cell in changes.cells:
        numbers = [each.name for each in fields(cell) if type(getattr(cell, each.name)) is int]
        name = random.choice(numbers)
        value = getattr(cell, name) + random.choice((1, -1))
        if value >= 0:
            wrong = replace(cell, **cast(Any, {name: value}))
            root = after.tree.put(cell.key, cell_digest(wrong)).root
            yield f"another {name} in a cell of kind {cell.kind}", replace(leaf, state_root=root)


def _other_entries(world: SignedWorld, index: int, random: Random) -> Iterator[tuple[str, LogLeaf]]:
    """Another entry, or one that its owner never signed."""
    leaf = world.leaves[index]
    was = Entry.decode(leaf.entry)
    owner, body = KEYS[BY_ADDRESS[was.signer]], was.body.encode()
    kind = was.body.kind
    stranger = random.choice([key for key in KEYS.values() if key is not owner])

    def told(entry: Entry, key: SettlementKey = owner) -> LogLeaf:
        signed = sign_entry(entry, world.params.domain, key)
        return LogLeaf(entry.encode(), signed.signature, leaf.state_root)

    def raw(kind: int, raw: bytes, **changes: Any) -> Entry:
        return replace(was, body=cast(Body, Raw(cast(Kind, kind), raw)), **changes)

    flipped = bytearray(body)
    flipped[random.randrange(len(body))] ^= 1 << random.randrange(8)
    yield "signed by a stranger", told(was, stranger)
    yield "a second spelling", replace(leaf, signature=mirrored(leaf.signature))
    yield "no signature", replace(leaf, signature=bytes(65))
    yield "another signer", told(replace(was, signer=stranger.address), stranger)
    yield "a flipped bit", replace(leaf, entry=raw(kind, bytes(flipped)).encode())
    yield "a flipped bit, signed", told(raw(kind, bytes(flipped)))
    yield "cut short", told(raw(kind, body[: random.randrange(len(body))]))
    yield "a byte too many", told(raw(kind, body + b"\0"))
    other = random.choice([each for each in Kind if each is not kind])
    yield f"as kind {other}", told(raw(other, body))
    yield "of no kind", told(raw(random.choice((0, len(Kind) + 1, 255)), body))
    yield (
        "a header that lies",
        replace(leaf, entry=leaf.entry[:61] + (len(body) + 1).to_bytes(4, "big") + body),
    )
    if kind in (Kind.SHUT_EPOCH, Kind.BIND):
        forged = bytearray(body)
        forged[-1 if kind is Kind.SHUT_EPOCH else -66] ^= 1
        yield FORGED, replace(told(raw(kind, bytes(forged))), state_root=random.randbytes(32))
    yield "of another network", told(replace(was, network=NetworkId(random.randbytes(32))))
    yield "a number again", told(replace(was, nonce=was.nonce - 1))
    yield "a number left out", told(replace(was, nonce=was.nonce + 1))
