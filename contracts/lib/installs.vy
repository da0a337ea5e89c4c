# pragma version 0.4.3
"""
@title What a provider has live
@notice Brings the live inventory of a provider to what one of its deals says now, for deals that
    shrink. As `install` of dsn/ledger/rules/settling.py has it.
"""

from lib import cells
from lib import deals
from lib import sums

OPEN: constant(uint8) = 1


@pure
@internal
def installed(
    old: cells.Deal,
    deal: cells.Deal,
    provider: cells.Account,
    held: DynArray[sums.Holding, sums.MAX_HELD],
) -> cells.Account:
    """
    @notice The provider's account, once the deal is in its live inventory as it is now.
    @param old The deal as it was.
    @param deal The deal as it is; open only if it was.
    @param provider Its provider's account.
    @param held All that the provider holds; it is looked at if the deal is among that.
    """
    after: cells.Account = provider
    if old.state == OPEN and old.leaves != 0:
        root: bytes32 = empty(bytes32)
        total: uint64 = 0
        root, total = sums.inventory(held)
        deals.need(root == provider.live and total == provider.live_leaves)
        now: sums.Holding = sums.Holding(
            deal=deal.deal, number=deal.number, root=deal.root, leaves=deal.leaves
        )
        if deal.state != OPEN:
            now.leaves = 0
        after.live, after.live_leaves = sums.inventory(sums.replaced(held, now))
    return after
