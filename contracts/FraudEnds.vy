# pragma version 0.4.3
# pragma optimize codesize
"""
@title Fraud in deals that end
@notice Judges one step of the ledger that quits a deal, ends or releases it, exactly as
    dsn/ledger/rules/deals.py does. What the rules refuse, or what leads to another state than they
    do, convicts the operator.
@dev A sum beyond its field reverts; no history gets there unless an earlier step of it convicts.
"""

from lib import cells
from lib import deals
from lib import entries
from lib import settling
from lib import state
from lib import sums
from lib import turn
from lib import typed

MAX_BODY: constant(uint256) = 32865
MAX_WAYS: constant(uint256) = 64
QUIT: constant(uint8) = 12
CLOSE: constant(uint8) = 13
OPEN: constant(uint8) = 1
ENDED: constant(uint8) = 2
CLOSED: constant(uint8) = 4

HEADED: constant(uint256) = 33
# deal 32, flag 1; what was agreed on follows, if anything
AGREED: constant(uint256) = 40
# deal 32, epoch 8
SIGNATURES: constant(uint256) = 130
CLOSE_TYPE: constant(bytes32) = keccak256("Close(bytes32 deal,uint64 epoch)")


struct Way:
    # a node over a deal in its provider's inventory: what stands beside, and on which side
    left: bool
    sibling: bytes32
    sum: uint64


params: entries.Params


@deploy
def __init__(params: entries.Params):
    """
    @notice Judge by what a network fixed about its ledger.
    @param params Out of its network file.
    """
    self.params = params


@external
def convict(
    case: entries.Case,
    shown: deals.Cells,
    places: DynArray[state.Place, turn.MOST],
    ways: DynArray[Way, MAX_WAYS],
):
    """
    @notice Convict the operator of a step that the rules do not allow; reverts with "no_fault" if
        they do, with another reason if the evidence does not fit.
    @param case The step and the one before, under an anchor.
    @param shown The cells that the step reads.
    @param places Theirs: the signer's account, the network, the deal, the other party's account.
        The deal comes first if the body has what both parties of a deal that is there agreed on.
        What was not read until a step is refused may be left out.
    @param ways Up from the deal in its provider's live inventory, if the step takes it out.
    """
    vault: address = self.params.vault
    root: bytes32 = entries.before_root(vault, case)
    network: bytes32 = self.params.network
    separator: bytes32 = typed.separator(vault, network)
    entry: entries.Entry = empty(entries.Entry)
    fault: String[32] = ""
    fault, entry = entries.open(case.step, separator, network)
    before: deals.Cells = shown
    after: deals.Cells = before
    agreed: bool = self._has_agreed(entry.kind, entry.body)
    if len(fault) == 0:
        fault = self._refused(entry, separator, before, deals.seen(len(places), agreed), agreed)
    if len(fault) == 0:
        after = self._changed(entry.kind, before, ways)
        fault, after.mine = turn.count(
            after.mine, entry.nonce, self.params.entry_fee, entry.kind == CLOSE
        )
    found: bytes32 = turn.walked(
        root, places, deals.touched(before, after, agreed), len(fault) == 0
    )
    if len(fault) == 0 and found != entry.post:
        fault = "state_root_differs"
    entries.convict(vault, case.index, fault)


@pure
@internal
def _has_agreed(kind: uint8, body: Bytes[MAX_BODY]) -> bool:
    """
    @notice Whether a body has what both parties agreed on.
    """
    return kind == CLOSE and len(body) > HEADED


@pure
@internal
def _is_formed(kind: uint8, body: Bytes[MAX_BODY]) -> bool:
    """
    @notice Whether a body can be read at all.
    """
    if kind == QUIT:
        return len(body) == 32
    assert kind == CLOSE, "other_kind"
    if len(body) < HEADED:
        return False
    flag: uint256 = convert(slice(body, HEADED - 1, 1), uint256)
    return flag < 2 and len(body) == HEADED + flag * (AGREED + SIGNATURES)


@view
@internal
def _refused(
    entry: entries.Entry,
    separator: bytes32,
    shown: deals.Cells,
    seen: uint256,
    agreed: bool,
) -> String[32]:
    """
    @notice What the rules refuse an entry with, if they do, all but its fee.
    @param entry Whose header is right.
    @param separator The domain's.
    @param shown The cells.
    @param seen Which of them have a place, as bits.
    @param agreed Whether the body has what the parties of a deal that is there agreed on.
    """
    if not self._is_formed(entry.kind, entry.body):
        return "malformed_message"
    id: bytes32 = extract32(entry.body, 0)
    deal: cells.Deal = shown.deal
    fault: String[32] = entry.said
    if len(fault) == 0 and agreed:
        deals.need_cell(seen, deals.DEAL, deal.deal == id)
        fault = self._agreed_fault(entry.body, separator, deal.terms)
        if deal.state == 0:
            fault = "unknown_deal"
    if len(fault) == 0:
        deals.need_cell(seen, deals.MINE, shown.mine.who == entry.signer)
        fault = turn.nonce_fault(shown.mine, entry.nonce)
    if len(fault) != 0:
        return fault
    deals.need_cell(seen, deals.NETWORK, shown.network.network == self.params.network)
    deals.need_cell(seen, deals.DEAL, deal.deal == id)
    by_client: bool = entry.signer == deal.terms.client
    epoch: uint256 = convert(shown.network.epoch, uint256)
    if deal.state == 0:
        fault = "unknown_deal"
    elif not by_client and entry.signer != deal.terms.provider:
        fault = "not_a_party"
    else:
        fault = self._end_fault(entry.kind == QUIT, agreed, entry.body, deal, epoch)
    if len(fault) == 0 and (by_client or entry.kind == CLOSE):
        other: address = deal.terms.provider if by_client else deal.terms.client
        deals.need_cell(seen, deals.OTHER, shown.other.who == other)
    return fault


@pure
@internal
def _agreed_fault(
    body: Bytes[MAX_BODY], separator: bytes32, terms: cells.Terms
) -> String[32]:
    """
    @notice Whether client and provider did not both sign that a deal ends.
    """
    struct_hash: bytes32 = keccak256(
        abi_encode(CLOSE_TYPE, extract32(body, HEADED), deals.word(body, HEADED + 32))
    )
    return deals.both_fault(typed.digest(separator, struct_hash), body, HEADED + AGREED, terms)


@pure
@internal
def _end_fault(
    quits: bool, agreed: bool, body: Bytes[MAX_BODY], deal: cells.Deal, epoch: uint256
) -> String[32]:
    """
    @notice Why no party can give notice, an open deal not be ended, or another one not released,
        if so.
    """
    fault: String[32] = ""
    last: uint256 = deals.last(deal)
    until: uint256 = 0
    if deal.state == OPEN:
        if quits:
            if deal.leaves != 0:
                fault = "deal_not_empty"
            elif epoch + convert(deal.terms.notice, uint256) >= last:
                fault = "notice_too_late"
            return fault
        if agreed:
            if extract32(body, HEADED) != deal.deal:
                fault = "other_deal"
            elif deals.word(body, HEADED + 32) != epoch:
                fault = "wrong_epoch"
        elif epoch <= last:
            fault = "deal_running"
    elif quits or agreed:
        fault = "deal_not_open"
    elif deal.state == CLOSED:
        fault = "deal_closed"
    else:
        until = convert(deal.ended, uint256) + convert(deal.terms.dispute, uint256)
    if len(fault) == 0 and deal.state <= ENDED:
        if deal.pending:
            fault = "demand_pending"
        elif epoch < until:
            fault = "dispute_running"
    return fault


@view
@internal
def _changed(
    kind: uint8, shown: deals.Cells, ways: DynArray[Way, MAX_WAYS]
) -> deals.Cells:
    """
    @notice The cells after an entry that the rules take, but for its fee.
    """
    deal: cells.Deal = shown.deal
    epoch: uint64 = shown.network.epoch
    by_client: bool = shown.mine.who == deal.terms.client
    client: cells.Account = shown.mine
    provider: cells.Account = shown.other
    if not by_client:
        client = shown.other
        provider = shown.mine
    provider = settling.roll(provider, epoch)
    if deal.state == OPEN:
        deal, provider = settling.settle(
            deal, provider, epoch, convert(self.params.burn_ppm, uint256)
        )
    if kind == QUIT:
        deal.end = epoch
        deal.grace = deal.terms.notice
    else:
        back: uint128 = deal.refund
        deal.refund = 0
        if deal.state == OPEN:
            if deal.leaves != 0:
                provider.live, provider.live_leaves = self._removed(deal, provider, ways)
            back += deal.disk_escrow + deal.bandwidth_escrow
            deal.disk_escrow = 0
            deal.bandwidth_escrow = 0
            deal.state = ENDED
            deal.ended = epoch
        else:
            provider.available += deal.collateral
            deal.collateral = 0
            provider.deals -= 1
            client.deals -= 1
            deal.state = CLOSED
        client.available += back
    after: deals.Cells = shown
    after.deal = deal
    after.mine = client
    after.other = provider
    if not by_client:
        after.mine = provider
        after.other = client
    return after


@pure
@internal
def _removed(
    deal: cells.Deal, provider: cells.Account, ways: DynArray[Way, MAX_WAYS]
) -> (bytes32, uint64):
    """
    @notice Root and total of a provider's live inventory without the deal: where it parted from
        others, those remain alone.
    """
    old: bytes32 = sums.inventory_leaf(
        sums.Holding(deal=deal.deal, number=deal.number, root=deal.root, leaves=deal.leaves)
    )
    new: bytes32 = empty(bytes32)
    rest: uint64 = 0
    for way: Way in ways:
        old = self._join(way, old, rest + deal.leaves)
        new = self._join(way, new, rest) if rest != 0 else way.sibling
        rest += way.sum
    deals.need(old == provider.live and rest + deal.leaves == provider.live_leaves)
    return new, rest


@pure
@internal
def _join(way: Way, digest: bytes32, own: uint64) -> bytes32:
    """
    @notice The node over what stands beside and `digest`, over `own` leaves.
    """
    if way.left:
        return sums.sum_node(way.sum, way.sibling, own, digest)
    return sums.sum_node(own, digest, way.sum, way.sibling)
