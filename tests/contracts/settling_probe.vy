# pragma version 0.4.3
"""
@title What the tests ask of lib/settling
@notice Every function of the library, as a call.
"""

from lib import cells
from lib import settling


@external
@pure
def proven(account: cells.Account, epoch: uint64) -> bool:
    return settling.proven(account, epoch)


@external
@pure
def roll(account: cells.Account, epoch: uint64) -> cells.Account:
    return settling.roll(account, epoch)


@external
@pure
def settle(
    deal: cells.Deal, account: cells.Account, epoch: uint64, burn_ppm: uint256
) -> (cells.Deal, cells.Account):
    return settling.settle(deal, account, epoch, burn_ppm)


@external
@pure
def missing_collateral(deal: cells.Deal) -> uint256:
    return settling.missing_collateral(deal)


@external
@pure
def covered(deal: cells.Deal) -> bool:
    return settling.covered(deal)


@external
@pure
def charge_loss(deal: cells.Deal, leaves: uint64) -> cells.Deal:
    return settling.charge_loss(deal, leaves)


@external
@pure
def split(deal: cells.Deal) -> (cells.Deal, uint256):
    return settling.split(deal)
