# pragma version 0.4.3
"""
@title Answers
@notice Judges an opening under holdings for as little gas as may be: whoever answers a demand on
    chain pays for it. The same verdict as `openings.judge_holdings`, in one piece.
"""

from lib import sums

STEP: constant(uint256) = 40
MAX_STEPS: constant(uint256) = 64  # nobody finds shards whose hashes have more bits in common
LEAF: constant(uint256) = 1024
MAX_LENGTH: constant(uint256) = 2**40
PATH_LEVELS: constant(uint256) = 30
MAX_ANSWER: constant(uint256) = 8 + MAX_STEPS * STEP + LEAF + PATH_LEVELS * 32
SHARD: constant(bytes16) = 0x64736e2f73686172642f763100000000


@pure
@internal
def fault(answer: Bytes[MAX_ANSWER], root: bytes32, total: uint256, index: uint256) -> String[32]:
    """
    @notice What is wrong with an answer: `shard length u64, steps, data, shard path`.
    @dev The shard's root is where leaf and path lead, so a wrong leaf is one that the holdings do
        not have. `index` is below `total`, and that below 2^63.
    @param answer An opening without its first 32 bytes.
    @param root Of the holdings.
    @param total Leaves under it.
    @param index Which leaf it is to be.
    """
    size: uint256 = len(answer)
    if size < 8:
        return "short"
    length: uint256 = convert(slice(answer, 0, 8), uint256)
    if length == 0 or length > MAX_LENGTH:
        return "length"
    leaves: uint256 = (length + LEAF - 1) // LEAF

    own: uint256 = total
    inside: uint256 = index
    at: uint256 = 8
    turns: DynArray[uint256, MAX_STEPS] = []  # sums on arriving, doubled; one more to go right
    for _: uint256 in range(MAX_STEPS):
        if own == leaves:
            break
        if size < at + STEP:
            return "short"
        left_sum: uint256 = convert(extract32(answer, at), uint256) >> 192
        if left_sum == 0 or left_sum >= own:
            return "sum"
        if inside < left_sum:
            turns.append(own << 1)
            own = left_sum
        else:
            turns.append(own << 1 | 1)
            own = unsafe_sub(own, left_sum)
            inside = unsafe_sub(inside, left_sum)
        if own < leaves:
            return "sum"
        at = unsafe_add(at, STEP)
    if own != leaves:
        return "deep"

    steps_end: uint256 = at
    digest: bytes32 = empty(bytes32)
    stored: uint256 = min(LEAF, length - LEAF * inside)
    if size < at + stored:
        return "short"
    if stored == LEAF:
        digest = sha256(slice(answer, at, LEAF))
    else:
        digest = self._padded_hash(answer, at, stored)
    at = unsafe_add(at, stored)
    width: uint256 = leaves
    for _: uint256 in range(PATH_LEVELS):
        if width == 1:
            break
        if inside ^ 1 < width:
            if size < at + 32:
                return "short"
            if inside & 1 == 1:
                digest = sha256(concat(extract32(answer, at), digest))
            else:
                digest = sha256(concat(digest, extract32(answer, at)))
            at = unsafe_add(at, 32)
        inside >>= 1
        width = unsafe_add(width, 1) >> 1
    if at != size:
        return "trailing"

    count: uint64 = convert(leaves, uint64)
    counts: bytes16 = convert(convert(leaves << 64 | length, uint128), bytes16)
    digest = sums.holdings_leaf(sha256(concat(SHARD, b"\x01", digest, counts)), count)
    at = steps_end
    for _: uint256 in range(len(turns), bound=MAX_STEPS):
        at = unsafe_sub(at, STEP)
        turn: uint256 = turns.pop()
        step: uint256 = convert(extract32(answer, at), uint256)
        sibling: bytes32 = extract32(answer, unsafe_add(at, 8))
        left_sum: uint64 = convert(step >> 192, uint64)
        right_sum: uint64 = convert(unsafe_sub(turn >> 1, step >> 192), uint64)
        if turn & 1 == 1:
            digest = sums.sum_node(left_sum, sibling, right_sum, digest)
        else:
            digest = sums.sum_node(left_sum, digest, right_sum, sibling)
    return "" if digest == root else "holdings"


@pure
@internal
def _padded_hash(answer: Bytes[MAX_ANSWER], at: uint256, size: uint256) -> bytes32:
    """
    @notice Hash of a leaf of less than 1,024 bytes: it is padded with zeros.
    """
    zeros: Bytes[LEAF] = abi_encode(empty(uint256[32]))
    return sha256(slice(concat(slice(answer, at, size), zeros), 0, LEAF))
