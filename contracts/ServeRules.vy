# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title The rules of services
@notice Judges one step of the ledger in which a provider shows what was demanded, or owns up to
    having lost it, exactly as dsn/ledger/rules/demands.py does. Called by FraudDemands.
@dev A sum beyond its field reverts; no history gets there unless an earlier step of it convicts.
"""

from lib import cells
from lib import deals
from lib import drawn
from lib import entries
from lib import installs
from lib import openings
from lib import settling
from lib import sums
from lib import turn

SHOWN: constant(uint8) = 0
SHARD_LOST: constant(uint8) = 1
ALL_LOST: constant(uint8) = 2
OPEN: constant(uint8) = 1
WHICH: constant(uint256) = 32
SERVICE: constant(uint256) = 33
# deal 32, kind of service 1; then an opening and a path, or a number 8 and a deletion proof

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
    @notice What the rules make of a service.
    @param entry As its leaf has it; its header is right.
    @param shown The cells that the step reads: the provider signs, the other one is blank.
    @param askers Whoever demanded, if something is given up and the rules take that.
    @param held All that the provider holds, if something is given up.
    @param count How many of the cells have a place.
    @return Why the rules refuse it, empty if they do not; the cells in the order of their places,
        as they were and as the step leaves them; and the asker's.
    """
    before: deals.Cells = shown
    after: deals.Cells = before
    fault: String[32] = self._refused(entry, before, deals.seen(count, False))
    paid: DynArray[turn.Touched, turn.MOST] = []
    if len(fault) == 0:
        fault, after.deal, after.mine = self._served(entry, before, held)
    if len(fault) == 0:
        after.deal.pending = False
        after.deal.bond = 0
        fee: uint64 = 0
        if self._service(entry.body) == SHOWN:
            after.mine.available += before.deal.bond
            fee = self.params.entry_fee
        else:
            deals.need(len(askers) == 1 and askers[0].who == before.deal.demand.asker)
            asker: cells.Account = askers[0]
            asker.available += before.deal.bond
            paid.append(turn.account(askers[0], asker))
        fault, after.mine = turn.count(after.mine, entry.nonce, fee, False)
    if len(fault) != 0:
        paid = []
    return fault, deals.touched(before, after, False), paid


@pure
@internal
def _service(body: Bytes[deals.MAX_BODY]) -> uint8:
    return convert(slice(body, WHICH, 1), uint8)


@pure
@internal
def _is_formed(body: Bytes[deals.MAX_BODY]) -> bool:
    """
    @notice Whether a body can be read at all.
    """
    if len(body) <= SERVICE:
        return False
    which: uint8 = self._service(body)
    end: uint256 = SERVICE + 8
    if which == SHOWN:
        end = drawn.after_path(body, drawn.after_var(body, SERVICE))
    elif which == SHARD_LOST:
        end = drawn.after_var(body, SERVICE + 8)
    return which <= ALL_LOST and end != 0 and len(body) == end


@view
@internal
def _refused(entry: entries.Entry, shown: deals.Cells, seen: uint256) -> String[32]:
    """
    @notice What the rules refuse an entry with, if they do, before they look at the service.
    @param entry Whose header is right.
    @param shown The cells.
    @param seen Which of them have a place, as bits.
    """
    if not self._is_formed(entry.body):
        return "malformed_message"
    fault: String[32] = entry.said
    if len(fault) == 0:
        deals.need_cell(seen, deals.MINE, shown.mine.who == entry.signer)
        fault = turn.nonce_fault(shown.mine, entry.nonce)
    if len(fault) != 0:
        return fault
    deals.need_cell(seen, deals.NETWORK, shown.network.network == self.params.network)
    deals.need_cell(seen, deals.DEAL, shown.deal.deal == extract32(entry.body, 0))
    if shown.deal.state == 0:
        fault = "unknown_deal"
    elif entry.signer != shown.deal.terms.provider:
        fault = "not_the_provider"
    elif not shown.deal.pending:
        fault = "no_demand"
    elif shown.network.epoch > shown.deal.demand.deadline:
        fault = "too_late"
    return fault


@view
@internal
def _served(
    entry: entries.Entry, shown: deals.Cells, held: DynArray[sums.Holding, sums.MAX_HELD]
) -> (String[32], cells.Deal, cells.Account):
    """
    @notice The deal and the provider's account after a service, but for the bond and the number;
        or why the rules refuse it.
    """
    which: uint8 = self._service(entry.body)
    mine: cells.Account = settling.roll(shown.mine, shown.network.epoch)
    deal: cells.Deal = shown.deal
    of_link: bool = len(deal.demand.link) != 0
    fault: String[32] = ""
    if which == SHOWN:
        fault = self._opening_fault(entry.body, deal)
    elif which == SHARD_LOST and of_link:
        fault = "whole_deal_needed"
    elif which == ALL_LOST and not of_link:
        fault = "shard_needed"
    else:
        if which == SHARD_LOST or (deal.state == OPEN and deal.leaves != 0):
            deal, mine = settling.settle(
                deal, mine, shown.network.epoch, convert(self.params.burn_ppm, uint256)
            )
        if which == SHARD_LOST:
            fault, deal = self._without(entry.body, deal)
        elif deal.state == OPEN and deal.leaves != 0:
            deal = settling.charge_loss(deal, deal.leaves)
            deal.shards = 0
            deal.leaves = 0
            deal.root = empty(bytes32)
        else:
            deal.refund += deal.collateral
            deal.collateral = 0
        number: uint256 = deals.word(entry.body, SERVICE)
        if len(fault) == 0 and number <= convert(deal.number, uint256):
            fault = "stale_revision"
        if len(fault) == 0:
            deal.number = convert(number, uint64)
            mine = installs.installed(shown.deal, deal, mine, held)
    return fault, deal, mine


@view
@internal
def _opening_fault(body: Bytes[deals.MAX_BODY], deal: cells.Deal) -> String[32]:
    """
    @notice Whether what is shown is not what was demanded: an opening of a link counts only as the
        one that was answered with.
    """
    at: uint256 = SERVICE + 4
    end: uint256 = drawn.after_var(body, SERVICE)
    opening: Bytes[deals.MAX_BODY] = slice(body, at, end - at)
    root: bytes32 = deal.root
    total: uint64 = deal.leaves
    of_link: bool = len(deal.demand.link) != 0
    fault: String[32] = ""
    if of_link:
        link: openings.Link = openings.link_of(deal.demand.link)
        root = link.root
        total = link.total
        fault = staticcall self.proofs.answer_fault(
            body, SERVICE, deal.demand.link, deal.demand.place
        )
    elif len(body) != end + 1:
        fault = "answer_path"
    if len(fault) == 0:
        fault = staticcall self.proofs.opening_fault(
            opening, root, total, deal.demand.index, of_link
        )
    return fault


@view
@internal
def _without(body: Bytes[deals.MAX_BODY], shown: cells.Deal) -> (String[32], cells.Deal):
    """
    @notice The deal without the shard that is given up, and that paid for; or why it is not the one.
    """
    deal: cells.Deal = shown
    gone: openings.Deletion = empty(openings.Deletion)
    fault: String[32] = ""
    at: uint256 = SERVICE + 12
    fault, gone = staticcall self.proofs.deletion(
        openings.part(body, at, len(body) - at), deal.root, deal.leaves
    )
    index: uint64 = deal.demand.index
    if len(fault) == 0 and (index < gone.first or index - gone.first >= gone.leaves):
        fault = "other_shard"
    if len(fault) == 0 and deal.shards == 0:
        fault = "amount_overflow"
    if len(fault) == 0:
        deal = settling.charge_loss(deal, gone.leaves)
        deal.shards -= 1
        deal.leaves = gone.total
        deal.root = gone.root
    return fault, deal
