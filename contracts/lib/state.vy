# pragma version 0.4.3
"""
@title The state tree
@notice A crit-bit tree over all cells of the ledger: a node commits to the bit at which the keys
    below it first differ, so one way down shows a cell, or that there is none.
"""

MAX_STEPS: constant(uint256) = 64

CELL_KEY: constant(Bytes[16]) = b"dsn/cell/v1\x00\x00\x00\x00\x00"
CELL_LEAF: constant(Bytes[16]) = b"dsn/stateleaf/v1"
CELL_NODE: constant(Bytes[16]) = b"dsn/statenode/v1"


struct Step:
    bit: uint8
    sibling: bytes32


struct Place:
    key: bytes32
    digest: bytes32
    steps: DynArray[Step, MAX_STEPS]


@pure
@internal
def key_of(kind: uint8, name: Bytes[32]) -> bytes32:
    """
    @notice Where the tree keeps the cell of `name`.
    @param kind 1 network, 2 account, 3 node, 4 deal.
    """
    return sha256(concat(CELL_KEY, convert(kind, bytes1), name))


@pure
@internal
def _leaf(key: bytes32, digest: bytes32) -> bytes32:
    return sha256(concat(CELL_LEAF, key, digest))


@pure
@internal
def _side(key: bytes32, bit: uint8) -> bool:
    return (convert(key, uint256) >> (255 - convert(bit, uint256))) & 1 == 1


@pure
@internal
def _node(bit: uint8, left: bytes32, right: bytes32) -> bytes32:
    return sha256(concat(CELL_NODE, convert(bit, bytes1), left, right))


@pure
@internal
def _split(one: bytes32, other: bytes32) -> uint256:
    """
    @notice The first bit at which two keys differ; 256 if they are equal.
    """
    left: uint256 = convert(one, uint256) ^ convert(other, uint256)
    if left == 0:
        return 256
    bit: uint256 = 0
    for power: uint256 in range(8):
        width: uint256 = 128 >> power
        if left >> (256 - width) == 0:
            bit += width
            left <<= width
    return bit


@pure
@internal
def _climb(key: bytes32, digest: bytes32, steps: DynArray[Step, MAX_STEPS], top: uint256) -> bytes32:
    """
    @notice The digest at depth `top` over what stands at the end of `steps`; only the sides of
        `key` are asked, so it may be any key of what is below.
    """
    found: bytes32 = digest
    depth: uint256 = len(steps)
    for _: uint256 in range(MAX_STEPS):
        if depth == top:
            break
        depth -= 1
        step: Step = steps[depth]
        assert depth == 0 or steps[depth - 1].bit < step.bit, "bad_step"
        if self._side(key, step.bit):
            found = self._node(step.bit, step.sibling, found)
        else:
            found = self._node(step.bit, found, step.sibling)
    return found


@pure
@internal
def root_of(place: Place) -> bytes32:
    """
    @notice The root of the tree that has this leaf at this place.
    """
    return self._climb(place.key, self._leaf(place.key, place.digest), place.steps, 0)


@pure
@internal
def absent(place: Place, key: bytes32) -> bool:
    """
    @notice Whether the place shows that `key` is not in the tree: where the two part, no node
        stands, so nothing on the key's own way does.
    @dev Only the caller knows whether the place is in the tree.
    """
    split: uint256 = self._split(place.key, key)
    if split == 256:
        return False
    for step: Step in place.steps:
        if convert(step.bit, uint256) == split:
            return False
    return True


@pure
@internal
def put(place: Place, key: bytes32, digest: bytes32) -> bytes32:
    """
    @notice The root once `key` has `digest`.
    @param place The key's own if it is there, else one that shows that it is not.
    """
    if place.key == key:
        return self._climb(key, self._leaf(key, digest), place.steps, 0)
    assert self.absent(place, key), "bad_place"
    split: uint256 = self._split(place.key, key)
    depth: uint256 = 0
    for step: Step in place.steps:
        if convert(step.bit, uint256) > split:
            break
        depth += 1
    below: bytes32 = self._climb(
        place.key, self._leaf(place.key, place.digest), place.steps, depth
    )
    own: bytes32 = self._leaf(key, digest)
    bit: uint8 = convert(split, uint8)
    joined: bytes32 = empty(bytes32)
    if self._side(key, bit):
        joined = self._node(bit, below, own)
    else:
        joined = self._node(bit, own, below)
    above: DynArray[Step, MAX_STEPS] = []
    for at: uint256 in range(MAX_STEPS):
        if at == depth:
            break
        above.append(place.steps[at])
    return self._climb(key, joined, above, 0)
