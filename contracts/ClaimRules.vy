# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title The rules of claims
@notice Judges one step of the ledger that claims: settles a deal, redeems a voucher, installs a
    revision, exactly as dsn/ledger/rules/claims.py does. Called by FraudClaims.
@dev A sum beyond its field reverts; no history gets there unless an earlier step of it convicts.
"""

from lib import cells
from lib import deals
from lib import entries
from lib import settling
from lib import sums
from lib import turn
from lib import typed

OPEN: constant(uint8) = 1
HEADED: constant(uint256) = 33
# deal 32, flag 1; a revision follows if there is one, then a flag, then a voucher if there is one
REVISION: constant(uint256) = 219
# deal 32, number 8, shards 8, leaves 8, root 32, flag 1, signatures 65 each
VOUCHER: constant(uint256) = 106
# deal 32, credits 8, flag 1, signature 65
MAX_CLAIM: constant(uint256) = HEADED + REVISION + 1 + VOUCHER
PLEDGE_TYPE: constant(bytes32) = keccak256(
    "Pledge(bytes32 deal,uint64 number,uint64 shards,uint64 leaves,bytes32 root)"
)
VOUCHER_TYPE: constant(bytes32) = keccak256("Voucher(bytes32 deal,uint64 credits)")


struct Claim:
    # what a body has, each part from where it begins; 0 where it has none
    body: Bytes[MAX_CLAIM]
    revision: uint256
    voucher: uint256


params: entries.Params


@deploy
def __init__(params: entries.Params):
    """
    @notice Judge by what a network fixed about its ledger.
    @param params Out of its network file.
    """
    self.params = params


@external
@view
def judge(
    entry: entries.Entry,
    shown: deals.Cells,
    held: DynArray[sums.Holding, sums.MAX_HELD],
    count: uint256,
) -> (String[32], DynArray[turn.Touched, turn.MOST]):
    """
    @notice What the rules make of a claim.
    @param entry As its leaf has it; its header is right.
    @param shown The cells that the step reads.
    @param held All that the provider holds.
    @param count How many of the cells have a place.
    @return Why the rules refuse it, empty if they do not; and the cells in the order of their places,
        as they were and as the step leaves them.
    """
    claim: Claim = self._read(entry.body)
    before: deals.Cells = shown
    after: deals.Cells = before
    fault: String[32] = "malformed_message"
    if len(claim.body) != 0:
        fault = self._refused(entry, claim, before, deals.seen(count, True))
    if len(fault) == 0:
        fault, after = self._changed(claim, before, held)
    if len(fault) == 0:
        fault, after.mine = turn.count(after.mine, entry.nonce, self.params.entry_fee, False)
    return fault, deals.touched(before, after, True)


@pure
@internal
def _read(body: Bytes[deals.MAX_BODY]) -> Claim:
    """
    @notice Where the parts of a body begin; empty if it cannot be read.
    """
    claim: Claim = empty(Claim)
    at: uint256 = HEADED + 1
    if len(body) < at or len(body) > MAX_CLAIM:
        return empty(Claim)
    claim.body = convert(body, Bytes[MAX_CLAIM])
    flags: uint256 = self._flag(claim.body, HEADED - 1)
    if flags == 1:
        claim.revision = HEADED
        at += REVISION
    if len(body) < at:
        return empty(Claim)
    if claim.revision != 0:
        flags |= self._flag(claim.body, HEADED + 88)
    if self._flag(claim.body, at - 1) != 0:
        claim.voucher = at
        flags |= self._flag(claim.body, at - 1)
        at += VOUCHER
    if len(body) != at:
        return empty(Claim)
    if claim.voucher != 0:
        flags |= self._flag(claim.body, claim.voucher + 40)
    return claim if flags <= 1 else empty(Claim)


@pure
@internal
def _flag(body: Bytes[MAX_CLAIM], at: uint256) -> uint256:
    return convert(slice(body, at, 1), uint256)


@view
@internal
def _refused(
    entry: entries.Entry, claim: Claim, shown: deals.Cells, seen: uint256
) -> String[32]:
    """
    @notice What the rules refuse an entry with, if they do, before anything changes.
    @param entry Whose header is right.
    @param claim Its body.
    @param shown The cells.
    @param seen Which of them have a place, as bits.
    """
    fault: String[32] = entry.said
    if len(fault) != 0:
        return fault
    deal: cells.Deal = shown.deal
    deals.need_cell(seen, deals.DEAL, deal.deal == extract32(claim.body, 0))
    if deal.state == 0:
        return "unknown_deal"
    fault = self._signatures_fault(claim, deal.terms)
    if len(fault) == 0:
        deals.need_cell(seen, deals.MINE, shown.mine.who == entry.signer)
        fault = turn.nonce_fault(shown.mine, entry.nonce)
    if len(fault) != 0:
        return fault
    deals.need_cell(seen, deals.NETWORK, shown.network.network == self.params.network)
    by_provider: bool = entry.signer == deal.terms.provider
    if not by_provider and claim.revision == 0:
        fault = "revision_needed"
    authors: address[2] = [deal.terms.client, deal.terms.delegate]
    if not by_provider and entry.signer not in authors:
        fault = "not_a_party"
    if len(fault) == 0 and deal.state != OPEN:
        fault = "deal_not_open"
    if len(fault) == 0 and not by_provider:
        deals.need_cell(seen, deals.OTHER, shown.other.who == deal.terms.provider)
    return fault


@view
@internal
def _signatures_fault(claim: Claim, terms: cells.Terms) -> String[32]:
    """
    @notice What is wrong with the signatures that a claim brings along.
    @dev Nobody signs as the delegate of a deal that has none.
    """
    fault: String[32] = ""
    separator: bytes32 = typed.separator(self.params.vault, self.params.network)
    authors: address[2] = [terms.client, terms.delegate]
    body: Bytes[MAX_CLAIM] = claim.body
    at: uint256 = claim.revision
    if at != 0:
        struct_hash: bytes32 = keccak256(
            abi_encode(
                PLEDGE_TYPE,
                extract32(body, at),
                deals.word(body, at + 32),
                deals.word(body, at + 40),
                deals.word(body, at + 48),
                extract32(body, at + 56),
            )
        )
        digest: bytes32 = typed.digest(separator, struct_hash)
        fault = typed.fault(digest, slice(body, at + 89, 65), authors[self._flag(body, at + 88)])
        if len(fault) == 0:
            fault = typed.fault(digest, slice(body, at + 154, 65), terms.provider)
    at = claim.voucher
    if at != 0 and len(fault) == 0:
        struct_hash: bytes32 = keccak256(
            abi_encode(VOUCHER_TYPE, extract32(body, at), deals.word(body, at + 32))
        )
        digest: bytes32 = typed.digest(separator, struct_hash)
        fault = typed.fault(digest, slice(body, at + 41, 65), authors[self._flag(body, at + 40)])
    return fault


@view
@internal
def _changed(
    claim: Claim, shown: deals.Cells, held: DynArray[sums.Holding, sums.MAX_HELD]
) -> (String[32], deals.Cells):
    """
    @notice The cells after a claim, but for its fee; or why the rules refuse it after all.
    """
    fault: String[32] = ""
    epoch: uint64 = shown.network.epoch
    deal: cells.Deal = shown.deal
    alone: bool = shown.mine.who == deal.terms.provider
    provider: cells.Account = shown.mine if alone else shown.other
    provider = settling.roll(provider, epoch)
    deal, provider = settling.settle(
        deal, provider, epoch, convert(self.params.burn_ppm, uint256)
    )
    if claim.voucher != 0:
        paid: uint128 = deal.bandwidth_escrow
        fault, deal = self._redeemed(deal, claim)
        provider.available += paid - deal.bandwidth_escrow
    if claim.revision != 0 and len(fault) == 0:
        fault = self._revision_fault(deal, claim, epoch, settling.proven(provider, epoch))
        if len(fault) == 0:
            deal, provider = self._installed(deal, provider, claim, alone)
            if not settling.covered(deal):
                fault = "not_covered"
            else:
                fault, provider.live, provider.live_leaves = self._live(
                    deal, provider, shown.deal.leaves, held
                )
    after: deals.Cells = shown
    after.deal = deal
    if alone:
        after.mine = provider
    else:
        after.other = provider
    return fault, after


@pure
@internal
def _redeemed(deal: cells.Deal, claim: Claim) -> (String[32], cells.Deal):
    """
    @notice The deal once the rise of a voucher went out of its bandwidth escrow.
    """
    fault: String[32] = ""
    after: cells.Deal = deal
    promised: uint128 = convert(deals.word(claim.body, claim.voucher + 32), uint128)
    by_delegate: bool = self._flag(claim.body, claim.voucher + 40) == 1
    paid: uint128 = deal.delegate_paid if by_delegate else deal.voucher_paid
    if extract32(claim.body, claim.voucher) != deal.deal:
        fault = "other_deal"
    elif promised <= paid:
        fault = "stale_voucher"
    elif promised - paid > deal.bandwidth_escrow:
        fault = "over_escrow"
    elif by_delegate and promised > convert(deal.terms.delegate_credits, uint128):
        fault = "over_delegate_credits"
    else:
        after.bandwidth_escrow -= promised - paid
        if by_delegate:
            after.delegate_paid = promised
        else:
            after.voucher_paid = promised
    return fault, after


@pure
@internal
def _revision_fault(
    deal: cells.Deal, claim: Claim, epoch: uint64, linked: bool
) -> String[32]:
    """
    @notice Why a revision cannot be installed now, all but its cover.
    @param deal Settled.
    @param claim With a revision.
    @param epoch The network's.
    @param linked Whether the provider proved it.
    """
    at: uint256 = claim.revision
    shards: uint256 = deals.word(claim.body, at + 40)
    leaves: uint256 = deals.word(claim.body, at + 48)
    had: uint256 = convert(deal.leaves, uint256)
    by_delegate: bool = self._flag(claim.body, at + 88) == 1
    nothing: bool = extract32(claim.body, at + 56) == empty(bytes32)
    possible: bool = shards <= leaves and leaves <= sums.MAX_TOTAL
    fault: String[32] = ""
    if not possible or (shards == 0) != nothing or (leaves == 0) != nothing:
        fault = "bad_holdings"
    elif extract32(claim.body, at) != deal.deal:
        fault = "other_deal"
    elif deal.pending:
        fault = "demand_pending"
    elif epoch >= deal.end:
        fault = "deal_over"
    elif deals.word(claim.body, at + 32) <= convert(deal.number, uint256):
        fault = "stale_revision"
    elif leaves > had and not linked:
        fault = "not_linked"
    elif by_delegate:
        if leaves < had:
            fault = "delegate_lowers"
        elif leaves > convert(deal.terms.delegate_leaves, uint256):
            fault = "over_delegate_leaves"
    return fault


@view
@internal
def _installed(
    deal: cells.Deal, provider: cells.Account, claim: Claim, alone: bool
) -> (cells.Deal, cells.Account):
    """
    @notice The deal as a revision has it, with what its collateral lacks as far as the provider's
        credits go; one that signs itself keeps what it needs for the fee.
    """
    after: cells.Deal = deal
    payer: cells.Account = provider
    at: uint256 = claim.revision
    after.number = convert(deals.word(claim.body, at + 32), uint64)
    after.shards = convert(deals.word(claim.body, at + 40), uint64)
    after.leaves = convert(deals.word(claim.body, at + 48), uint64)
    after.root = extract32(claim.body, at + 56)
    free: uint256 = convert(payer.available, uint256)
    if alone:
        free -= min(free, convert(self.params.entry_fee, uint256))
    locked: uint128 = convert(min(settling.missing_collateral(after), free), uint128)
    after.collateral += locked
    payer.available -= locked
    return after, payer


@pure
@internal
def _live(
    deal: cells.Deal,
    provider: cells.Account,
    had: uint64,
    held: DynArray[sums.Holding, sums.MAX_HELD],
) -> (String[32], bytes32, uint64):
    """
    @notice The provider's live inventory with what a deal, of `had` leaves before, says now.
    """
    fault: String[32] = ""
    root: bytes32 = provider.live
    total: uint64 = provider.live_leaves
    if had != 0 or deal.leaves != 0:
        root, total = sums.inventory(held)
        deals.need(root == provider.live and total == provider.live_leaves)
        if convert(total - had, uint256) + convert(deal.leaves, uint256) > sums.MAX_TOTAL:
            fault = "too_many_leaves"
        else:
            root, total = sums.inventory(
                sums.replaced(
                    held,
                    sums.Holding(
                        deal=deal.deal, number=deal.number, root=deal.root, leaves=deal.leaves
                    ),
                )
            )
    return fault, root, total
