# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title The rules of slashes
@notice Judges one step of the ledger in which a deal is slashed, exactly as
    dsn/ledger/rules/demands.py does. Called by FraudDemands.
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

WRONG: constant(uint8) = 16
MISSED: constant(uint8) = 17
UNSERVED: constant(uint8) = 18
JUDGED: constant(uint8) = 19
OPEN: constant(uint8) = 1
DRAWN: constant(uint256) = 32
# behind the deal's id
JUDGED_BYTES: constant(uint256) = 60
# deal 32, number 8, asker 20


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
    @notice What the rules make of a slash.
    @param entry As its leaf has it; its header is right.
    @param shown The cells that the step reads: the other one is the provider's account, and blank if
        the provider signed.
    @param askers If the rules take the entry: who demanded, then who did so on chain as the entry has
        it; each once, and neither signer nor provider.
    @param held All that the provider holds, if the deal is open and holds something.
    @param count How many of the cells have a place.
    @return Why the rules refuse it, empty if they do not; the cells in the order of their places,
        as they were and as the step leaves them; and the askers'.
    """
    before: deals.Cells = shown
    after: deals.Cells = before
    paid: DynArray[turn.Touched, turn.MOST] = []
    fault: String[32] = self._refused(entry, before, deals.seen(count, False))
    if len(fault) == 0:
        fault, after = self._split(entry, before, held, deals.seen(count, False))
    if len(fault) == 0:
        after.mine, after.other, paid = self._paid(entry, before.deal, after, askers)
        after.deal.bond = 0
        after.deal.pending = False
        fault, after.mine = turn.count(
            after.mine, entry.nonce, self.params.entry_fee, entry.kind == JUDGED
        )
    return fault, deals.touched(before, after, False), paid


@view
@internal
def _is_formed(entry: entries.Entry) -> bool:
    """
    @notice Whether a body can be read at all.
    """
    end: uint256 = 32
    if entry.kind == JUDGED:
        end = JUDGED_BYTES
    elif entry.kind == WRONG:
        parts: drawn.Parts = drawn.read(entry.body, DRAWN)
        end = drawn.after_path(entry.body, drawn.after_var(entry.body, parts.end))
    return end != 0 and len(entry.body) == end


@view
@internal
def _refused(entry: entries.Entry, shown: deals.Cells, seen: uint256) -> String[32]:
    """
    @notice What the rules refuse an entry with, if they do, before anything changes.
    @param entry Whose header is right.
    @param shown The cells.
    @param seen Which of them have a place, as bits.
    """
    if not self._is_formed(entry):
        return "malformed_message"
    fault: String[32] = entry.said
    if len(fault) == 0:
        deals.need_cell(seen, deals.MINE, shown.mine.who == entry.signer)
        fault = turn.nonce_fault(shown.mine, entry.nonce)
    judged: bool = entry.kind == JUDGED
    if len(fault) == 0 and judged and entry.signer != self.params.operator:
        fault = "not_the_operator"
    if len(fault) != 0:
        return fault
    deal: cells.Deal = shown.deal
    deals.need_cell(seen, deals.NETWORK, shown.network.network == self.params.network)
    deals.need_cell(seen, deals.DEAL, deal.deal == extract32(entry.body, 0))
    if deal.state == 0:
        fault = "unknown_deal"
    elif not judged and entry.signer == deal.terms.provider:
        fault = "own_deal"
    elif drawn.is_over(deal) or (entry.kind == MISSED and deal.state != OPEN):
        fault = "deal_not_open"
    elif judged and convert(deal.number, uint256) > deals.word(entry.body, 32):
        fault = "revision_moved"
    elif entry.kind == WRONG:
        fault = self._answer_fault(entry.body, shown, seen)
    elif entry.kind == UNSERVED and not deal.pending:
        fault = "no_demand"
    elif entry.kind == UNSERVED and shown.network.epoch <= deal.demand.deadline:
        fault = "still_time"
    return fault


@view
@internal
def _answer_fault(
    body: Bytes[deals.MAX_BODY], shown: deals.Cells, seen: uint256
) -> String[32]:
    """
    @notice Why an answer is not shown to be wrong.
    """
    deal: cells.Deal = shown.deal
    index: uint64 = 0
    fault: String[32] = ""
    node: bytes32 = empty(bytes32)
    if seen >> deals.OTHER & 1 == 1:
        deals.need(shown.other.who == deal.terms.provider)
        node = shown.other.node
    fault, index = staticcall self.proofs.drawn_fault(
        body,
        DRAWN,
        drawn.Known(
            network=shown.network.network,
            closed_size=shown.network.closed_size,
            closed_root=shown.network.closed_root,
            deal=deal.deal,
            provider=deal.terms.provider,
            node=node,
        ),
    )
    if len(fault) == 0:
        parts: drawn.Parts = drawn.read(body, DRAWN)
        raw: Bytes[drawn.LINK_BYTES] = drawn.link_bytes(body, parts)
        fault = staticcall self.proofs.answer_fault(
            body, parts.end, raw, drawn.place(body, parts)
        )
        if len(fault) == 0:
            link: openings.Link = openings.link_of(raw)
            end: uint256 = drawn.after_var(body, parts.end)
            opening: Bytes[deals.MAX_BODY] = slice(body, parts.end + 4, end - parts.end - 4)
            wrong: String[32] = staticcall self.proofs.opening_fault(
                opening, link.root, link.total, index, True
            )
            if len(wrong) == 0:
                fault = "opening_holds"
    return fault


@view
@internal
def _split(
    entry: entries.Entry,
    shown: deals.Cells,
    held: DynArray[sums.Holding, sums.MAX_HELD],
    seen: uint256,
) -> (String[32], deals.Cells):
    """
    @notice The cells once the deal is slashed; its bond is what the reporter gets. Or why it is not.
    """
    after: deals.Cells = shown
    fault: String[32] = ""
    part: uint256 = 0
    own: bool = entry.signer == shown.deal.terms.provider
    provider: cells.Account = shown.mine
    if not own:
        deals.need_cell(seen, deals.OTHER, shown.other.who == shown.deal.terms.provider)
        provider = shown.other
    provider = settling.roll(provider, shown.network.epoch)
    if entry.kind == MISSED:
        after.deal, provider = settling.settle(
            after.deal, provider, shown.network.epoch, convert(self.params.burn_ppm, uint256)
        )
        if after.deal.missed <= after.deal.terms.miss_limit:
            return "within_miss_limit", after
    after.deal, part = settling.split(after.deal)
    after.deal.bond = convert(part, uint128)
    provider = installs.installed(shown.deal, after.deal, provider, held)
    if own:
        after.mine = provider
    else:
        after.other = provider
    return "", after


@pure
@internal
def _paid(
    entry: entries.Entry, old: cells.Deal, after: deals.Cells, askers: DynArray[cells.Account, 2]
) -> (cells.Account, cells.Account, DynArray[turn.Touched, turn.MOST]):
    """
    @notice The accounts of signer, other party and askers, once a pending bond is given back and
        the reporter has its part.
    """
    mine: cells.Account = after.mine
    other: cells.Account = after.other
    own: bool = mine.who == old.terms.provider
    known: DynArray[cells.Account, 2] = askers
    reporter: address = entry.signer
    if entry.kind == JUDGED:
        reporter = convert(convert(slice(entry.body, 40, 20), bytes20), address)
    whom: address[2] = [old.demand.asker, reporter]
    amounts: uint128[2] = [old.bond, after.deal.bond]
    used: uint256 = 0
    for n: uint256 in range(2):
        if n == 0 and not old.pending:
            continue
        if whom[n] == mine.who:
            mine.available += amounts[n]
        elif whom[n] == other.who and not own:
            other.available += amounts[n]
        elif used == 1 and whom[n] == known[0].who:
            known[0].available += amounts[n]
        else:
            deals.need(used < len(known) and known[used].who == whom[n])
            known[used].available += amounts[n]
            used += 1
    paid: DynArray[turn.Touched, turn.MOST] = []
    for n: uint256 in range(used, bound=2):
        paid.append(turn.account(askers[n], known[n]))
    return mine, other, paid
