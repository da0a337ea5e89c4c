from __future__ import annotations

import random

import pytest

from dsn.core.hashing import sha256
from dsn.errors import InvalidProof, NotFound
from dsn.ids import Commit
from dsn.proofs.deletion import build_deletion_proof, verify_deletion_proof
from dsn.proofs.inventory import SumTree, holdings
from tests.support.signing import refusal

SEED = 7


def some(count: int) -> dict[Commit, int]:
    return {Commit(sha256(bytes([n]))): 1 + n % 5 for n in range(count)}


def tree(pairs: dict[Commit, int]) -> SumTree:
    return holdings(pairs.items())


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_the_root_without_a_shard_is_derived(count: int) -> None:
    pairs = some(count)
    held = tree(pairs)
    for commit, leaves in pairs.items():
        proof = build_deletion_proof(held, commit)
        gone = verify_deletion_proof(proof, root=held.root, total=held.total)
        rest = held.remove(commit)
        assert (gone.commit, gone.leaf_count) == (commit, leaves)
        assert (gone.root, gone.total) == (rest.root, rest.total)
        assert held.locate(gone.first_leaf).key == commit
        assert held.locate(gone.first_leaf).offset == 0


def test_shards_go_one_after_the_other_in_any_order() -> None:
    rng, pairs = random.Random(SEED), some(25)
    held = tree(pairs)
    root, total = held.root, held.total
    for commit in rng.sample(sorted(pairs), len(pairs)):
        proof = build_deletion_proof(held, commit)
        gone = verify_deletion_proof(proof, root=root, total=total)
        held, root, total = held.remove(commit), gone.root, gone.total
        assert (held.root, held.total) == (root, total), SEED
    assert (root, total) == (bytes(32), 0)


def test_a_shard_that_is_not_there_has_no_proof() -> None:
    with pytest.raises(NotFound):
        build_deletion_proof(tree(some(3)), Commit(bytes(32)))


def test_every_reason_has_its_code() -> None:
    held = tree(some(12))
    commit = Commit(next(iter(held))[0])
    proof = build_deletion_proof(held, commit)

    def code(bad: bytes, root: bytes = held.root, total: int = held.total) -> str:
        return refusal(lambda: verify_deletion_proof(bad, root=root, total=total))

    zero = (0).to_bytes(8, "big")
    assert code(proof[:-1]) == "short"
    assert code(b"") == "short"
    assert code(proof[:32] + zero + proof[40:]) == "index"
    assert code(proof[:40] + held.total.to_bytes(8, "big") + proof[48:]) == "index"
    assert code(proof[:48] + zero + proof[56:]) == "sum"
    assert code(proof + b"\0") == "trailing"
    assert code(bytes(32) + proof[32:]) == "holdings"
    assert code(proof, root=bytes(32)) == "holdings"


def test_a_shard_counts_only_where_it_starts() -> None:
    held = tree({Commit(bytes(32)): 3, Commit(b"\xff" * 32): 2})
    proof = build_deletion_proof(held, Commit(bytes(32)))
    bad = proof[:40] + (1).to_bytes(8, "big") + proof[48:]
    assert refusal(lambda: verify_deletion_proof(bad, root=held.root, total=5)) == "index"


def test_no_changed_proof_is_accepted() -> None:
    rng, held = random.Random(SEED), tree(some(9))
    for key, _ in held:
        proof = build_deletion_proof(held, Commit(key))
        for _ in range(200):
            bad = bytearray(proof)
            bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            with pytest.raises(InvalidProof):
                verify_deletion_proof(bytes(bad), root=held.root, total=held.total)


def test_too_many_levels_are_refused() -> None:
    steps = b"".join((total - 1).to_bytes(8, "big") + bytes(32) for total in range(300, 1, -1))
    proof = bytes(32) + (1).to_bytes(8, "big") + (0).to_bytes(8, "big") + steps
    assert refusal(lambda: verify_deletion_proof(proof, root=bytes(32), total=300)) == "deep"
