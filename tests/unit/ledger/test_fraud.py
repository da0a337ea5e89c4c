"""Evidence of a step: by those who would frame an honest operator, and against one who lied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from dsn.errors import DsnError, InvalidProof, MalformedMessage
from dsn.ids import NetworkId
from dsn.ledger.bodies import Kind, OpenEpoch
from dsn.ledger.cells import AccountCell, CellKind, DealCell, NetworkCell, cell_digest, cell_key
from dsn.ledger.conviction import MAGIC
from dsn.ledger.entry import Entry
from dsn.ledger.evidence import decode_evidence
from dsn.ledger.fraud import Fraud, build_fraud, closed_before, judge_fraud
from dsn.ledger.log import TreeHead
from dsn.ledger.partial import Part, PartialState
from dsn.ledger.radix import StateLeaf, StateTree
from dsn.ledger.trust import Trust
from dsn.proofs.inventory import InventoryEntry
from tests.support.fraud_world import SIGNED_PARAMS, TRUST, every_kind, log_of, sign
from tests.support.ledger_world import NETWORK, address
from tests.support.signing import refusal

WORLD = every_kind(True)
SIGNED = WORLD.signed_checkpoint()
KINDS = [Entry.decode(leaf.entry).body.kind for leaf in WORLD.leaves]
LAST = len(KINDS) - 1


def honest(kind: Kind, number: int = 0) -> Fraud:
    """Evidence of the step of entry ``number`` of that ``kind``, with which nothing is wrong."""
    index = [at for at, each in enumerate(KINDS) if each is kind][number]
    return WORLD.fraud(index, SIGNED)


def verdict(fraud: Fraud, trust: Trust = TRUST) -> str:
    """What it comes to after it travelled: the fault, or why there is none."""
    arrived = decode_evidence(fraud.encode())
    assert isinstance(arrived, Fraud)
    assert arrived == fraud
    try:
        return "convicted: " + judge_fraud(arrived, trust).fault
    except DsnError as error:
        return error.detail_code


def with_parts(fraud: Fraud, change: Callable[[Part], Part]) -> Fraud:
    parts = tuple(map(change, fraud.state.parts))
    assert parts != fraud.state.parts
    return replace(fraud, state=replace(fraud.state, parts=parts))


def left_out(part: Part) -> Part:
    """The part's hash, if it is a leaf."""
    if isinstance(part, int | bytes):
        return part
    return StateTree.build([StateLeaf(part.key, cell_digest(part))]).root


CLAIM = honest(Kind.CLAIM, 2)
OPEN_EPOCH = honest(Kind.OPEN_EPOCH, 1)
NEW_DEAL = honest(Kind.OPEN)


def test_the_first_step_follows_from_the_genesis() -> None:
    first = WORLD.fraud(0, SIGNED)
    assert first.previous is None
    assert verdict(first) == "no_fault"
    assert verdict(replace(first, state=CLAIM.state)) == "state_root"
    assert verdict(WORLD.lie(0, replace(WORLD.leaves[0], state_root=bytes(32)))) == (
        "convicted: state_root_differs"
    )


def test_a_conviction_says_what_the_entry_did() -> None:
    leaf = replace(WORLD.leaves[9], signature=WORLD.leaves[8].signature)
    found = judge_fraud(WORLD.lie(9, leaf), TRUST)
    assert (found.accused, found.fault) == (TRUST.operator, "invalid_signature")
    assert found.text.startswith("the log has entry 9, which the rules refuse: ")
    minted = replace(WORLD.leaves[9], state_root=bytes(32))
    text = judge_fraud(WORLD.lie(9, minted), TRUST).text
    assert text.endswith(", the log says 0000000000000000...")


def test_a_state_or_epoch_of_the_checkpoints_own_convicts_at_its_end_only() -> None:
    checkpoint = SIGNED.checkpoint
    for other in (replace(checkpoint, state_root=bytes(32)), replace(checkpoint, epoch=99)):
        signed = sign(other)
        assert verdict(WORLD.fraud(LAST, signed)) == "convicted: checkpoint_differs"
        assert verdict(WORLD.fraud(LAST - 1, signed)) == "no_fault"


def test_what_is_left_out_never_convicts() -> None:
    for index in range(len(WORLD.leaves)):
        fraud = WORLD.fraud(index, SIGNED)
        for at, part in enumerate(fraud.state.parts):
            if isinstance(part, int | bytes):
                continue
            parts = (*fraud.state.parts[:at], left_out(part), *fraud.state.parts[at + 1 :])
            less = replace(fraud, state=replace(fraud.state, parts=parts))
            assert verdict(less) == "incomplete_evidence", f"entry {index}, {part}"


def test_a_cell_cannot_be_richer_or_poorer() -> None:
    def poorer(part: Part) -> Part:
        return replace(part, available=0) if isinstance(part, AccountCell) else part

    assert verdict(with_parts(CLAIM, poorer)) == "state_root"


def test_a_cell_that_is_there_cannot_be_denied() -> None:
    """Neither by another one in its place, nor by pretending that its digest is another's."""
    deal = next(part for part in CLAIM.state.parts if isinstance(part, DealCell))
    other = replace(deal, deal=type(deal.deal)(bytes(32)))

    def denied(part: Part) -> Part:
        return other if part == deal else part

    assert verdict(with_parts(CLAIM, denied)) == "state_root"
    assert verdict(with_parts(CLAIM, left_out)) == "incomplete_evidence"


def test_a_cell_that_is_absent_is_shown_by_its_neighbour() -> None:
    key = cell_key(CellKind.DEAL, WORLD.deals()[0].deal)
    cells = {part.key for part in NEW_DEAL.state.parts if not isinstance(part, int | bytes)}
    assert key not in cells
    assert verdict(NEW_DEAL) == "no_fault"


def test_an_inventory_is_the_one_behind_the_live_root() -> None:
    fraud = honest(Kind.LOSS)
    (held,) = fraud.state.holdings
    (entry,) = held.entries
    for entries in (
        (),
        (entry._replace(leaves=entry.leaves + 1),),
        (entry._replace(number=entry.number + 1),),
        (entry, InventoryEntry(type(entry.deal)(bytes(32)), 1, bytes(32), 1)),
    ):
        other = replace(fraud.state, holdings=(held._replace(entries=entries),))
        assert verdict(replace(fraud, state=other)) == "incomplete_evidence"
    nobody = held._replace(provider=address("sam"))
    for holdings in ((), (nobody,)):
        less = replace(fraud, state=replace(fraud.state, holdings=holdings))
        assert verdict(less) == "incomplete_evidence"
    empty = held._replace(entries=(entry._replace(leaves=0),))
    bad = replace(fraud, state=replace(fraud.state, holdings=(empty,)))
    assert verdict(bad) == "bad_entry"


def test_leaves_stand_where_they_stand() -> None:
    last = WORLD.fraud(LAST, SIGNED)
    assert verdict(replace(CLAIM, index=CLAIM.index - 1)) == "not_in_log"
    assert verdict(replace(CLAIM, index=SIGNED.checkpoint.size)) == "index"
    assert verdict(replace(CLAIM, step=last.step)) in ("not_in_log", "short", "trailing")
    assert verdict(replace(CLAIM, previous=CLAIM.step)) == "not_in_log"
    assert verdict(replace(last, step=replace(last.step, path=last.step.path[1:]))) == "short"


def test_a_closed_log_is_shown_as_it_was() -> None:
    assert verdict(OPEN_EPOCH) == "no_fault"
    closed = OPEN_EPOCH.closed
    assert closed is not None
    for prefix, code in [
        ((), "short"),
        (closed.prefix[1:], "short"),
        ((*closed.prefix, bytes(32)), "trailing"),
        ((bytes(32), *closed.prefix[1:]), "wrong_path"),
    ]:
        assert verdict(replace(OPEN_EPOCH, closed=replace(closed, prefix=prefix))) == code
    last = closed.last
    for other, code in [
        (replace(last, path=last.path[1:]), "short"),
        (replace(last, path=(*last.path, bytes(32))), "trailing"),
        (replace(last, path=(bytes(32), *last.path[1:])), "not_in_log"),
        (replace(last, leaf=OPEN_EPOCH.step.leaf), "not_in_log"),
        (replace(last, leaf=replace(last.leaf, entry=b"\xff")), "not_in_log"),
    ]:
        assert verdict(replace(OPEN_EPOCH, closed=replace(closed, last=other))) == code


def test_a_closed_log_is_there_exactly_if_the_step_names_one() -> None:
    with pytest.raises(InvalidProof) as refused:
        judge_fraud(replace(OPEN_EPOCH, closed=None), TRUST)
    assert refused.value.detail_code == "incomplete_evidence"
    for odd in (replace(OPEN_EPOCH, closed=None), replace(CLAIM, closed=OPEN_EPOCH.closed)):
        assert refusal(lambda odd=odd: decode_evidence(odd.encode())) == "malformed_message"
    assert (WORLD.fraud(0, SIGNED).closed, CLAIM.closed) == (None, None)


def test_an_epoch_over_another_moment_than_the_shut_convicts() -> None:
    """However true the log is that it names, and right the beacon over it."""
    index = [at for at, kind in enumerate(KINDS) if kind is Kind.OPEN_EPOCH][2]
    right = closed_before(WORLD.leaves[index], index)
    same = WORLD.reopened(index, WORLD.head_at(right))
    assert verdict(WORLD.lie(index, same)) == "no_fault"
    for size in range(1, index + 1):
        if size != right:
            lie = WORLD.lie(index, WORLD.reopened(index, WORLD.head_at(size)))
            assert verdict(lie) == "convicted: bad_closed_log", f"closed at {size}"
    lie = WORLD.lie(index, WORLD.reopened(index, WORLD.head_at(right - 1)))
    text = judge_fraud(lie, TRUST).text
    assert text.endswith(f"closed at {right - 1} entries, epoch 2 was not shut")


def test_a_shut_of_another_epoch_closes_nothing() -> None:
    """Copied to where nothing allows it, which convicts too."""
    opened = [at for at, kind in enumerate(KINDS) if kind is Kind.OPEN_EPOCH]
    earlier, index = closed_before(WORLD.leaves[opened[1]], opened[1]) - 1, opened[2]
    assert KINDS[earlier] is Kind.SHUT_EPOCH
    copied = replace(WORLD.leaves[earlier], state_root=WORLD.leaves[index - 1].state_root)
    leaves = [*WORLD.leaves[:index], copied]
    leaves.append(WORLD.reopened(index, log_of(leaves)[0]))
    head, hashes = log_of(leaves)
    signed = sign(replace(SIGNED.checkpoint, size=head.size, root=head.root))
    state = WORLD.states[index]
    fraud = build_fraud(state, index + 1, leaves.__getitem__, signed, hashes)
    assert verdict(fraud) == "convicted: bad_closed_log"


@pytest.mark.parametrize(
    "closed",
    [
        TreeHead(0, NETWORK),
        TreeHead(1, bytes(32)),
        TreeHead(OPEN_EPOCH.index, bytes(32)),
        TreeHead(OPEN_EPOCH.index + 1, bytes(32)),
        TreeHead(1 << 60, bytes(32)),
    ],
)
def test_an_epoch_over_a_log_that_never_was_convicts(closed: TreeHead) -> None:
    body = Entry.decode(OPEN_EPOCH.step.leaf.entry).body
    assert isinstance(body, OpenEpoch)
    leaf = WORLD.resigned(OPEN_EPOCH.index, replace(body, closed=closed))
    assert verdict(WORLD.lie(OPEN_EPOCH.index, leaf)) == "convicted: bad_closed_log"


def test_only_what_the_operator_signed_with_both_keys_counts() -> None:
    lines = CLAIM.signed.signatures
    assert len(lines) == 2
    for signatures in (lines[:1], lines[1:]):
        half = replace(CLAIM, signed=replace(CLAIM.signed, signatures=signatures))
        assert verdict(half) == "unsigned_checkpoint"
    minted = replace(CLAIM.signed.checkpoint, state_root=bytes(32))
    assert verdict(replace(CLAIM, signed=replace(CLAIM.signed, checkpoint=minted))) == (
        "invalid_signature"
    )


def test_another_networks_keys_judge_nothing() -> None:
    domain = replace(SIGNED_PARAMS.domain, network=NetworkId(bytes(32)))
    assert verdict(CLAIM, Trust.of(replace(SIGNED_PARAMS, domain=domain))) == "other_log"


def test_a_state_without_time_convicts_nobody() -> None:
    """The step that took the network's cell away does."""
    state = WORLD.states[9]
    cells = {key: cell for key, cell in state.cells.items() if not isinstance(cell, NetworkCell)}
    tree = StateTree.build(StateLeaf(key, cell_digest(cell)) for key, cell in cells.items())
    previous = replace(WORLD.leaves[8], state_root=tree.root)
    leaves = [*WORLD.leaves[:8], previous, WORLD.leaves[9]]
    head, hashes = log_of(leaves)
    signed = sign(replace(SIGNED.checkpoint, size=head.size, root=head.root))
    honest = build_fraud(state, 9, WORLD.leaves.__getitem__, signed, hashes)
    lost = replace(state, tree=tree, cells=cells)
    keys = [part.key for part in honest.state.parts if not isinstance(part, int | bytes)]
    timeless = PartialState.of(lost, keys, ())
    before = replace(honest.previous, leaf=previous) if honest.previous else None
    assert verdict(replace(honest, previous=before, state=timeless)) == "incomplete_evidence"


@pytest.mark.parametrize(
    "state",
    [
        PartialState((200, bytes(32), 200, bytes(32), bytes(32))),
        PartialState((200, 100, bytes(32), bytes(32), bytes(32))),
    ],
)
def test_bits_that_do_not_rise_are_no_tree(state: PartialState) -> None:
    assert verdict(replace(CLAIM, state=state)) == "malformed_message"


def test_the_encoding_ends_where_it_ends() -> None:
    raw = CLAIM.encode()
    assert raw.startswith(MAGIC + b"\x03")
    for bad in (raw[:-1], raw + b"\0"):
        with pytest.raises(MalformedMessage):
            decode_evidence(bad)
    (held,) = honest(Kind.LOSS).state.holdings
    nobody = held._replace(provider=address("sam"))
    pair = sorted((held, nobody), reverse=True)
    disorder = replace(CLAIM, state=replace(CLAIM.state, holdings=tuple(pair)))
    assert refusal(lambda: decode_evidence(disorder.encode())) == "malformed_message"


def test_evidence_is_small() -> None:
    sizes = [len(WORLD.fraud(index, SIGNED).encode()) for index in range(len(WORLD.leaves))]
    assert max(sizes) < 6_000, sizes
