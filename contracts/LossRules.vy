# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title The rules of links and losses
@notice Judges one step of the ledger in which a provider links an epoch, or declares shards lost,
    exactly as dsn/ledger/rules/claims.py does. Called by FraudClaims.
@dev A sum beyond its field reverts; no history gets there unless an earlier step of it convicts.
"""

from lib import cells
from lib import deals
from lib import entries
from lib import openings
from lib import settling
from lib import sums
from lib import turn

LINK: constant(uint8) = 9
EPOCH_OPEN: constant(uint8) = 1
OPEN: constant(uint8) = 1
LINK_BYTES: constant(uint256) = 116
HEADED: constant(uint256) = 44
# deal 32, number 8, count 4; the proofs follow, a length 4 before each
MAX_PROOFS: constant(uint256) = 8192


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
    @notice What the rules make of a link or a loss.
    @param entry As its leaf has it; its header is right.
    @param shown The cells that the step reads.
    @param held All that the provider holds.
    @param count How many of the cells have a place.
    @return Why the rules refuse it, empty if they do not; and the cells in the order of their places,
        as they were and as the step leaves them.
    """
    before: deals.Cells = shown
    after: deals.Cells = before
    fault: String[32] = self._refused(entry, before, deals.seen(count, False))
    if len(fault) == 0:
        fault, after = self._changed(entry.kind, entry.body, before, held)
    after.mine.nonce = entry.nonce
    return fault, deals.touched(before, after, False)


@view
@internal
def _refused(entry: entries.Entry, shown: deals.Cells, seen: uint256) -> String[32]:
    """
    @notice What the rules refuse an entry with, if they do, before anything changes.
    @param entry Whose header is right.
    @param shown The cells.
    @param seen Which of them have a place, as bits.
    """
    if not self._is_formed(entry.kind, entry.body):
        return "malformed_message"
    fault: String[32] = entry.said
    if len(fault) == 0:
        deals.need_cell(seen, deals.MINE, shown.mine.who == entry.signer)
        fault = turn.nonce_fault(shown.mine, entry.nonce)
    if len(fault) != 0:
        return fault
    deals.need_cell(seen, deals.NETWORK, shown.network.network == self.params.network)
    if entry.kind == LINK:
        mine: cells.Account = settling.roll(shown.mine, shown.network.epoch)
        return self._link_fault(entry.body, shown.network, mine)
    deals.need_cell(seen, deals.DEAL, shown.deal.deal == extract32(entry.body, 0))
    if shown.deal.state == 0:
        fault = "unknown_deal"
    elif entry.signer != shown.deal.terms.provider:
        fault = "not_the_provider"
    elif shown.deal.state != OPEN:
        fault = "deal_not_open"
    elif shown.deal.pending:
        fault = "demand_pending"
    elif self._count(entry.body) == 0:
        fault = "nothing_lost"
    return fault


@pure
@internal
def _is_formed(kind: uint8, body: Bytes[deals.MAX_BODY]) -> bool:
    """
    @notice Whether a body can be read at all.
    """
    if kind == LINK:
        return len(body) == LINK_BYTES
    if len(body) < HEADED or self._count(body) > MAX_PROOFS:
        return False
    at: uint256 = HEADED
    for _: uint256 in range(self._count(body), bound=MAX_PROOFS):
        if len(body) < at + 4:
            return False
        at += 4 + convert(slice(body, at, 4), uint256)
    return len(body) == at


@pure
@internal
def _count(body: Bytes[deals.MAX_BODY]) -> uint256:
    """
    @notice How many shards a loss declares.
    """
    return convert(slice(body, HEADED - 4, 4), uint256)


@pure
@internal
def _link_fault(
    body: Bytes[deals.MAX_BODY], network: cells.Network, mine: cells.Account
) -> String[32]:
    """
    @notice Why a link cannot be taken, if so.
    @param body The link.
    @param network As it stands.
    @param mine The signer's account, rolled.
    """
    total: uint256 = convert(mine.frozen_leaves, uint256)
    fault: String[32] = ""
    if network.phase != EPOCH_OPEN:
        fault = "wrong_phase"
    elif deals.word(body, 0) != convert(network.epoch, uint256):
        fault = "wrong_epoch"
    elif extract32(body, 8) != network.beacon:
        fault = "wrong_beacon"
    elif total == 0:
        fault = "nothing_asked"
    elif extract32(body, 40) != mine.frozen or deals.word(body, 72) != total:
        fault = "wrong_inventory"
    elif convert(slice(body, 80, 4), uint64) != openings.leaves_asked(mine.frozen_leaves):
        fault = "wrong_count"
    elif settling.proven(mine, network.epoch):
        fault = "linked_already"
    return fault


@view
@internal
def _changed(
    kind: uint8,
    body: Bytes[deals.MAX_BODY],
    shown: deals.Cells,
    held: DynArray[sums.Holding, sums.MAX_HELD],
) -> (String[32], deals.Cells):
    """
    @notice The cells after a step, but for its number; or why the rules refuse it after all.
    """
    fault: String[32] = ""
    after: deals.Cells = shown
    deal: cells.Deal = shown.deal
    epoch: uint64 = shown.network.epoch
    mine: cells.Account = settling.roll(shown.mine, epoch)
    if kind == LINK:
        mine.bits[0] |= 1
    else:
        lost: uint64 = convert(self._count(body), uint64)
        deal, mine = settling.settle(deal, mine, epoch, convert(self.params.burn_ppm, uint256))
        fault, deal.root, deal.leaves = self._without(body, deal.root, deal.leaves)
        deal = settling.charge_loss(deal, shown.deal.leaves - deal.leaves)
        if len(fault) == 0 and deals.word(body, 32) <= convert(deal.number, uint256):
            fault = "stale_revision"
        deal.number = convert(deals.word(body, 32), uint64)
        if len(fault) == 0 and lost > deal.shards:
            fault = "amount_overflow"
        if len(fault) == 0:
            deal.shards -= lost
            mine.live, mine.live_leaves = self._live(deal, mine, held)
    after.deal = deal
    after.mine = mine
    return fault, after


@pure
@internal
def _without(
    body: Bytes[deals.MAX_BODY], root: bytes32, leaves: uint64
) -> (String[32], bytes32, uint64):
    """
    @notice What remains of holdings without the shards that the proofs of a loss show, one after
        another.
    """
    fault: String[32] = ""
    gone: openings.Deletion = empty(openings.Deletion)
    gone.root = root
    gone.total = leaves
    at: uint256 = HEADED
    for _: uint256 in range(self._count(body), bound=MAX_PROOFS):
        size: uint256 = convert(slice(body, at, 4), uint256)
        # what is cut off is more than any proof takes, and trails all the same
        proof: Bytes[openings.MAX_PART] = convert(
            slice(body, at + 4, min(size, openings.MAX_PART)), Bytes[openings.MAX_PART]
        )
        fault, gone = openings.deletion(proof, gone.root, gone.total)
        if len(fault) != 0:
            return fault, root, leaves
        at += 4 + size
    return fault, gone.root, gone.total


@pure
@internal
def _live(
    deal: cells.Deal, mine: cells.Account, held: DynArray[sums.Holding, sums.MAX_HELD]
) -> (bytes32, uint64):
    """
    @notice The provider's live inventory with what the deal says now.
    """
    root: bytes32 = empty(bytes32)
    total: uint64 = 0
    root, total = sums.inventory(held)
    deals.need(root == mine.live and total == mine.live_leaves)
    now: sums.Holding = sums.Holding(
        deal=deal.deal, number=deal.number, root=deal.root, leaves=deal.leaves
    )
    root, total = sums.inventory(sums.replaced(held, now))
    return root, total
