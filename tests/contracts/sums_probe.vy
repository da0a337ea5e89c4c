# pragma version 0.4.3
"""
@title What the tests ask of lib/sums
@notice Every function of the library, as a call.
"""

from lib import sums


@external
@pure
def sum_node(left_sum: uint64, left: bytes32, right_sum: uint64, right: bytes32) -> bytes32:
    return sums.sum_node(left_sum, left, right_sum, right)


@external
@pure
def holdings_leaf(commit: bytes32, leaves: uint64) -> bytes32:
    return sums.holdings_leaf(commit, leaves)


@external
@pure
def inventory_leaf(entry: sums.Holding) -> bytes32:
    return sums.inventory_leaf(entry)


@external
@pure
def inventory(held: DynArray[sums.Holding, 512]) -> (bytes32, uint64):
    return sums.inventory(held)


@external
@pure
def replaced(held: DynArray[sums.Holding, 512], entry: sums.Holding) -> DynArray[sums.Holding, 512]:
    return sums.replaced(held, entry)
