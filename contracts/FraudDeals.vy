# pragma version 0.4.3
# pragma optimize codesize
"""
@title Fraud in deals that begin or go on
@notice Judges one step of the ledger that opens a deal or adds to one, exactly as
    dsn/ledger/rules/deals.py does. What the rules refuse, or what leads to another state than they
    do, convicts the operator.
@dev A sum beyond its field reverts; no history gets there unless an earlier step of it convicts.
"""

from lib import cells
from lib import deals
from lib import entries
from lib import settling
from lib import state
from lib import turn
from lib import typed

MAX_BODY: constant(uint256) = 32865
MAX_MISS_LIMIT: constant(uint64) = 700
OPEN_DEAL: constant(uint8) = 7
TOP_UP: constant(uint8) = 8
OPEN: constant(uint8) = 1

FIELDS: constant(uint256) = 20
ADDRESSES: constant(uint256) = 2**0 | 2**1 | 2**16
SALT: constant(uint256) = 19
TERMS: constant(uint256) = 220
SIGNATURES: constant(uint256) = 130
ADDED: constant(uint256) = 49
# deal 32, disk 8, bandwidth 8, flag 1; the extension follows if there is one
EXTENSION: constant(uint256) = 48
# deal 32, serial 8, end 8

DEAL_TYPE: constant(bytes32) = keccak256("Deal(address client,address provider,uint64 disk_price,uint64 ingress_price,uint64 egress_price,uint64 repair_price,uint64 open_by,uint64 end,uint64 grace,uint64 notice,uint64 miss_limit,uint64 dispute,uint64 disk_escrow,uint64 bandwidth_escrow,uint64 collateral_ppm,uint64 free_leaves,address delegate,uint64 delegate_credits,uint64 delegate_leaves,bytes32 salt)")
EXTENSION_TYPE: constant(bytes32) = keccak256("Extension(bytes32 deal,uint64 serial,uint64 end)")

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
):
    """
    @notice Convict the operator of a step that the rules do not allow; reverts with "no_fault" if
        they do, with another reason if the evidence does not fit.
    @param case The step and the one before, under an anchor.
    @param shown The cells that the step reads.
    @param places Theirs: the signer's account, the network, the deal, the other party's account.
        The deal comes first if the body has what both parties of a deal that is there agreed on.
        What was not read until a step is refused may be left out.
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
        after = self._changed(entry, separator, before)
        if entry.kind == TOP_UP and not settling.covered(after.deal):
            fault = "not_covered"
    if len(fault) == 0:
        fault, after.mine = turn.count(
            after.mine, entry.nonce, self.params.entry_fee, False
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
    @notice Whether a body has an extension.
    """
    return kind == TOP_UP and len(body) > ADDED


@pure
@internal
def _is_formed(kind: uint8, body: Bytes[MAX_BODY]) -> bool:
    """
    @notice Whether a body can be read at all.
    """
    if kind == OPEN_DEAL:
        return len(body) == TERMS + SIGNATURES
    assert kind == TOP_UP, "other_kind"
    if len(body) < ADDED:
        return False
    flag: uint256 = convert(slice(body, ADDED - 1, 1), uint256)
    return flag < 2 and len(body) == ADDED + flag * (EXTENSION + SIGNATURES)


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
    @notice What the rules refuse an entry with, if they do, all but its fee and the cover.
    @param entry Whose header is right.
    @param separator The domain's.
    @param shown The cells.
    @param seen Which of them have a place, as bits.
    @param agreed Whether the body has what the parties of a deal that is there agreed on.
    """
    if not self._is_formed(entry.kind, entry.body):
        return "malformed_message"
    opens: bool = entry.kind == OPEN_DEAL
    there: bool = shown.deal.state != 0
    terms: cells.Terms = shown.deal.terms
    id: bytes32 = extract32(entry.body, 0)
    fault: String[32] = entry.said
    if opens:
        terms, id = self._offer(entry.body, separator)
        if len(fault) == 0:
            fault = deals.both_fault(id, entry.body, TERMS, terms)
    elif len(fault) == 0 and agreed:
        deals.need_cell(seen, deals.DEAL, shown.deal.deal == id)
        fault = self._extension_fault(entry.body, separator, terms)
        if not there:
            fault = "unknown_deal"
    if len(fault) == 0:
        deals.need_cell(seen, deals.MINE, shown.mine.who == entry.signer)
        fault = turn.nonce_fault(shown.mine, entry.nonce)
    if len(fault) == 0 and opens:
        fault = self._terms_fault(terms, entry.signer)
    if len(fault) != 0:
        return fault
    deals.need_cell(seen, deals.NETWORK, shown.network.network == self.params.network)
    deals.need_cell(seen, deals.DEAL, shown.deal.deal == id)
    epoch: uint256 = convert(shown.network.epoch, uint256)
    if not opens:
        fault = self._top_up_fault(entry.body, shown.deal, epoch)
        if not there:
            fault = "unknown_deal"
        elif entry.signer != terms.client:
            fault = "not_the_client"
    elif there:
        fault = "deal_exists"
    else:
        fault = self._minima_fault(terms, epoch)
        if len(fault) == 0:
            bound: bool = shown.mine.node != empty(bytes32)
            if bound:
                deals.need_cell(seen, deals.OTHER, shown.other.who == terms.provider)
                bound = shown.other.node != empty(bytes32)
            if not bound:
                fault = "not_bound"
    locks: uint256[2] = self._locks(entry.kind, entry.body, terms)
    if len(fault) == 0 and locks[0] + locks[1] > convert(shown.mine.available, uint256):
        fault = "not_enough_credit"
    return fault


@pure
@internal
def _locks(kind: uint8, body: Bytes[MAX_BODY], terms: cells.Terms) -> uint256[2]:
    """
    @notice What an entry locks for disk and for bandwidth.
    """
    if kind == TOP_UP:
        return [deals.word(body, 32), deals.word(body, 40)]
    return [convert(terms.disk_escrow, uint256), convert(terms.bandwidth_escrow, uint256)]


@pure
@internal
def _fields(body: Bytes[MAX_BODY]) -> uint256[FIELDS]:
    """
    @notice The terms that an offer begins with, as words.
    """
    words: uint256[FIELDS] = empty(uint256[FIELDS])
    at: uint256 = 0
    for field: uint256 in range(FIELDS):
        size: uint256 = 8
        if ADDRESSES >> field & 1 == 1:
            size = 20
        elif field == SALT:
            size = 32
        words[field] = convert(extract32(body, at), uint256) >> (256 - 8 * size)
        at += size
    return words


@pure
@internal
def _offer(body: Bytes[MAX_BODY], separator: bytes32) -> (cells.Terms, bytes32):
    """
    @notice The terms that both signed, and the id that a deal has by them.
    """
    words: Bytes[640] = abi_encode(self._fields(body))
    id: bytes32 = typed.digest(separator, keccak256(concat(DEAL_TYPE, words)))
    return abi_decode(words, cells.Terms), id


@pure
@internal
def _extension_fault(
    body: Bytes[MAX_BODY], separator: bytes32, terms: cells.Terms
) -> String[32]:
    """
    @notice Whether client and provider did not both sign an extension.
    """
    struct_hash: bytes32 = keccak256(
        abi_encode(
            EXTENSION_TYPE,
            extract32(body, ADDED),
            deals.word(body, ADDED + 32),
            deals.word(body, ADDED + 40),
        )
    )
    digest: bytes32 = typed.digest(separator, struct_hash)
    return deals.both_fault(digest, body, ADDED + EXTENSION, terms)


@pure
@internal
def _terms_fault(terms: cells.Terms, signer: address) -> String[32]:
    """
    @notice What is wrong with terms in every network and at any time.
    """
    fault: String[32] = ""
    if signer != terms.client:
        fault = "not_the_client"
    elif terms.client == terms.provider:
        fault = "same_party"
    elif terms.miss_limit > MAX_MISS_LIMIT:
        fault = "bad_miss_limit"
    elif terms.grace > max_value(uint64) - terms.end:
        fault = "bad_term"
    return fault


@view
@internal
def _minima_fault(terms: cells.Terms, epoch: uint256) -> String[32]:
    """
    @notice What is wrong with terms now, and on this network.
    """
    fault: String[32] = ""
    end: uint256 = convert(terms.end, uint256)
    most: uint256 = convert(self.params.max_term, uint256)
    longest: uint64 = max(terms.grace, max(terms.notice, terms.dispute))
    if convert(terms.open_by, uint256) < epoch:
        fault = "offer_expired"
    elif end <= epoch:
        fault = "end_passed"
    elif end > epoch + most or convert(longest, uint256) > most:
        fault = "term_too_long"
    elif terms.disk_price < self.params.min_disk_price:
        fault = "disk_price_below_minimum"
    elif terms.repair_price < self.params.min_repair_price:
        fault = "repair_price_below_minimum"
    elif terms.collateral_ppm < self.params.min_collateral_ppm:
        fault = "collateral_below_minimum"
    elif terms.dispute < self.params.min_dispute:
        fault = "dispute_below_minimum"
    elif terms.free_leaves > self.params.max_free_leaves:
        fault = "free_leaves_above_maximum"
    elif terms.delegate == terms.client or terms.delegate == terms.provider:
        fault = "bad_delegate"
    return fault


@view
@internal
def _top_up_fault(body: Bytes[MAX_BODY], deal: cells.Deal, epoch: uint256) -> String[32]:
    """
    @notice Why a deal cannot go on so, if so; all but its escrows.
    """
    fault: String[32] = ""
    if deal.state != OPEN:
        fault = "deal_not_open"
    elif epoch > deals.last(deal):
        fault = "deal_over"
    elif self._has_agreed(TOP_UP, body):
        end: uint256 = deals.word(body, ADDED + 40)
        if extract32(body, ADDED) != deal.deal:
            fault = "other_deal"
        elif deals.word(body, ADDED + 32) != convert(deal.serial, uint256) + 1:
            fault = "wrong_extension"
        elif end <= convert(deal.end, uint256):
            fault = "end_not_later"
        elif end > epoch + convert(self.params.max_term, uint256):
            fault = "term_too_long"
    return fault


@pure
@internal
def _changed(entry: entries.Entry, separator: bytes32, shown: deals.Cells) -> deals.Cells:
    """
    @notice The cells after an entry that the rules take, but for its fee.
    """
    after: deals.Cells = shown
    if entry.kind == OPEN_DEAL:
        after.deal.terms, after.deal.deal = self._offer(entry.body, separator)
        after.deal.state = OPEN
        after.deal.end = after.deal.terms.end
        after.deal.grace = after.deal.terms.grace
        after.deal.settled = shown.network.epoch
        after.mine.deals += 1
        after.other.deals += 1
        after.other = settling.roll(after.other, shown.network.epoch)
    elif self._has_agreed(entry.kind, entry.body):
        after.deal.serial = convert(deals.word(entry.body, ADDED + 32), uint64)
        after.deal.end = convert(deals.word(entry.body, ADDED + 40), uint64)
    locks: uint256[2] = self._locks(entry.kind, entry.body, after.deal.terms)
    after.deal.disk_escrow += convert(locks[0], uint128)
    after.deal.bandwidth_escrow += convert(locks[1], uint128)
    after.mine.available -= convert(locks[0] + locks[1], uint128)
    return after
