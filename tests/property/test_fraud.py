"""No honest step convicts anybody, every step that was tampered with convicts the operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from dsn.errors import DsnError, InvalidProof
from dsn.ledger.bodies import Kind, OpenEpoch, Transfer, Withdraw
from dsn.ledger.cells import cell_digest
from dsn.ledger.checkpoint import NoteKey
from dsn.ledger.conviction import Conviction
from dsn.ledger.entry import Entry, sign_entry
from dsn.ledger.evidence import convict, decode_evidence
from dsn.ledger.fraud import Fraud, closed_before
from dsn.ledger.log import LogLeaf
from dsn.ledger.state import FIRST_EPOCH
from tests.support.fraud_world import TRUST, History, SignedWorld, every_kind
from tests.support.ledger_world import BY_ADDRESS, KEYS, address

HISTORIES, STEPS = 304, 24
PARTS = 8
LIARS = 16
MUTATIONS = 2_000


def judge(fraud: Fraud) -> Conviction | str:
    """The conviction, or the code of why there is none, after it travelled."""
    try:
        return convict(decode_evidence(fraud.encode()), TRUST)
    except InvalidProof as error:
        return error.detail_code


def check_honest(world: SignedWorld, name: str) -> None:
    signed = world.signed_checkpoint()
    for index in range(len(world.leaves)):
        assert judge(world.fraud(index, signed)) == "no_fault", f"{name}, entry {index}"


@pytest.mark.parametrize("part", range(PARTS))
def test_no_honest_step_is_ever_convicted(part: int) -> None:
    for seed in range(part, HISTORIES, PARTS):
        check_honest(History(seed, STEPS).world, f"seed {seed}")


def test_no_honest_step_of_any_kind_is_convicted() -> None:
    """Both ways to slash what was missed are seldom met at random."""
    for missed in (True, False):
        check_honest(every_kind(missed), f"missed {missed}")
    worlds = (every_kind(True), every_kind(False))
    entries = (Entry.decode(leaf.entry) for world in worlds for leaf in world.leaves)
    assert {entry.body.kind for entry in entries} == set(Kind)


def tampered(world: SignedWorld, index: int, random: Random) -> Iterator[tuple[str, LogLeaf]]:
    """What an operator could have logged as entry ``index``, and the fault that it is."""
    leaf, was = world.leaves[index], Entry.decode(world.leaves[index].entry)
    before = world.states[index]
    after = world.states[index + 1] if index + 1 < len(world.states) else world.state
    flipped = bytearray(leaf.state_root)
    flipped[random.randrange(32)] ^= 1 << random.randrange(8)
    yield "state_root_differs", replace(leaf, state_root=bytes(flipped))
    lucky = after.account(address(random.choice(("operator", "sam", BY_ADDRESS[was.signer]))))
    minted = cell_digest(richer := replace(lucky, available=lucky.available + 1))
    root = after.tree.put(richer.key, minted).root
    yield "state_root_differs", replace(leaf, state_root=root)
    yield "state_root_differs", replace(leaf, state_root=before.root)
    forger = random.choice([key for key in KEYS.values() if key.address != was.signer])
    forged = sign_entry(was, TRUST.params.domain, forger).signature
    yield "invalid_signature", replace(leaf, signature=forged)
    yield "not_enough_credit", world.resigned(index, Withdraw(1 << 60))
    other = next(key.address for key in KEYS.values() if key.address != was.signer)
    yield "zero_amount", world.resigned(index, Transfer(other, 0))
    yield "nonce_gap", world.resigned(index, was.body, nonce=was.nonce + 1)
    yield "nonce_used", world.resigned(index, was.body, nonce=was.nonce - 1)
    yield "unknown_kind", replace(leaf, entry=b"\xff" + leaf.entry[1:])
    if isinstance(was.body, OpenEpoch):
        value = world.resigned(index, replace(was.body, value=bytes(32)))
        yield "bad_beacon", value
        closed = was.body.closed._replace(root=bytes(32))
        yield "bad_closed_log", world.resigned(index, replace(was.body, closed=closed))
        if was.body.epoch > FIRST_EPOCH:
            sizes = [n for n in range(1, index + 1) if n != was.body.closed.size]
            earlier = world.head_at(random.choice(sizes))
            yield "bad_closed_log", world.reopened(index, earlier)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_tampered_step_is_convicted(part: int) -> None:
    worlds = {f"seed {n}": History(n, STEPS).world for n in range(part, LIARS, PARTS)}
    if part < 2:
        worlds["every kind"] = every_kind(bool(part))
    for name, world in worlds.items():
        random = Random(part)
        for index in range(len(world.leaves)):
            for fault, leaf in tampered(world, index, random):
                found = judge(world.lie(index, leaf))
                where = f"{name}, entry {index}, {fault}: {found}"
                assert isinstance(found, Conviction), where
                assert (found.accused, found.fault) == (TRUST.operator, fault), where


def mangled(raw: bytes, random: Random) -> bytes:
    """``raw`` with a few bytes changed, cut, doubled or moved."""
    at, size = random.randrange(len(raw)), random.choice((1, 1, 1, 2, 32, 33))
    part = raw[at : at + size]
    new = random.choice(
        (
            bytes([part[0] ^ 1 << random.randrange(8)]) + part[1:],
            random.randbytes(len(part)),
            bytes(len(part)),
            b"",
            part + part,
            raw[(other := random.randrange(len(raw))) : other + len(part)],
        )
    )
    return raw[:at] + new + raw[at + size :]


def accused_by(raw: bytes) -> NoteKey | None:
    """Whom a file convicts; what can be read has one spelling."""
    try:
        evidence = decode_evidence(raw)
        assert evidence.encode() == raw
        return convict(evidence, TRUST).accused
    except DsnError:
        return None


def test_mangled_evidence_never_convicts_the_honest() -> None:
    random = Random(7)
    world = History(7, STEPS).world
    signed = world.signed_checkpoint()
    files = [world.fraud(index, signed).encode() for index in range(len(world.leaves))]
    for number in range(MUTATIONS):
        raw = mangled(random.choice(files), random)
        if random.random() < 0.3:
            raw = mangled(raw, random)
        assert accused_by(raw) is None, f"mutation {number}"


def test_no_changed_byte_leaves_a_conviction() -> None:
    """Every byte of a file bears on what it proves, so two files never tell of one fault."""
    world, random = every_kind(True), Random(9)
    index = max(at for at, leaf in enumerate(world.leaves) if closed_before(leaf, at))
    opening = world.reopened(index, world.head_at(index - 1))
    for leaf in (replace(world.leaves[index], state_root=bytes(32)), opening):
        raw = world.lie(index, leaf).encode()
        assert accused_by(raw) == TRUST.operator
        for at in range(len(raw)):
            changed = bytearray(raw)
            changed[at] ^= 1 << random.randrange(8)
            assert accused_by(bytes(changed)) is None, f"byte {at} of {len(raw)}: {changed[at]}"


def test_mangled_evidence_against_a_liar_convicts_nobody_else() -> None:
    random = Random(8)
    world = History(8, STEPS).world
    files = [
        world.lie(index, leaf).encode()
        for index in range(0, len(world.leaves), 5)
        for _, leaf in tampered(world, index, random)
    ]
    convicted = 0
    for number in range(MUTATIONS):
        accused = accused_by(mangled(random.choice(files), random))
        assert accused in (None, TRUST.operator), f"mutation {number}"
        convicted += accused is not None
    assert convicted < MUTATIONS // 4
