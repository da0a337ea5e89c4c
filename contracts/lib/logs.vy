# pragma version 0.4.3
"""
@title The ledger's log
@notice Proofs over the RFC 6962 tree whose leaves are `entry, signature 65, state root 32`.
"""

MAX_LEAF: constant(uint256) = 32865
MAX_PATH: constant(uint256) = 64


@pure
@internal
def leaf_hash(leaf: Bytes[MAX_LEAF]) -> bytes32:
    """
    @notice The hash of a leaf's bytes.
    """
    return sha256(concat(b"\x00", leaf))


@pure
@internal
def _node(left: bytes32, right: bytes32) -> bytes32:
    return sha256(concat(b"\x01", left, right))


@pure
@internal
def root_of(leaf: bytes32, index: uint64, size: uint64, path: DynArray[bytes32, MAX_PATH]) -> bytes32:
    """
    @notice The root that an inclusion proof leads to (RFC 9162, 2.1.3.2).
    @param leaf Hash of the leaf.
    @param index Its number.
    @param size Leaves of the log.
    @param path Siblings, bottom up.
    """
    assert index < size, "bad_path"
    own: uint256 = convert(index, uint256)
    last: uint256 = convert(size - 1, uint256)
    digest: bytes32 = leaf
    for sibling: bytes32 in path:
        assert last != 0, "bad_path"
        if own & 1 == 1 or own == last:
            digest = self._node(sibling, digest)
            for _: uint256 in range(64):
                if own & 1 == 1 or own == 0:
                    break
                own >>= 1
                last >>= 1
        else:
            digest = self._node(digest, sibling)
        own >>= 1
        last >>= 1
    assert last == 0, "bad_path"
    return digest


@pure
@internal
def roots_of(
    path: DynArray[bytes32, MAX_PATH], old_size: uint64, new_size: uint64
) -> (bytes32, bytes32):
    """
    @notice The roots at both sizes that a prefix proof stands for: once the newer is known to be
        right, so is the older.
    @param path The largest node that ends with the older log, then the siblings of its way up.
    @param old_size Leaves of the older log, 1 at least.
    @param new_size Leaves of the newer one.
    """
    assert 0 < old_size and old_size <= new_size and len(path) > 0, "bad_path"
    older: bytes32 = path[0]
    newer: bytes32 = path[0]
    if old_size == new_size:
        assert len(path) == 1, "bad_path"
        return older, newer
    own: uint256 = convert(old_size - 1, uint256)
    last: uint256 = convert(new_size - 1, uint256)
    for _: uint256 in range(64):
        if own & 1 == 0:
            break
        own >>= 1
        last >>= 1
    for at: uint256 in range(1, MAX_PATH):
        if at >= len(path):
            break
        assert last != 0, "bad_path"
        if own & 1 == 1 or own == last:
            older = self._node(path[at], older)
            newer = self._node(path[at], newer)
            for _: uint256 in range(64):
                if own & 1 == 1 or own == 0:
                    break
                own >>= 1
                last >>= 1
        else:
            newer = self._node(newer, path[at])
        own >>= 1
        last >>= 1
    assert last == 0, "bad_path"
    return older, newer
