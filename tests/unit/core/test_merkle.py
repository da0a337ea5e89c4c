"""The shard tree against RFC 6962's recursive definition and against merkletools."""

from __future__ import annotations

import hashlib
import importlib

import pytest

from dsn.core.merkle import (
    ShardHasher,
    build_path,
    leaf_hash,
    path_length,
    root_of_groups,
    shard_commit,
    verify_path,
)
from dsn.errors import InvalidProof, MalformedMessage
from dsn.units import FRAME_BYTES, GROUP_LEAVES, LEAF_BYTES


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def tree(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, without its prefixes: split at the largest power of two below n."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha(tree(leaves[:split]) + tree(leaves[split:]))


def path(leaves: list[bytes], index: int) -> list[bytes]:
    """RFC 6962, 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if index < split:
        return [*path(leaves[:split], index), tree(leaves[split:])]
    return [*path(leaves[split:], index - split), tree(leaves[:split])]


def leaf_hashes(shard: bytes) -> list[bytes]:
    return [
        sha(shard[at : at + LEAF_BYTES].ljust(LEAF_BYTES, b"\0"))
        for at in range(0, len(shard), LEAF_BYTES)
    ]


def fake_leaves(count: int) -> list[bytes]:
    return [sha(index.to_bytes(4, "big")) for index in range(count)]


def groups_of(leaves: list[bytes]) -> bytes:
    starts = range(0, len(leaves), GROUP_LEAVES)
    return b"".join(tree(leaves[at : at + GROUP_LEAVES]) for at in starts)


def built(leaves: list[bytes], index: int) -> list[bytes]:
    start = index - index % GROUP_LEAVES
    own = b"".join(leaves[start : start + GROUP_LEAVES])
    return build_path(groups_of(leaves), len(leaves), index, own)


SIZES = [
    1, 1_023, 1_024, 1_025, 5_000, 64 << 10, (64 << 10) + 1,
    FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 2 * FRAME_BYTES + 70_000,
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_a_shards_root_groups_and_commit(size: int) -> None:
    shard = bytes(range(251)) * (size // 251 + 1)
    shard = shard[:size]
    hasher, leaves = ShardHasher.over(shard), leaf_hashes(shard)
    assert hasher.length == size
    assert hasher.root() == tree(leaves)
    assert hasher.groups() == groups_of(leaves)
    assert root_of_groups(hasher.groups(), len(leaves)) == hasher.root()
    numbers = len(leaves).to_bytes(8, "big") + size.to_bytes(8, "big")
    assert hasher.commit() == sha(b"dsn/shard/v1\0\0\0\0\1" + hasher.root() + numbers)


def test_a_commit_names_the_length_not_the_padding() -> None:
    short, padded = ShardHasher.over(b"x"), ShardHasher.over(b"x".ljust(LEAF_BYTES, b"\0"))
    assert short.root() == padded.root() == leaf_hash(b"x")
    assert short.commit() != padded.commit()
    assert shard_commit(short.root(), 1, 1) == short.commit()


def test_any_buffer_is_hashed() -> None:
    assert ShardHasher.over(bytearray(5_000)).root() == ShardHasher.over(bytes(5_000)).root()
    assert leaf_hash(memoryview(bytes(10))) == leaf_hash(bytearray(1_024))


@pytest.mark.parametrize(
    "sizes",
    [[0], [FRAME_BYTES + 1], [FRAME_BYTES, 0], [1, 1], [FRAME_BYTES, 5, FRAME_BYTES]],
)
def test_frames_are_whole_but_the_last(sizes: list[int]) -> None:
    hasher = ShardHasher()
    for size in sizes[:-1]:
        hasher.update(bytes(size))
    with pytest.raises(MalformedMessage) as caught:
        hasher.update(bytes(sizes[-1]))
    assert caught.value.detail_code == "bad_frame"


def test_an_empty_shard_has_no_commit() -> None:
    for ask in (ShardHasher().root, ShardHasher().commit):
        with pytest.raises(MalformedMessage):
            ask()


COUNTS = [*range(1, 70), 127, 128, 129, 1_023, 1_024, 1_025, 2_500]


@pytest.mark.parametrize("count", COUNTS)
def test_every_path_is_rfc_6962s_and_verifies(count: int) -> None:
    leaves = fake_leaves(count)
    root = tree(leaves)
    step = max(1, count // 40)
    for index in {*range(0, count, step), count - 1}:
        found = built(leaves, index)
        assert found == path(leaves, index)
        assert path_length(index, count) == len(found)
        verify_path(root, index, count, leaves[index], found)


def refused(*arguments: object) -> str:
    with pytest.raises(InvalidProof) as caught:
        verify_path(*arguments)  # type: ignore[arg-type]
    return caught.value.detail_code


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 65, 130])
def test_a_wrong_path_is_refused_with_its_reason(count: int) -> None:
    leaves = fake_leaves(count)
    root = tree(leaves)
    for index in range(count):
        found, leaf = built(leaves, index), leaves[index]
        assert refused(root, index, count, leaf, [*found, root]) == "trailing"
        assert refused(root, count, count, leaf, found) == "index"
        assert refused(root, -1, count, leaf, found) == "index"
        assert refused(bytes(32), index, count, leaf, found) == "shard"
        assert refused(root, index, count, bytes(32), found) == "shard"
        if found:
            assert refused(root, index, count, leaf, found[:-1]) == "short"
            assert refused(root, index, count, leaf, [*found[:-1], bytes(32)]) == "shard"
        if len(set(found)) > 1:
            assert refused(root, index, count, leaf, found[::-1]) == "shard"


def test_a_path_holds_for_its_own_place_only() -> None:
    for count in range(2, 40):
        leaves = fake_leaves(count)
        for index in range(count):
            found = built(leaves, index)
            for other in set(range(count)) - {index}:
                with pytest.raises(InvalidProof):
                    verify_path(tree(leaves), other, count, leaves[index], found)


def test_a_node_cannot_pose_as_a_leaf() -> None:
    leaves = fake_leaves(4)
    node = sha(leaves[0] + leaves[1])
    assert refused(tree(leaves), 0, 4, node, [sha(leaves[2] + leaves[3])]) == "short"
    assert leaf_hash(leaves[0] + leaves[1]) != node


def test_group_hashes_must_fit_the_leaf_count() -> None:
    leaves = fake_leaves(65)
    for groups, count in [(groups_of(leaves), 64), (groups_of(leaves)[:32], 65), (b"", 0)]:
        with pytest.raises(AssertionError):
            root_of_groups(groups, count)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 64, 65, 100])
def test_merkletools_agrees(count: int) -> None:
    pytest.importorskip("merkletools", reason="needs the extra second-opinion")
    tools = importlib.import_module("merkletools").MerkleTools(hash_type="sha256")
    leaves = fake_leaves(count)
    tools.add_leaf([leaf.hex() for leaf in leaves])
    tools.make_tree()
    root = tree(leaves)
    assert tools.get_merkle_root() == root.hex()
    for index in range(count):
        proof = tools.get_proof(index)
        ours = built(leaves, index)
        assert [next(iter(step.values())) for step in proof] == [step.hex() for step in ours]
        verify_path(root, index, count, leaves[index], ours)
        assert tools.validate_proof(proof, leaves[index].hex(), root.hex())
