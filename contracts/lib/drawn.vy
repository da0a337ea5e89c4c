# pragma version 0.4.3
"""
@title Drawn openings
@notice One opening of a link that stands in the log, as demands and slashes bring it along:
    `leaf var, index u64, path, beacon 32, place u32, bracket var`. As DrawnOpening of
    dsn/ledger/disputes.py and `_judge_drawn` of dsn/ledger/rules/demands.py have it.
"""

from lib import cells
from lib import logs
from lib import openings

MAX_BODY: constant(uint256) = 32865
MAX_FIELD: constant(uint256) = 32768
SIGNED: constant(uint256) = 97  # signature and state root, behind a leaf's entry
HEAD: constant(uint256) = 65
LINK: constant(uint8) = 9
LINK_BYTES: constant(uint256) = 116
OPEN: constant(uint8) = 1
ENDED: constant(uint8) = 2


struct Parts:
    # where the fields of a drawn opening begin in a body, and where it ends; 0: it cannot be read
    leaf: uint256
    leaf_size: uint256
    index: uint256
    path: uint256
    beacon: uint256
    bracket: uint256
    end: uint256


struct Known:
    # what the state says of a drawn opening
    network: bytes32
    closed_size: uint64
    closed_root: bytes32
    deal: bytes32
    provider: address
    node: bytes32  # the provider's; empty if its account is not shown


interface Proofs:
    def opening_fault(
        opening: Bytes[MAX_BODY], root: bytes32, total: uint64, index: uint64, inventory: bool
    ) -> String[32]: pure
    def deletion(
        proof: Bytes[openings.MAX_PART], root: bytes32, total: uint64
    ) -> (String[32], openings.Deletion): pure
    def drawn_fault(
        body: Bytes[MAX_BODY], at: uint256, known: Known
    ) -> (String[32], uint64): pure
    def answer_fault(
        body: Bytes[MAX_BODY], at: uint256, link: Bytes[LINK_BYTES], place: uint32
    ) -> String[32]: pure


@pure
@internal
def after_var(body: Bytes[MAX_BODY], at: uint256) -> uint256:
    """
    @notice Where the field ends that begins with its length at `at`; 0 if it cannot be read, as
        wherever `at` is 0.
    """
    if at == 0 or len(body) < at + 4:
        return 0
    size: uint256 = convert(slice(body, at, 4), uint256)
    if size > MAX_FIELD or len(body) < at + 4 + size:
        return 0
    return at + 4 + size


@pure
@internal
def after_path(body: Bytes[MAX_BODY], at: uint256) -> uint256:
    """
    @notice As `after_var`, for a path: a count of one byte, and so many hashes.
    """
    if at == 0 or len(body) < at + 1:
        return 0
    end: uint256 = at + 1 + 32 * convert(slice(body, at, 1), uint256)
    return 0 if len(body) < end else end


@pure
@internal
def read(body: Bytes[MAX_BODY], at: uint256) -> Parts:
    """
    @notice Where the parts are of the drawn opening that begins at `at`.
    """
    parts: Parts = empty(Parts)
    parts.leaf = at + 4
    index: uint256 = self.after_var(body, at)
    if index < parts.leaf + SIGNED + 1:
        return empty(Parts)
    parts.leaf_size = index - parts.leaf
    parts.index = index
    parts.path = index + 8
    parts.beacon = self.after_path(body, parts.path)
    parts.bracket = parts.beacon + 36
    if parts.beacon != 0:
        parts.end = self.after_var(body, parts.bracket)
    return parts


@pure
@internal
def _inclusion_fault(
    body: Bytes[MAX_BODY], parts: Parts, closed_size: uint64, closed_root: bytes32
) -> String[32]:
    """
    @notice Whether the leaf is in the closed log.
    """
    index: uint64 = convert(slice(body, parts.index, 8), uint64)
    if index >= closed_size:
        return "index"
    own: uint256 = convert(index, uint256)
    last: uint256 = convert(closed_size - 1, uint256)
    given: uint256 = convert(slice(body, parts.path, 1), uint256)
    path: DynArray[bytes32, logs.MAX_PATH] = []
    needed: uint256 = 0
    for _: uint256 in range(64):
        if last == 0:
            break
        if own & 1 == 1 or own < last:
            if needed < given:
                path.append(extract32(body, parts.path + 1 + 32 * needed))
            needed += 1
        own >>= 1
        last >>= 1
    if given < needed:
        return "short"
    if given > needed:
        return "trailing"
    leaf: bytes32 = logs.leaf_hash(slice(body, parts.leaf, parts.leaf_size))
    return "" if logs.root_of(leaf, index, closed_size, path) == closed_root else "not_in_log"


@pure
@internal
def place(body: Bytes[MAX_BODY], parts: Parts) -> uint32:
    """
    @notice Which opening it is, in draw order.
    """
    return convert(slice(body, parts.beacon + 32, 4), uint32)


@pure
@internal
def link_bytes(body: Bytes[MAX_BODY], parts: Parts) -> Bytes[LINK_BYTES]:
    """
    @notice The link in the leaf, of a drawn opening that `fault` found right.
    """
    return slice(body, parts.leaf + HEAD, LINK_BYTES)


@pure
@internal
def _entry_fault(body: Bytes[MAX_BODY], parts: Parts, provider: address) -> String[32]:
    """
    @notice Whether the leaf's entry is a link of the provider.
    """
    if convert(slice(body, parts.leaf, 1), uint8) != LINK or parts.leaf_size < HEAD + SIGNED:
        return "not_a_link"
    if convert(slice(body, parts.leaf + 33, 20), bytes20) != convert(provider, bytes20):
        return "not_a_link"
    size: uint256 = convert(slice(body, parts.leaf + HEAD - 4, 4), uint256)
    formed: bool = size == LINK_BYTES and parts.leaf_size == HEAD + LINK_BYTES + SIGNED
    return "" if formed else "malformed_message"


@pure
@internal
def fault(body: Bytes[MAX_BODY], parts: Parts, known: Known) -> (String[32], uint64):
    """
    @notice Whether a link of the deal's provider is in the closed log, and the place falls in the
        deal.
    @param body Has the drawn opening.
    @param parts Where.
    @param known What the state says.
    @return What is wrong, and the number of the leaf at the place.
    """
    found: String[32] = self._inclusion_fault(
        body, parts, known.closed_size, known.closed_root
    )
    if len(found) == 0:
        found = self._entry_fault(body, parts, known.provider)
    if len(found) != 0:
        return found, 0
    link: openings.Link = openings.link_of(self.link_bytes(body, parts))
    beacon: bytes32 = extract32(body, parts.beacon)
    at: uint32 = self.place(body, parts)
    index: uint256 = 0
    if convert(link.count, uint64) != openings.leaves_asked(link.total):
        found = "wrong_count"
    elif openings.beacon_hash(beacon) != link.beacon:
        found = "wrong_beacon"
    elif at >= link.count:
        found = "place"
    else:
        assert known.node != empty(bytes32), "incomplete_evidence"
        deal: bytes32 = empty(bytes32)
        bracket: uint256 = parts.bracket + 4
        index = openings.drawn_index(
            link, beacon, known.network, known.node, convert(at, uint256)
        )
        found, deal = openings.proven_deal(
            openings.part(body, bracket, parts.end - bracket),
            link.root,
            convert(link.total, uint256),
            index,
        )
        if len(found) == 0 and deal != known.deal:
            found = "other_deal"
    return found, convert(index, uint64)


@pure
@internal
def answer_fault(
    body: Bytes[MAX_BODY], at: uint256, link: openings.Link, place: uint32
) -> String[32]:
    """
    @notice Whether the opening that begins with its length at `at`, and has its path behind it, is
        what was answered at `place`.
    """
    end: uint256 = self.after_var(body, at)
    path: Bytes[openings.MAX_PATH] = convert(
        slice(body, end + 1, min(len(body) - end - 1, openings.MAX_PATH)),
        Bytes[openings.MAX_PATH],
    )
    opening: Bytes[MAX_BODY] = slice(body, at + 4, end - at - 4)
    return openings.answer_fault(link, convert(place, uint256), opening, path)


@pure
@internal
def is_over(deal: cells.Deal) -> bool:
    """
    @notice Whether a deal is neither open nor ended: it has nothing left to lose.
    """
    return deal.state != OPEN and deal.state != ENDED
