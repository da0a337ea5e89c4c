# pragma version 0.4.3
"""
@title What time does to a provider and its deals
@notice Roll, settle, cover, loss and split, and the arithmetic of credits that they stand on: the
    same to the unit as dsn/ledger/rules/settling.py and dsn/ledger/money.py. A deal and its
    provider's account come in as they are and go out as they are afterwards; inventories are
    the caller's matter.
"""

from lib import cells

KEPT_BITS: constant(uint256) = 720
# epochs that an account remembers as proven or not
WORDS: constant(uint256) = 3
WORD_BITS: constant(uint256) = 256
TOP_MASK: constant(uint256) = (1 << 208) - 1
# the part of the highest word that is in use: 720 - 512 bits
GIB_LEAVES: constant(uint256) = 1 << 20
PPM: constant(uint256) = 1_000_000
REPORTER_PART: constant(uint128) = 10
# a reporter gets one tenth of what remains of the collateral
SLASHED: constant(uint8) = 3

# every other bit, every other two bits, and so on; and the lowest bit of every 16
ONES: constant(uint256) = max_value(uint256) // 3
TWOS: constant(uint256) = max_value(uint256) // 5
FOURS: constant(uint256) = max_value(uint256) // 17
EIGHTS: constant(uint256) = max_value(uint256) // 257
LANES: constant(uint256) = max_value(uint256) // 65535


# money


@pure
@internal
def disk_due(price: uint64, leaf_epochs: uint256) -> uint256:
    """
    @notice What `leaf_epochs` proven leaf-epochs have earned at `price` a GiB-epoch, all told.
    """
    return convert(price, uint256) * leaf_epochs // GIB_LEAVES


@pure
@internal
def repair_cost(price: uint64, leaves: uint64) -> uint256:
    """
    @notice What it costs to rebuild `leaves` at `price` a GiB; rounded up.
    """
    cost: uint256 = convert(leaves, uint256) * convert(price, uint256)
    return (cost + GIB_LEAVES - 1) // GIB_LEAVES


@pure
@internal
def _burned_of(due: uint256, burn_ppm: uint256) -> uint256:
    return due * burn_ppm // PPM


# the remembered epochs


@pure
@internal
def proven(account: cells.Account, epoch: uint64) -> bool:
    """
    @notice Whether `epoch` was proven. Those that are forgotten count as not.
    @param epoch Not after `account.rolled`.
    """
    back: uint256 = convert(account.rolled - epoch, uint256)
    if back >= KEPT_BITS:
        return False
    return account.bits[back // WORD_BITS] >> (back % WORD_BITS) & 1 == 1


@pure
@internal
def roll(account: cells.Account, epoch: uint64) -> cells.Account:
    """
    @notice Bring a provider's account to `epoch`. Epochs in between count as proven if there was
        nothing to prove, else as missed.
    """
    if account.rolled >= epoch:
        return account
    passed: uint256 = min(convert(epoch - account.rolled, uint256), KEPT_BITS)
    coming: uint256 = 0
    if account.live_leaves == 0:
        coming = max_value(uint256)
    # below the lowest word stands what comes in from there
    words: uint256[6] = [
        coming, coming, coming, account.bits[0], account.bits[1], account.bits[2]
    ]
    up: uint256 = passed % WORD_BITS
    for i: uint256 in range(WORDS):
        at: uint256 = i + WORDS - passed // WORD_BITS
        account.bits[i] = words[at] << up | words[at - 1] >> (WORD_BITS - up)
    account.bits[2] &= TOP_MASK
    account.frozen = account.live
    account.frozen_leaves = account.live_leaves
    account.rolled = epoch
    return account


@pure
@internal
def _ones(count: uint256) -> uint256:
    """
    @notice The lowest `count` bits, of 256 at most.
    """
    return max_value(uint256) >> (WORD_BITS - min(count, WORD_BITS))


@pure
@internal
def _count(word: uint256) -> uint256:
    """
    @notice How many bits are set: pairs are added up in place, then their pairs, and so on.
    """
    x: uint256 = (word & ONES) + (word >> 1 & ONES)
    x = (x & TWOS) + (x >> 2 & TWOS)
    x = (x & FOURS) + (x >> 4 & FOURS)
    x = (x & EIGHTS) + (x >> 8 & EIGHTS)
    return unsafe_mul(x, LANES) >> 240


@pure
@internal
def _proven_in(bits: uint256[3], low: uint256, high: uint256) -> uint256:
    """
    @notice How many of the bits `low` to `high`, that one not included, are set.
    """
    found: uint256 = 0
    for i: uint256 in range(WORDS):
        below: uint256 = i * WORD_BITS
        if high > below:
            mask: uint256 = self._ones(high - below)
            if low > below:
                mask &= ~self._ones(low - below)
            found += self._count(bits[i] & mask)
    return found


# deals


@pure
@internal
def settle(
    deal: cells.Deal, provider: cells.Account, epoch: uint64, burn_ppm: uint256
) -> (cells.Deal, cells.Account):
    """
    @notice Pay for the epochs that were proven since the last time, out of the disk escrow.
    @param deal What is settled.
    @param provider Its provider's account, rolled to `epoch`.
    @param epoch The network's.
    @param burn_ppm The network's.
    @return Both as they are afterwards.
    """
    now: uint256 = convert(epoch, uint256)
    until: uint256 = convert(deal.end, uint256) + convert(deal.grace, uint256)
    if until >= now:
        until = now
        if now != 0 and not self.proven(provider, epoch):
            until = now - 1
    since: uint256 = convert(deal.settled, uint256)
    if since + KEPT_BITS < now:
        since = now - KEPT_BITS
    if until <= since:
        return deal, provider
    if deal.leaves != 0:
        found: uint256 = self._proven_in(provider.bits, now - until, now - since)
        deal.leaf_epochs += convert(convert(deal.leaves, uint256) * found, uint128)
        deal.missed += convert(until - since - found, uint64)
    deal.settled = convert(until, uint64)
    # what is due and was not paid yet: a part burns, up to half fills up the collateral
    due: uint256 = self.disk_due(deal.terms.disk_price, convert(deal.leaf_epochs, uint256))
    paid: uint256 = convert(deal.disk_paid, uint256)
    burned: uint256 = self._burned_of(due, burn_ppm) - self._burned_of(paid, burn_ppm)
    rest: uint256 = due - paid - burned
    kept: uint256 = min(rest // 2, self.missing_collateral(deal))
    deal.disk_escrow -= convert(due - paid, uint128)
    deal.disk_paid = convert(due, uint128)
    deal.burned += convert(burned, uint128)
    deal.collateral += convert(kept, uint128)
    provider.available += convert(rest - kept, uint128)
    return deal, provider


@pure
@internal
def missing_collateral(deal: cells.Deal) -> uint256:
    """
    @notice Base units that the provider's collateral lacks for what is installed.
    """
    if deal.leaves <= deal.terms.free_leaves:
        return 0
    priced: uint256 = convert(deal.leaves - deal.terms.free_leaves, uint256) * convert(
        deal.terms.repair_price, uint256
    )
    whole: uint256 = GIB_LEAVES * PPM
    needed: uint256 = (priced * convert(deal.terms.collateral_ppm, uint256) + whole - 1) // whole
    there: uint256 = convert(deal.collateral, uint256)
    return needed - there if needed > there else 0


@pure
@internal
def covered(deal: cells.Deal) -> bool:
    """
    @notice Whether the disk escrow lasts to the end of the grace if every epoch is proven.
    """
    last: uint256 = convert(deal.end, uint256) + convert(deal.grace, uint256)
    there: uint256 = convert(deal.disk_escrow, uint256) + convert(deal.disk_paid, uint256)
    most: int256 = convert(deal.leaf_epochs, int256) + convert(deal.leaves, int256) * (
        convert(last, int256) - convert(deal.settled, int256)
    )
    if most <= 0:
        return True
    return self.disk_due(deal.terms.disk_price, convert(most, uint256)) <= there


@pure
@internal
def charge_loss(deal: cells.Deal, leaves: uint64) -> cells.Deal:
    """
    @notice The provider pays the repair of `leaves`, as far as its collateral goes.
    """
    cost: uint256 = self.repair_cost(deal.terms.repair_price, leaves)
    paid: uint128 = convert(min(convert(deal.collateral, uint256), cost), uint128)
    deal.collateral -= paid
    deal.refund += paid
    return deal


@pure
@internal
def split(deal: cells.Deal) -> (cells.Deal, uint256):
    """
    @notice The money of a slash: the client gets the repair, the reporter a tenth of the rest of
        the collateral, and what remains burns. What was not settled is forfeit.
    @dev A pending demand stays as it is; whoever slashes clears it and gives its bond back.
    @return The deal, slashed, and the reporter's part.
    """
    cost: uint256 = self.repair_cost(deal.terms.repair_price, deal.leaves)
    paid: uint128 = convert(min(convert(deal.collateral, uint256), cost), uint128)
    rest: uint128 = deal.collateral - paid
    reporter: uint128 = rest // REPORTER_PART
    deal.refund += paid + deal.disk_escrow + deal.bandwidth_escrow
    deal.burned += rest - reporter
    deal.state = SLASHED
    deal.collateral = 0
    deal.disk_escrow = 0
    deal.bandwidth_escrow = 0
    return deal, convert(reporter, uint256)
