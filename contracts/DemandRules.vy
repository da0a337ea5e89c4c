# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title The rules of demands
@notice Judges one step of the ledger in which a client asks for an opening, exactly as
    dsn/ledger/rules/demands.py does. Called by FraudDemands.
@dev A sum beyond its field reverts; no history gets there unless an earlier step of it convicts.
"""

from lib import cells
from lib import deals
from lib import drawn
from lib import entries
from lib import sums
from lib import turn

OPEN: constant(uint8) = 1
ENDED: constant(uint8) = 2
BOND: constant(uint256) = 32
FLAG: constant(uint256) = 40
TARGET: constant(uint256) = 41
# deal 32, bond 8, flag 1; then a leaf's number, or a drawn opening

params: entries.Params
proofs: drawn.Proofs


@deploy
def __init__(params: entries.Params, proof_rules: address):
    """
    @notice Judge by what a network fixed about its ledger.
    @param params Out of its network file.
    @param proof_rules Who judges proofs.
    """
    self.params = params
    self.proofs = drawn.Proofs(proof_rules)


@external
@view
def judge(
    entry: entries.Entry,
    shown: deals.Cells,
    askers: DynArray[cells.Account, 2],
    held: DynArray[sums.Holding, sums.MAX_HELD],
    count: uint256,
) -> (String[32], DynArray[turn.Touched, turn.MOST], DynArray[turn.Touched, turn.MOST]):
    """
    @notice What the rules make of a demand.
    @param entry As its leaf has it; its header is right.
    @param shown The cells that the step reads: the provider's account is the other one.
    @param askers Nobody's.
    @param held Nothing.
    @param count How many of the cells have a place.
    @return Why the rules refuse it, empty if they do not; the cells in the order of their places,
        as they were and as the step leaves them; and no further ones.
    """
    before: deals.Cells = shown
    after: deals.Cells = before
    fault: String[32] = ""
    fault, after.deal.demand = self._judged(entry, before, deals.seen(count, False))
    if len(fault) == 0:
        bond: uint256 = deals.word(entry.body, BOND)
        after.deal.pending = True
        after.deal.bond = convert(bond, uint128)
        fault, after.mine = turn.debit(before.mine, bond)
    if len(fault) == 0:
        fault, after.mine = turn.count(after.mine, entry.nonce, self.params.entry_fee, False)
    return fault, deals.touched(before, after, False), []


@view
@internal
def _judged(
    entry: entries.Entry, shown: deals.Cells, seen: uint256
) -> (String[32], cells.Pending):
    """
    @notice What the rules refuse a demand with, before its money is looked at; and what waits then.
    @param entry Whose header is right.
    @param shown The cells.
    @param seen Which of them have a place, as bits.
    """
    pending: cells.Pending = empty(cells.Pending)
    parts: drawn.Parts = empty(drawn.Parts)
    flag: uint256 = 2
    if len(entry.body) > FLAG:
        flag = convert(slice(entry.body, FLAG, 1), uint256)
    if flag == 0:
        parts.end = TARGET + 8
    elif flag == 1:
        parts = drawn.read(entry.body, TARGET)
    fault: String[32] = entry.said
    if parts.end == 0 or len(entry.body) != parts.end:
        fault = "malformed_message"
    if len(fault) == 0:
        deals.need_cell(seen, deals.MINE, shown.mine.who == entry.signer)
        fault = turn.nonce_fault(shown.mine, entry.nonce)
    if len(fault) == 0:
        deals.need_cell(seen, deals.NETWORK, shown.network.network == self.params.network)
        deals.need_cell(seen, deals.DEAL, shown.deal.deal == extract32(entry.body, 0))
        fault = self._asked_fault(entry, shown.deal)
    if len(fault) == 0:
        pending.asker = entry.signer
        pending.deadline = shown.network.epoch + self.params.demand_epochs
        if flag == 0:
            pending.index = convert(deals.word(entry.body, TARGET), uint64)
            fault = self._leaf_fault(pending.index, shown.deal)
        elif drawn.is_over(shown.deal):
            fault = "deal_not_open"
        else:
            terms: cells.Terms = shown.deal.terms
            node: bytes32 = empty(bytes32)
            if seen >> deals.OTHER & 1 == 1:
                deals.need(shown.other.who == terms.provider)
                node = shown.other.node
            fault, pending.index = staticcall self.proofs.drawn_fault(
                entry.body,
                TARGET,
                drawn.Known(
                    network=shown.network.network,
                    closed_size=shown.network.closed_size,
                    closed_root=shown.network.closed_root,
                    deal=shown.deal.deal,
                    provider=terms.provider,
                    node=node,
                ),
            )
            if len(fault) == 0:
                pending.link = drawn.link_bytes(entry.body, parts)
                pending.place = drawn.place(entry.body, parts)
                fault = self._late_fault(pending.link, shown)
    return fault, pending


@view
@internal
def _asked_fault(entry: entries.Entry, deal: cells.Deal) -> String[32]:
    """
    @notice Why the signer cannot demand anything of the deal, if so.
    """
    least: uint64 = max(1, self.params.min_bond)
    fault: String[32] = ""
    if deal.state == 0:
        fault = "unknown_deal"
    elif entry.signer != deal.terms.client and entry.signer != deal.terms.delegate:
        fault = "not_the_client"
    elif deal.pending:
        fault = "demand_pending"
    elif deals.word(entry.body, BOND) < convert(least, uint256):
        fault = "bond_too_low"
    return fault


@pure
@internal
def _leaf_fault(leaf: uint64, deal: cells.Deal) -> String[32]:
    """
    @notice Whether the deal's holdings have no such leaf to show.
    """
    if deal.state != OPEN:
        return "deal_not_open"
    return "" if leaf < deal.leaves else "no_such_leaf"


@pure
@internal
def _late_fault(link: Bytes[116], shown: deals.Cells) -> String[32]:
    """
    @notice Whether an answer need not be kept any more.
    """
    epoch: uint256 = convert(slice(link, 0, 8), uint256)
    kept: uint256 = epoch + convert(shown.deal.terms.dispute, uint256)
    fault: String[32] = ""
    if kept <= convert(shown.network.epoch, uint256):
        fault = "too_old"
    elif shown.deal.state == ENDED and epoch > convert(shown.deal.ended, uint256):
        fault = "after_end"
    return fault
