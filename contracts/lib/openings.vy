# pragma version 0.4.3
"""
@title Openings
@notice Judges what providers show of what they hold: openings of single leaves, deletion proofs,
    and the links that commit to the answers of an epoch. Every function gives the code that
    Python gives (dsn/proofs: opening, deletion, post, challenge), and an empty one where all
    holds.
"""

from lib import sums

MAX_BODY: constant(uint256) = 32865  # an entry's, and so of anything that is in one
MAX_LEVELS: constant(uint256) = 256
STEP: constant(uint256) = 40  # left sum u64, sibling 32
LEAF: constant(uint256) = 1024
MAX_LENGTH: constant(uint64) = 2**40
PATH_LEVELS: constant(uint256) = 30  # of the longest shard
MAX_PART: constant(uint256) = 12416
# more than any proof in one tree has; what is longer is wrong already when it is cut
SHARD_HEAD: constant(uint256) = 40  # root and length, in front of the steps
ENTRY: constant(uint256) = 80  # a deal's, in front of its steps
DELETED: constant(uint256) = 48  # a shard's, in front of its steps
MAX_DRAWN: constant(uint256) = 512  # about 100 TiB under one provider
MAX_PATH: constant(uint256) = 255 * 32

SHARD: constant(bytes16) = 0x64736e2f73686172642f763100000000
SEED: constant(bytes16) = 0x64736e2f736565642f76310000000000
INDEX: constant(bytes16) = 0x64736e2f6964782f7631000000000000
OPEN: constant(bytes16) = 0x64736e2f6f70656e2f76310000000000
ANSWER: constant(bytes16) = 0x64736e2f616e737765722f7631000000
BEACON: constant(bytes16) = 0x64736e2f626561636f6e2f7631000000


struct Deletion:
    # which shard goes, where it stood, and what remains
    commit: bytes32
    leaves: uint64
    first: uint64
    root: bytes32
    total: uint64


struct Link:
    epoch: uint64
    beacon: bytes32
    root: bytes32
    total: uint64
    count: uint32
    answer_root: bytes32


# the sum tree


@pure
@internal
def part(data: Bytes[MAX_BODY], at: uint256, size: uint256) -> Bytes[MAX_PART]:
    """
    @notice `size` bytes of `data` from `at` on, or as many of them as any proof may have.
    """
    return convert(slice(data, at, min(size, MAX_PART)), Bytes[MAX_PART])


@pure
@internal
def _descend(
    data: Bytes[MAX_PART], start: uint256, total: uint256, index: uint256, weight: uint256
) -> (String[32], uint256, uint256):
    """
    @notice Takes steps, which begin at `start`, until the sum is an entry's `weight`.
    @return What is wrong, the number within the entry, and how many steps it took.
    """
    own: uint256 = total
    inside: uint256 = index
    at: uint256 = start
    depth: uint256 = 0
    fault: String[32] = "deep"
    for _: uint256 in range(MAX_LEVELS + 1):
        if own == weight:
            fault = ""
            break
        if len(data) < at + STEP:
            fault = "short"
            break
        left_sum: uint256 = convert(extract32(data, at), uint256) >> 192
        if left_sum == 0 or left_sum >= own:
            own = 0
        elif inside < left_sum:
            own = left_sum
        else:
            own -= left_sum
            inside -= left_sum
        if own < weight or own == 0:
            fault = "sum"
            break
        at += STEP
        depth += 1
    return fault, inside, depth


@pure
@internal
def _climb(
    data: Bytes[MAX_PART],
    start: uint256,
    depth: uint256,
    total: uint256,
    index: uint256,
    leaf: bytes32,
    gone: uint256,
) -> bytes32:
    """
    @notice The root that an entry's hash leads to, by steps that `_descend` took.
    @param gone The entry's weight, if the root without the entry is asked for: a side that became
        empty leaves its place to the other. Else 0.
    """
    # sums on arriving at each node, doubled, plus one where the way goes right
    turns: DynArray[uint256, MAX_LEVELS] = []
    own: uint256 = total
    inside: uint256 = index
    at: uint256 = start
    for _: uint256 in range(depth, bound=MAX_LEVELS):
        left_sum: uint256 = convert(extract32(data, at), uint256) >> 192
        if inside < left_sum:
            turns.append(own << 1)
            own = left_sum
        else:
            turns.append(own << 1 | 1)
            own -= left_sum
            inside -= left_sum
        at += STEP
    digest: bytes32 = leaf
    for _: uint256 in range(depth, bound=MAX_LEVELS):
        at -= STEP
        turn: uint256 = turns.pop()
        sibling: bytes32 = extract32(data, at + 8)
        left_sum: uint256 = convert(extract32(data, at), uint256) >> 192
        right_sum: uint256 = (turn >> 1) - left_sum
        if turn & 1 == 1:
            if right_sum == gone:
                digest = sibling
            else:
                digest = sums.sum_node(
                    convert(left_sum, uint64), sibling, convert(right_sum - gone, uint64), digest
                )
        elif left_sum == gone:
            digest = sibling
        else:
            digest = sums.sum_node(
                convert(left_sum - gone, uint64), digest, convert(right_sum, uint64), sibling
            )
    return digest


# openings


@pure
@internal
def commit_of(root: bytes32, leaves: uint64, length: uint64) -> bytes32:
    """
    @notice The name of a shard.
    """
    return sha256(
        concat(SHARD, b"\x01", root, convert(leaves, bytes8), convert(length, bytes8))
    )


@pure
@internal
def _leaf_hash(data: Bytes[MAX_PART], at: uint256, size: uint256) -> bytes32:
    """
    @notice Hash of the leaf of `size` bytes that begins at `at`, padded with zeros.
    """
    if size == LEAF:
        return sha256(slice(data, at, LEAF))
    zeros: Bytes[LEAF] = abi_encode(empty(uint256[32]))
    return sha256(slice(concat(slice(data, at, size), zeros), 0, LEAF))


@pure
@internal
def judge_holdings(
    opening: Bytes[MAX_PART], root: bytes32, total: uint256, index: uint256
) -> String[32]:
    """
    @notice Judges an opening under holdings: `shard root 32, length u64, steps, data, path`.
    @param opening What is to be judged.
    @param root The believed root.
    @param total Leaves under it.
    @param index Which leaf it is to be.
    """
    fault: String[32] = self._head_fault(len(opening), SHARD_HEAD, total, index)
    if len(fault) != 0:
        return fault
    shard_root: bytes32 = extract32(opening, 0)
    length: uint64 = convert(slice(opening, 32, 8), uint64)
    if length == 0 or length > MAX_LENGTH:
        return "length"
    width: uint256 = (convert(length, uint256) + LEAF - 1) // LEAF
    own: uint256 = 0
    depth: uint256 = 0
    fault, own, depth = self._descend(opening, SHARD_HEAD, total, index, width)
    if len(fault) != 0:
        return fault
    leaves: uint64 = convert(width, uint64)
    entry: bytes32 = sums.holdings_leaf(self.commit_of(shard_root, leaves, length), leaves)
    if self._climb(opening, SHARD_HEAD, depth, total, index, entry, 0) != root:
        return "holdings"
    at: uint256 = SHARD_HEAD + STEP * depth
    size: uint256 = min(LEAF, convert(length, uint256) - LEAF * own)
    digest: bytes32 = empty(bytes32)
    if len(opening) >= at + size:
        digest = self._leaf_hash(opening, at, size)
    at += size
    for _: uint256 in range(PATH_LEVELS):
        if width == 1:
            break
        if own ^ 1 < width:
            if len(opening) >= at + 32:
                digest = self._over(extract32(opening, at), digest, own)
            at += 32
        own >>= 1
        width = (width + 1) >> 1
    if len(opening) < at:
        fault = "short"
    elif len(opening) > at:
        fault = "trailing"
    elif digest != shard_root:
        fault = "shard"
    return fault


@pure
@internal
def _over(sibling: bytes32, digest: bytes32, place: uint256) -> bytes32:
    """
    @notice The node of a shard's tree over a hash that is at `place` in its level.
    """
    if place & 1 == 1:
        return sha256(concat(sibling, digest))
    return sha256(concat(digest, sibling))


@pure
@internal
def _head_fault(size: uint256, head: uint256, total: uint256, index: uint256) -> String[32]:
    """
    @notice Whether there is no such leaf, or not even what comes before the steps.
    """
    if index >= total or total > sums.MAX_TOTAL:
        return "index"
    return "short" if size < head else ""


@pure
@internal
def _read_deal(
    bracket: Bytes[MAX_PART], root: bytes32, total: uint256, index: uint256
) -> (String[32], sums.Holding, uint256, uint256):
    """
    @return What is wrong, the deal's entry, the number within it, and how many bytes it took.
    """
    entry: sums.Holding = empty(sums.Holding)
    inside: uint256 = 0
    depth: uint256 = 0
    fault: String[32] = self._head_fault(len(bracket), ENTRY, total, index)
    if len(fault) == 0:
        entry = sums.Holding(
            deal=extract32(bracket, 0),
            number=convert(slice(bracket, 32, 8), uint64),
            root=extract32(bracket, 40),
            leaves=convert(slice(bracket, 72, 8), uint64),
        )
        fault, inside, depth = self._descend(
            bracket, ENTRY, total, index, convert(entry.leaves, uint256)
        )
    if len(fault) == 0:
        leaf: bytes32 = sums.inventory_leaf(entry)
        if self._climb(bracket, ENTRY, depth, total, index, leaf, 0) != root:
            fault = "inventory"
    return fault, entry, inside, ENTRY + STEP * depth


@pure
@internal
def proven_deal(
    bracket: Bytes[MAX_PART], root: bytes32, total: uint256, index: uint256
) -> (String[32], bytes32):
    """
    @notice Which deal leaf `index` of an inventory falls in; what follows in `bracket` is not
        looked at.
    """
    fault: String[32] = ""
    entry: sums.Holding = empty(sums.Holding)
    inside: uint256 = 0
    size: uint256 = 0
    fault, entry, inside, size = self._read_deal(bracket, root, total, index)
    return fault, entry.deal


@pure
@internal
def judge(
    opening: Bytes[MAX_BODY], root: bytes32, total: uint256, index: uint256, inventory: bool
) -> String[32]:
    """
    @notice Judges an opening.
    @param opening Under holdings see `judge_holdings`; under an inventory the deal's bracket comes
        first: `deal 32, number u64, holdings root 32, leaves u64, steps`.
    @param root The believed root.
    @param total Leaves under it.
    @param index Which leaf it is to be.
    @param inventory Whether it is an inventory's root.
    """
    size: uint256 = len(opening)
    if not inventory:
        return self.judge_holdings(self.part(opening, 0, size), root, total, index)
    fault: String[32] = ""
    entry: sums.Holding = empty(sums.Holding)
    inside: uint256 = 0
    at: uint256 = 0
    fault, entry, inside, at = self._read_deal(
        self.part(opening, 0, size), root, total, index
    )
    if len(fault) != 0:
        return fault
    rest: Bytes[MAX_PART] = self.part(opening, at, size - at)
    return self.judge_holdings(rest, entry.root, convert(entry.leaves, uint256), inside)


# deletion


@pure
@internal
def deletion(proof: Bytes[MAX_PART], root: bytes32, total: uint64) -> (String[32], Deletion):
    """
    @notice Judges the proof that a shard stands under `root`, and takes it out.
    @param proof `commit 32, leaves u64, first leaf u64, steps`.
    @param root The believed root of the holdings.
    @param total Leaves under it.
    """
    gone: Deletion = empty(Deletion)
    if len(proof) < DELETED:
        return "short", gone
    gone.commit = extract32(proof, 0)
    gone.leaves = convert(slice(proof, 32, 8), uint64)
    gone.first = convert(slice(proof, 40, 8), uint64)
    whole: uint256 = convert(total, uint256)
    first: uint256 = convert(gone.first, uint256)
    weight: uint256 = convert(gone.leaves, uint256)
    inside: uint256 = 0
    depth: uint256 = 0
    fault: String[32] = "index"
    if weight != 0 and first + weight <= whole:
        fault, inside, depth = self._descend(proof, DELETED, whole, first, weight)
    if len(fault) != 0:
        return fault, gone
    leaf: bytes32 = sums.holdings_leaf(gone.commit, gone.leaves)
    if inside != 0:
        fault = "index"
    elif len(proof) != DELETED + STEP * depth:
        fault = "trailing"
    elif self._climb(proof, DELETED, depth, whole, first, leaf, 0) != root:
        fault = "holdings"
    else:
        gone.root = self._climb(proof, DELETED, depth, whole, first, empty(bytes32), weight)
        gone.total = total - gone.leaves
    return fault, gone


# links


@pure
@internal
def link_of(raw: Bytes[116]) -> Link:
    """
    @notice The fields of a link, which must be whole.
    """
    return Link(
        epoch=convert(slice(raw, 0, 8), uint64),
        beacon=extract32(raw, 8),
        root=extract32(raw, 40),
        total=convert(slice(raw, 72, 8), uint64),
        count=convert(slice(raw, 80, 4), uint32),
        answer_root=extract32(raw, 84),
    )


@pure
@internal
def beacon_hash(beacon: bytes32) -> bytes32:
    """
    @notice What stands for a beacon value in links and in the ledger's state.
    """
    return sha256(concat(BEACON, beacon))


@pure
@internal
def leaves_asked(total: uint64) -> uint64:
    """
    @notice How many of `total` leaves an epoch asks for: 20 up to 4 TiB, then 5 a TiB.
    """
    leaves: uint256 = convert(total, uint256)
    return convert(min(leaves, max(20, (5 * leaves + 2**30 - 1) // 2**30)), uint64)


@pure
@internal
def drawn_index(
    link: Link, beacon: bytes32, network: bytes32, node: bytes32, place: uint256
) -> uint256:
    """
    @notice Which leaf a link answers for at `place`, in draw order.
    @dev Reverts with "too_many" beyond MAX_DRAWN: nothing is convicted of what cannot be judged.
    """
    assert place < MAX_DRAWN, "too_many"
    seed: bytes32 = sha256(
        concat(SEED, network, node, convert(link.epoch, bytes8), beacon, link.root)
    )
    total: uint256 = convert(link.total, uint256)
    fair: uint256 = 2**64 - 2**64 % total
    drawn: DynArray[uint256, MAX_DRAWN] = []
    for counter: uint256 in range(2 * MAX_DRAWN):
        words: uint256 = convert(
            sha256(concat(INDEX, seed, convert(convert(counter, uint32), bytes4))), uint256
        )
        for bits: uint256 in [192, 128, 64, 0]:
            word: uint256 = (words >> bits) & (2**64 - 1)
            if word < fair and (word % total) not in drawn:
                if len(drawn) == place:
                    return word % total
                drawn.append(word % total)
    raise "too_many"


@pure
@internal
def answer_fault(
    link: Link, place: uint256, opening: Bytes[MAX_BODY], path: Bytes[MAX_PATH]
) -> String[32]:
    """
    @notice Whether `opening` is what the node behind a link answered at `place`.
    @param path Siblings one after another, bottom up.
    """
    width: uint256 = convert(link.count, uint256)
    own: uint256 = place
    if own >= width:
        return "place"
    digest: bytes32 = sha256(concat(OPEN, convert(convert(place, uint32), bytes4), opening))
    at: uint256 = 0
    for _: uint256 in range(32):
        if width == 1:
            break
        if own ^ 1 < width:
            if len(path) >= at + 32:
                sibling: bytes32 = extract32(path, at)
                if own & 1 == 1:
                    digest = sha256(concat(ANSWER, sibling, digest))
                else:
                    digest = sha256(concat(ANSWER, digest, sibling))
            at += 32
        own >>= 1
        width = (width + 1) >> 1
    if at != len(path):
        return "answer_path"
    return "" if digest == link.answer_root else "answer_root"
