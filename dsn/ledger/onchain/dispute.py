"""Demands of single leaves on the chain, and what answers them, as calls of ``Dispute``.

Spec: docs/spec/chain.md.
"""

from __future__ import annotations

from dsn.core.hashing import HASH_BYTES
from dsn.ids import DealId
from dsn.ledger.bodies import SignedPledge
from dsn.ledger.cells import DealCell
from dsn.ledger.deal import Deal
from dsn.ledger.onchain.calls import OnChain
from dsn.ledger.onchain.tuples import deal_tuple, place_tuple
from dsn.ledger.radix import StateTree

_DISPUTE = "Dispute"


def demand(anchor: int, cell: DealCell, tree: StateTree, leaf: int) -> OnChain:
    """Ask for a leaf, under the bond that is sent along; only client and delegate can.

    Args:
        anchor: The number of the newest one.
        cell: The deal as the anchored state has it.
        tree: That state's, as far as it shows the deal.
        leaf: Which, among the deal's leaves.

    Raises:
        NotFound: ``empty_state``, or ``left_out`` of a partial tree.
    """
    args = (anchor, deal_tuple(cell), place_tuple(tree, cell.key), leaf)
    return OnChain(_DISPUTE, "demand", args)


def answer(deal: DealId, opening: bytes) -> OnChain:
    """Show the leaf that was asked for, under the holdings of the revision that was asked.

    The shard's root goes ahead of all else in an opening, and is left away: leaf and path lead to
    it, and every byte that is sent is paid for.
    """
    return OnChain(_DISPUTE, "answer", (deal, opening[HASH_BYTES:]))


def supersede(terms: Deal, signed: SignedPledge) -> OnChain:
    """Show a newer revision than the one that was asked, signed by both sides."""
    pledge = tuple(signed.pledge.values())
    args = (tuple(terms.values()), pledge, signed.by_delegate)
    return OnChain(_DISPUTE, "supersede", (*args, signed.signature, signed.provider_signature))


def slash(deal: DealId) -> OnChain:
    """Have it on record that nobody answered in time."""
    return OnChain(_DISPUTE, "slash", (deal,))


def collect() -> OnChain:
    """Take out the bonds that are credited to the sender."""
    return OnChain(_DISPUTE, "collect")
