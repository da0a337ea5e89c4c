# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize codesize
"""
@title Fraud in demands, services and slashes
@notice Judges one such step of the ledger. What the rules refuse, or what leads to another state
    than they do, convicts the operator. The rules themselves are contracts of their own, for no
    contract may be longer than 24,576 bytes.
"""

from lib import cells
from lib import deals
from lib import entries
from lib import state
from lib import sums
from lib import turn
from lib import typed

DEMAND: constant(uint8) = 14
SERVE: constant(uint8) = 15
JUDGED: constant(uint8) = 19


struct Slash:
    number: uint64
    time: uint64
    asker: address


interface Dispute:
    def slashes(deal: bytes32) -> Slash: view


interface Rules:
    def judge(
        entry: entries.Entry,
        shown: deals.Cells,
        askers: DynArray[cells.Account, 2],
        held: DynArray[sums.Holding, sums.MAX_HELD],
        count: uint256,
    ) -> (
        String[32],
        DynArray[turn.Touched, turn.MOST],
        DynArray[turn.Touched, turn.MOST],
    ): view


VAULT: immutable(address)
NETWORK: immutable(bytes32)
DISPUTE: immutable(address)
DEMANDS: immutable(Rules)
SERVICES: immutable(Rules)
SLASHES: immutable(Rules)


@deploy
def __init__(
    params: entries.Params, demand_rules: address, serve_rules: address, slash_rules: address
):
    """
    @notice Judge by what a network fixed about its ledger.
    @param params Out of its network file.
    @param demand_rules Who knows the rules of demands.
    @param serve_rules Who knows those of services.
    @param slash_rules Who knows those of slashes.
    """
    VAULT = params.vault
    NETWORK = params.network
    DISPUTE = params.dispute
    DEMANDS = Rules(demand_rules)
    SERVICES = Rules(serve_rules)
    SLASHES = Rules(slash_rules)


@external
def convict(
    case: entries.Case,
    shown: deals.Cells,
    askers: DynArray[cells.Account, 2],
    held: DynArray[sums.Holding, sums.MAX_HELD],
    places: DynArray[state.Place, turn.MOST],
    more: DynArray[state.Place, turn.MOST],
):
    """
    @notice Convict the operator of a step that the rules do not allow; reverts with "no_fault" if
        they do, with another reason if the evidence does not fit.
    @param case The step and the one before, under an anchor.
    @param shown The cells that the step reads. The other party is the provider unless that signed.
    @param askers The accounts that get something beside those, if the rules take the entry.
    @param held All that the provider holds, if the step changes that.
    @param places Of the cells: the signer's account, the network, the deal, the other party's
        account. What was not read until a step is refused may be left out.
    @param more Of the askers' accounts, if the rules take the entry.
    """
    root: bytes32 = entries.before_root(VAULT, case)
    fault: String[32] = ""
    entry: entries.Entry = empty(entries.Entry)
    fault, entry = entries.open(case.step, typed.separator(VAULT, NETWORK), NETWORK)
    deals.need(entry.kind >= DEMAND and entry.kind <= JUDGED and len(fault) == 0)
    rules: Rules = SLASHES
    if entry.kind == DEMAND:
        rules = DEMANDS
    elif entry.kind == SERVE:
        rules = SERVICES
    touched: DynArray[turn.Touched, turn.MOST] = []
    paid: DynArray[turn.Touched, turn.MOST] = []
    fault, touched, paid = staticcall rules.judge(entry, shown, askers, held, len(places))
    root = turn.walked(root, places, touched, len(fault) == 0)
    if len(fault) == 0:
        deals.need(len(more) == len(paid))
        for at: uint256 in range(len(more), bound=turn.MOST):
            # who is paid has an account from then on, even if it is paid nothing
            if more[at].key != paid[at].key and paid[at].before == paid[at].blank:
                paid[at].before = empty(bytes32)
                paid[at].blank = empty(bytes32)
        root = turn.walked(root, more, paid, True)
        if entry.kind == JUDGED and not self._is_judged(entry.body):
            fault = "slash_differs"
        elif root != entry.post:
            fault = "state_root_differs"
    entries.convict(VAULT, case.index, fault)


@view
@internal
def _is_judged(body: Bytes[deals.MAX_BODY]) -> bool:
    """
    @notice Whether a slash was judged on chain as an entry has it: deal 32, number 8, asker 20.
    """
    slash: Slash = staticcall Dispute(DISPUTE).slashes(extract32(body, 0))
    asker: address = convert(convert(slice(body, 40, 20), bytes20), address)
    right: bool = slash.asker == asker and convert(slash.number, uint256) == deals.word(body, 32)
    return right and slash.time != 0
