# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title The rules of proofs
@notice Judges what steps of the ledger bring along to show what a provider holds, or does not.
    Called by DemandRules, ServeRules and SlashRules; it stands alone, for no contract may be longer
    than 24,576 bytes.
"""

from lib import drawn
from lib import openings


@external
@pure
def opening_fault(
    opening: Bytes[drawn.MAX_BODY], root: bytes32, total: uint64, index: uint64, inventory: bool
) -> String[32]:
    """
    @notice What is wrong with an opening.
    @param opening Of a leaf.
    @param root Of the holdings, or of an inventory.
    @param total Leaves under it.
    @param index Which leaf it is to be.
    @param inventory Whether it is an inventory's root.
    @return A code; empty if nothing is.
    """
    return openings.judge(
        opening, root, convert(total, uint256), convert(index, uint256), inventory
    )


@external
@pure
def deletion(
    proof: Bytes[openings.MAX_PART], root: bytes32, total: uint64
) -> (String[32], openings.Deletion):
    """
    @notice What is wrong with the proof that holdings have a shard, and what they are without it.
    @param proof Of the shard.
    @param root Of the holdings.
    @param total Leaves under it.
    @return A code, empty if nothing is; and the shard, and what remains.
    """
    return openings.deletion(proof, root, total)


@external
@pure
def drawn_fault(
    body: Bytes[drawn.MAX_BODY], at: uint256, known: drawn.Known
) -> (String[32], uint64):
    """
    @notice What is wrong with a drawn opening.
    @param body Has it.
    @param at Where it begins.
    @param known What the state says.
    @return A code, empty if nothing is; and the number of the leaf that was drawn.
    """
    return drawn.fault(body, drawn.read(body, at), known)


@external
@pure
def answer_fault(
    body: Bytes[drawn.MAX_BODY], at: uint256, link: Bytes[drawn.LINK_BYTES], place: uint32
) -> String[32]:
    """
    @notice Whether something else was answered than what is shown.
    @param body Has the opening that is shown, with its path behind it.
    @param at Where it begins, with its length.
    @param link That the provider answered with.
    @param place Which of its answers.
    @return A code; empty if this was answered.
    """
    return drawn.answer_fault(body, at, openings.link_of(link), place)
