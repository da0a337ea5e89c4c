# pragma version 0.4.3
"""
@title A step about one deal
@notice The cells that such a step reads and leaves, and what both parties of the deal signed.
"""

from lib import cells
from lib import turn
from lib import typed

MAX_BODY: constant(uint256) = 32865

MINE: constant(uint256) = 0
NETWORK: constant(uint256) = 1
DEAL: constant(uint256) = 2
OTHER: constant(uint256) = 3
# the order in which cells are read, and have places


struct Cells:
    # what a step may read of the state before it; what it does not come to is left blank
    mine: cells.Account
    # the signer's
    network: cells.Network
    deal: cells.Deal
    # blank but for its id if it is not there
    other: cells.Account
    # the deal's other party's


@pure
@internal
def word(body: Bytes[MAX_BODY], at: uint256) -> uint256:
    """
    @notice The number that a body has in the 8 bytes at `at`.
    """
    return convert(slice(body, at, 8), uint256)


@pure
@internal
def seen(count: uint256, deal_first: bool) -> uint256:
    """
    @notice Which cells are shown where `count` of them have places, as bits.
    @param deal_first Whether the deal is read before all others.
    """
    if not deal_first or count > DEAL:
        return 2**count - 1
    return 0 if count == 0 else 2**DEAL + count - 1


@pure
@internal
def need(right: bool):
    """
    @notice Reverts unless what the rules read is shown.
    """
    assert right, "incomplete_evidence"


@pure
@internal
def need_cell(seen: uint256, cell: uint256, right: bool):
    """
    @notice Reverts unless a cell that the rules read is shown, and it is the `right` one.
    """
    self.need(seen >> cell & 1 == 1 and right)


@pure
@internal
def _digest(deal: cells.Deal) -> bytes32:
    """
    @notice A deal's digest; empty if it is not there.
    """
    return cells.deal_digest(deal) if deal.state != 0 else empty(bytes32)


@pure
@internal
def touched(
    before: Cells, after: Cells, deal_first: bool
) -> DynArray[turn.Touched, turn.MOST]:
    """
    @notice The cells of a step, in the order of their places.
    """
    mine: turn.Touched = turn.account(before.mine, after.mine)
    network: turn.Touched = turn.network(before.network, after.network)
    deal: turn.Touched = turn.Touched(
        key=cells.deal_key(after.deal.deal),
        before=self._digest(before.deal),
        blank=empty(bytes32),
        after=self._digest(after.deal),
    )
    other: turn.Touched = turn.account(before.other, after.other)
    found: DynArray[turn.Touched, turn.MOST] = [mine, network, deal, other]
    if deal_first:
        found[0] = deal
        found[1] = mine
        found[2] = network
    return found


@pure
@internal
def both_fault(
    digest: bytes32, body: Bytes[MAX_BODY], at: uint256, terms: cells.Terms
) -> String[32]:
    """
    @notice What is wrong with the signatures of client and provider over `digest`, which a body
        has from `at` on.
    """
    fault: String[32] = typed.fault(digest, slice(body, at, 65), terms.client)
    if len(fault) == 0:
        fault = typed.fault(digest, slice(body, at + 65, 65), terms.provider)
    return fault


@pure
@internal
def last(deal: cells.Deal) -> uint256:
    """
    @notice The last epoch that is paid for.
    """
    return convert(deal.end, uint256) + convert(deal.grace, uint256)
