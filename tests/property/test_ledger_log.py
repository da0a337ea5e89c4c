"""Logs of any size against RFC 6962's own definitions, and readers of the log against forks."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dsn.errors import InvalidProof
from dsn.ledger.checkpoint import Checkpoint, NoteKey, verify_growth
from dsn.ledger.evidence import Fault, accuse, decode_evidence, judge
from dsn.ledger.log import (
    Frontier,
    build_consistency_proof,
    build_inclusion_proof,
    build_prefix_proof,
    leaf_hash,
    verify_consistency_proof,
    verify_inclusion_proof,
)
from dsn.ledger.tiles import build_tile, grown_tiles, hashes_of_tiles
from tests.support.ledger_log import NOW_S, OPERATOR, WITNESSES, MadeLog, at, counted, signed

MOST = 600
LOG = counted(MOST)
sizes = st.integers(1, MOST)
forks = st.sampled_from([0, 1, 2, 3, 63, 64, 65, 200, 255, 256, 300, 511, 512, 599])


def below(size: int) -> int:
    """k of RFC 6962: the largest power of two below ``size``."""
    k = 1
    while 2 * k < size:
        k *= 2
    return k


@cache
def tree_hash(start: int, end: int) -> bytes:
    """MTH(D[start:end]) of RFC 6962, section 2.1."""
    if end - start == 0:
        return sha256().digest()
    if end - start == 1:
        return sha256(b"\0" + LOG.leaves[start]).digest()
    k = start + below(end - start)
    return sha256(b"\1" + tree_hash(start, k) + tree_hash(k, end)).digest()


def audit_path(m: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[start:end]) of section 2.1.1; ``m`` counts from 0 in the whole log."""
    if end - start == 1:
        return []
    k = start + below(end - start)
    if m < k:
        return [*audit_path(m, start, k), tree_hash(k, end)]
    return [*audit_path(m, k, end), tree_hash(start, k)]


def subproof(m: int, start: int, end: int, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[start:end], b) of section 2.1.2."""
    if m == end:
        return [] if whole else [tree_hash(start, end)]
    k = start + below(end - start)
    if m <= k:
        return [*subproof(m, start, k, whole), tree_hash(k, end)]
    return [*subproof(m, k, end, False), tree_hash(start, k)]


@given(sizes, st.data())
def test_roots_and_proofs_are_what_the_standard_defines(size: int, data: st.DataObject) -> None:
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size))
    assert LOG.head(size).root == tree_hash(0, size)
    assert build_inclusion_proof(LOG.hashes, index, size) == audit_path(index, 0, size)
    assert build_consistency_proof(LOG.hashes, old, size) == subproof(old, 0, size, True)


@given(st.lists(st.integers(0, 90), max_size=8))
def test_a_log_does_not_depend_on_how_it_was_batched(batches: list[int]) -> None:
    frontier = Frontier()
    for batch in batches:
        leaves = LOG.leaves[frontier.size : frontier.size + batch]
        frontier, _ = frontier.extend(map(leaf_hash, leaves))
    assert frontier == Frontier.at(LOG.hashes, frontier.size)
    assert frontier.head == LOG.head(frontier.size)


@given(sizes, sizes)
def test_tiles_hold_the_whole_log(old: int, new: int) -> None:
    tiles = {tile: build_tile(LOG.hashes, tile) for tile in grown_tiles(0, new)}
    hashes = hashes_of_tiles(tiles.__getitem__, new)
    old = min(old, new)
    assert Frontier.at(hashes, old) == Frontier.at(LOG.hashes, old)
    proof = build_consistency_proof(hashes, old, new)
    verify_consistency_proof(LOG.head(old), LOG.head(new), proof)


def flip(path: Sequence[bytes], at: int, bit: int) -> list[bytes]:
    """``path`` with one bit of one hash changed."""
    changed = list(path)
    raw = bytearray(changed[at % len(path)])
    raw[bit // 8] ^= 1 << bit % 8
    changed[at % len(path)] = bytes(raw)
    return changed


@given(sizes, sizes, st.integers(0, 99), st.integers(0, 255))
def test_every_bit_of_a_proof_counts(old: int, new: int, at: int, bit: int) -> None:
    old, new = sorted((old, new))
    if path := build_consistency_proof(LOG.hashes, old, new):
        with pytest.raises(InvalidProof):
            verify_consistency_proof(LOG.head(old), LOG.head(new), flip(path, at, bit))
    leaf = leaf_hash(LOG.leaves[old - 1])
    if path := build_inclusion_proof(LOG.hashes, old - 1, new):
        with pytest.raises(InvalidProof):
            verify_inclusion_proof(LOG.head(new), old - 1, leaf, flip(path, at, bit))


@given(sizes, sizes, sizes)
def test_a_leaf_is_at_its_own_index_in_its_own_log_only(index: int, size: int, other: int) -> None:
    assume(index <= size)
    path = build_inclusion_proof(LOG.hashes, index - 1, size)
    leaf = leaf_hash(LOG.leaves[index - 1])
    for claimed, head in ((other - 1, LOG.head(size)), (index - 1, LOG.head(other))):
        if (claimed, head.size) != (index - 1, size):
            with pytest.raises(InvalidProof):
                verify_inclusion_proof(head, claimed, leaf, path)


def follows(old: Checkpoint, new: Checkpoint, proof: list[bytes]) -> bool:
    with contextlib.suppress(InvalidProof):
        verify_growth(old, new, proof)
        return True
    return False


def convicts(one: Checkpoint, other: Checkpoint, log: MadeLog) -> Fault | None:
    """What the one who holds the larger log finds, by every path that could help."""
    small, large = sorted((one.size, other.size))
    for path in ([], build_prefix_proof(log.hashes, small, large)):
        with contextlib.suppress(InvalidProof):
            return judge(accuse(signed(one), signed(other), OPERATOR, path), OPERATOR)
    return None


@given(forks, sizes, sizes)
def test_who_refuses_to_follow_can_convict(fork: int, old: int, new: int) -> None:
    """A reader refuses growth exactly when its two checkpoints are evidence."""
    old, new = sorted((old, new))
    larger = counted(MOST, fork)
    first, second = at(LOG, old), at(larger, new)
    honest = old <= fork
    for proof in (build_consistency_proof(larger.hashes, old, new), []):
        assert not follows(first, second, proof) or honest
    assert follows(first, second, build_consistency_proof(larger.hashes, old, new)) is honest
    expected = None if honest else Fault.FORK if old == new else Fault.HISTORY
    assert convicts(first, second, larger) is expected


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), min_size=2, max_size=6))
def test_who_only_grows_is_never_convicted(steps: list[tuple[int, int]]) -> None:
    """Whatever two checkpoints are laid side by side, with whatever path."""
    size, time_s, made = 1, NOW_S, []
    for more, later in steps:
        size, time_s = size + more, time_s + later
        made.append(signed(at(LOG, size), (WITNESSES[0], time_s)))
    keys: list[NoteKey] = [OPERATOR, WITNESSES[0]]
    for one in made:
        for other in made:
            small, large = sorted((one.checkpoint.size, other.checkpoint.size))
            for path in ([], build_prefix_proof(LOG.hashes, small, large), [bytes(32)]):
                for key in keys:
                    with pytest.raises(InvalidProof):
                        accuse(one, other, key, path)


@given(forks, sizes, sizes)
def test_evidence_travels(fork: int, old: int, new: int) -> None:
    old, new = sorted((old, new))
    assume(old > fork)
    larger = counted(MOST, fork)
    path = build_prefix_proof(larger.hashes, old, new) if old < new else []
    evidence = accuse(signed(at(LOG, old)), signed(at(larger, new)), OPERATOR, path)
    assert decode_evidence(evidence.encode()) == evidence
