# pragma version 0.4.3
"""
@title One entry at work
@notice The cells that a step reads and leaves, each with its place in the state tree, and what
    every entry does: it counts, and burns its fee. As dsn/ledger/rules/{turn,moves}.py have it.
"""

from lib import cells
from lib import state

MOST: constant(uint256) = 4
# cells that a step may come to


struct Touched:
    # a cell's digests before the step and after it; one that is not there has `blank`
    key: bytes32
    before: bytes32
    blank: bytes32
    after: bytes32


@pure
@internal
def walked(
    root: bytes32,
    places: DynArray[state.Place, MOST],
    touched: DynArray[Touched, MOST],
    accepted: bool,
) -> bytes32:
    """
    @notice The root after a step; reverts unless all that is shown was there before it.
    @param root Before the step.
    @param places Of as many cells as are shown. Each is under the root that the cells before it
        lead to; all are under `root` itself if the step is refused.
    @param touched The cells, in the same order.
    @param accepted Whether the step does anything.
    """
    found: bytes32 = root
    at: uint256 = 0
    for place: state.Place in places:
        cell: Touched = touched[at]
        right: bool = state.root_of(place) == found
        if place.key == cell.key:
            right = right and place.digest == cell.before
        else:
            right = right and cell.before == cell.blank and state.absent(place, cell.key)
        assert right, "state_root"
        if accepted and cell.after != cell.before:
            found = state.put(place, cell.key, cell.after)
        at += 1
    return found


@pure
@internal
def network(before: cells.Network, after: cells.Network) -> Touched:
    """
    @notice The network's cell; it is always there.
    """
    return Touched(
        key=cells.network_key(before.network),
        before=cells.network_digest(before),
        blank=empty(bytes32),
        after=cells.network_digest(after),
    )


@pure
@internal
def account(before: cells.Account, after: cells.Account) -> Touched:
    """
    @notice An account; one that is not there has nothing in it.
    """
    blank: cells.Account = empty(cells.Account)
    blank.who = before.who
    return Touched(
        key=cells.account_key(before.who),
        before=cells.account_digest(before),
        blank=cells.account_digest(blank),
        after=cells.account_digest(after),
    )


@pure
@internal
def nonce_fault(mine: cells.Account, nonce: uint64) -> String[32]:
    """
    @notice What is wrong with an entry's number; its signer counts them from 1.
    """
    if nonce <= mine.nonce:
        return "nonce_used"
    return "nonce_gap" if nonce - mine.nonce > 1 else ""


@pure
@internal
def debit(mine: cells.Account, amount: uint256) -> (String[32], cells.Account):
    """
    @notice Take `amount` base units from an account.
    """
    if amount > convert(mine.available, uint256):
        return "not_enough_credit", mine
    after: cells.Account = mine
    after.available -= convert(amount, uint128)
    return "", after


@pure
@internal
def count(
    mine: cells.Account, nonce: uint64, fee: uint64, at_most: bool
) -> (String[32], cells.Account):
    """
    @notice Count an entry and burn its fee, after all else that it does.
    @param mine The signer's account.
    @param nonce The entry's.
    @param fee What it costs, in base units.
    @param at_most Whether a signer who has less pays what there is.
    """
    due: uint128 = convert(fee, uint128)
    if due > mine.available:
        if not at_most:
            return "fee_not_covered", mine
        due = mine.available
    after: cells.Account = mine
    after.nonce = nonce
    after.available -= due
    after.burned += due
    return "", after
