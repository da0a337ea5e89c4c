from __future__ import annotations

import random
from hashlib import sha256

import pytest

from dsn.errors import InvalidProof, MalformedMessage
from dsn.ledger.log import (
    EMPTY_ROOT,
    MAX_ENTRY_BYTES,
    MAX_LOG_SIZE,
    Frontier,
    LogLeaf,
    Subtree,
    TreeHead,
    build_consistency_proof,
    build_inclusion_proof,
    build_prefix_proof,
    fold_prefix_proof,
    leaf_hash,
    node_hash,
    verify_consistency_proof,
    verify_inclusion_proof,
)
from tests.support.ledger_log import counted, log_of

# Leaves and roots that implementations of RFC 6962 have tested themselves with since 2013.
CT_LEAVES = [
    bytes.fromhex(each)
    for each in (
        *("", "00", "10", "2021", "3031", "40414243"),
        *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
    )
]
CT_ROOTS = """
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d
    fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125
    aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77
    d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7
    4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4
    76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef
    ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c
    5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328
""".split()
LOG = counted(100)
LEAF = LogLeaf(b"entry", b"\x01" * 65, b"\x02" * 32)


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_certificate_transparency(size: int) -> None:
    frontier, _ = Frontier().extend(map(leaf_hash, CT_LEAVES[:size]))
    assert frontier.head == (size, bytes.fromhex(CT_ROOTS[size]))


def test_the_empty_log_has_the_root_of_nothing() -> None:
    assert Frontier().head == (0, EMPTY_ROOT)
    assert sha256(b"").digest() == EMPTY_ROOT


def test_a_leaf_cannot_pose_as_a_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert (
        leaf_hash(left + right) != node_hash(left, right) == sha256(b"\x01" + left + right).digest()
    )


def test_appending_one_by_one_or_in_batches_gives_the_same_log() -> None:
    seed = 4
    rng = random.Random(seed)
    digests = [leaf_hash(leaf) for leaf in LOG.leaves]
    frontier, hashes = Frontier(), dict[Subtree, bytes]()
    while frontier.size < len(digests):
        batch = digests[frontier.size : frontier.size + rng.randrange(9)]
        frontier, completed = frontier.extend(batch)
        assert not hashes.keys() & completed.keys(), f"seed {seed}"
        hashes |= completed
    assert frontier.head == LOG.head(100), f"seed {seed}"
    assert hashes == Frontier().extend(digests)[1], f"seed {seed}"


def test_a_frontier_keeps_one_hash_for_every_bit_of_its_size() -> None:
    assert [len(Frontier.at(LOG.hashes, size).peaks) for size in (0, 1, 64, 63, 100)] == [
        *(0, 1, 1, 6, 3)
    ]


def test_a_frontier_goes_on_from_where_a_store_left_it() -> None:
    rest = (leaf_hash(leaf) for leaf in LOG.leaves[61:])
    frontier, completed = Frontier.at(LOG.hashes, 61).extend(rest)
    assert frontier.head == LOG.head(100)
    assert all(LOG.hashes(subtree) == digest for subtree, digest in completed.items())


def test_completed_subtrees_are_those_that_end_with_the_new_leaf() -> None:
    _, completed = Frontier.at(LOG.hashes, 7).extend([leaf_hash(LOG.leaves[7])])
    assert list(completed) == [Subtree(0, 7), Subtree(1, 3), Subtree(2, 1), Subtree(3, 0)]


def test_every_leaf_is_in_every_later_log() -> None:
    for size in range(1, 70):
        for index in range(size):
            path = build_inclusion_proof(LOG.hashes, index, size)
            verify_inclusion_proof(LOG.head(size), index, leaf_hash(LOG.leaves[index]), path)


def test_every_log_is_the_beginning_of_every_later_one() -> None:
    for new in range(70):
        for old in range(new + 1):
            path = build_consistency_proof(LOG.hashes, old, new)
            verify_consistency_proof(LOG.head(old), LOG.head(new), path)


def inclusion(index: int = 77, size: int = 100) -> list[bytes]:
    return build_inclusion_proof(LOG.hashes, index, size)


@pytest.mark.parametrize(
    ("index", "path", "code"),
    [
        (100, inclusion(), "index"),
        (-1, inclusion(), "index"),
        (77, inclusion()[1:], "short"),
        (77, [*inclusion(), bytes(32)], "trailing"),
        (77, inclusion()[::-1], "not_in_log"),
        (76, inclusion(), "not_in_log"),
        (77, inclusion(76), "not_in_log"),
        (99, inclusion(77), "trailing"),
        (77, [*inclusion()[:-1], bytes(31)], "malformed_message"),
    ],
)
def test_a_wrong_inclusion_proof_is_refused(index: int, path: list[bytes], code: str) -> None:
    with pytest.raises((InvalidProof, MalformedMessage)) as refused:
        verify_inclusion_proof(LOG.head(100), index, leaf_hash(LOG.leaves[77]), path)
    assert refused.value.detail_code == code


def test_another_leaf_is_not_in_the_log() -> None:
    with pytest.raises(InvalidProof) as refused:
        verify_inclusion_proof(LOG.head(100), 77, leaf_hash(b"leaf 770"), inclusion())
    assert refused.value.detail_code == "not_in_log"
    assert refused.value.message == "leaf 77 is not in the log of 100 leaves"


def test_nothing_is_in_an_empty_log() -> None:
    with pytest.raises(InvalidProof) as refused:
        verify_inclusion_proof(TreeHead(0, EMPTY_ROOT), 0, leaf_hash(b""), [])
    assert refused.value.detail_code == "index"


def consistency(old: int = 61, new: int = 100) -> list[bytes]:
    return build_consistency_proof(LOG.hashes, old, new)


def head(size: int, fork: int = 1 << 63) -> TreeHead:
    return counted(100, fork).head(size)


@pytest.mark.parametrize(
    ("old", "new", "path", "code"),
    [
        (head(100), head(61), consistency(), "log_shrunk"),
        (head(61), head(100), consistency()[1:], "short"),
        (head(61), head(100), [*consistency(), bytes(32)], "trailing"),
        (head(61), head(100), consistency(60), "short"),
        (head(61, fork=60), head(100), consistency(), "log_forked"),
        (head(61), head(100, fork=60), consistency(), "log_forked"),
        (head(61), head(100, fork=62), consistency(), "log_forked"),
        (head(61), head(100), consistency()[::-1], "log_forked"),
        (head(61), head(61, fork=60), [], "log_forked"),
        (head(61), head(61), [bytes(32)], "trailing"),
        (TreeHead(0, bytes(32)), head(61), [], "log_forked"),
        (TreeHead(0, EMPTY_ROOT), TreeHead(0, bytes(32)), [], "log_forked"),
        (head(0), head(61), [bytes(32)], "trailing"),
        (head(64, fork=63), head(100), consistency(64), "log_forked"),
        (head(64), head(100), [bytes(32), *consistency(64)], "trailing"),
        (head(61), head(100), [b"", *consistency()[1:]], "malformed_message"),
    ],
)
def test_a_wrong_consistency_proof_is_refused(
    old: TreeHead, new: TreeHead, path: list[bytes], code: str
) -> None:
    with pytest.raises((InvalidProof, MalformedMessage)) as refused:
        verify_consistency_proof(old, new, path)
    assert refused.value.detail_code == code


def test_a_fork_can_be_followed_by_its_own_proof_only() -> None:
    fork = counted(100, 70)
    path = build_consistency_proof(fork.hashes, 61, 100)
    verify_consistency_proof(LOG.head(61), fork.head(100), path)
    with pytest.raises(InvalidProof):
        verify_consistency_proof(LOG.head(61), LOG.head(100), path)


def test_a_prefix_proof_tells_both_roots() -> None:
    for old, new in ((1, 1), (1, 100), (61, 100), (64, 100), (99, 100), (100, 100)):
        path = build_prefix_proof(LOG.hashes, old, new)
        assert fold_prefix_proof(path, old, new) == (LOG.head(old).root, LOG.head(new).root)


def test_the_largest_log_needs_no_more_than_sixty_four_hashes() -> None:
    size = MAX_LOG_SIZE
    head, leaf = TreeHead(size, bytes(32)), leaf_hash(b"")
    for index, steps in ((0, 63), (size - 1, 62)):
        with pytest.raises(InvalidProof) as refused:
            verify_inclusion_proof(head, index, leaf, [bytes(32)] * steps)
        assert refused.value.detail_code == "not_in_log"
    with pytest.raises(InvalidProof) as refused:
        verify_consistency_proof(TreeHead(size - 2, leaf), head, [])
    assert refused.value.message == "a path of 0 hashes, 64 needed"


def test_a_leaf_field_by_field() -> None:
    assert LEAF.encode() == b"entry" + b"\x01" * 65 + b"\x02" * 32
    assert LogLeaf.decode(LEAF.encode()) == LEAF


@pytest.mark.parametrize("size", [0, 97, 97 + MAX_ENTRY_BYTES + 1])
def test_a_leaf_without_an_entry_or_with_too_much_is_malformed(size: int) -> None:
    with pytest.raises(MalformedMessage):
        LogLeaf.decode(bytes(size))


def test_the_largest_leaf_fits_a_bundle() -> None:
    largest = LogLeaf(bytes(MAX_ENTRY_BYTES), bytes(65), bytes(32))
    assert LogLeaf.decode(largest.encode()) == largest
    assert len(largest.encode()) < 1 << 16


def test_a_log_is_its_leaves_in_their_order() -> None:
    seen = {log_of(leaves).head(2).root for leaves in ([b"a", b"b"], [b"b", b"a"], [b"ab", b""])}
    assert len(seen) == 3
