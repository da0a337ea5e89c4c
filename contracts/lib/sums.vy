# pragma version 0.4.3
"""
@title The radix sum tree
@notice Which leaf of which shard a number names: a crit-bit tree whose nodes are hashed with the
        sums of both sides. A deal's holdings and a provider's inventory are the same tree with
        different leaves. Python: dsn/proofs/inventory.py.
"""

struct Holding:
    # what a deal's newest installed revision says of it
    deal: bytes32
    number: uint64
    root: bytes32
    leaves: uint64

MAX_HELD: constant(uint256) = 512
# deals under one provider that can be judged at once
MAX_TOTAL: constant(uint256) = 2**63 - 1
KEY_BITS: constant(uint256) = 256

SUM: constant(bytes16) = 0x64736e2f73756d2f7631000000000000
HELD: constant(bytes16) = 0x64736e2f68656c642f76310000000000
INVENTORY: constant(bytes16) = 0x64736e2f696e762f7631000000000000


@pure
@internal
def sum_node(left_sum: uint64, left: bytes32, right_sum: uint64, right: bytes32) -> bytes32:
    """
    @notice Hash of the node over two sides and their sums.
    """
    return sha256(
        concat(SUM, convert(left_sum, bytes8), left, convert(right_sum, bytes8), right)
    )


@pure
@internal
def holdings_leaf(commit: bytes32, leaves: uint64) -> bytes32:
    """
    @notice Hash of a shard's entry.
    """
    return sha256(concat(HELD, commit, convert(leaves, bytes8)))


@pure
@internal
def inventory_leaf(entry: Holding) -> bytes32:
    """
    @notice Hash of a deal's entry.
    """
    return sha256(
        concat(
            INVENTORY,
            entry.deal,
            convert(entry.number, bytes8),
            entry.root,
            convert(entry.leaves, bytes8),
        )
    )


@pure
@internal
def _split(key: bytes32, other: bytes32) -> uint256:
    """
    @notice The first bit at which two different keys differ, bit 0 being the highest.
    """
    differing: uint256 = convert(key, uint256) ^ convert(other, uint256)
    bit: uint256 = KEY_BITS - 1
    for half: uint256 in [128, 64, 32, 16, 8, 4, 2, 1]:
        if differing >> half != 0:
            differing >>= half
            bit -= half
    return bit


@pure
@internal
def inventory(held: DynArray[Holding, MAX_HELD]) -> (bytes32, uint64):
    """
    @notice Root and total over all that a provider holds. A live root is shown by the whole list.
    @dev Built as SumTree.build does: `lefts` are the sides whose right neighbour is not
         finished, from the top, and `bits` the splits between them, which rise.
    @param held By deal id, strictly rising, none without leaves; else it reverts with
           "bad_holdings", as it does for 2^63 leaves or more.
    """
    bits: DynArray[uint256, KEY_BITS] = []
    lefts: DynArray[bytes32, KEY_BITS] = []
    sums: DynArray[uint64, KEY_BITS] = []
    digest: bytes32 = empty(bytes32)
    weight: uint64 = 0
    total: uint256 = 0
    count: uint256 = len(held)
    for at: uint256 in range(count, bound=MAX_HELD):
        entry: Holding = held[at]
        assert entry.leaves != 0, "bad_holdings"
        total += convert(entry.leaves, uint256)
        digest = self.inventory_leaf(entry)
        weight = entry.leaves
        last: bool = at + 1 == count
        split: uint256 = 0
        if not last:
            following: bytes32 = held[at + 1].deal
            assert convert(entry.deal, uint256) < convert(following, uint256), "bad_holdings"
            split = self._split(entry.deal, following)
        for _: uint256 in range(KEY_BITS):
            if len(bits) == 0 or (not last and bits[len(bits) - 1] <= split):
                break
            bits.pop()
            left_sum: uint64 = sums.pop()
            digest = self.sum_node(left_sum, lefts.pop(), weight, digest)
            weight += left_sum
        if not last:
            bits.append(split)
            lefts.append(digest)
            sums.append(weight)
    assert total <= MAX_TOTAL, "bad_holdings"
    return digest, weight


@pure
@internal
def replaced(
    held: DynArray[Holding, MAX_HELD], entry: Holding
) -> DynArray[Holding, MAX_HELD]:
    """
    @notice The list with `entry` in its place, instead of its deal's if there is one; without
            that, if `entry` has no leaves.
    """
    after: DynArray[Holding, MAX_HELD] = []
    waits: bool = entry.leaves != 0
    for each: Holding in held:
        if waits and convert(entry.deal, uint256) < convert(each.deal, uint256):
            after.append(entry)
            waits = False
        if each.deal != entry.deal:
            after.append(each)
    if waits:
        after.append(entry)
    return after
