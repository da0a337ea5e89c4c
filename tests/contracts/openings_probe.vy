# pragma version 0.4.3
"""
@title What the tests ask of lib/openings
@notice Its functions, each as a call.
"""

from lib import answers
from lib import openings


@external
@pure
def judge(
    opening: Bytes[32768], root: bytes32, total: uint256, index: uint256, inventory: bool
) -> String[32]:
    return openings.judge(opening, root, total, index, inventory)


@external
@pure
def answer(
    rest: Bytes[answers.MAX_ANSWER], root: bytes32, total: uint256, index: uint256
) -> String[32]:
    return answers.fault(rest, root, total, index)


@external
@pure
def proven_deal(
    bracket: Bytes[32768], root: bytes32, total: uint256, index: uint256
) -> (String[32], bytes32):
    return openings.proven_deal(openings.part(bracket, 0, len(bracket)), root, total, index)


@external
@pure
def deletion(
    proof: Bytes[32768], root: bytes32, total: uint64
) -> (String[32], openings.Deletion):
    return openings.deletion(openings.part(proof, 0, len(proof)), root, total)


@external
@pure
def link_of(raw: Bytes[116]) -> openings.Link:
    return openings.link_of(raw)


@external
@pure
def beacon_hash(beacon: bytes32) -> bytes32:
    return openings.beacon_hash(beacon)


@external
@pure
def leaves_asked(total: uint64) -> uint64:
    return openings.leaves_asked(total)


@external
@pure
def drawn_index(
    link: Bytes[116], beacon: bytes32, network: bytes32, node: bytes32, place: uint256
) -> uint256:
    return openings.drawn_index(openings.link_of(link), beacon, network, node, place)


@external
@pure
def answer_fault(
    link: Bytes[116], place: uint256, opening: Bytes[32768], path: Bytes[8160]
) -> String[32]:
    return openings.answer_fault(openings.link_of(link), place, opening, path)
